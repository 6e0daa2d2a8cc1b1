# SPDX-License-Identifier: GPL-2.0-or-later
"""Who else is at work on packages, told by a fake /proc and by dnf 4's lock files; what real dnf does with it is in
tests/integration/test_dnf_meeting.py."""

import os
from pathlib import Path
from typing import List, Optional

import pytest

from kmend.distro import dnflock, locks, processes
from kmend.distro.base import LockedError, PackageManagerError
from kmend.distro.processes import Process

PID = 4711
LOCK = "var/cache/dnf/metadata_lock.pid"


def process(
    root: Path, name: str, *cmdline: str, pid: int = PID, user: int = 0, state: str = "S (sleeping)", parent: int = 1,
    files: "tuple[str, ...]" = (), directory: Optional[Path] = None,
) -> Path:  # fmt: skip
    """A process in a /proc below `root`; `files` are open."""
    folder = root / f"proc/{pid}"
    (folder / "fd").mkdir(parents=True)
    (folder / "status").write_text(f"Name:\t{name}\nState:\t{state}\nPPid:\t{parent}\nUid:\t1000\t{user}\t0\t0\n")
    (folder / "cmdline").write_bytes("\0".join([*cmdline, ""]).encode())
    (folder / "root").symlink_to(directory or root)
    for number, file in enumerate(files):
        (folder / f"fd/{number}").symlink_to(root / file)
    return folder


AT_WORK = {
    "dnf 4 and its script": (("dnf", "/usr/bin/python3", "/usr/bin/dnf", "upgrade"), (), "dnf"),
    "dnf 5": (("dnf5", "dnf5", "upgrade"), (), "dnf5"),
    "yum": (("yum", "/usr/bin/python3", "/usr/bin/yum"), (), "yum"),
    "python with a script": (("python3", "python3", "-s", "/usr/bin/dnf-3", "upgrade"), (), "dnf-3"),
    "RHEL's own python": (("platform-python", "/usr/libexec/platform-python3.6", "/usr/bin/dnf"), (), "dnf"),
    "dnf's library": (("python3", "python3", "/root/.ansible/tmp/AnsiballZ_dnf.py"),
                      ("var/lib/dnf/history.sqlite",), "python3 with dnf's library"),
}  # fmt: skip


@pytest.mark.parametrize("what", AT_WORK)
def test_a_package_manager_is_seen(tmp_path: Path, what: str) -> None:
    (name, *cmdline), files, told = AT_WORK[what]
    assert processes.package_manager(tmp_path) is None
    process(tmp_path, name, *cmdline, files=files)
    assert processes.package_manager(tmp_path) == Process(PID, told)


def test_others_are_not(tmp_path: Path) -> None:
    """Each differs from one that is seen in one thing."""
    other = tmp_path / "container"
    other.mkdir()
    process(tmp_path, "dnfdragora", "dnfdragora", pid=11)
    process(tmp_path, "vim", "vim", "/usr/bin/dnf", pid=12)
    process(tmp_path, "dnf", "dnf", "search", pid=13, user=1000)
    process(tmp_path, "dnf", "", pid=14, state="Z (zombie)")
    process(tmp_path, "dnf", "dnf", "upgrade", pid=15, directory=other)
    process(tmp_path, "packagekitd", "packagekitd", pid=16, files=("var/lib/dnf/history.sqlite",))
    process(tmp_path, "python3", "python3", "x.py", pid=17, files=("var/lib/dnf/history.sqlite-old",))
    (process(tmp_path, "dnf", "dnf", pid=18) / "status").unlink()  # it has just ended
    (process(tmp_path, "dnf", "dnf", pid=19) / "status").write_text("Name:\tdnf\nState:\n")
    process(tmp_path, "dnf", "dnf", pid=os.getpid())
    assert processes.package_manager(tmp_path) is None
    process(tmp_path, "dnf", "dnf")
    assert processes.package_manager(tmp_path) == Process(PID, "dnf")


@pytest.mark.parametrize("name", ["run/dnf-metadata.lock", "run/dnf-rpmdb.lock", "run/yum.pid", LOCK])
def test_a_lock_file_of_a_living_process(tmp_path: Path, name: str) -> None:
    """PackageKit's, yum's and dnf's; one of a process that is gone, or of this one, holds up nobody."""
    (tmp_path / name).parent.mkdir(parents=True)
    for text in (f"{PID}", f"{os.getpid()}", "nonsense", ""):
        (tmp_path / name).write_text(text)
        assert not locks.rpm_busy(tmp_path)
    process(tmp_path, "packagekitd", "packagekitd")
    (tmp_path / f"proc/{os.getpid()}").mkdir()
    assert not locks.rpm_busy(tmp_path)
    (tmp_path / name).write_text(f"{PID}\n")
    assert locks.rpm_busy(tmp_path)


def test_the_wait_ends_when_it_does(tmp_path: Path) -> None:
    folder = process(tmp_path, "dnf", "dnf", "upgrade")
    slept: List[float] = []
    with pytest.raises(LockedError, match=rf"dnf \(process {PID}\) has been at work for 3 s") as caught:
        dnflock.wait(tmp_path, 3.0, slept.append)
    assert sum(slept) == 3.0 and "again by itself" in caught.value.hint
    dnflock.wait(tmp_path, 3.0, lambda _: (folder / "status").unlink())


def test_what_has_started_us_is_not_waited_for(tmp_path: Path) -> None:
    process(tmp_path, "dnf", "dnf", "upgrade")
    process(tmp_path, "sh", "sh", pid=12, parent=PID)
    process(tmp_path, "python3", "python3", pid=os.getpid(), parent=12)
    slept: List[float] = []
    with pytest.raises(LockedError, match="has started this"):
        dnflock.wait(tmp_path, 600.0, slept.append)
    assert slept == []


def test_the_lock_is_held_as_dnf_would(tmp_path: Path) -> None:
    (tmp_path / "var/cache/dnf/kmend-0123/repodata").mkdir(parents=True)
    (tmp_path / "var/cache/dnf/kmend.solv").write_bytes(b"")
    for _ in range(2):
        with dnflock.alone(tmp_path, 0.0) as options:
            assert (tmp_path / LOCK).read_text() == str(os.getpid())
            assert options == ["--setopt=cachedir=/var/cache/kmend/dnf"]
            own = tmp_path / "var/cache/kmend/dnf"
            assert [(path.name, os.readlink(path)) for path in own.iterdir()] == [
                ("kmend-0123", "/var/cache/dnf/kmend-0123")
            ]
        assert not (tmp_path / LOCK).exists()


def test_the_lock_of_another_is_waited_for_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / LOCK).parent.mkdir(parents=True)
    (tmp_path / LOCK).write_text(str(PID))
    folder = process(tmp_path, "packagekitd", "packagekitd")
    with pytest.raises(LockedError, match=f"process {PID}"), dnflock.alone(tmp_path, 2.0, lambda _: None):
        pass
    assert (tmp_path / LOCK).read_text() == str(PID)
    (folder / "status").unlink()
    for path in (folder / "cmdline", folder / "root"):
        path.unlink()
    (folder / "fd").rmdir()
    folder.rmdir()
    with dnflock.alone(tmp_path, 2.0, lambda _: None):  # a killed dnf leaves its file behind
        assert (tmp_path / LOCK).read_text() == str(os.getpid())


def test_the_lock_is_given_back_to_who_looked_before(tmp_path: Path) -> None:
    """A dnf at its question holds no lock, and must not find itself waiting for us while we wait for it."""
    folder = process(tmp_path, "dnf", "dnf", "upgrade")
    held: List[bool] = []

    def sleep(_: float) -> None:
        held.append((tmp_path / LOCK).exists())
        if len(held) == 2:
            (folder / "status").unlink()

    with dnflock.alone(tmp_path, 5.0, sleep):
        assert held == [False, False] and (tmp_path / LOCK).exists()
    assert not (tmp_path / LOCK).exists()


def test_the_cache_is_where_dnf_is_told(tmp_path: Path) -> None:
    (tmp_path / "etc/dnf").mkdir(parents=True)
    (tmp_path / "etc/dnf/dnf.conf").write_text("[main]\ncachedir=/srv/dnf\n")
    with dnflock.alone(tmp_path, 0.0):
        assert (tmp_path / "srv/dnf/metadata_lock.pid").exists()


@pytest.mark.parametrize("planted", ["link", "file"])
def test_a_cache_that_is_none(tmp_path: Path, planted: str) -> None:
    """A planted link is not followed, and the lock is not kept."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").write_bytes(b"")
    (tmp_path / "var/cache/kmend").mkdir(parents=True)
    own = tmp_path / "var/cache/kmend/dnf"
    if planted == "link":
        own.symlink_to(victim)
    else:
        own.write_bytes(b"")
    with pytest.raises(PackageManagerError, match="can't keep"), dnflock.alone(tmp_path, 0.0):
        pass
    assert (victim / "kept").exists() and not (tmp_path / LOCK).exists()
    own.unlink()
    with dnflock.alone(tmp_path, 0.0):
        assert own.is_dir()
