# SPDX-License-Identifier: GPL-2.0-or-later
"""vdso, init-code: judged by where the source lies."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.guard import check_units, vdso
from support.units import make_unit

SOURCE = "int f(int a) { return a * 3; }"
AFTER = SOURCE.replace("a * 3", "a * 5")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("arch/x86/entry/vdso/vclock_gettime.c", Reason.VDSO),
        ("arch/x86/boot/main.c", Reason.INIT_CODE),
        ("arch/x86/realmode/init.c", Reason.INIT_CODE),
        ("drivers/firmware/efi/libstub/x86-stub.c", Reason.INIT_CODE),
    ],
)
def test_code_that_runs_elsewhere(path: str, reason: Reason) -> None:
    with pytest.raises(Refused) as caught:
        vdso.check(make_unit(SOURCE, AFTER, source=path))
    assert (caught.value.reason, caught.value.place) == (reason, path)
    assert vdso.check(make_unit(SOURCE, SOURCE, source=path)) == []


@pytest.mark.parametrize("path", ["arch/x86/entry/common.c", "drivers/firmware/efi/efi.c", "fs/open.c"])
def test_code_of_the_kernel(path: str) -> None:
    assert vdso.check(make_unit(SOURCE, AFTER, source=path)) == []


def test_the_most_telling_reason_comes_first() -> None:
    """Code for user space has no fentry either."""
    source = "notrace " + SOURCE
    with pytest.raises(Refused) as caught:
        check_units([make_unit(source, "notrace " + AFTER, source="arch/x86/entry/vdso/vgetcpu.c")])
    assert caught.value.reason is Reason.VDSO


def test_the_32_bit_vdso_is_refused_before_anything_is_compiled() -> None:
    """The 64-bit one can be compiled and compared; a kernel source beside it is no reason to go on."""
    part = "arch/x86/entry/vdso/vdso32/vclock_gettime.c"
    with pytest.raises(Refused) as caught:
        vdso.outside([part, "fs/open.c"])
    assert (caught.value.reason, caught.value.place) == (Reason.VDSO, part)
    assert vdso.outside(["arch/x86/entry/vdso/vclock_gettime.c", "fs/open.c"]) == set()
