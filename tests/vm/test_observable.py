# SPDX-License-Identifier: GPL-2.0-or-later
"""Real fixes whose effect user space can see: it is there with the live patch, and only with it.

One live patch has them all. The guest boots once: all probes, apply, all probes, revert, all probes. Every fix is a
test of its own that asserts all three. See support/observable.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernels import KernelPair
from kmend_builder.prove.base import GuestBase
from kmend_builder.prove.rootfs import Rootfs
from kmend_builder.prove.subject import Subject
from support import observable
from support.figures import Figure
from support.observable import Outputs, Seen

pytestmark = pytest.mark.slow
ALL = observable.fix_ids()
MODULES = observable.of_modules()
#: Each of them is built into a live patch of its own, too.
ALONE = ["CVE-2026-98022", "CVE-2026-98010", "nfqueue-command"]
#: Of other objects; they take no time to speak of.
OTHERS = ["prctl-auxv", "netlabel-ipv6", "bridge-vlan-notify"]


@pytest.fixture(scope="session")
def observable_base(minimal_rootfs: Rootfs) -> Iterator[GuestBase]:
    with GuestBase(minimal_rootfs, smp=2, append=observable.probes().boot(frozenset())) as base:
        yield base.make()


@pytest.fixture(scope="session")
def subject(pair: KernelPair, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The live patch of all fixes."""
    return observable.build(pair, ALL, tmp_path_factory.mktemp("all") / "work")


@pytest.fixture(scope="session")
def seen(observable_base: GuestBase, subject: Subject) -> Seen:
    return observable.watch(observable_base, subject, ALL)


@pytest.fixture(scope="session")
def seen_late(observable_base: GuestBase, subject: Subject) -> Outputs:
    return observable.watch_late(observable_base, subject, MODULES)


def must_flip(seen: Seen, fix: str) -> None:
    print(f"{fix}: {seen.before[fix]!r} -> {seen.after[fix]!r} -> {seen.reverted[fix]!r}")
    assert observable.wrong(seen, fix) == []


@pytest.mark.parametrize("fix", ALL)
def test_the_behaviour_flips(seen: Seen, fix: str) -> None:
    must_flip(seen, fix)


def test_the_kernel_has_nothing_to_say_about_it(seen: Seen, figure: Figure) -> None:
    figure(f"transition of {len(ALL)} fixes: {seen.seconds:.1f} s")
    assert seen.findings == ()


@pytest.mark.parametrize("fix", MODULES)
def test_a_module_that_is_loaded_later_behaves_so_at_once(seen_late: Outputs, fix: str) -> None:
    print(f"{fix}: {seen_late[fix]!r}")
    assert observable.misprint(fix, seen_late[fix], patched=True) == ""


@pytest.mark.parametrize("fix", ALONE)
def test_a_fix_alone_changes_its_own_behaviour_only(
    pair: KernelPair, observable_base: GuestBase, tmp_path: Path, fix: str
) -> None:
    others = [other for other in ALONE + OTHERS if other != fix]
    seen = observable.watch(observable_base, observable.build(pair, [fix], tmp_path / "work"), [fix, *others])
    must_flip(seen, fix)
    for other in others:
        assert observable.misprint(other, seen.after[other], patched=False) == ""
