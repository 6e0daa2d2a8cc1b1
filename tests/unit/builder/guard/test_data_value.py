# SPDX-License-Identifier: GPL-2.0-or-later
"""data-value: initialisers of data that is in use."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.guard import check_units, data_value
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


def test_a_constant_that_only_its_own_code_reads() -> None:
    source = SOURCE.replace("use(fixed);", "a += fixed[a & 1];")
    (note,) = data_value.check(make_unit(source, source.replace("{5, 6}", "{5, 7}")))
    assert note == "drivers/unit.c: fixed: a copy with the new content, for all that use it (f)"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("", "code keeps or compares its address"),
        ("const int *const held = fixed;", "held points to it"),
    ],
)
def test_why_a_constant_is_not_copied(more: str, why: str) -> None:
    before = SOURCE + more
    with pytest.raises(Refused) as caught:
        data_value.check(make_unit(before, before.replace("{5, 6}", "{5, 7}")))
    assert why in caught.value.why


def test_a_per_cpu_variable_of_another_size() -> None:
    source = 'section(".data..percpu") int counts[2] = {1, 2}; int f(int a) { return counts[a]; }'
    with pytest.raises(Refused) as caught:
        data_value.check(make_unit(source, source.replace("counts[2]", "counts[4]")))
    assert caught.value.reason is Reason.DATA_LAYOUT
    assert "per-cpu areas" in caught.value.why


READ_ONCE = """
extern void registered(int *);
static int start[4] = {1, 2, 3, 4};
section(".init.text") int setup(int a) { %s return start[a & 3]; }
int f(int a) { return a * 3; }
"""


def test_data_that_only_init_code_reads_is_a_note() -> None:
    before = READ_ONCE % ""
    (note,) = data_value.check(make_unit(before, before.replace("3, 4}", "3, 9}")))
    assert note == "drivers/unit.c: start: read by init code only, takes effect at the next boot only"


def test_data_that_init_code_registers_is_live() -> None:
    before = READ_ONCE % "registered(start);"
    with pytest.raises(Refused) as caught:
        data_value.check(make_unit(before, before.replace("3, 4}", "3, 9}")))
    assert caught.value.reason is Reason.DATA_VALUE


def test_data_that_running_code_reads_as_well_is_live() -> None:
    before = READ_ONCE % "" + "int g(int a) { return start[a & 1]; } int *h(void) { return start; }"
    with pytest.raises(Refused):
        data_value.check(make_unit(before, before.replace("3, 4}", "3, 9}")))


def test_data_that_only_init_code_reads_does_not_make_a_fix_live() -> None:
    before = READ_ONCE % ""
    after = before.replace("3, 4}", "3, 9}")
    code = after.replace("a * 3", "a * 5")
    assert len(check_units([make_unit(before, code)])) == 1
    with pytest.raises(Refused) as caught:
        check_units([make_unit(before, after.replace("a & 3]", "a & 3] + 1"))])
    assert caught.value.reason is Reason.INIT_CODE


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
