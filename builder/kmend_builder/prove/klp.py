# SPDX-License-Identifier: GPL-2.0-or-later
"""Live patching in a guest, from the host's side: apply, check, revert, and the modules a patch is for."""

import json
from typing import Any

from kmend_builder.prove import kernlog
from kmend_builder.prove.errors import GuestError
from kmend_builder.prove.guest import Guest, Result
from kmend_builder.prove.initrd import guest_file, module_name
from kmend_builder.prove.proof import Failure
from kmend_builder.prove.subject import Subject, build_id_of_notes

HELPER_DIR = "/run/kmend-prove"
# The kernel itself pushes stragglers on after 15 s; what has not moved after three times that will not.
TRANSITION_SECONDS = 45.0
_MODULE_SECONDS = 120.0
_HELPER_GRACE = 120.0
_LOG_LINES = 15


class StepFailed(Exception):
    """The live patch did not do what it should; holds the Failure to report."""

    def __init__(self, step: str, what: str, excerpt: str = "") -> None:
        super().__init__(what)
        self.failure = Failure(step, what, excerpt)


class Livepatch:
    """One guest's live patching. Every method raises StepFailed when the kernel does something else."""

    def __init__(self, guest: Guest, transition_seconds: float = TRANSITION_SECONDS) -> None:
        self.guest = guest
        self._transition = transition_seconds
        for name in ("klp.py", "smoke.py"):
            guest.put(guest_file(name), f"{HELPER_DIR}/{name}", 0o755)

    def check_kernel(self, subject: Subject) -> None:
        """The guest runs exactly the build the live patch is for."""
        release = self.guest.run(["uname", "-r"]).out.strip()
        found = build_id_of_notes(self.guest.get("/sys/kernel/notes"))
        if (release, found) != (subject.release, subject.build_id):
            what = f"the guest runs {release} {found}, the live patch is for {subject.release} {subject.build_id}"
            raise StepFailed("kernel", what)

    def apply(self, subject: Subject) -> float:
        """Load the module, wait for the transition, check the result; seconds the transition took.

        A transition that stalls is reversed, and the blocking tasks are named.
        """
        path = f"{HELPER_DIR}/{subject.name}.ko"
        self.guest.put(subject.file, path)
        answer = self._helper("apply", path, subject.name, str(self._transition))
        if answer["state"] == "refused":
            raise StepFailed("load", f"{subject.name}: {answer['why']}", self.recent_log())
        self._require_end(subject, answer, "apply")
        if answer["state"] == "gone":
            raise StepFailed("apply", f"{subject.name} vanished from /sys/kernel/livepatch", self.recent_log())
        self._check_state(subject, answer)
        return float(answer["seconds"])

    def _require_end(self, subject: Subject, answer: dict[str, Any], step: str) -> None:
        if answer["state"] == "stalled":
            if step == "apply":
                self._helper("disable", subject.name)
            raise StepFailed(step, f"transition stalled for {self._transition:.0f} s", blame(answer["blockers"]))

    def check_objects(self, subject: Subject) -> None:
        """`patched` is 1 for vmlinux and every live module, 0 for others, and every function is there."""
        self._check_state(subject, self._helper("state", subject.name))

    def _check_state(self, subject: Subject, state: dict[str, Any]) -> None:
        wrong = state_errors(subject, state)
        if wrong:
            raise StepFailed("state", "; ".join(wrong), self.recent_log())

    def revert(self, subject: Subject) -> float:
        """Disable, wait until the patch is gone, unload its module; seconds the transition took.

        A pinned one must stay in memory: its name is taken until the guest is gone.
        """
        pinned = ["pinned"] if subject.pinned else []
        answer = self._helper("revert", subject.name, str(self._transition), *pinned)
        self._require_end(subject, answer, "revert")
        if answer["state"] == "pinned" and not subject.pinned:
            raise StepFailed("revert", f"can't unload {subject.name}: {answer['why']}", self.recent_log())
        if answer["state"] == "removed" and subject.pinned:
            raise StepFailed("revert", f"{subject.name} was to pin itself, and could be unloaded", self.recent_log())
        return float(answer["seconds"])

    def is_loaded(self, module: str) -> bool:
        """Whether a module is live. One that is still coming or already going counts as not loaded."""
        path = f"/sys/module/{module}/initstate"
        return self.guest.run(["cat", path], check=False).out.strip() == "live"

    def modprobe(self, module: str) -> Result:
        """Load a module and what it depends on; the result, good or bad, is the caller's to judge."""
        return self.guest.run(["modprobe", module], check=False, timeout=_MODULE_SECONDS)

    def unmet(self, module: str) -> list[str]:
        """The modules that a module needs and that are not there, after modprobe has tried to load all of them."""
        done = self.guest.run(["modprobe", "--show-depends", "--ignore-install", module], check=False)
        needed = [line.split()[1] for line in done.out.splitlines() if line.startswith("insmod ")][:-1]
        return [name for name in map(module_name, needed) if not self.is_loaded(name)]

    def check_module(self, subject: Subject, module: str) -> None:
        """A loaded module is the build the patch was made for."""
        wanted = subject.identity(module)
        found = build_id_of_notes(self.guest.get(f"/sys/module/{module}/notes/.note.gnu.build-id"))
        if wanted is not None and found != wanted:
            raise StepFailed("module", f"{module} has build-id {found}, the live patch is for {wanted}")

    def smoke(self, subject: Subject) -> list[str]:
        """Ordinary work under the patch; the names of the parts that were done."""
        done = self.guest.run([f"{HELPER_DIR}/smoke.py", *subject.modules], check=False, timeout=300)
        if done.rc:
            raise StepFailed("smoke", f"smoke work failed after {done.out.split()}", done.err.strip())
        return done.out.split()

    def log(self) -> str:
        """The kernel log so far, with time stamps."""
        return self.guest.run(["dmesg"]).out

    def recent_log(self) -> str:
        """The end of the log, for a report; without time stamps, which would make reports differ."""
        return "\n".join(kernlog.messages(self.log())[-_LOG_LINES:])

    def mark(self, marker: str) -> None:
        """Put a line into the kernel log, to find the place again."""
        self.guest.run(["tee", "/dev/kmsg"], stdin=f"{marker}\n".encode())

    def taints(self) -> int:
        """The kernel's taint mask."""
        return int(self.guest.run(["cat", "/proc/sys/kernel/tainted"]).out)

    def _helper(self, *arguments: str) -> dict[str, Any]:
        done = self.guest.run([f"{HELPER_DIR}/klp.py", *arguments], timeout=self._transition + _HELPER_GRACE)
        answer = json.loads(done.out)
        if not isinstance(answer, dict):
            raise GuestError("the guest's helper gave no object", why=done.out[:200])
        return answer


def state_errors(subject: Subject, state: dict[str, Any]) -> list[str]:
    """What is wrong with the state the kernel shows for a settled patch (see guest_files/klp.py). Pure."""
    objects = state["objects"]
    if set(objects) != set(subject.object_names):
        return [f"the kernel patches {sorted(objects)}, not {list(subject.object_names)}"]
    wrong = []
    if (state["enabled"], state["transition"]) != ("1", "0"):
        wrong.append(f"enabled is {state['enabled']}, transition is {state['transition']}")
    for name, item in objects.items():
        wanted = "1" if item["live"] else "0"
        if item["patched"] != wanted:
            wrong.append(f"{name}: patched is {item['patched']}, not {wanted}")
        there = {entry.rsplit(",", 1)[0] for entry in item["functions"]}
        missing = sorted({function for owner, function in subject.functions if owner == name} - there)
        if missing:
            wrong.append(f"{name}: not redirected: {', '.join(missing)}")
    return wrong


def blame(blockers: list[dict[str, Any]]) -> str:
    """The tasks that hold a transition up, with the top of their stacks."""
    lines = []
    for task in blockers:
        lines.append(f"{task['comm']} (pid {task['pid']})")
        lines += [f"  {frame}" for frame in task["stack"][:8]]
    return "\n".join(lines) or "no task is left; the transition ended while it was looked at"
