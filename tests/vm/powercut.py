# SPDX-License-Identifier: GPL-2.0-or-later
"""Power cuts: a guest that goes off without a goodbye at a chosen step of a verb, and comes up again on what its disk
had got by then.

A step is the moment before or after something that the agent does to the machine: a write, a rename, a load. The
guest resets itself there (sysrq b), which loses everything that its own page cache still held. The file system has a
journal, as Debian's installer makes it.
"""

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kmend_builder.prove.base import ColdGuest, GuestBase
from kmend_builder.prove.errors import GuestDied
from kmend_builder.prove.guest import Guest
from kmend_builder.prove.images import run_tool
from kmend_builder.prove.rootfs import Rootfs
from vm.agent_support import EACH, PYTHON, STATE, Answer, Machine, answer

OFFLINE = ("env", "KMEND_OFFLINE=1")
# Prints the number of steps when it gets to the end.
CUT_AT = """
import os, subprocess, sys
from kmend import loader, system
from kmend.cli.main import main

at, argv, steps = int(sys.argv[1]), sys.argv[2:], 0
write, trigger = os.write, os.open("/proc/sysrq-trigger", os.O_WRONLY)

def step():
    global steps
    steps += 1
    if steps == at:
        write(trigger, b"b")

def watched(function):
    def call(*arguments, **keywords):
        step()
        try:
            return function(*arguments, **keywords)
        finally:
            step()
    return call

places = [(os, name) for name in ("write", "fsync", "replace", "unlink", "mkdir", "chmod")]
places += [(loader.SyscallLoader, "load"), (loader.SyscallLoader, "unload"), (system.System, "write_control")]
places += [(system.System, "sleep"), (subprocess, "run")]
for owner, name in places:
    setattr(owner, name, watched(getattr(owner, name)))
rc = main(argv)
print(f"steps={steps} rc={rc}")
"""


def journaled(rootfs: Rootfs, into: Path) -> Rootfs:
    """The same root on a file system with a journal."""
    run_tool(["cp", "-r", "--sparse=always", str(rootfs.stem), str(into)], "can't copy a root")
    copy = dataclasses.replace(rootfs, stem=into)
    run_tool(["tune2fs", "-O", "has_journal", str(copy.image)], "can't add a journal")
    return copy


@dataclasses.dataclass(frozen=True)
class Case:
    """A verb to be cut, and shell commands that set the scene for it in a clone."""

    base: GuestBase
    verb: str
    prepare: str = "true"

    def steps(self) -> int:
        """How many steps the verb takes when nobody cuts it."""
        with self.base.clone() as guest:
            guest.run(self.prepare, timeout=240)
            done = guest.run([*PYTHON, "-c", CUT_AT, "0", self.verb, "--json"], timeout=240)
        found = re.search(r"^steps=(\d+) ", done.out, re.MULTILINE)
        assert found is not None, done
        return int(found.group(1))

    def cut(self, writes: Path, step: int) -> None:
        """Cut the power at that step, or at the end if there are fewer."""
        with self.base.clone(writes=writes) as guest, contextlib.suppress(GuestDied):
            guest.run(f"{self.prepare}; sync", timeout=240)
            guest.run([*PYTHON, "-c", CUT_AT, str(step), self.verb, "--json"], timeout=240)


def cut_after(base: GuestBase, writes: Path, seconds: float, prepare: str, command: str) -> None:
    """Cut the power that long after a command has begun, or at its end if it is done before."""
    with base.clone(writes=writes) as guest, contextlib.suppress(GuestDied):
        guest.run(f"{prepare}; sync", timeout=240)
        guest.run(f"(sleep {seconds:.2f}; echo b > /proc/sysrq-trigger) & {command}; wait", timeout=240)


@dataclasses.dataclass(frozen=True)
class After:
    """A machine that came up again, and what reconcile made of it.

    `first`, `again`: reconcile, twice; `live` and `modules` are the kernel's own words.
    """

    first: Answer
    again: Answer
    status: Answer
    events: list[str]
    live: dict[str, str]
    modules: list[str]
    files: list[str]

    @property
    def quarantined(self) -> bool:
        return "quarantined" in self.events


def look(machine: Machine) -> After:
    """What kmend-boot.service would do, and once more, and what there is then."""
    verbs = [["reconcile"], ["reconcile"], ["status"], ["history"]]
    done = machine.guest.run([*OFFLINE, *PYTHON, "-c", EACH, json.dumps(verbs)], timeout=240)
    answers = [answer(rc, out, err) for rc, out, err in map(json.loads, done.out.splitlines())]
    events: list[dict[str, Any]] = answers[3].data
    files = machine.guest.run(f"ls -A {STATE}").out.split()
    names = [event["event"] for event in events]
    return After(answers[0], answers[1], answers[2], names, machine.live(), machine.modules(), files)


@contextlib.contextmanager
def booted(rootfs: Rootfs, disk: Path, seed: Path) -> Iterator[Guest]:
    """The machine on that disk, up again."""
    with ColdGuest(rootfs, init="tiny", smp=1, disk=disk, seed=seed) as cold:
        yield cold.guest


def require_sane(after: After) -> None:
    """What holds wherever the power went: nothing torn, nothing damaged, one run settles it.

    Raises:
        AssertionError: it does not.
    """
    assert not [name for name in after.files if "damaged" in name], after
    assert after.first.rc in (0, 3, 4, 5, 6) and after.again.rc == after.first.rc, after
    assert after.status.rc == after.first.rc, after
    assert "attempt.json" not in after.files and set(after.live.values()) <= {"live"}, after
    assert after.modules == sorted(after.live), after
