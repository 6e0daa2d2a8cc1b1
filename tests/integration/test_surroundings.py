# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole commands of the installed client in hostile surroundings, on real roots of both families.

/sys is not there, so the kernel counts as one without livepatch: `kmend reconcile` ends with 7 where nothing is wrong,
and asks no archive. Where that matters the package manager's part is called by itself.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from integration import rpmworld
from integration.aptroot import REPO, AptRoot, Done, index, make_deb, run
from integration.rpmworld import HOST, NAME
from kmend.cli.table import VERBS
from support.rpmroot import DNF4, RpmRoot, Workshop

pytestmark = [pytest.mark.network, pytest.mark.slow]

UNSUPPORTED, USAGE, ERROR = 7, 2, 1
SUBSCRIBE = "import os, sys; from kmend import distro; distro.detect().subscribe(os.uname().release)"
# Every program that the client runs by its name, and some that it might.
PROGRAMS = (
    *("apt-get", "apt-cache", "dpkg-deb", "dpkg-query", "dnf", "dnf5", "rpm", "rpmkeys", "rpm2cpio", "gpgv", "sqv"),
    *("systemctl", "busctl", "systemd-run", "loginctl", "modprobe", "kmod", "insmod", "modinfo", "kexec"),
)
EVIL = '#!/bin/sh\necho "$0" >>/ran\nexit 0\n'


@pytest.fixture(scope="module")
def apt_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AptRoot]:
    """Debian with the client and an archive that has the update of the kernel that runs here."""
    root = AptRoot.unpack(tmp_path_factory.mktemp("apt") / "prepared")
    folder = root.path / "srv/archive"
    folder.mkdir()
    make_deb(folder, f"kmend-patch-{HOST}".replace("_", "-"), "1.0")
    index(folder, "Testing")
    root.write("etc/apt/sources.list", "deb [trusted=yes] file:/srv/archive ./\n")
    root.chroot("apt-get", "update", "-q=2")
    site = root.path / "usr/lib/python3/dist-packages/kmend"
    run(["cp", "-r", str(REPO / "client/kmend"), str(site)])
    root.write("usr/bin/kmend", (REPO / "packaging/debian/kmend").read_text(), 0o755)
    yield root
    root.remove()


@pytest.fixture(scope="module")
def dnf_machine(
    workshop: Workshop, rpm_archive: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RpmRoot]:
    """The same with rpm and dnf."""
    root = rpmworld.machine(workshop, tmp_path_factory.mktemp("dnf") / "prepared", DNF4)
    root.machine("dnf", "-y", "--setopt=plugins=0", "install", "testing-release", "kernel-core-6.12.0-100.el10")
    yield root
    root.remove()


@pytest.fixture(params=["apt", "dnf"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AptRoot]:
    """A copy of one of them for one test."""
    copy = request.getfixturevalue(f"{request.param}_machine").clone(tmp_path / "root")
    yield copy
    copy.remove()


def called(root: AptRoot, env: Mapping[str, str], *argv: str) -> Done:
    """Run with these variables, which the programs of the test itself do not see."""
    return root.machine("env", *(f"{name}={value}" for name, value in env.items()), *argv, check=False)


def mounted(root: AptRoot, options: str, place: str, *argv: str) -> Done:
    """Run with an empty tmpfs over a directory."""
    target = root.path / place
    target.mkdir(parents=True, exist_ok=True)
    mount = f"mount -t tmpfs -o {options} tmpfs {target}; dd if=/dev/zero of={target}/x 2>/dev/null"
    inner = 'exec unshare --pid --fork --mount-proc --root="$0" sh -c \'"$@"; exit $?\' sh "$@"'
    return run(["unshare", "--mount", "sh", "-c", f"{mount}; {inner}", str(root.path), *argv], check=False)


def installed(root: AptRoot) -> bool:
    """Whether the update is installed."""
    if isinstance(root, RpmRoot):
        return bool(root.installed(NAME))
    return root.chroot("dpkg", "-s", f"kmend-patch-{HOST}".replace("_", "-"), check=False).returncode == 0


def state(root: AptRoot) -> list[str]:
    """All that the client may leave, and /ran."""
    places = ["var/lib/kmend", "var/cache/kmend", "run/kmend", "etc/kmend", "ran"]
    out = run(["find", *(str(root.path / place) for place in places)], check=False).stdout
    return sorted(out.splitlines())


# Programs and variables of the caller


def evil(root: AptRoot) -> str:
    """A PATH that begins with programs of somebody else."""
    for name in PROGRAMS:
        root.write(f"evil/{name}", EVIL, 0o755)
    return "/evil:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_no_verb_runs_programs_of_the_callers(root: AptRoot, verb: str) -> None:
    done = called(root, {"PATH": evil(root)}, "/usr/bin/kmend", verb, "--json")
    assert "Traceback" not in done.stderr and "unhandled" not in done.stderr
    assert root.read("ran") == ""


def test_the_programs_would_be_run_by_their_names(root: AptRoot) -> None:
    """The twin: in a directory of the system they are what they say they are."""
    assert called(root, {"PATH": evil(root)}, "/bin/sh", "-c", "dpkg-query -W; systemctl start x").returncode == 0
    assert root.read("ran").split() == ["/evil/dpkg-query", "/evil/systemctl"]
    tool = "rpm" if isinstance(root, RpmRoot) else "dpkg-query"
    (root.path / f"usr/bin/{tool}").unlink()
    root.write(f"usr/bin/{tool}", EVIL, 0o755)
    root.machine("/usr/bin/kmend", "status", check=False)
    assert f"/usr/bin/{tool}" in root.read("ran") or tool in root.read("ran")


def test_the_package_manager_is_the_systems(root: AptRoot) -> None:
    done = called(root, {"PATH": evil(root)}, "/usr/bin/python3", "-I", "-c", SUBSCRIBE)
    assert done.returncode == 0, done.stderr
    assert installed(root) and root.read("ran") == ""


def still(done: Done) -> list[str]:
    """The output without what a second changes."""
    return [line for line in done.stdout.splitlines() if "seconds" not in line]


def test_variables_of_the_callers(root: AptRoot) -> None:
    """They change nothing: not which code runs, nor what the package manager prints and what is read from it."""
    root.write("home/sitecustomize.py", "open('/ran', 'a').write('site')\n")
    root.write("home/kmend/__init__.py", "open('/ran', 'a').write('kmend')\n")
    root.write("home/apt.conf", 'Dir::Bin::dpkg "/evil/dpkg";\nAPT::Update::Pre-Invoke {"touch /ran";};\n')
    evil(root)
    env = {
        "PYTHONPATH": "/home", "PYTHONHOME": "/home", "PYTHONSTARTUP": "/home/sitecustomize.py", "HOME": "/home",
        "GNUPGHOME": "/home", "APT_CONFIG": "/home/apt.conf", "RPM_CONFIGDIR": "/home", "LANG": "de_DE.UTF-8",
        "LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de", "KMEND_AGENT": "1", "KMEND_ROOT": "/home", "TMPDIR": "/nowhere",
    }  # fmt: skip
    done = called(root, env, "/usr/bin/python3", "-I", "-c", SUBSCRIBE)
    assert done.returncode == 0, done.stderr
    assert installed(root) and root.read("ran") == ""
    plain = root.machine("/usr/bin/kmend", "status", "--json", check=False)
    with_env = called(root, env, "/usr/bin/kmend", "status", "--json")
    assert still(with_env) == still(plain) and with_env.returncode == plain.returncode
    assert json.loads(plain.stdout) and root.read("ran") == ""


def test_what_kmend_offline_says_is_done(root: AptRoot) -> None:
    """The one variable that means something."""
    done = root.machine("/usr/bin/python3", "-I", "-c", SUBSCRIBE, env={"KMEND_OFFLINE": "1"}, check=False)
    assert done.returncode == 1 and "KMEND_OFFLINE=1" in done.stderr and not installed(root)


# File systems and what is missing


MOUNTS = {
    "full state": ("size=64k", "var/lib/kmend", "free some"),
    "read-only state": ("ro", "var/lib/kmend", "read-only"),
    "read-only /run": ("ro", "run/kmend", "/run writable"),
    "full /run": ("nr_inodes=1", "run/kmend", "/run writable"),
}


@pytest.mark.parametrize("what", MOUNTS)
def test_a_file_system_that_takes_nothing(root: AptRoot, what: str) -> None:
    options, place, hint = MOUNTS[what]
    done = mounted(root, options, place, "/usr/bin/kmend", "reconcile")
    assert done.returncode == ERROR and hint in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert root.machine("/usr/bin/kmend", "reconcile", check=False).returncode == UNSUPPORTED


@pytest.mark.parametrize("options", ["ro", "nr_inodes=1"])
def test_a_cache_that_takes_nothing(root: AptRoot, options: str) -> None:
    """Nothing is installed halfway, and it is said; with room again it is installed."""
    done = mounted(root, options, "var/cache", "/usr/bin/python3", "-I", "-c", SUBSCRIBE)
    last = done.stderr.splitlines()[-1] if done.stderr else ""
    assert done.returncode == 1 and last.startswith("kmend.distro.base."), done.stdout + done.stderr
    assert not installed(root)
    done = root.machine("/usr/bin/python3", "-I", "-c", SUBSCRIBE, check=False)
    assert done.returncode == 0 and installed(root), done.stderr


def test_without_systemd_no_reboot_is_promised(root: AptRoot) -> None:
    done = root.machine("/usr/bin/kmend", "reboot", "schedule", "--json", check=False)
    data = json.loads(done.stdout)
    assert done.returncode == 0 and not data["armed"] and "systemd" in data["note"]
    (root.path / "run/systemd/system").mkdir(parents=True)
    root.write("usr/bin/systemctl", "#!/bin/sh\necho active\n", 0o755)
    root.write("usr/bin/systemd-run", "#!/bin/sh\necho $* >>/armed\n", 0o755)
    done = root.machine("/usr/bin/kmend", "reboot", "schedule", "--json", check=False)
    assert json.loads(done.stdout)["armed"], done.stdout


def test_without_a_program_that_verifies_the_doctor_says_so(root: AptRoot) -> None:
    def finding() -> dict[str, object]:
        done = root.machine("/usr/bin/kmend", "doctor", "--json", check=False)
        found = json.loads(done.stdout)
        return next(item for item in found if "gpgv" in json.dumps(item) or "sqv" in json.dumps(item))

    assert finding()["good"] is True
    (root.path / "usr/bin/gpgv").unlink()
    assert finding()["good"] is False and "gpgv" in str(finding()["hint"])


# Callers who are not root


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_an_ordinary_user(root: AptRoot, verb: str) -> None:
    """Refused, or answered; and nothing is left behind."""
    words = {"mode": ["mode", "auto"], "reboot": ["reboot", "schedule"]}.get(verb, [verb])
    before = state(root)
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/kmend", *words, "--json"]
    done = root.machine(*argv, check=False)
    assert "Traceback" not in done.stderr and "unhandled" not in done.stderr.lower(), done.stderr
    needs = verb in ("apply", "revert", "reconcile", "mode", "hold", "unhold", "reboot", "blocking", "doctor")
    assert (done.returncode == USAGE and "needs root" in done.stderr) is needs, done.stderr
    assert state(root) == before


def test_root_is_not_told_that_root_is_needed(root: AptRoot) -> None:
    """The twin."""
    for words in (["hold"], ["unhold"], ["mode", "manual"], ["mode", "auto"], ["reconcile"], ["doctor"]):
        done = root.machine("/usr/bin/kmend", *words, "--json", check=False)
        assert "needs root" not in done.stderr and done.returncode in (0, 1, UNSUPPORTED), done.stderr
    assert any("var/lib/kmend" in name for name in state(root))
