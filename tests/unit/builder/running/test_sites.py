# SPDX-License-Identifier: GPL-2.0-or-later
"""Cutting the sites of one function out of those of a kernel."""

import pytest

from kmend_builder.errors import ElfError
from kmend_builder.running.sites import How, Site, Sites

# call rel32; nop; jmp rel8; ret
CODE = bytes.fromhex("e800000000 90 eb00 c3")
BASE = 0x1000


def within(*sites: Site, start: int = BASE, size: int = len(CODE)) -> list[Site]:
    return Sites(sites, lambda address, length: CODE[address - BASE :][:length]).within(start, size)


def test_sites_are_relative_and_in_order() -> None:
    found = within(Site(BASE + 6, 2), Site(BASE + 1, 4, How.MOVED), Site(BASE - 9, 3), Site(BASE + 9, 1))
    assert found == [Site(1, 4, How.MOVED), Site(6, 2)]


def test_one_instruction_is_as_long_as_it_is() -> None:
    assert within(Site(BASE, 0), Site(BASE + 6, 0)) == [Site(0, 5), Site(6, 2)]


def test_a_place_without_an_instruction_is_an_error() -> None:
    with pytest.raises(ElfError, match="no instruction at 0x1009"):
        within(Site(BASE + len(CODE), 0), size=64)


def test_what_is_rewritten_around_a_relocation_is_skipped_as_a_whole() -> None:
    assert within(Site(BASE, 5), Site(BASE + 1, 4, How.MOVED)) == [Site(0, 5)]
    assert within(Site(BASE + 1, 4, How.INVERSE), Site(BASE + 3, 4)) == [Site(1, 6)]


def test_the_same_site_twice_is_one() -> None:
    assert within(Site(BASE + 1, 4, How.MOVED), Site(BASE + 1, 4, How.MOVED)) == [Site(1, 4, How.MOVED)]


def test_a_site_across_the_border_is_cut_and_never_compared() -> None:
    assert within(Site(BASE - 2, 4, How.MOVED), Site(BASE + 7, 4)) == [Site(0, 2), Site(7, 2)]
    assert within(Site(BASE - 4, 4)) == []
