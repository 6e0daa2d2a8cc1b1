# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps the reboot debt on record, and what others read of it: login message, needrestart, ordinary users."""

from typing import Optional

from kmend import debt as debts
from kmend import need as needs
from kmend import public
from kmend.agent import Agent
from kmend.debt import Debt
from kmend.errors import StoreError
from kmend.survey import Survey

NOTE = "reboot debt: {}\n"
_UPDATE_MOTD = "etc/update-motd.d/97-kmend"


def now_owed(agent: Agent, found: Survey) -> Optional[Debt]:
    """The debt of the machine as it was found, by the record of it; writes nothing."""
    now = agent.system.now()
    need = needs.of(found, agent.policy, now)
    owing = bool(need.reason)
    return debts.brought_up(_record(agent), need.items, owing, found.pending, found.state.kernel.build_id, now)


def _record(agent: Agent) -> Optional[Debt]:
    """An ordinary user has what is shown."""
    try:
        return agent.store.debt()
    except StoreError:
        if agent.system.euid() == 0:
            raise
    shown = public.read(agent.system)
    return shown.debt if shown else None


def settle(agent: Agent, found: Survey) -> None:
    """Bring record and notes in line with what was found.

    Raises:
        StoreError: they can't be written.
    """
    debt = now_owed(agent, found)
    if agent.store.debt() != debt:
        agent.store.set_debt(debt)
    note = NOTE.format(debts.describe(debt, agent.system.now())).encode() if debt else None
    public.put(agent.system, public.DEBT_NOTE, note)
    scripts = agent.system.path(_UPDATE_MOTD).exists()
    public.put(agent.system, public.MOTD, b"kmend: " + note if note and not scripts else None)
    public.write(agent.system, agent.store, found.state.failure, debt)
