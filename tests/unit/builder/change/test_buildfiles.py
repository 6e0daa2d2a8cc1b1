# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to what steers the build."""

import pytest

from kmend.reasons import Reason
from kmend_builder.change.buildfiles import judge
from kmend_builder.errors import Refused


def note(path: str, old: str | None = "a\n", new: str | None = "b\n") -> str | None:
    return judge(path, old, new, lambda directory: directory in ("", "net"))


@pytest.mark.parametrize(
    "path",
    ["net/Kconfig", "other/Kconfig.debug", "arch/Kconfig", "Makefile", "net/Kbuild", "kernel/vmlinux.lds.S"]
    + ["arch/x86/entry/syscalls/syscall_64.tbl", "lib/oid.asn1", "drivers/x_shipped", "arch/x86/Makefile_32.cpu"],
)
def test_what_steers_the_build_is_refused(path: str) -> None:
    if path.startswith("arch/x86/Makefile"):
        with pytest.raises(Refused):
            judge(path, "a\n", "b\n", lambda _: True)
        return
    with pytest.raises(Refused) as refused:
        note(path)
    assert (refused.value.reason, refused.value.place) == (Reason.CONFLICT, path)
    assert refused.value.advice


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("arch/arm64/Kconfig", "not read for this architecture"),
        ("arch/arm64/kernel/Makefile", "not read for this architecture"),
        ("arch/arm64/kernel/vmlinux.lds.S", "not read for this architecture"),
        ("drivers/off/Makefile", "nothing is built in its directory"),
    ],
)
def test_what_this_kernel_does_not_read(path: str, why: str) -> None:
    assert note(path) == why


@pytest.mark.parametrize(
    "path", ["net/a.c", "net/a.h", "net/a.S", "tools/x/Makefile", "Documentation/Kconfig", "net/x.rst"]
)
def test_other_files_are_not_its_business(path: str) -> None:
    assert note(path) is None


@pytest.mark.parametrize("path", ["net/Makefile", "net/Kconfig"])
def test_comments(path: str) -> None:
    old = "# words\nobj-y += a.o\n"
    assert note(path, old, "# other words\n\nobj-y += a.o  \n") == "only comments or white space change"
    for new in ("# words\nobj-y += a.o b.o\n", "# words\n", "# words \\\nobj-y += a.o\n"):
        with pytest.raises(Refused):
            note(path, old, new)
    with pytest.raises(Refused):
        note(path, None, old)
