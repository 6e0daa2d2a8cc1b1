# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects whose structure is whole and whose references make no sense: each stops the build with a typed error."""

import dataclasses
from collections.abc import Callable

import pytest

from kmend_builder.elf import constants as c
from kmend_builder.elf.model import ObjectFile, Reloc, Section, Symbol
from kmend_builder.elf.read import read_object
from kmend_builder.elf.write import write_object
from kmend_builder.errors import ElfError
from support.gauntlet import Pair, through_all_stages
from support.kernelish import ALTERNATIVE
from support.richunits import NAMES, rich_pair, unit_pair

Edit = Callable[[ObjectFile], None]


def _edited(pair: Pair, edit: Edit) -> Pair:
    obj = read_object(pair.patched, "unit.o")
    edit(obj)
    return dataclasses.replace(pair, patched=write_object(obj))


def _section(obj: ObjectFile, name: str) -> Section:
    section = obj.section(name)
    assert section is not None, name
    return section


def _label(obj: ObjectFile, name: str) -> Symbol:
    """A section symbol of a section."""
    symbol = Symbol(name, type=c.STT_SECTION, section=_section(obj, name))
    obj.symbols.insert(0, symbol)
    return symbol


def _replacement(addend: int) -> Edit:
    def edit(obj: ObjectFile) -> None:
        entries = _section(obj, ".altinstructions").relocs
        assert entries[3].symbol.name == ".altinstr_replacement"
        entries[3].addend = addend

    return edit


def _key_in_the_padding(obj: ObjectFile) -> None:
    key = _section(obj, "__jump_table").relocs[5]
    assert (key.offset, key.type) == (24, c.R.PC64)
    key.offset, key.type = 28, c.R.PC32


def _two_values_in_one_place(obj: ObjectFile) -> None:
    entry = _section(obj, "__bug_table").relocs
    entry[1].offset = entry[0].offset + 2


def _call_of_a_replacement(obj: ObjectFile) -> None:
    call = _section(obj, ".text.f").relocs[-1]
    call.symbol = _label(obj, ".altinstr_replacement")


def _slow_path(addend: int) -> Edit:
    def edit(obj: ObjectFile) -> None:
        (jump,) = [r for r in _section(obj, ".text.f").relocs if r.symbol.name == ".altinstr_aux"]
        jump.addend = addend

    return edit


def _slow_path_back_to_itself(obj: ObjectFile) -> None:
    back: Reloc = _section(obj, ".altinstr_aux").relocs[-1]
    back.symbol, back.addend = _label(obj, ".altinstr_aux"), -4


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_objects_are_built(name: str) -> None:
    pair = rich_pair(name)
    assert through_all_stages(pair)
    assert through_all_stages(_edited(pair, lambda _: None)) == through_all_stages(pair)


@pytest.mark.parametrize(
    ("name", "edit", "words"),
    [
        ("tables", _replacement(1 << 20), "names no replacement instructions"),
        ("tables", _replacement(-1), "names no replacement instructions"),
        ("tables", _replacement(-1 << 40), "names no replacement instructions"),
        ("tables", _key_in_the_padding, "or not where they should be"),
        ("tables", _two_values_in_one_place, "relocations overlap at __bug_table"),
        ("tables", _call_of_a_replacement, "from where none is expected"),
        ("slow path", _slow_path(1 << 20), "no slow path"),
        ("slow path", _slow_path(-5), "no slow path"),
        ("slow path", _slow_path_back_to_itself, "leads back to itself"),
    ],
)
def test_references_that_make_no_sense(name: str, edit: Edit, words: str) -> None:
    with pytest.raises(ElfError, match=words) as caught:
        through_all_stages(_edited(rich_pair(name), edit))
    assert caught.value.why
    assert caught.value.hint


@pytest.mark.parametrize("new", ["", "pause"])
def test_an_alternative_without_instructions_of_its_own(new: str) -> None:
    """STAC and CLAC of a kernel without SMAP, for one; the section of the replacements may be empty."""
    source = ALTERNATIVE + f'int f(int a) {{ ALTERNATIVE("nop", "{new}", 3); return a * 3; }}'
    built = read_object(through_all_stages(unit_pair(source, "a * 3", "a * 5")), "built.o")
    assert _section(built, ".altinstructions").size == 12
    assert _section(built, ".altinstr_replacement").size == 2 * bool(new)
