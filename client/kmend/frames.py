# SPDX-License-Identifier: GPL-2.0-or-later
"""Stack frames in the kernel's reports: "name+0x1/0x2 [module]". Pure.

Form: %pB of lib/vsprintf.c, printed by arch/x86/kernel/dumpstack.c; behind the module's name stands its build-id where
the kernel was built with CONFIG_STACKTRACE_BUILD_ID. A frame with a question mark was only found on the stack.
"""

import dataclasses
import re
from typing import Optional

_FRAME = re.compile(r"\s*(?:RIP: [0-9a-f]+:)?([A-Za-z_][\w.$]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[([^\]\s]+)[^\]]*\])?")
_OPENS = re.compile(r"\s*<(?:IRQ|NMI|SOFTIRQ|#DF|ENTRY_TRAMPOLINE)[^>]*>\s*$")
_CLOSES = re.compile(r"\s*</(?:IRQ|NMI|SOFTIRQ|#DF|ENTRY_TRAMPOLINE)[^>]*>\s*$")
# Who calls the scheduler, or spins, on behalf of somebody else: it is the caller that waits.
_WAITS = re.compile(
    r"_*(?:schedule|io_schedule|preempt_schedule|mutex_lock|ww_mutex|rt_mutex|rt_spin|rwsem|down|percpu_down|wait_|do_wait"
    r"|bit_wait|out_of_line_wait|folio_wait|synchronize_|msleep|raw_spin|raw_read|raw_write|raw_callee_save___pv_queued"
    r"|native_queued_spin|pv_queued_spin|queued_(?:read|write|spin)|cond_resched|context_switch|asm_\w+|sysvec_\w+"
    r"|rcu_barrier|flush_work|kthread_park)"
)


@dataclasses.dataclass(frozen=True)
class Frame:
    """One function on a stack; `module` is empty for vmlinux."""

    function: str
    module: str

    @property
    def waits(self) -> bool:
        """Whether it is of the scheduler or of a lock, and says nothing of who waits."""
        return not self.module and _WAITS.match(self.function) is not None


def parse(text: str) -> Optional[Frame]:
    """The frame in a line of a report, None when it holds none that is sure."""
    match = _FRAME.match(text)
    return Frame(match.group(1), match.group(2) or "") if match else None


def interrupted(text: str, before: bool) -> bool:
    """Whether the frames below this line are those of an interrupt, not of the task; `before`: as of the line above."""
    if _OPENS.match(text):
        return True
    return False if _CLOSES.match(text) else before


def names_module(text: str, module: str) -> bool:
    """Whether a line names a function of that module."""
    return re.search(rf"\[{re.escape(module)}(?: [0-9a-f]+)?\]", text) is not None
