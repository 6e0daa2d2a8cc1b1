# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables for the glue: what C reads is compiled here."""

from kmend_builder.livepatch.assemble import Redirect
from kmend_builder.livepatch.glue import tables
from support.cc import compile_c

STRUCTS = """
struct klp_func { const char *old_name; void *new_func; unsigned long old_sympos; };
struct klp_object { const char *name; struct klp_func *funcs; };
"""
REDIRECTS = [
    Redirect("ext4", "g", 0, "kmend_new_0"),
    Redirect("vmlinux", "f", 2, "kmend_new_1"),
    Redirect("vmlinux", "h", 0, "kmend_new_2"),
]


def test_the_kernel_comes_first_and_positions_only_where_needed() -> None:
    text = tables(REDIRECTS, "ab12", pinned=False)
    assert '#define KMEND_BUILD_ID "ab12"' in text
    assert '.old_name = "f", .new_func = kmend_new_1, .old_sympos = 2' in text
    assert '.old_name = "h", .new_func = kmend_new_2 }' in text
    assert text.index("{ .funcs = kmend_funcs_0 }") < text.index('.name = "ext4", .funcs = kmend_funcs_1')


def test_a_pinned_module_says_so() -> None:
    assert "KMEND_PINNED" in tables(REDIRECTS, "ab12", pinned=True)
    assert "KMEND_PINNED" not in tables(REDIRECTS, "ab12", pinned=False)


def test_the_tables_compile_and_refer_to_every_new_function() -> None:
    source = (
        STRUCTS + tables(REDIRECTS, "ab12", pinned=False) + "struct klp_object *objects(void) { return kmend_objects; }"
    )
    obj = compile_c(source)
    assert {redirect.label for redirect in REDIRECTS} <= {symbol.name for symbol in obj.symbols if symbol.undefined}
    functions = obj.section(".data.kmend_funcs_0") or obj.section(".data.rel.kmend_funcs_0")
    assert functions is not None
    assert functions.size == 3 * 24
