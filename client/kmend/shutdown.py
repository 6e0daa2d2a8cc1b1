# SPDX-License-Identifier: GPL-2.0-or-later
"""The last act of kmend-guard.service: put on record that this boot ends with an orderly shutdown.

A boot without that mark went down some other way, and an update that was not confirmed by then is quarantined.
"""

import sys
from typing import Optional

from kmend.errors import KmendError
from kmend.reboot_systemd import Runner, run
from kmend.records import Shutdown, stamp
from kmend.store import Store
from kmend.system import System


def mark(system: System, runner: Runner = run) -> bool:
    """Write the mark if the machine is going down; whether it was written.

    Somebody may stop the unit by hand, and the machine crash an hour later.

    Raises:
        StoreError: it can't be written.
    """
    # systemctl(1): "stopping" once the shutdown has begun; the exit status is that of "not running".
    if runner(["systemctl", "is-system-running"])[1].strip() != "stopping":
        return False
    Store(system).add_shutdown(Shutdown(system.boot_id(), stamp(system.now())))
    return True


def main(system: Optional[System] = None) -> int:
    """For ExecStop=; its exit status changes nothing, but shows in the journal."""
    try:
        mark(system or System())
    except KmendError as error:
        print(f"kmend: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
