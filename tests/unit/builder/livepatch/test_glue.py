# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables for the glue: what C reads is compiled here."""

from kmend_builder.livepatch.assemble import Redirect
from kmend_builder.livepatch.glue import tables
from kmend_builder.match.match import Matched
from kmend_builder.running.expected import Code, Expected
from kmend_builder.running.sites import How, Site
from support.cc import compile_c

STRUCTS = """
typedef unsigned char u8; typedef unsigned short u16;
struct klp_func { const char *old_name; void *new_func; unsigned long old_sympos; };
struct klp_object;
struct callbacks { int (*pre_patch)(struct klp_object *); };
struct klp_object { const char *name; struct klp_func *funcs; struct callbacks callbacks; };
enum { KMEND_SKIP, KMEND_MOVED, KMEND_INVERSE, KMEND_VMLINUX };
struct kmend_site { u32 start; u16 size; u16 how; };
struct kmend_code {
    unsigned long address; const u8 *bytes; const struct kmend_site *sites; u32 size; u32 count;
};
int kmend_pre_patch(struct klp_object *);
"""


def _redirect(owner: str, name: str, sympos: int, label: str) -> Redirect:
    return Redirect(owner, name, sympos, label, Matched(name, 0xFFFFFFFF81000000, 20, sympos, ""))


REDIRECTS = [
    _redirect("ext4", "g", 0, "kmend_new_0"),
    _redirect("vmlinux", "f", 2, "kmend_new_1"),
    _redirect("vmlinux", "h", 0, "kmend_new_2"),
]
SHIPPED = Expected(
    0xFFFFFFFF81123450,
    {
        "kmend_new_0": Code(0, b"\xaa" * 3, ()),
        "kmend_new_1": Code(0xFFFFFFFF81000010, bytes(range(20)), (Site(0, 5), Site(7, 4, How.MOVED))),
        "kmend_new_2": Code(0xFFFFFFFF81000050, b"\xbb", (Site(0, 1),)),
    },
)


def _tables(pinned: bool = False) -> str:
    return tables(REDIRECTS, SHIPPED, "ab12", pinned=pinned)


def test_the_kernel_comes_first_and_positions_only_where_needed() -> None:
    text = _tables()
    assert '#define KMEND_BUILD_ID "ab12"' in text
    assert '.old_name = "f", .new_func = kmend_new_1, .old_sympos = 2' in text
    assert '.old_name = "h", .new_func = kmend_new_2 }' in text
    assert text.index("{ .funcs = kmend_funcs_0,") < text.index('.name = "ext4", .funcs = kmend_funcs_1')


def test_a_pinned_module_says_so() -> None:
    assert "KMEND_PINNED" in _tables(pinned=True)
    assert "KMEND_PINNED" not in _tables(pinned=False)


def test_the_tables_compile_and_refer_to_every_new_function() -> None:
    text = _tables()
    use = "struct klp_object *objects(void) { return kmend_objects; }"
    use += "const struct kmend_code *const *codes(void) { return kmend_codes; }"
    obj = compile_c(STRUCTS + text + use)
    assert {redirect.label for redirect in REDIRECTS} <= {symbol.name for symbol in obj.symbols if symbol.undefined}
    functions = obj.section(".data.kmend_funcs_0") or obj.section(".data.rel.kmend_funcs_0")
    assert functions is not None
    assert functions.size == 3 * 24


def test_the_shipped_code_stands_beside_its_function() -> None:
    text = _tables()
    assert "#define KMEND_ANCHOR 0xffffffff81123450UL" in text
    # object 0 is vmlinux with f and h, object 1 ext4 with g
    assert text.index("kmend_codes_0,") < text.index("kmend_codes_1,")
    assert ".address = 0xffffffff81000010UL, .bytes = kmend_bytes_0_0, .sites = kmend_sites_0_0, .size = 20" in text
    assert ".address = 0x0UL, .bytes = kmend_bytes_1_0, .sites = kmend_sites_1_0, .size = 3, .count = 0" in text
    assert "kmend_sites_0_0[] = {\n\t{ 0, 5, KMEND_SKIP },\n\t{ 7, 4, KMEND_MOVED },\n};" in text
    assert "\t0x10, 0x11, 0x12, 0x13,\n" in text


def test_every_object_is_checked_before_it_is_patched() -> None:
    assert _tables().count(".callbacks.pre_patch = kmend_pre_patch") == 2
