# SPDX-License-Identifier: GPL-2.0-or-later
"""Seven situations of a simulated machine, and what `kmend status` prints in each: docs/status.md is made of them.

`PYTHONPATH=client:builder:tests:. .venv/bin/python -m unit.client.situations` writes the page; a test compares it.
"""

import datetime
import os
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, Tuple

from kmend.cli import status
from kmend.manifest import Fix
from kmend.reasons import Reason, Verdict
from kmend.reconcile import reconcile
from kmend.survey import survey
from unit.client.conftest import FakePlan, World
from unit.client.simulator import START, Killed
from unit.client.updates import Key

PAGE = Path(__file__).resolve().parents[3] / "docs/status.md"
SUNDAY = datetime.datetime(2026, 11, 22, 3, 12, tzinfo=datetime.timezone.utc)
HEAD = """\
<!-- SPDX-License-Identifier: GPL-2.0-or-later -->
# kmend status

One screen: what runs, what is live, what is missing, what happens next. The screens below are printed by the program
itself on a simulated machine, whose counts mean nothing; `tests/unit/client/situations.py` makes this page, and a test
compares it with what the program prints. The [exit code](exit-codes.md) of each is in its title, `kmend status --json`
has more.
"""


class Host(World):
    """A machine with many CVEs in its upgrade, and a reboot plan that looks like one."""

    def upgrade(self, live: int, absent: int, reboot: Tuple[Tuple[Reason, int], ...] = ()) -> Tuple[Fix, ...]:
        """The fixes of an upgrade with so many CVEs of each verdict; the package manager knows all of them."""
        wanted = [(Verdict.LIVE, None)] * live + [(Verdict.ABSENT, None)] * absent
        wanted += [(Verdict.REBOOT, reason) for reason, count in reboot for _ in range(count)]  # type: ignore[misc]
        fixes = []
        for number, (verdict, reason) in enumerate(wanted, 1000):
            objects = ("vmlinux",) if verdict is Verdict.LIVE else ()
            fixes.append(Fix(f"fix-{number}", (f"CVE-2026-{number}",), "title", verdict, reason, objects=objects))
        self.distro.cves = {fix.cves[0]: fix.title for fix in fixes}
        return tuple(fixes)

    def settle(self, seconds: int = 0) -> None:
        """Two runs of the agent, the second one after so long."""
        reconcile(self.agent())
        self._plan()
        if seconds:
            self.machine.sleep(seconds)
            reconcile(self.agent())
            self._plan()

    def _plan(self) -> None:
        if self.reboots.planned is not None:
            self.reboots.planned = FakePlan(SUNDAY, self.reboots.planned.reason, since=START)


def covered(host: Host) -> None:
    host.publish(fixes=host.upgrade(31, 402))
    host.settle(1000)


def partial(host: Host) -> None:
    host.publish(fixes=host.upgrade(31, 402, ((Reason.DATA_LAYOUT, 9), (Reason.INIT_CODE, 4), (Reason.NO_ENTRY, 1))))
    host.settle(1000)


def uncovered(host: Host) -> None:
    host.upgrade(0, 447)
    host.settle(7200)


def stalled(host: Host) -> None:
    host.publish(fixes=host.upgrade(31, 402))
    host.machine.add_task(4711, "stuckd", "[<0>] wait_for_completion+0x1/0x2\n[<0>] stuck_ioctl+0x1/0x2\n")
    host.machine.kernel.stuck[True].add(4711)
    host.settle()


def quarantined(host: Host) -> None:
    host.publish(fixes=host.upgrade(31, 402))
    host.machine.kill_at = "after load"
    try:
        reconcile(host.agent())
    except Killed:
        host.machine.boot(2)
    host.settle()


def unsupported(host: Host) -> None:
    host.upgrade(0, 447)
    host.machine.path("sys/kernel/livepatch").rmdir()
    host.settle()


def unsigned(host: Host) -> None:
    host.publish(fixes=host.upgrade(31, 402))
    host.machine.put("sys/kernel/security/lockdown", b"none [integrity] confidentiality\n")
    host.settle()


SITUATIONS: Tuple[Tuple[str, str, Callable[[Host], None]], ...] = (
    ("Covered", "Every fix of the installed kernel is live or does not concern this machine.", covered),
    ("Partly covered", "What can't be live waits for the planned reboot, and not longer than the deadline.", partial),
    ("Not covered", "No update for the running kernel has been published; a reboot is planned.", uncovered),
    ("Stalled", "A task did not switch to the new code in time, so that the transition was turned round.", stalled),
    (
        "Quarantined",
        "The machine went down while the update was applied; it is not tried again.",
        quarantined,
    ),
    ("Unsupported kernel", "The running kernel was built without CONFIG_LIVEPATCH.", unsupported),
    (
        "Secure Boot without the publisher's key",
        "The kernel takes signed modules only; nothing is loaded to find that out.",
        unsigned,
    ),
)


def screens(keys: Tuple[Key, Key], folder: Path) -> Dict[str, Tuple[int, List[str]]]:
    """Title -> exit code and lines of each situation."""
    result = {}
    for number, (title, _, prepare) in enumerate(SITUATIONS):
        host = Host(folder / str(number), *keys)
        prepare(host)
        shown = status.render(host.agent(), survey(host.agent()))
        result[title] = (shown.code, shown.lines)
    return result


def page(found: Dict[str, Tuple[int, List[str]]]) -> str:
    """The whole page."""
    parts = [HEAD]
    for title, about, _ in SITUATIONS:
        code, lines = found[title]
        parts.append(f"\n## {title} ({code})\n\n{about}\n\n```text\n$ kmend status\n" + "\n".join(lines) + "\n```\n")
    return "".join(parts)


def main() -> None:
    """Write the page."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    with tempfile.TemporaryDirectory(prefix="kmend-s.") as name:
        keys = Key(Path(name) / "publisher", "publisher"), Key(Path(name) / "stranger", "stranger")
        PAGE.write_text(page(screens(keys, Path(name))))


if __name__ == "__main__":
    main()
