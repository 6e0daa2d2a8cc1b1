# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest with the agent in it: the real command line, with the seed disk as its package source.

The client runs from the seed disk, without its units, so that nothing but the test starts it. What the kernel holds is
read from sysfs, never from the agent's own words.
"""

import compileall
import dataclasses
import datetime
import json
import py_compile
import shlex
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kmend_builder.errors import BuildError
from kmend_builder.prove.base import ColdGuest
from kmend_builder.prove.guest import Guest

ROOT = Path(__file__).resolve().parents[2]
CLIENT = "/seed/client"
PATCHES = "/usr/lib/kmend/patches"
STATE = "/var/lib/kmend"
LIVEPATCH = "/sys/kernel/livepatch"
ARCHIVE_KEYRING = "/usr/share/keyrings/kmend-archive-keyring.gpg"
TRUSTED = "/etc/kmend/trusted.d"
PYTHON = ("env", f"PYTHONPATH={CLIENT}", "LC_ALL=C.UTF-8", "/usr/bin/python3")
KMEND = (*PYTHON, "-m", "kmend.cli.main")
# There is no archive to ask here; the tests of upgrades have one.
POLICY = "subscribe = no\n"
# Runs a verb and kills its own process, as `kill -9` would, when the named place of the real code is reached.
KILLED_AT = """
import os, signal, sys
from kmend import loader, store
from kmend.cli.main import main

place, argv = sys.argv[1], sys.argv[2:]
load, set_applied = loader.SyscallLoader.load, store.Store.set_applied

def die(*_arguments):
    os.kill(os.getpid(), signal.SIGKILL)

def load_and_die(self, image):
    load(self, image)
    die()

if place == "before-load":
    loader.SyscallLoader.load = die
elif place == "after-load":
    loader.SyscallLoader.load = load_and_die
elif place == "before-record":
    store.Store.set_applied = die
else:
    sys.exit(f"no place {place}")
sys.exit(main(argv))
"""
# Several verbs in one process: starting Python is half of what a verb that only looks costs under emulation.
EACH = """
import contextlib, io, json, sys
from kmend.cli.main import main

for argv in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        rc = main([*argv, "--json"])
    print(json.dumps([rc, out.getvalue(), err.getvalue()]))
"""
PLACES = ("before-load", "after-load", "before-record")


@dataclasses.dataclass(frozen=True)
class Answer:
    """How a verb ended, and what it printed with --json."""

    rc: int
    data: Any
    err: str


class Machine:
    """A guest, and the agent in it. `build_id` is the running kernel's."""

    def __init__(self, guest: Guest, build_id: str) -> None:
        self.guest = guest
        self.updates = f"{PATCHES}/{build_id}"

    def prepare(self) -> "Machine":
        """The publisher's key in its place, the policy, no update."""
        self.guest.run(f"mkdir -p {PATCHES} {TRUSTED} /etc/kmend/conf.d {Path(ARCHIVE_KEYRING).parent}")
        self.guest.run(f"cp /seed/keys/publisher.gpg {ARCHIVE_KEYRING}; chmod 644 {ARCHIVE_KEYRING}")
        self.policy()
        return self

    def policy(self, more: str = "") -> None:
        """The administrator's configuration."""
        self.guest.put((POLICY + more).encode(), "/etc/kmend/kmend.conf")

    def trust(self, name: str) -> None:
        """Trust one more key for local updates."""
        self.guest.run(f"cp /seed/keys/{name}.gpg {TRUSTED}/; chmod 644 {TRUSTED}/{name}.gpg")

    def install(self, name: str) -> None:
        """What dpkg would do with that update's package: its files, in place of those that were there."""
        kept = "manifest.json manifest.json.asc *.ko"
        self.guest.run(f"rm -rf {self.updates}; mkdir -p {self.updates}; cd /seed/updates/{name}")
        self.guest.run(f"cd /seed/updates/{name}; for f in {kept}; do test ! -e $f || cp $f {self.updates}/; done")

    def kmend(self, *arguments: str, timeout: float = 240) -> Answer:
        """A verb with --json."""
        done = self.guest.run([*KMEND, *arguments, "--json"], timeout=timeout, check=False)
        return answer(done.rc, done.out, done.err)

    def each(self, *verbs: Sequence[str]) -> list[Answer]:
        """Verbs one after the other, each with --json, by one process; for those that only look."""
        argv = [*PYTHON, "-c", EACH, json.dumps(verbs)]
        rows = (json.loads(line) for line in self.guest.run(argv, timeout=240).out.splitlines())
        return [answer(rc, out, err) for rc, out, err in rows]

    def killed(self, place: str, verb: str) -> None:
        """A verb that is killed with SIGKILL when it gets to `place`.

        Raises:
            AssertionError: it ended by itself.
        """
        done = self.guest.run([*PYTHON, "-c", KILLED_AT, place, verb, "--json"], timeout=240, check=False)
        assert done.rc in (-9, 137), f"not killed at {place}: {done}"

    def live(self) -> dict[str, str]:
        """The kernel's own word: our live patches, each "live", "transition" or "disabled"."""
        script = f"cd {LIVEPATCH}; for p in kmend_*; do test -e $p || continue; "
        script += "echo $p $(cat $p/enabled) $(cat $p/transition); done"
        rows = (line.split() for line in self.guest.run(script).out.splitlines())
        words = {("1", "0"): "live", ("0", "0"): "disabled"}
        return {row[0]: words.get((row[1], row[2]), "transition") for row in rows if len(row) == 3}

    def modules(self) -> list[str]:
        """Our modules in the kernel, live or not."""
        names = self.guest.run("cut -d' ' -f1 /proc/modules").out.split()
        return sorted(name for name in names if name.startswith("kmend_"))

    def require_untouched(self) -> None:
        """The kernel never saw a live patch: none there, none loaded, and the taint flag of live patching not set."""
        assert (self.live(), self.modules()) == ({}, [])
        assert not self.tainted()

    def tainted(self) -> bool:
        """Whether this kernel has ever seen a live patch (TAINT_LIVEPATCH)."""
        return bool(int(self.guest.run("cat /proc/sys/kernel/tainted").out) & 1 << 15)

    def events(self) -> list[str]:
        """The names of the history's events, oldest first."""
        return [item["event"] for item in self.kmend("history").data]

    def has(self, path: str) -> bool:
        """Whether a file is there."""
        return self.guest.run(["test", "-e", path], check=False).rc == 0

    def advance(self, seconds: int) -> None:
        """Set the guest's clock forward."""
        self.guest.run(["date", "-s", f"+{seconds} seconds"])

    def pending(self, deb: str) -> None:
        """A newer kernel lands; its package stays at hand, as the recorder hook of apt sees to it."""
        link = "/var/cache/kmend/debs"
        self.guest.run(f"mkdir -p {link}; cp /seed/{shlex.quote(deb)} {link}/; dpkg -i /seed/{shlex.quote(deb)}")


def answer(rc: int, out: str, err: str) -> Answer:
    """The result of a verb that ran with --json; output that is none is kept as text."""
    try:
        data = json.loads(out)
    except ValueError:
        data = out
    return Answer(rc, data, err)


def installed(guest: Guest, *arguments: str) -> Answer:
    """A verb of the client that is installed as a package."""
    done = guest.run(["kmend", *arguments, "--json"], timeout=240, check=False)
    return answer(done.rc, done.out, done.err)


def far_window() -> str:
    """Policy lines with a reboot window three days away: no test may see its guest go down."""
    day = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=3)).strftime("%a")
    return f"reboot.window = {day} 03:00-04:00\n"


def reset(cold: ColdGuest) -> Guest:
    """A crash: the machine goes down at once, in no orderly way, and boots again."""
    cold.guest.run("sync; (sleep 0.2; echo b > /proc/sysrq-trigger) >/dev/null 2>&1 &")
    return cold.wait_reboot()


def wait_for_boot_unit(guest: Guest) -> None:
    """Until kmend-boot.service has done its work, well or not."""
    wait = "until systemctl show -p ActiveState kmend-boot.service | grep -qE '=(active|failed)'; do sleep 1; done"
    guest.run(wait, timeout=180)


def wait_until_idle(guest: Guest) -> None:
    """Until the agent is not at work, and no note asks for another run: what it finds next is new."""
    busy = "systemctl is-active kmend-reconcile.service | grep -q activating || ls /run/kmend/queue | grep -q ."
    guest.run(f"while {busy}; do sleep 1; done", timeout=600)


def wait_until_live(guest: Guest, module: str = "kmend_*", seconds: float = 180) -> None:
    """Until that live patch is the only one of ours, out of transition, and no unit of the agent is at work.

    Raises:
        AssertionError: it was not in time; the journal says why.
    """
    busy = "systemctl is-active kmend-reconcile.service kmend-boot.service"
    script = f"set -- {LIVEPATCH}/kmend_*; test $# = 1; cd {LIVEPATCH}/{module}; cat enabled transition"
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        idle = "activating" not in guest.run(busy, check=False).out
        if idle and guest.run(script, check=False).out.split() == ["1", "0"]:
            return
        time.sleep(1)
    log = guest.run("journalctl -q -n 60 --no-pager; kmend status", check=False)
    raise AssertionError(f"{module} is not live\n{log.out}{log.err}")


def copy_client(target: Path) -> None:
    """The client's tree with its bytecode, which a read-only disk could not get later.

    Raises:
        BuildError: a file does not compile.
    """
    shutil.copytree(ROOT / "client" / "kmend", target / "kmend", ignore=shutil.ignore_patterns("__pycache__"))
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(target, quiet=1, invalidation_mode=mode, stripdir=str(target)):
        raise BuildError("the client does not compile")
