# SPDX-License-Identifier: GPL-2.0-or-later
"""How machine code writes the fields of structures: counted in, bit by bit, or as a whole.

In place (`inc byte ptr [rbx + 8]`), or as compilers do where they need the result: read into a register, changed there,
written back to where it came from. Instructions are followed in the order of their addresses.
"""

import re

#: What an instruction does to its first operand.
KINDS = {
    "count": frozenset(("inc", "dec", "add", "sub", "xadd")),
    "bits": frozenset(("and", "or", "bts", "btr", "btc")),
    "store": frozenset(("mov",)),
}
#: Width of the access ("byte", ...) and offset in bytes.
Field = tuple[str, int]

_MEMORY = re.compile(r"(byte|word|dword|qword) ptr \[(r\w+)(?: \+ r\w+\*\d)? \+ (0x[0-9a-f]+)\]")
_STEP = re.compile(r"\[(r\w+) [+-] (?:0x[0-9a-f]+|\d)\]\Z")
_REGISTER = re.compile(r"(?:r(\d+)[bwd]?|[re]?([abcd])[xlh]|[re]?([sd]i|[sb]p)l?)\Z")
# read or compare their first operand, and go on with the flags
_READERS = frozenset(("cmp", "test", "push", "bt", "nop"))


class Fields:
    """Follows fields through registers. One for each stretch of code."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Field, str, str]] = {}

    def forget(self) -> None:
        """A call: registers are not what they were."""
        self._held.clear()

    def step(self, mnemonic: str, operands: str) -> tuple[str, Field] | None:
        """What one instruction does to a field in memory, as (kind, field).

        Args:
            mnemonic, operands: in Intel syntax, as capstone writes them.
        """
        first, _, second = operands.partition(", ")
        memory = _field(first)
        if memory is not None:
            return self._write(mnemonic, memory, second)
        register = _family(first)
        if register and mnemonic not in _READERS:
            self._change(mnemonic, register, second)
        return None

    def _write(self, mnemonic: str, memory: tuple[Field, str], source: str) -> tuple[str, Field] | None:
        kind = next((kind for kind, words in KINDS.items() if mnemonic in words), None)
        if kind is None:
            return None
        field, base = memory
        if kind == "store":
            held = self._held.get(_family(source))
            if held is not None and held[:2] == (field, base):
                kind = held[2] or kind
        return kind, field

    def _change(self, mnemonic: str, register: str, source: str) -> None:
        held = self._held.pop(register, None)
        memory = _field(source)
        if mnemonic in ("mov", "movzx") and memory is not None:
            self._held[register] = (*memory, "")
        elif mnemonic == "lea":
            step = _STEP.match(source)
            base = _family(step.group(1)) if step else ""
            from_base = held if base == register else self._held.get(base)
            if from_base is not None:
                self._held[register] = (*from_base[:2], "count")
        elif held is not None:
            for kind in ("count", "bits"):
                if mnemonic in KINDS[kind] and memory is None:
                    self._held[register] = (*held[:2], kind)


def _field(operand: str) -> tuple[Field, str] | None:
    found = _MEMORY.match(operand)
    if found is None or found.group(2) in ("rsp", "rip"):
        return None
    return (found.group(1), int(found.group(3), 16)), found.group(2)


def _family(name: str) -> str:
    """One name for a register in all its widths; "" for anything else."""
    found = _REGISTER.match(name)
    return next(filter(None, found.groups()), "") if found else ""
