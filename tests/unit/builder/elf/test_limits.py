# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects that are whole and small, and would keep a simple comparison busy for ever."""

import pytest

from kmend_builder.elf import constants as c
from kmend_builder.elf.diff import diff_objects
from kmend_builder.elf.model import ObjectFile, Reloc, Symbol
from kmend_builder.elf.read import read_object
from kmend_builder.errors import ElfError
from kmend_builder.match.match import match_object
from kmend_builder.match.space import Space, SpaceSymbol, module_space
from support.cc import compile_bytes
from support.image import BASE, Memory
from support.limits import limited, little_memory
from support.objects import data_section, function

MOV = b"\x48\xc7\xc0\0\0\0\0"  # mov $imm32, %rax


def _constants(levels: int, references: int, value: int = 0) -> ObjectFile:
    """A function that refers to a constant, which refers so many times to the next one, and so on."""
    obj = ObjectFile("x.o", [], [])
    start = function(obj, "f", MOV + b"\xc3").section
    assert start is not None
    section, places = start, [3]
    for level in range(levels):
        content = bytes(8 * references) if level < levels - 1 else bytes([value])
        other = data_section(f".rodata.{level}", content)
        label = Symbol(other.name, type=c.STT_SECTION, section=other)
        kind = c.R.ABS32S if section is start else c.R.ABS64
        section.relocs = [Reloc(at, kind, label, 0) for at in places]
        obj.sections.append(other)
        obj.symbols.append(label)
        section, places = other, [8 * number for number in range(references)]
    return obj


def _changed(levels: int, references: int) -> list[str]:
    with little_memory(), limited():
        diff = diff_objects(_constants(levels, references), _constants(levels, references, 1))
    return [change.name for change in diff.functions]


@pytest.mark.parametrize(("levels", "references"), [(8, 2), (12, 2), (60, 1)])
def test_constants_that_refer_to_constants_are_compared_to_the_end(levels: int, references: int) -> None:
    assert _changed(levels, references) == ["f"]


@pytest.mark.parametrize(("levels", "references"), [(40, 2), (300, 1), (5000, 1), (9, 10)])
def test_constants_without_end_are_an_error(levels: int, references: int) -> None:
    with pytest.raises(ElfError, match="too many that refer to each other"):
        _changed(levels, references)


def test_a_constant_that_refers_to_itself() -> None:
    obj = _constants(1, 1)
    obj.sections[1].data = bytes(8)
    obj.sections[1].size = 8
    obj.sections[1].relocs = [Reloc(0, c.R.ABS64, obj.symbols[-1], 0)]
    assert diff_objects(obj, obj).empty


def test_a_function_with_very_many_references() -> None:
    count = 20_000
    code = b"".join(f"mov %eax, text{number % 2}(%rip);".encode() for number in range(count)).decode()
    source = f'asm(".type f, @function; f: {code} ret; .size f, . - f; .data; text0: .long 0; text1: .long 0");'
    data = compile_bytes(source)
    with limited():
        diff = diff_objects(read_object(data, "x.o"), read_object(data, "x.o"))
    assert diff.empty
    (f,) = diff.orig.functions()
    assert len(list(f.relocs)) == count


@pytest.mark.parametrize(("shipped", "why"), [(64, "the shipped object ends before it"), (1 << 22, "")])
def test_a_function_longer_than_what_is_shipped(shipped: int, why: str) -> None:
    obj = ObjectFile("x.o", [], [])
    function(obj, "f", b"\x90" * (1 << 22))
    space = Space("vmlinux", Memory({BASE: b"\x90" * shipped}), [SpaceSymbol("f", BASE, True)])
    with little_memory(), limited():
        match = match_object(diff_objects(obj, obj).orig, space)
    assert list(match.mismatches.values()) == ([why] if why else [])
    assert len(match.functions) == (not why)


def test_a_module_of_very_many_sections() -> None:
    """70,000 of them took five minutes to match: every read looked at all sections in front."""
    obj = ObjectFile("x.ko", [], [])
    for number in range(8000):
        function(obj, f"f{number}", number.to_bytes(4, "little") + b"\xc3")
    space = module_space(obj, "mod")
    with limited():
        found = [space.read(space.named(f"f{number}")[0].address, 5) for number in range(8000)]
        tails = [space.read_up_to(space.named(f"f{number}")[0].address + 4, 1 << 20) for number in range(0, 8000, 100)]
    assert found == [number.to_bytes(4, "little") + b"\xc3" for number in range(8000)]
    assert set(tails) == {b"\xc3"}
