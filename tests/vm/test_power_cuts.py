# SPDX-License-Identifier: GPL-2.0-or-later
"""The power goes at every step of every verb: what comes up again is covered, or knows what it must not try again.

One boot settles it: the second reconcile has nothing left to do. How many cuts were made is in the figures of the run.
"""

import concurrent.futures
import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from kmend_builder.prove.base import GuestBase
from kmend_builder.prove.rootfs import Rootfs
from support.figures import Figure
from vm.agent_support import ARCHIVE_KEYRING, KMEND, PATCHES, POLICY, far_window
from vm.agent_support import Machine as AgentMachine
from vm.conftest import AgentSeed
from vm.powercut import After, Case, booted, cut_after, journaled, look, require_sane

pytestmark = [pytest.mark.slow, pytest.mark.long]
# Where pytest itself runs tests side by side, one each.
_WORKERS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
# Of long rows of steps, most of which write the same file in other words, as many as this, evenly spaced: 202 in all.
_AT_MOST = int(os.environ.get("KMEND_CUTS", "28"))


@pytest.fixture(scope="module")
def rootfs(full_rootfs: Rootfs, tmp_path_factory: pytest.TempPathFactory) -> Rootfs:
    return journaled(full_rootfs, tmp_path_factory.mktemp("journal") / "root")


def _setup(build_id: str, *more: str) -> list[str]:
    """The agent, the first update's files, and a newer kernel that fixes what the update fixes."""
    updates = f"{PATCHES}/{build_id}"
    return [
        f"mkdir -p {updates} /etc/kmend /var/cache/kmend/debs {Path(ARCHIVE_KEYRING).parent}",
        f"install -m 644 /seed/keys/publisher.gpg {ARCHIVE_KEYRING}",
        f"printf '{POLICY}{far_window()}' > /etc/kmend/kmend.conf",
        f"cd /seed/updates/first; cp manifest.json manifest.json.asc *.ko {updates}",
        "cp /seed/kernel-first/* /var/cache/kmend/debs; dpkg -i /seed/kernel-first/*.deb",
        *more,
    ]


@pytest.fixture(scope="module")
def fresh(rootfs: Rootfs, agent_seed: AgentSeed) -> Iterator[GuestBase]:
    """An update on disk, nothing live."""
    warm = _setup(agent_seed.first.manifest.kernel.build_id)
    with GuestBase(rootfs, smp=2, init="systemd", warm=warm, seed=agent_seed.image) as base:
        yield base.make()


@pytest.fixture(scope="module")
def applied(rootfs: Rootfs, agent_seed: AgentSeed) -> Iterator[GuestBase]:
    """The first update live, and time to confirm it."""
    looks = "printf 'health.looks = 1s\n' >> /etc/kmend/kmend.conf"
    warm = _setup(agent_seed.first.manifest.kernel.build_id, looks, " ".join([*KMEND, "reconcile"]), "sleep 1")
    with GuestBase(rootfs, smp=2, init="systemd", warm=warm, seed=agent_seed.image) as base:
        yield base.make()


Check = Callable[[After], None]


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all cuts share."""

    rootfs: Rootfs
    seed: AgentSeed
    work: Path
    figure: Figure

    @property
    def updates(self) -> str:
        return f"{PATCHES}/{self.seed.first.manifest.kernel.build_id}"

    def everywhere(self, case: Case, check: Check) -> dict[str, int]:
        """Cut at every step and after the last; how many machines came up how."""
        total = case.steps()
        most = min(total, _AT_MOST)
        places = [*(1 + number * total // most for number in range(most)), total + 1]
        found = self._each(places, case.cut, check)
        self.figure(f"{case.verb}: {total} steps, {len(places)} power cuts: {found}")
        return found

    def _each(
        self, places: Sequence[int], off: Callable[[Path, int], None], check: Check, more: str = ""
    ) -> dict[str, int]:
        def one(place: int) -> str:
            disk = self.work / f"{place}.qcow2"
            off(disk, place)
            try:
                with booted(self.rootfs, disk, self.seed.image) as guest:
                    machine = AgentMachine(guest, self.seed.first.manifest.kernel.build_id)
                    after = look(machine)
                    require_sane(after)
                    if more:
                        guest.run(more, timeout=240)
                        after = look(machine)
                        require_sane(after)
                    check(after)
            finally:
                disk.unlink()
            return "quarantined" if after.quarantined else ",".join(sorted(after.live)) or "nothing live"

        with concurrent.futures.ThreadPoolExecutor(_WORKERS) as pool:
            return dict(Counter(pool.map(one, places)))

    def timed(self, base: GuestBase, prepare: str, command: str, check: Check) -> dict[str, int]:
        """Cut a command at evenly spaced times; then it is run again, as an administrator would."""
        with base.clone() as guest:
            guest.run(prepare, timeout=240)
            seconds = guest.run(command, timeout=240).seconds

        def off(disk: Path, place: int) -> None:
            cut_after(base, disk, 1.1 * seconds * place / _AT_MOST, prepare, command)

        found = self._each(range(1, _AT_MOST + 1), off, check, f"dpkg --force-depends --configure -a; {command}")
        self.figure(f"{command}: {seconds:.1f} s, {_AT_MOST} power cuts: {found}")
        return found


@pytest.fixture
def bench(rootfs: Rootfs, agent_seed: AgentSeed, tmp_path: Path, figure: Figure) -> Bench:
    return Bench(rootfs, agent_seed, tmp_path, figure)


def _covered_or_told(name: str) -> Check:
    """The update is live, or was quarantined and a reboot is what is left."""

    def check(after: After) -> None:
        if after.quarantined:
            assert after.live == {} and after.first.rc == 6, after
            assert after.status.data["reboot"], after
        else:
            assert after.live == {name: "live"} and after.first.rc == 0, after

    return check


@pytest.mark.parametrize("verb", ["apply", "reconcile"])
def test_while_an_update_goes_live(verb: str, fresh: GuestBase, bench: Bench) -> None:
    name = bench.seed.first.manifest.module.name
    found = bench.everywhere(Case(fresh, verb), _covered_or_told(name))
    # both ends were reached: before the write-ahead record, and between it and the end
    assert found[name] > _AT_MOST // 10 and found["quarantined"] > _AT_MOST // 10


def test_while_one_update_replaces_another(applied: GuestBase, bench: Bench) -> None:
    name = bench.seed.second.manifest.module.name
    second = f"rm -r {bench.updates}; mkdir {bench.updates}; cd /seed/updates/second"
    case = Case(applied, "apply", f"{second}; cp manifest.json manifest.json.asc *.ko {bench.updates}")
    assert bench.everywhere(case, _covered_or_told(name))[name] > _AT_MOST // 10


def test_while_an_update_is_confirmed(applied: GuestBase, bench: Bench) -> None:
    name = bench.seed.first.manifest.module.name
    assert bench.everywhere(Case(applied, "reconcile"), _covered_or_told(name))[name] > _AT_MOST // 10


def test_while_an_update_is_taken_back(applied: GuestBase, bench: Bench) -> None:
    """What comes up has the update, or nothing because that was the administrator's choice."""
    name = bench.seed.first.manifest.module.name

    def check(after: After) -> None:
        assert after.live in ({}, {name: "live"}) and not after.quarantined, after
        assert after.live or after.status.data["reboot"], after

    found = bench.everywhere(Case(applied, "revert"), check)
    assert found[name] and found["nothing live"]


def test_while_a_reboot_is_planned(fresh: GuestBase, bench: Bench) -> None:
    """The plan is gone with /run, as it should after a boot; that one is needed is found again."""
    unit = "cp /seed/kmend-reboot.service /etc/systemd/system; systemctl daemon-reload"

    def check(after: After) -> None:
        assert after.live == {} and after.first.rc == 5 and after.status.data["reboot"], after

    found = bench.everywhere(Case(fresh, "reconcile", f"{unit}; rm -r {bench.updates}"), check)
    assert set(found) == {"nothing live"}


def test_while_an_update_is_installed(fresh: GuestBase, bench: Bench) -> None:
    """dpkg's own work is cut; whatever it has left, the agent copes, and installing it again brings the update."""
    name = bench.seed.first.manifest.module.name
    [deb] = (bench.seed.tree / "updates/first").glob("*.deb")

    def check(after: After) -> None:
        assert after.live == {name: "live"} and after.first.rc == 0, after

    install = f"dpkg -i --force-depends /seed/updates/first/{deb.name}"
    assert bench.timed(fresh, f"rm -r {bench.updates}", install, check)
