# SPDX-License-Identifier: GPL-2.0-or-later
"""Shifts that the kernel completes at boot."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.guard import check_units
from support.units import make_unit

SOURCE = """
u32 bucket(u32 hash)
{
    asm("shrl $12, %0\\n1:\\n.pushsection runtime_shift_d_hash_shift,\\"a\\"\\n.long 1b - 1 - .\\n.popsection"
        : "+r" (hash));
    return hash;
}
u32 lookup(u32 hash) { return bucket(hash) + 3; }
u32 other(u32 a) { return a * 3; }
"""


def test_changed_code_with_such_a_shift() -> None:
    with pytest.raises(Refused) as caught:
        check_units([make_unit(SOURCE, SOURCE.replace("return hash;", "return hash + 1;"))])
    assert (caught.value.reason, caught.value.place) == (Reason.DATA_VALUE, "drivers/unit.c: bucket")
    assert "d_hash_shift" in caught.value.why


def test_its_twin_elsewhere_in_the_unit() -> None:
    assert check_units([make_unit(SOURCE, SOURCE.replace("a * 3", "a * 5"))]) == []
