# SPDX-License-Identifier: GPL-2.0-or-later
"""Sites in the code of a compiled module."""

from kmend_builder.elf import constants as c
from kmend_builder.elf.model import Section
from kmend_builder.running.module import code, module_sites
from kmend_builder.running.sites import How, Site
from support.cc import compile_c
from support.kernelish import ALTERNATIVE, JUMP_LABEL, STATIC_CALL

IMPORTED = 0xFFFFFFFF81234560


def imports(name: str) -> int | None:
    return IMPORTED if name == "imported" else None


def text_of(source: str) -> tuple[Section, list[Site], bytes]:
    module = compile_c(source, split=False, name="mod.ko")
    section = module.section(".text")
    assert section is not None
    return section, module_sites(module, section, imports).within(0, section.size), code(section, imports)


def test_the_call_of_ftrace_is_skipped() -> None:
    section, sites, data = text_of("int f(int a) { return a * 3; }")
    assert sites == [Site(0, 5)]
    assert data[5:] == section.data[5:]


def test_a_call_to_vmlinux_is_known() -> None:
    section, sites, data = text_of("int imported(int); int f(int a) { return imported(a) + 1; }")
    [call] = [site for site in sites if site.how is How.VMLINUX]
    assert section.data[call.start - 1] == 0xE8 and call.size == 4
    # the place is subtracted in the kernel: what is kept is the target, and the 4 bytes to the end of the call
    assert int.from_bytes(data[call.start :][:4], "little") == (IMPORTED - 4) & 0xFFFFFFFF


def test_the_address_of_something_in_vmlinux_is_known() -> None:
    _, sites, data = text_of("int imported(int); void *f(void) { return (void *)imported; }")
    [field] = [site for site in sites if site.how is How.MOVED]
    assert int.from_bytes(data[field.start :][: field.size], "little") == IMPORTED & ((1 << 8 * field.size) - 1)


def test_what_belongs_to_other_modules_or_sections_is_not_known() -> None:
    section, sites, _ = text_of("int other(int); static int state; int f(int a) { return other(a) + state++; }")
    fields = {reloc.offset for reloc in section.relocs} - {1}
    assert {site.start for site in sites if site.size == 4} == fields
    assert {site.how for site in sites} == {How.SKIP}


def test_a_call_inside_the_section_is_compared() -> None:
    source = "noinline int g(int a) { return a * 3; } int f(int a) { return g(a) + g(a + 1); }"
    section, sites, data = text_of(source)
    calls = [reloc for reloc in section.relocs if reloc.symbol.name == "g"]
    assert calls, "the assembler left no relocation; the test shows nothing"
    assert [site.size for site in sites] == [5, 5]
    for reloc in calls:
        target = reloc.offset + 4 + int.from_bytes(data[reloc.offset :][:4], "little", signed=True)
        assert target == reloc.symbol.value
        assert reloc.type is c.R.PLT32


def test_what_the_tables_name_is_skipped() -> None:
    source = (
        ALTERNATIVE
        + JUMP_LABEL
        + STATIC_CALL
        + """
struct static_key key;
int f(int a) { ALTERNATIVE("nop; nop; nop", "nop", 7); return a; }
int g(int a) { return static_branch(&key) ? a : a * 3; }
int h(int a) { STATIC_CALL(thing); return a; }
"""
    )
    section, sites, _ = text_of(source)
    sizes = sorted(site.size for site in sites)
    assert sizes == [3, 5, 5, 5, 5, 5]
    assert all(section.data[site.start] in (0x90, 0x0F, 0xE8) for site in sites)
