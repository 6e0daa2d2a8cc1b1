# SPDX-License-Identifier: GPL-2.0-or-later
"""data-value: initialisers of data that is in use."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.guard import data_value
from support.units import make_unit

SOURCE = """
extern void use(const void *);
int limit = 4;
int table[4] = {1, 2};
static const int fixed[] = {5, 6};
int f(int a) { static const int inner[] = {7, 8}; use(inner); use(fixed); return a + limit + table[a]; }
"""


def _refusal(after: str) -> Refused:
    with pytest.raises(Refused) as caught:
        data_value.check(make_unit(SOURCE, after))
    return caught.value


def test_a_changed_initialiser() -> None:
    refusal = _refusal(SOURCE.replace("limit = 4", "limit = 5"))
    assert (refusal.reason, refusal.place) == (Reason.DATA_VALUE, "drivers/unit.c: limit")
    assert ".data.limit" in refusal.why


def test_a_changed_constant_that_has_a_name_of_its_own() -> None:
    refusal = _refusal(SOURCE.replace("{5, 6}", "{5, 7}"))
    assert (refusal.reason, refusal.place) == (Reason.DATA_VALUE, "drivers/unit.c: fixed")


def test_another_size_is_another_layout() -> None:
    refusal = _refusal(SOURCE.replace("table[4]", "table[6]"))
    assert (refusal.reason, refusal.place) == (Reason.DATA_LAYOUT, "drivers/unit.c: table")


@pytest.mark.parametrize(
    ("old", "new"),
    [("a + limit", "a - limit"), ("{7, 8}", "{7, 9}"), ("int limit = 4;", "int limit = 4; int fresh = 9;")],
    ids=["code", "constant-of-the-function", "new-data"],
)
def test_other_changes_pass(old: str, new: str) -> None:
    unit = make_unit(SOURCE, SOURCE.replace(old, new))
    assert not unit.diff.empty
    assert data_value.check(unit) == []
