# SPDX-License-Identifier: GPL-2.0-or-later
"""Fields that get another meaning under the same type."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.guard import check_units
from kmend_builder.guard.fieldops import Fields
from support.units import make_unit

SOURCE = """
struct s { long pad[4]; int n; unsigned char left, flags; };
extern int work(struct s *);
int begin(struct s *s) { %s; return work(s); }
int end(struct s *s) { %s; return work(s); }
"""
COUNTED = SOURCE % ("s->left++", "s->left--")
BITS = SOURCE % ("s->left |= 4", "s->left &= ~4")


@pytest.mark.parametrize(
    ("before", "after", "how"),
    [(COUNTED, BITS, "as a number and is now as bits"), (BITS, COUNTED, "as bits and is now as a number")],
    ids=["number", "bits"],
)
def test_a_count_and_a_mask(before: str, after: str, how: str) -> None:
    with pytest.raises(Refused) as caught:
        check_units([make_unit(before, after)])
    assert caught.value.reason is Reason.DATA_LAYOUT
    assert caught.value.place == "drivers/unit.c: the byte at offset 36 of a structure"
    assert how in caught.value.why


@pytest.mark.parametrize(
    "after",
    [
        SOURCE % ("s->left += 2", "s->left -= 2"),
        SOURCE % ("s->left++; s->flags |= 4", "s->left--; s->flags &= ~4"),
        SOURCE % ("s->left++; if (s->n) s->left |= 4", "s->left--"),
        SOURCE % ("s->left++", "s->left = 0"),
    ],
    ids=["counts in other steps", "another field", "counts as before", "set"],
)
def test_its_twins(after: str) -> None:
    assert check_units([make_unit(COUNTED, after)]) == []


RESULT = """
struct s {{ long pad[4]; int n; unsigned char left; }};
extern int work(struct s *);
int end(struct s *s) {{ {}; return s->left ? work(s) : 0; }}
"""


def test_a_field_changed_in_a_register() -> None:
    """Where the result is looked at, compilers read, change and write back."""
    with pytest.raises(Refused, match="offset 36"):
        check_units([make_unit(RESULT.format("s->left--"), RESULT.format("s->left &= ~4"))])
    assert check_units([make_unit(RESULT.format("s->left--"), RESULT.format("s->left -= 2"))]) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (["movzx eax, byte ptr [rbx + 0x24]", "sub eax, 1", "mov byte ptr [rbx + 0x24], al"], "count"),
        (["mov eax, dword ptr [rbx + 0x24]", "lea ecx, [rax + 1]", "mov dword ptr [rbx + 0x24], ecx"], "count"),
        (["movzx eax, byte ptr [rbx + 0x24]", "or r9d, 1", "and eax, -5", "mov byte ptr [rbx + 0x24], al"], "bits"),
        (["mov r13b, byte ptr [rbx + 0x24]", "dec r13d", "mov byte ptr [rbp + 0x24], r13b"], "store"),
        (["mov eax, dword ptr [rbx + 0x20]", "inc eax", "mov dword ptr [rbx + 0x24], eax"], "store"),
        (["mov eax, dword ptr [rbx + 0x24]", "dec eax", "mov eax, esi", "mov dword ptr [rbx + 0x24], eax"], "store"),
    ],
)
def test_fields_through_registers(code: list[str], found: str) -> None:
    fields = Fields()
    steps = [fields.step(*line.split(" ", 1)) for line in code]
    assert steps[-1] is not None and steps[-1][0] == found and steps[-1][1][1] == 0x24
    assert steps[:-1] == [None] * (len(code) - 1)


def test_nothing_is_carried_over_a_call() -> None:
    fields = Fields()
    for line in ("mov eax, dword ptr [rbx + 0x24]", "dec eax"):
        fields.step(*line.split(" ", 1))
    fields.forget()
    assert fields.step("mov", "dword ptr [rbx + 0x24], eax") == ("store", ("dword", 0x24))
