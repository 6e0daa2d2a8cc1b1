# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's dnf and others on one machine: real dnf 4 and dnf 5 at their question, and dnf-automatic, which asks
nobody for keys."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration import rpmworld
from integration.aptroot import Done, run
from integration.rpmworld import HOST, NAME, NEW
from support.rpmroot import DNF4, DNF5, Rpm, RpmRoot, Workshop

pytestmark = [pytest.mark.network, pytest.mark.slow]

SECOND = f"{NAME}-6.12.0-110.2.el10^2"
KERNELS = ["kernel-core-6.12.0-100.el10", f"kernel-core-{NEW}"]
PROGRAM = {DNF4: "dnf", DNF5: "dnf5"}
KEY = "etc/pki/rpm-gpg/RPM-GPG-KEY-kmend"
# An administrator's dnf that stands at its question, the agent beside it, and then the answer.
MEETING = """
mkfifo /question; exec 9<>/question
DNF upgrade <&9 >/upgrade 2>&1 & other=$!
for _ in $(seq 300); do grep -q y/N /upgrade && break; sleep 0.2; done
grep -q y/N /upgrade || { cat /upgrade; exit 9; }
/usr/bin/python3 -I -c "$1" RELEASE PATIENCE
echo ANSWER >&9
wait $other; echo "dnf ended with $?"
"""
AGENT = """
import json, sys
from kmend import distro
from kmend.distro import dnfget
from kmend.errors import KmendError
dnfget.PATIENCE = dnfget.PATIENCE_INSTALLED = float(sys.argv[2])
try:
    distro.detect().subscribe(sys.argv[1])
    print(json.dumps([]))
except KmendError as error:
    print(json.dumps([type(error).__name__, error.why]))
"""
# While the agent's own dnf is at work, an administrator begins an upgrade. `begin` runs where dnf is asked to install.
BEGIN = """
import subprocess, sys, time
from kmend import distro
from kmend.distro.run import run as real
started = []

def begin(argv, extra):
    if "-y" in argv and argv[-1] != "makecache" and not started:
        said = open("/upgrade", "w")
        started.append(subprocess.Popen(["dnf", "-y", "upgrade"], stdout=said, stderr=subprocess.STDOUT))
        time.sleep(4)
    return real(argv, extra)

found = distro.detect()
found._run = begin
found.subscribe(sys.argv[1])
print(started[0].wait())
"""


def prepare(factory: pytest.TempPathFactory, workshop: Workshop, suite: str) -> Iterator[RpmRoot]:
    program = PROGRAM[suite]
    root = rpmworld.populated(workshop, factory.mktemp("meeting") / "prepared", suite, program, "--setopt=plugins=0")
    root.program = program
    yield root
    root.remove()


@pytest.fixture(scope="module")
def prepared4(
    tmp_path_factory: pytest.TempPathFactory, workshop: Workshop, rpm_archive: dict[str, Path]
) -> Iterator[RpmRoot]:
    yield from prepare(tmp_path_factory, workshop, DNF4)


@pytest.fixture(scope="module")
def prepared5(
    tmp_path_factory: pytest.TempPathFactory, workshop: Workshop, rpm_archive: dict[str, Path]
) -> Iterator[RpmRoot]:
    yield from prepare(tmp_path_factory, workshop, DNF5)


def copied(prepared: RpmRoot, path: Path) -> Iterator[RpmRoot]:
    for copy in rpmworld.copy_of(prepared, path):
        copy.program = prepared.program
        yield copy


@pytest.fixture()
def root4(prepared4: RpmRoot, tmp_path: Path) -> Iterator[RpmRoot]:
    """A machine with dnf 4."""
    yield from copied(prepared4, tmp_path / "root")


@pytest.fixture(params=[DNF4, DNF5])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RpmRoot]:
    """A machine with dnf 4, and one with dnf 5."""
    prepared = request.getfixturevalue("prepared4" if request.param == DNF4 else "prepared5")
    yield from copied(prepared, tmp_path / "root")


def updates(root: RpmRoot) -> list[str]:
    return [name for name in root.installed() if name.startswith("kmend-patch-")]


def meet(root: RpmRoot, answer: str, patience: float = 3) -> tuple[list[str], str]:
    """What the agent answers, and how the administrator's dnf ended."""
    words = {"DNF": root.program, "RELEASE": HOST, "PATIENCE": str(patience), "ANSWER": answer}
    script = MEETING
    for word, value in words.items():
        script = script.replace(word, value)
    done = root.machine("sh", "-c", script, "sh", AGENT)
    first, last = done.stdout.splitlines()
    return json.loads(first), last


def test_a_dnf_at_its_question_is_left_alone(root: RpmRoot) -> None:
    """Its transaction has the update in it: had the agent installed it meanwhile, dnf 4 would end with an error."""
    (kind, why), ended = meet(root, "y")
    assert kind == "LockedError" and "at work" in why
    if root.program == "dnf":
        assert why.startswith("dnf (process ")
    assert ended == "dnf ended with 0"
    assert root.installed("kernel-core") == KERNELS
    assert updates(root) == ([SECOND] if root.program == "dnf" else [])


def test_nobody_else_at_work(root: RpmRoot) -> None:
    done = root.machine("/usr/bin/python3", "-I", "-c", AGENT, HOST, "3")
    assert json.loads(done.stdout) == [] and updates(root) == [SECOND]
    left = [path.name for path in (root.path / "var/cache/dnf").glob("*.pid")]
    assert left == []


def test_what_would_happen_without_looking(root4: RpmRoot) -> None:
    """The fact that all this rests on: dnf 4 does not look again."""
    root = root4
    script = MEETING.replace("/usr/bin/python3 -I", "true").replace("ANSWER", "y").replace("DNF", "dnf")
    blind = f"KMEND_AGENT=1 dnf -y install {NAME} >/dev/null 2>&1"
    done = root.machine("sh", "-c", script.replace('true -c "$1" RELEASE PATIENCE', blind))
    assert done.stdout.splitlines()[-1] == "dnf ended with 1"
    assert "already installed" in root.read("upgrade") and root.installed("kernel-core") == KERNELS[:1]
    root.machine("rpm", "-e", NAME)
    (root.path / "question").unlink()
    done = root.machine("sh", "-c", script.replace('true -c "$1" RELEASE PATIENCE', "true"))
    assert done.stdout.splitlines()[-1] == "dnf ended with 0"


def test_who_begins_while_the_agents_dnf_is_at_work_waits_for_it(root4: RpmRoot) -> None:
    root = root4
    done = root.machine("/usr/bin/python3", "-I", "-c", BEGIN, HOST, check=False)
    assert done.stdout.strip() == "0", done.stdout + done.stderr + root.read("upgrade")
    assert "Waiting for process with pid" in root.read("upgrade")
    assert root.installed("kernel-core") == KERNELS and updates(root) == [SECOND]


# Keys


AUTOMATIC = "[commands]\nupgrade_type = default\napply_updates = yes\n[emitters]\nemit_via = stdio\n"
RUN_AUTOMATIC = "import sys; from dnf.automatic.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture()
def fresh(prepared4: RpmRoot, workshop: Workshop, tmp_path: Path) -> Iterator[RpmRoot]:
    """A machine with dnf 4 that has the publisher's repository from the client's package, and never saw its key.

    The key of the distribution's repository is another one.
    """
    copy = prepared4.clone(tmp_path / "root")
    copy.write("run/kmend/stamp", "")
    copy.write("etc/dnf/automatic.conf", AUTOMATIC)
    publisher = Publisher(workshop)
    publisher.take(copy, "empty")
    yield copy
    copy.remove()


class Publisher:
    """A publisher with a key of its own, and a signed client package that brings key and repository."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        if not (workshop.out / "publisher.asc").exists():
            self._make()

    def _make(self) -> None:
        root, out = self.workshop.root, self.workshop.out
        who = "publisher@example.org"
        root.machine("gpg", "--batch", "--passphrase", "", "--quick-gen-key", f"P <{who}>", "rsa3072", "sign", "never")
        key = root.machine("gpg", "--armor", "--export", who).stdout
        (out / "publisher.asc").write_text(key)
        repo = "[kmend]\nname=kmend\nbaseurl=file:///srv/kmend\ngpgcheck=1\nrepo_gpgcheck=1\nskip_if_unavailable=1\n"
        repo += f"gpgkey=file:///{KEY}\nmetadata_expire=1h\n"
        files = {f"/{KEY}": key.encode(), "/etc/yum.repos.d/kmend.repo": repo.encode()}
        [client] = self.workshop.build(Rpm("kmend", "1", "1", files, arch="noarch"))
        for name in ("empty", "filled"):
            folder = out / f"publisher-{name}"
            folder.mkdir()
            packages = [client, *(sorted((out / "kmend").glob("*.rpm")) if name == "filled" else [])]
            for package in packages:
                shutil.copy(package, folder)
                place = f"/srv/out/{folder.name}/{package.name}"
                root.machine("rpmsign", "--resign", "--define", f"_gpg_name {who}", place, env={"HOME": "/root"})
            root.machine("createrepo_c", "--quiet", f"/srv/out/{folder.name}")
            repomd = f"/srv/out/{folder.name}/repodata/repomd.xml"
            argv = ["gpg", "--batch", "--local-user", who, "--detach-sign", "--armor", repomd]
            root.machine(*argv, env={"HOME": "/root"})

    def take(self, root: RpmRoot, name: str) -> None:
        """The client's package is installed, and the repository has what it has at that time."""
        run(["rm", "-rf", str(root.path / "srv/kmend")])
        run(["cp", "-r", str(self.workshop.out / f"publisher-{name}"), str(root.path / "srv/kmend")])
        # hours later
        age = ["-path", "*/repodata/*", "-exec", "touch", "-d", "2 hours ago", "{}", "+"]
        run(["find", str(root.path / "var/cache/dnf"), *age])
        if not root.installed("kmend"):
            (root.path / "etc/yum.repos.d/kmend.repo").unlink()
            run(["sh", "-c", f"rm -rf {root.path}/var/cache/dnf/kmend*"])
            root.machine("rpm", "-i", "--nosignature", "/srv/kmend/kmend-1-1.noarch.rpm")


def keys(root: RpmRoot) -> int:
    return len(root.machine("rpm", "-q", "gpg-pubkey", check=False).stdout.split())


def agent(root: RpmRoot) -> Any:
    return json.loads(root.machine("/usr/bin/python3", "-I", "-c", AGENT, HOST, "3").stdout)


def automatic(root: RpmRoot) -> Done:
    argv = ["/usr/bin/python3", "-c", RUN_AUTOMATIC, "/etc/dnf/automatic.conf", "--installupdates"]
    return root.machine(*argv, check=False)


def test_dnf_automatic_works_with_nothing_to_learn(fresh: RpmRoot, workshop: Workshop) -> None:
    """The agent has looked once, when the client came and nothing was published for this kernel yet."""
    assert keys(fresh) == 1
    assert agent(fresh)[0] == "NoCandidateError"
    assert keys(fresh) == 2
    Publisher(workshop).take(fresh, "filled")
    done = automatic(fresh)
    assert done.returncode == 0, done.stdout + done.stderr
    assert fresh.installed("kernel-core") == KERNELS and updates(fresh) == [SECOND], done.stdout + done.stderr


def test_before_the_agent_has_looked_the_update_is_left_out(fresh: RpmRoot, workshop: Workshop) -> None:
    """The twin: an unknown key must not cost the administrator the rest of the upgrade."""
    Publisher(workshop).take(fresh, "filled")
    fresh.machine("dnf", "-y", "--repo=kmend", "makecache")  # the index is known, the packages' key is not
    assert keys(fresh) == 1
    done = automatic(fresh)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out: rpm does not know the key" in done.stdout + done.stderr
    assert fresh.installed("kernel-core") == KERNELS and updates(fresh) == []
    assert agent(fresh) == [] and updates(fresh) == [SECOND]


def test_a_key_that_was_changed_is_not_taken(fresh: RpmRoot, workshop: Workshop) -> None:
    original = fresh.read(KEY)
    fresh.write(KEY, (workshop.out / "key.asc").read_text() + original)
    agent(fresh)
    assert keys(fresh) == 1
    fresh.write(KEY, original)
    agent(fresh)
    assert keys(fresh) == 2


def test_a_key_that_was_taken_out_stays_out(fresh: RpmRoot) -> None:
    agent(fresh)
    names = fresh.machine("rpm", "-q", "gpg-pubkey", "--qf", "%{NAME}-%{VERSION}-%{RELEASE} %{SUMMARY}\\n").stdout
    [ours] = [line.split()[0] for line in names.splitlines() if "publisher@example.org" in line]
    fresh.machine("rpm", "-e", ours)
    agent(fresh)
    assert keys(fresh) == 1


def test_the_package_has_to_be_signed(fresh: RpmRoot, workshop: Workshop) -> None:
    fresh.machine("rpm", "-e", "kmend")
    unsigned = fresh.path / "srv/unsigned.rpm"
    shutil.copy(fresh.path / "srv/kmend/kmend-1-1.noarch.rpm", unsigned)
    subprocess.run(["rpmsign", "--delsign", str(unsigned)], check=True, capture_output=True)
    fresh.machine("rpm", "-i", "--nosignature", "/srv/unsigned.rpm")
    agent(fresh)
    assert keys(fresh) == 1
    fresh.machine("rpm", "-i", "--replacepkgs", "--nosignature", "/srv/kmend/kmend-1-1.noarch.rpm")
    agent(fresh)
    assert keys(fresh) == 2
