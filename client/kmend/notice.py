# SPDX-License-Identifier: GPL-2.0-or-later
"""The mode notify: a new update is told once in the journal and history, and at each login while it is not live."""

import contextlib

from kmend import plan, sharedfile
from kmend.agent import Agent
from kmend.errors import StoreError
from kmend.survey import Survey

FILE = "run/kmend/update-waiting"
TEXT = "update {} for the running kernel is available: kmend apply makes it live"


def tell(agent: Agent, found: Survey) -> None:
    """Bring the note for the login message in line with the state, and the journal with it.

    Raises:
        StoreError: note or history can't be written.
    """
    update = plan.newer(found.state, found.catalogue)
    wanted = update is not None and agent.policy.mode == "notify"
    path = agent.system.path(FILE)
    if update is None or not wanted or found.state.unsupported:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return
    new = update.manifest
    text = TEXT.format(new.version)
    try:
        sharedfile.replace(path, f"{text}\n".encode())
    except OSError as error:
        raise StoreError("can't write the login message", why=str(error.strerror), hint="run as root") from error
    build_id = found.state.kernel.build_id
    told = (event for event in agent.store.history() if event.event == "available" and event.build_id == build_id)
    if not any(event.serial == new.serial for event in told):
        agent.record("available", new.version, new.serial, build_id=build_id, why=text)
