# SPDX-License-Identifier: GPL-2.0-or-later
"""Plugin of unattended-upgrades (2.11 and newer): before it decides about a reboot, let the agent settle the flag.

unattended-upgrades takes classes whose names begin with UnattendedUpgradesPlugin, calls `postrun` with a dictionary
after it has upgraded something, logs what is raised, and only then looks at /run/reboot-required. Older versions don't
read this file; there apt-hook waits for the agent where unattended-upgrades may reboot.
"""

import contextlib
import logging
import os
import subprocess

QUEUE = "/run/kmend/queue"
MARK = "/run/kmend/tell"
# Tells the agent not to wait for the lock of those who wait for it.
SYNC = "/run/kmend/sync"
SYSTEMD = "/run/systemd/system"
# As long as apt-hook waits; an agent that is still at work then goes on by itself.
PATIENCE = 60


def concerned():
    """Whether the run brought a kernel or an update: the hooks have left a note, or the mark that one was queued."""
    with contextlib.suppress(OSError):
        if os.listdir(QUEUE):
            return True
    return os.path.exists(MARK)


def settle():
    """Have the agent run now, and wait for it; then once more for what needs the lock that this program may hold."""
    argv = ["systemctl", "start", "kmend-reconcile.service"]
    with open(SYNC, "w") as file:
        file.write(f"{os.getpid()}\n")
    try:
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(SYNC)
        os.makedirs(QUEUE, exist_ok=True)
        with open(f"{QUEUE}/after", "w") as file:
            file.write("after\n")


def forecast():
    """The line for the log; empty when there is nothing to say."""
    argv = ["/usr/bin/python3", "-I", "-m", "kmend.forecast"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.stdout.strip()


class UnattendedUpgradesPluginKmend:
    """See the module."""

    def postrun(self, result):
        """Never raises: the upgrade is done, and nothing here may look like its failure."""
        try:
            if not os.path.isdir(SYSTEMD) or not concerned():
                return
            settle()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(MARK)
            line = forecast()
            if line:
                logging.info("%s", line)
        except (OSError, subprocess.SubprocessError) as error:
            logging.warning("kmend: the agent could not be waited for: %s", error)
