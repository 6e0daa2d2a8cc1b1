# SPDX-License-Identifier: GPL-2.0-or-later
"""The entries of .BTF_ids are known by their list and place, not by the counter in their symbols."""

import pytest

from kmend.reasons import Reason
from kmend_builder.elf.btf_ids import SECTION
from kmend_builder.elf.diff import ObjectDiff, diff_objects
from kmend_builder.errors import Refused
from kmend_builder.guard import check_units
from support.cc import compile_c
from support.units import make_unit


def entry(name: str, number: int) -> str:
    symbol = f"__BTF_ID__struct__{name}__{number}"
    return f".local {symbol}\\n.type {symbol}, @object\\n.size {symbol}, 4\\n{symbol}: .zero 4\\n"


def source(*entries: tuple[str, int], other: int = 90, scope: str = "local") -> str:
    """A list of entries behind another one, and a table that points to both."""
    lists = f".{scope} ids\\nids:\\n" + "".join(entry(*item) for item in entries)
    return (
        f'asm(".pushsection {SECTION},\\"a\\"\\n.local first\\nfirst:\\n{entry("page", other)}{lists}.popsection");\n'
        "extern u32 ids[], first[]; struct proto { u32 *id; u32 *more; };\n"
        "const struct proto table = { ids, first }; u32 f(int a) { return ids[a]; }"
    )


def diff(before: str, after: str) -> ObjectDiff:
    return diff_objects(compile_c(before), compile_c(after))


FILE, SOCK = ("file", 1497), ("sock", 1498)


@pytest.mark.parametrize("scope", ["local", "globl"])
def test_another_counter_is_no_difference(scope: str) -> None:
    before = source(FILE, SOCK, scope=scope)
    after = source(("file", 1502), ("sock", 1503), other=95, scope=scope)
    assert before != after
    assert diff(before, after).empty


def test_another_type_at_a_place_is_one() -> None:
    found = diff(source(FILE, SOCK), source(FILE, ("inode", 1498)))
    names = {change.name for change in found.data}
    assert names == {"__BTF_ID__struct__sock__1498", "__BTF_ID__struct__inode__1498.new"}


def test_one_more_is_one() -> None:
    found = diff(source(FILE), source(FILE, SOCK))
    assert [change.name for change in found.data] == ["__BTF_ID__struct__sock__1498.new"]


def test_another_list_with_the_same_type_is_one() -> None:
    before = source(FILE).replace("{ ids, first }", "{ ids, ids }")
    after = source(FILE).replace("{ ids, first }", "{ first, ids }")
    assert [change.name for change in diff(before, after).data] == ["table"]


CODE = ("return ids[a];", "return ids[a] + 1;")


@pytest.mark.parametrize(
    ("entries", "place"),
    [
        ((FILE, SOCK), "__BTF_ID__struct__sock__1498"),
        ((("inode", 1497),), "__BTF_ID__struct__inode__1497"),
        ((), "__BTF_ID__struct__file__1497"),
    ],
)
def test_another_list_is_refused(entries: tuple[tuple[str, int], ...], place: str) -> None:
    with pytest.raises(Refused) as caught:
        check_units([make_unit(source(FILE), source(*entries).replace(*CODE))])
    assert (caught.value.reason, caught.value.place) == (Reason.DATA_VALUE, f"drivers/unit.c: {place}")


def test_its_twin_with_another_counter_is_not() -> None:
    assert check_units([make_unit(source(FILE), source(("file", 1700)).replace(*CODE))]) == []
