# SPDX-License-Identifier: GPL-2.0-or-later
"""Constants whose new content a live patch can deliver: by a copy that every function which uses them gets.

Read-only data is not written by kmend. But if all that ever reaches a constant is code of its own unit, and that
code only looks at what it holds, then redirecting all of that code to a copy is what the change means
(docs/adr/0012-copied-constants.md). Needed for each constant:

- it is local, read-only, in an ordinary section, and keeps its size: an index into a longer table, stored by new code,
  would lead old code behind the end of its own;
- only functions refer to it, or other such constants, which are then copied as well. What a table in writable or
  exported data points to is registered, and whoever has it keeps the old one;
- every function either reads it at a known place, or hands its address straight to one of READERS.

Anything else may keep the pointer or compare it, and is not copied.
"""

import dataclasses
import functools
from collections.abc import Iterator

import capstone
from capstone import x86_const as x86

from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind, Layout
from kmend_builder.elf.diff import ObjectDiff
from kmend_builder.elf.model import Reloc

#: Functions that only read through an argument while they run, and which one it is (0 is the first). __nla_parse() and
#: __nla_validate() leave it in an extack that lives as long as the request: hence `escapes`.
#: lib/nlattr.c, lib/parser.c, lib/string.c, lib/string_helpers.c, lib/usercopy.c of Linux 6.1
READERS: dict[str, tuple[int, ...]] = {
    "__nla_parse": (4,),
    "__nla_validate": (3,),
    "nla_put": (3,),
    "match_token": (1,),
    "match_string": (0,),
    "memcmp": (0, 1),
    "memcpy": (1,),
    "strcmp": (0, 1),
    "strncmp": (0, 1),
    "strlen": (0,),
    "_copy_to_user": (1,),
}
#: System V AMD64 ABI, section 3.2.3: the registers of integer arguments in order.
_ARGUMENTS = (
    x86.X86_REG_RDI,
    x86.X86_REG_RSI,
    x86.X86_REG_RDX,
    x86.X86_REG_RCX,
    x86.X86_REG_R8,
    x86.X86_REG_R9,
)
_LEAVES = frozenset((x86.X86_GRP_JUMP, x86.X86_GRP_CALL, x86.X86_GRP_RET, x86.X86_GRP_IRET, x86.X86_GRP_INT))


@dataclasses.dataclass
class Constants:
    """`copies` are patched atoms to include, `users` the patched functions to redirect for them.

    `escapes`: an address is handed to a function of the kernel, so the copy must never be unloaded.
    """

    copies: set[Atom] = dataclasses.field(default_factory=set)
    users: set[Atom] = dataclasses.field(default_factory=set)
    escapes: bool = False


def replaceable(diff: ObjectDiff) -> Constants:
    """The changed constants of a unit that can be copied, and what has to be with them."""
    result = Constants()
    for change in diff.changed_data:
        if change.orig is None or change.patched is None or change.orig.size != change.patched.size:
            continue
        old, new = closure(diff.orig, change.orig), closure(diff.patched, change.patched)
        if old is not None and new is not None and new.users:
            result.copies |= new.copies
            result.users |= new.users
            result.escapes |= new.escapes or old.escapes
    return result


def closure(layout: Layout, atom: Atom) -> Constants | None:
    """A constant, the constants that refer to it, and the functions that use any of them; None: it can't be copied."""
    result, queue = Constants(), [atom]
    while queue:
        constant = queue.pop()
        if constant in result.copies:
            continue
        if not _plain(constant):
            return None
        result.copies.add(constant)
        for user, relocs in users_of(layout, constant):
            if names.metadata_section(user.section.name):
                continue
            if user.kind is Kind.OBJECT:
                queue.append(user)
                continue
            if user.kind is not Kind.FUNCTION or _once(user):
                return None
            for reloc in relocs:
                use = judge_use(layout, user, reloc)
                if use is None:
                    return None
                result.escapes |= use
            result.users.add(user)
    return result


def _plain(atom: Atom) -> bool:
    """Local, read-only, and in a section of its own that nobody walks."""
    local = atom.kind is Kind.OBJECT and atom.local and not atom.section.writable
    return local and atom.section.name.startswith(".rodata.")


def _once(atom: Atom) -> bool:
    """Code that has run, or can't be redirected."""
    return names.init_section(atom.section.name) or names.exit_section(atom.section.name)


def users_of(layout: Layout, atom: Atom) -> Iterator[tuple[Atom, list[Reloc]]]:
    """Everything else that refers to an atom, with the relocations that do; sections without names are one piece."""
    for user in layout.atoms:
        relocs = [reloc for reloc in user.relocs if layout.target(user.section, reloc).atom is atom]
        if relocs and user is not atom:
            yield user, relocs


def judge_use(layout: Layout, function: Atom, reloc: Reloc) -> bool | None:
    """How code uses an address: False reads at it, True hands it to one of READERS, None anything else."""
    code = _decoded(function.data)
    field = reloc.offset - function.start
    at = next((n for n, one in enumerate(code) if one.address <= field < one.address + one.size), None)
    if at is None:
        return None
    if _reads_memory(code[at], field):
        return False
    register = _address_in(code[at], field)
    return True if register is not None and _only_read(layout, function, code[at + 1 :], register) else None


def _reads_memory(one: capstone.CsInsn, field: int) -> bool:
    """Whether the field is the displacement of an operand in memory that is read, not the operand's address."""
    if one.id in (x86.X86_INS_LEA, x86.X86_INS_CALL, x86.X86_INS_JMP) or field - one.address != one.disp_offset:
        return False
    memory = [operand for operand in one.operands if operand.type == x86.X86_OP_MEM]
    return len(memory) == 1 and not memory[0].access & capstone.CS_AC_WRITE


def _address_in(one: capstone.CsInsn, field: int) -> int | None:
    """The 64-bit register that an instruction loads with an address: `mov $x, %reg` or `lea x(%rip), %reg`."""
    if one.id not in (x86.X86_INS_MOV, x86.X86_INS_LEA) or one.operands[0].type != x86.X86_OP_REG:
        return None
    if one.id == x86.X86_INS_MOV and field - one.address != one.imm_offset:
        return None
    if one.id == x86.X86_INS_LEA and one.operands[1].mem.base != x86.X86_REG_RIP:
        return None  # an address that still depends on an index
    register: int = one.operands[0].reg
    return register if register in _ARGUMENTS else None


def _only_read(layout: Layout, function: Atom, behind: list[capstone.CsInsn], register: int) -> bool:
    """Whether, with no way round it, the next call is to one of READERS and takes the register as that argument.

    A jump to a function is its last call.
    """
    for one in behind:
        callee = _callee(layout, function, one)
        if callee:
            return register in [_ARGUMENTS[index] for index in READERS.get(callee, ())]
        if _LEAVES & set(one.groups) or _touches(one, register):
            return False
    return False


def _touches(one: capstone.CsInsn, register: int) -> bool:
    read, written = one.regs_access()
    return any(_whole(one, name) == _whole(one, register) for name in (*read, *written))


@functools.cache
def _parts() -> dict[str, str]:
    """The 64-bit register each name is a part of."""
    parts: dict[str, str] = {}
    for letter in "abcd":
        parts |= dict.fromkeys((f"r{letter}x", f"e{letter}x", f"{letter}x", f"{letter}l", f"{letter}h"), f"r{letter}x")
    for name in ("si", "di", "bp", "sp"):
        parts |= dict.fromkeys((f"r{name}", f"e{name}", name, f"{name}l"), f"r{name}")
    for number in range(8, 16):
        parts |= dict.fromkeys((f"r{number}{suffix}" for suffix in ("", "d", "w", "b")), f"r{number}")
    return parts


def _whole(one: capstone.CsInsn, register: int) -> str:
    name: str = one.reg_name(register) or ""
    return _parts().get(name, name)


def _callee(layout: Layout, function: Atom, one: capstone.CsInsn) -> str:
    """The name of the undefined symbol that an instruction calls or jumps to directly."""
    if one.id not in (x86.X86_INS_CALL, x86.X86_INS_JMP):
        return ""
    field = function.start + one.address + one.size - 4
    for reloc in function.relocs:
        if reloc.offset == field:
            symbol = layout.target(function.section, reloc).symbol
            return symbol.name if symbol is not None else ""
    return ""


@functools.lru_cache(maxsize=64)
def _decoded(data: bytes) -> list[capstone.CsInsn]:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    return list(decoder.disasm(data, 0))
