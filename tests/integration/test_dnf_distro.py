# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent on a real rpm database with real dnf 4 and dnf 5: kernels, advisories, subscription, coverage.

`Agent` tests have the simulated kernel of the unit tests below the root directory of a real rpm system.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from integration import rpmworld
from integration.aptroot import run
from integration.rpmworld import BUILD_ID, HOST, NAME, NEW, NEW_UNAME
from kmend.coverage import Coverage, Level
from kmend.distro import rpmver
from kmend.distro.dnf import DnfDistro, rpm_name
from kmend.distro.run import Finished
from kmend.manifest import FILE_NAME
from kmend.reconcile import reconcile
from kmend.survey import Survey
from support.rpmroot import DNF4, DNF5, Advisory, Rpm, RpmRoot, Workshop, kernel_core, update
from unit.client import updates
from unit.client.conftest import World
from unit.client.simulator import BUILD_ID as SIMULATED_ID
from unit.client.simulator import RELEASE, VERSION
from unit.client.updates import Key

pytestmark = [pytest.mark.network, pytest.mark.slow]

PROGRAM = {DNF4: "dnf", DNF5: "dnf5"}
SECOND = "6.12.0-110.2.el10^2"
# Runs the agent's own code in the root directory: what it answers, or which error it raises.
ASK = """
import json, sys
from kmend import distro
from kmend.distro import dnfget
from kmend.errors import KmendError
from kmend.manifest import KernelId
dnfget.PATIENCE = 3.0
found = distro.detect()
release, verb = sys.argv[1:3]
version = found.running_version(release)
try:
    if verb == "pending":
        pending = found.pending_kernel(KernelId(release, version, "x86_64", ""))
        cves = found.pending_cves(version, pending) if pending else None
        answer = [version, pending and [pending.release, pending.version, pending.package], cves and sorted(cves)]
    elif verb == "package":
        state = found.update_package(release)
        answer = [state.name, state.installed, state.candidate]
    else:
        answer = found.subscribe(release)
except KmendError as error:
    answer = [type(error).__name__, error.why]
print(json.dumps([type(found).__name__, answer]))
"""


@pytest.fixture(scope="module", params=[DNF4, DNF5])
def prepared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, workshop: Workshop,
    rpm_archive: dict[str, Path],
) -> Iterator[RpmRoot]:  # fmt: skip
    root = rpmworld.machine(workshop, tmp_path_factory.mktemp("rpm") / "prepared", request.param)
    root.program = PROGRAM[request.param]
    packages = ("testing-release", "kernel-core-6.12.0-100.el10", "bystander-1.0")
    root.machine(root.program, "-y", "--setopt=plugins=0", "install", *packages)
    yield root
    root.remove()


@pytest.fixture()
def root(prepared: RpmRoot, tmp_path: Path) -> Iterator[RpmRoot]:
    copy = prepared.clone(tmp_path / "root")
    copy.program = prepared.program
    yield copy
    copy.remove()


def dnf(root: RpmRoot, *words: str) -> None:
    root.machine(root.program, "-y", "--setopt=plugins=0", *words)


def ask(root: RpmRoot, verb: str, release: str = HOST, env: Mapping[str, str] = {}) -> Any:
    done = root.machine("/usr/bin/python3", "-I", "-c", ASK, release, verb, env=dict(env))
    kind, answer = json.loads(done.stdout)
    assert kind == "DnfDistro"  # although there is a dpkg database as well
    return answer


# Versions


LEFT = ("1", "1.0", "1.0~rc1", "1.0^1", "1.0.1", "1.0a", "a1", "01", "1..1", "1_1", "1^", "1~", "el10_1")
RIGHT = ("1", "1.0", "1.0~~", "1.0^2", "1.0.10", "1.0b", "1a", "10", "1.1", "1+1", "^1", "~", "el10")
PAIRS = [(a, b) for a in LEFT for b in RIGHT]


def test_version_order_is_rpms(prepared: RpmRoot) -> None:
    quoted = ",".join(f'{{"{a}","{b}"}}' for a, b in PAIRS)
    script = f"%{{lua: for _, p in ipairs({{{quoted}}}) do print(rpm.vercmp(p[1], p[2]), '') end}}"
    out = prepared.machine("rpm", "--eval", script).stdout.split()
    assert [int(word) for word in out] == [rpmver.compare_text(a, b) for a, b in PAIRS]


# Kernels and advisories


def test_pending_kernel_and_its_cves(root: RpmRoot) -> None:
    assert ask(root, "pending") == ["6.12.0-100.el10", None, None]
    dnf(root, "install", f"kernel-core-{NEW}")
    between = ["CVE-2026-10001", "CVE-2026-10002", "CVE-2026-10003"]
    whole = ["6.12.0-100.el10", [NEW_UNAME, NEW, "kernel-core"], between]
    assert ask(root, "pending") == whole
    dnf(root, "clean", "all")
    assert ask(root, "pending") == whole  # kept
    run(["rm", "-r", str(root.path / "var/cache/kmend")])
    assert ask(root, "pending") == [*whole[:2], None]


def test_status_and_cves_on_the_command_line(root: RpmRoot) -> None:
    """This kernel can't be live patched, so nothing is live, and nobody is told that it is."""
    dnf(root, "install", f"kernel-core-{NEW}")
    status = json.loads(root.machine("kmend", "status", "--json", check=False).stdout)
    assert status["kernel"]["version"] == "6.12.0-100.el10"
    assert status["pending"]["release"] == NEW_UNAME
    assert (status["cves"]["unknown"], status["cve_list_complete"], status["level"]) == (3, True, "uncovered")
    cves = json.loads(root.machine("kmend", "cves", "--json", check=False).stdout)
    assert [(item["cve"], item["state"]) for item in cves["cves"]] == [
        (f"CVE-2026-1000{n}", "unknown") for n in (1, 2, 3)
    ]


def test_running_kernels_package_is_removed(root: RpmRoot) -> None:
    """A release in rpm's own form still tells its version."""
    dnf(root, "install", "kernel-core-6.12.0-101.el10", f"kernel-core-{NEW}")
    root.machine("rpm", "-e", "kernel-core-6.12.0-101.el10")
    found = ask(root, "pending", "6.12.0-101.el10.x86_64")
    assert found == ["6.12.0-101.el10", [NEW_UNAME, NEW, "kernel-core"], ["CVE-2026-10002", "CVE-2026-10003"]]


def test_the_same_release_built_again(root: RpmRoot, workshop: Workshop) -> None:
    assert ask(root, "pending")[1] is None
    [rebuilt] = workshop.build(rpmworld.REBUILT)
    target = root.path / "srv/rebuilt.rpm"
    target.write_bytes(rebuilt.read_bytes())
    workshop.build(rpmworld.RUNNING)  # back to what the other tests know
    root.machine("rpm", "-U", "--force", "/srv/rebuilt.rpm")
    assert ask(root, "pending") == ["6.12.0-100.el10", [HOST, "6.12.0-100.el10", "kernel-core"], None]


# The update package


def test_subscribe_installs_and_upgrades_nothing_else(root: RpmRoot) -> None:
    root.machine(root.program, "makecache")
    assert ask(root, "package") == [NAME, None, SECOND]
    dnf(root, "install", f"{NAME}-6.12.0-110.2.el10^1")
    for _ in range(2):  # once to upgrade, once because it is up to date
        assert ask(root, "subscribe") is None
        assert ask(root, "package") == [NAME, SECOND, SECOND]
    root.machine("rpm", "-e", NAME)
    assert ask(root, "subscribe") is None
    assert root.installed(NAME) == [f"{NAME}-{SECOND}"]
    assert root.installed("bystander") == ["bystander-1.0-1"]
    assert not root.exists("run/kmend/queue")  # the agent's own dnf queues nothing


def test_subscribe_offline(root: RpmRoot) -> None:
    assert ask(root, "subscribe", env={"KMEND_OFFLINE": "1"})[0] == "NetworkError"


def test_no_update_for_this_kernel(root: RpmRoot) -> None:
    assert ask(root, "subscribe", "6.12.0-99.el10.x86_64")[0] == "NoCandidateError"


@pytest.mark.parametrize("place", ["file:///srv/gone", "http://127.0.0.1:9/x"])
def test_repository_gone(root: RpmRoot, place: str) -> None:
    root.repository("kmend", place)
    dnf(root, "clean", "all")
    assert ask(root, "subscribe")[0] == "NetworkError"


def test_index_with_a_bad_signature(root: RpmRoot) -> None:
    repomd = root.path / "srv/kmend/repodata/repomd.xml"
    repomd.write_text(repomd.read_text().replace("<revision>", "<revision>1"))
    dnf(root, "clean", "all")
    assert ask(root, "subscribe")[0] == "UnauthenticatedError"


def test_package_that_is_not_signed(root: RpmRoot, workshop: Workshop) -> None:
    folder = workshop.out / "unsigned"
    folder.mkdir(exist_ok=True)
    for rpm in (workshop.out / "kmend").glob("*.rpm"):
        (folder / rpm.name).write_bytes(rpm.read_bytes())
        workshop.root.machine("rpmsign", "--delsign", f"/srv/out/unsigned/{rpm.name}", env={"HOME": "/root"})
    workshop.root.machine("createrepo_c", "--quiet", "/srv/out/unsigned")
    workshop.sign("unsigned")
    run(["rm", "-rf", str(root.path / "srv/kmend")])
    run(["cp", "-r", str(folder), str(root.path / "srv/kmend")])
    dnf(root, "clean", "all")
    assert ask(root, "subscribe")[0] == "UnauthenticatedError"
    assert root.installed(NAME) == []


def tampered(root: RpmRoot, place: int) -> None:
    """Somebody between publisher and machine changes a byte of each update, that far from the file's end."""
    for rpm in (root.path / "srv/kmend").glob("*.rpm"):
        data = bytearray(rpm.read_bytes())
        data[-place] ^= 1
        rpm.write_bytes(data)


def test_package_that_was_tampered_with(root: RpmRoot) -> None:
    """The index is the publisher's and says another checksum."""
    kept = root.path / "srv/kept"
    run(["cp", "-r", str(root.path / "srv/kmend"), str(kept)])
    tampered(root, 20)
    dnf(root, "clean", "all")
    kind, why = ask(root, "subscribe")
    assert kind == "UnauthenticatedError", why
    assert root.installed(NAME) == []
    run(["rm", "-rf", str(root.path / "srv/kmend")])
    kept.rename(root.path / "srv/kmend")
    dnf(root, "clean", "all")
    assert ask(root, "subscribe") is None and root.installed(NAME) == [f"{NAME}-{SECOND}"]


def test_package_that_was_tampered_with_under_an_index_of_its_own(root: RpmRoot, workshop: Workshop) -> None:
    """The index fits the changed package, as where the publisher's server was taken: its signature does not."""
    folder = workshop.out / "tampered"
    run(["rm", "-rf", str(folder)])
    run(["cp", "-r", str(workshop.out / "kmend"), str(folder)])
    for repository, good in (("tampered", False), ("kmend", True)):
        run(["rm", "-rf", str(root.path / "srv/kmend")])
        run(["cp", "-r", str(workshop.out / repository), str(root.path / "srv/kmend")])
        if not good:
            tampered(root, 20)
            run(["rm", "-rf", str(folder)])
            run(["cp", "-r", str(root.path / "srv/kmend"), str(folder)])
            workshop.root.machine("createrepo_c", "--quiet", "/srv/out/tampered")
            workshop.sign("tampered")
            run(["cp", "-r", f"{folder}/.", str(root.path / "srv/kmend")])
        dnf(root, "clean", "all")
        answer = ask(root, "subscribe")
        assert answer is None if good else answer[0] == "UnauthenticatedError", answer
        assert root.installed(NAME) == ([f"{NAME}-{SECOND}"] if good else [])


def test_an_update_that_needs_more(root: RpmRoot, workshop: Workshop) -> None:
    greedy = update(HOST, "6.12.0", "110.2.el10^3", {"manifest.json": b"3"}, BUILD_ID)
    more = Rpm(greedy.name, greedy.version, greedy.release, greedy.files, requires=["bystander = 2.0"], arch="noarch")
    workshop.publish("greedy", workshop.build(more))
    root.take(workshop, "greedy")
    run(["rm", "-rf", str(root.path / "etc/yum.repos.d/kmend.repo")])
    kind, why = ask(root, "subscribe")
    assert kind == "UnwantedChangeError" and "bystander" in why, why
    assert root.installed(NAME, "bystander") == ["bystander-1.0-1"]


def test_another_package_manager_at_work(root: RpmRoot) -> None:
    """dnf 4 leaves its process id in a file; libdnf5 and rpm hold a lock. The agent waits, then comes again."""
    lock = "import fcntl, sys, time\nkept = [open(name, 'a') for name in sys.argv[1:]]\n"
    lock += "for file in kept:\n    fcntl.lockf(file, fcntl.LOCK_EX)\nopen('/held', 'w').close()\n"
    files = "/var/lib/dnf/system-repo.lock /var/lib/rpm/.rpm.lock"
    pids = "for f in /var/lib/dnf/rpmdb_lock.pid /var/cache/dnf/metadata_lock.pid; do echo $! >$f; done"
    holder = f'mkdir -p /var/lib/dnf /var/cache/dnf; python3 -c "$1" {files} & {pids}; '
    holder += "for _ in $(seq 300); do test -e /held && break; sleep 0.1; done; "
    asking = '/usr/bin/python3 -I -c "$2" "$3" subscribe; kill $!'
    argv = ["sh", "-c", holder + asking, "sh", f"{lock}time.sleep(60)\n", ASK, HOST]
    assert json.loads(root.machine(*argv).stdout)[1][0] == "LockedError"
    for name in ("rpmdb_lock", "metadata_lock"):
        run(["find", str(root.path / "var"), "-name", f"{name}.pid", "-delete"])
    assert ask(root, "subscribe") is None


# The agent


@pytest.fixture(scope="module")
def keys() -> Iterator[tuple[Key, Key]]:
    """The publisher's key and a stranger's; gpg-agent's sockets need a short path."""
    with tempfile.TemporaryDirectory(prefix="kmend-d-") as top:
        yield Key(Path(top, "publisher"), "publisher"), Key(Path(top, "stranger"), "stranger")
        for name in ("publisher", "stranger"):
            subprocess.run(["gpgconf", "--homedir", os.path.join(top, name), "--kill", "gpg-agent"], check=False)


class Simulated(World):
    """The simulated machine, with the packages of a real rpm system below the same root directory."""

    def __init__(self, root: RpmRoot, key: Key, stranger: Key) -> None:
        super().__init__(root.path, key, stranger)
        self.system = root
        self.distro = DnfDistro(root.path, self._run)  # type: ignore[assignment]

    def _run(self, argv: Sequence[str], extra: Mapping[str, str]) -> Finished:
        words = list(argv)
        if "--root" in words:
            del words[words.index("--root") : words.index("--root") + 2]
        done = self.system.machine(*words, env=dict(extra), check=False)
        return Finished(done.returncode, done.stdout, done.stderr)

    def reconcile(self) -> Survey:
        return reconcile(self.agent())


def update_rpm(tmp: Path, key: Key, serial: int) -> Rpm:
    """A signed update for the simulated kernel as an rpm."""
    folder = updates.write(tmp / f"update-{serial}", updates.manifest(serial), key)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return update(RELEASE, "6.1.190", f"1^{serial}", files, SIMULATED_ID)


def move(root: RpmRoot, workshop: Workshop, repository: str, content: str) -> None:
    """Another content of a repository, as its publisher or somebody in between would put it there."""
    run(["rm", "-rf", str(root.path / "srv" / repository)])
    run(["cp", "-r", str(workshop.out / content), str(root.path / "srv" / repository)])


@pytest.fixture()
def simulated(
    root: RpmRoot, workshop: Workshop, keys: tuple[Key, Key], tmp_path_factory: pytest.TempPathFactory
) -> Simulated:
    """Running and pending kernel of the simulator as packages, two updates, and advisories that fix four CVEs."""
    tmp = tmp_path_factory.mktemp("updates")
    old = kernel_core("6.1.187", "1", uname=RELEASE)
    new = kernel_core("6.1.190", "1", uname="6.1.0-54-cloud-amd64")
    rpms = [old, new, *(update_rpm(tmp, keys[0], serial) for serial in (1, 2))]
    files = workshop.build(*rpms)
    cves = [*updates.LIVE_CVES, updates.MODULE_CVE, updates.ABSENT_CVE]
    workshop.publish("simulated", files[:2], [Advisory("OLD", old), Advisory("NEW", new, cves)])
    workshop.publish("more", files[:2], [Advisory("OLD", old), Advisory("NEW", new, [*cves, "CVE-2026-9999"])])
    workshop.publish("updates", files[2:])
    workshop.publish("oldest", files[2:3])
    move(root, workshop, "base", "simulated")
    move(root, workshop, "kmend", "updates")
    dnf(root, "clean", "all")
    root.machine("rpm", "-e", "kernel-core-6.12.0-100.el10")
    dnf(root, "install", "kernel-core-6.1.187-1")
    dnf(root, "install", "kernel-core-6.1.190-1")
    return Simulated(root, *keys)


def states(coverage: Coverage) -> dict[str, str]:
    return {item.cve: item.state for item in coverage.items}


PACKAGE = rpm_name(RELEASE)


def test_dnf_brings_the_update_and_advisories_tell_what_it_covers(simulated: Simulated) -> None:
    before = simulated.agent().distro
    assert before is not None and before.running_version(RELEASE) == VERSION
    found = simulated.reconcile()
    assert simulated.system.installed(PACKAGE) == [f"{PACKAGE}-6.1.190-1^2"]
    assert simulated.live() == ["kmend_6_1_190_1_2"]
    assert found.coverage.level is Level.COVERED and found.coverage.complete
    expected = dict.fromkeys((*updates.LIVE_CVES, updates.MODULE_CVE), "live")
    assert states(found.coverage) == {**expected, updates.ABSENT_CVE: "absent"}
    assert simulated.flags.state == "suppressed" and simulated.reboots.planned is None


def test_a_cve_nobody_fixed_is_not_covered(simulated: Simulated, workshop: Workshop) -> None:
    move(simulated.system, workshop, "base", "more")
    dnf(simulated.system, "--refresh", "makecache")
    found = simulated.reconcile()
    assert found.coverage.level is Level.PARTIAL and found.coverage.complete
    assert states(found.coverage)["CVE-2026-9999"] == "unknown"
    assert simulated.reboots.planned is not None


def test_an_older_signed_index_is_not_followed(simulated: Simulated, workshop: Workshop) -> None:
    """dnf takes the older index, and a downgrade the older update; the manifest's serial is too low for the agent."""
    simulated.reconcile()
    move(simulated.system, workshop, "kmend", "oldest")
    dnf(simulated.system, "--refresh", "downgrade", f"{PACKAGE}-6.1.190-1^1")
    assert simulated.system.installed(PACKAGE) == [f"{PACKAGE}-6.1.190-1^1"]
    found = simulated.reconcile()
    assert [str(item.error) for item in found.catalogue.refusals] != []
    assert "older than one seen before" in str(found.catalogue.refusals[0].error)
    assert simulated.live() == ["kmend_6_1_190_1_2"] and found.coverage.level is Level.COVERED


def test_the_first_update_is_taken_where_no_newer_one_was_seen(simulated: Simulated, workshop: Workshop) -> None:
    move(simulated.system, workshop, "kmend", "oldest")
    found = simulated.reconcile()
    assert found.catalogue.refusals == () and simulated.live() == ["kmend_6_1_190_1_1"]


def test_the_update_is_taken_away_or_the_kernel(simulated: Simulated) -> None:
    """What is live stays live, and is still told apart."""
    simulated.reconcile()
    simulated.system.machine("rpm", "-e", "kernel-core-6.1.187-1")
    found = simulated.reconcile()
    assert simulated.live() == ["kmend_6_1_190_1_2"]
    assert found.state.patch is not None and found.state.record is not None
    run(["rm", "-rf", str(simulated.system.path / "srv/kmend")])
    simulated.system.machine("rpm", "-e", PACKAGE)
    found = simulated.reconcile()
    assert simulated.live() == ["kmend_6_1_190_1_2"]
    assert not (simulated.directory / FILE_NAME).exists()
    assert any("can't" in note for note in found.notes)
