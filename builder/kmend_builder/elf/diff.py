# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares an orig with a patched object: which functions and data changed, are new, or are gone."""

import dataclasses
import functools

from kmend_builder.elf import btf_ids, names
from kmend_builder.elf import constants as c
from kmend_builder.elf.atoms import Atom, Kind, Layout
from kmend_builder.elf.correlate import correlate_statics
from kmend_builder.elf.insn import disassemble
from kmend_builder.elf.model import ObjectFile
from kmend_builder.elf.normalise import layout as make_layout
from kmend_builder.elf.signature import Signature, Signer, named_by_content
from kmend_builder.elf.special import TABLES, orc


@dataclasses.dataclass(frozen=True)
class Change:
    """One differing atom. `orig` is None for a new one, `patched` for one that is gone."""

    name: str
    orig: Atom | None
    patched: Atom | None
    why: str

    @property
    def section(self) -> str:
        atom = self.patched or self.orig
        assert atom is not None
        return atom.section.name

    @property
    def leaves_init(self) -> bool:
        """Whether the running kernel has freed what the changed one keeps."""
        return self.orig is not None and self.patched is not None and bool(_kept_longer(self.orig, self.patched))


@dataclasses.dataclass
class ObjectDiff:
    """The differences of one translation unit, and the two layouts they are stated in."""

    unit: str
    orig: Layout
    patched: Layout
    orig_signer: Signer
    patched_signer: Signer
    functions: list[Change] = dataclasses.field(default_factory=list)
    data: list[Change] = dataclasses.field(default_factory=list)
    init: list[Change] = dataclasses.field(default_factory=list)
    exports: list[Change] = dataclasses.field(default_factory=list)

    @property
    def changed_functions(self) -> list[Change]:
        return [change for change in self.functions if change.orig and change.patched]

    @property
    def new_functions(self) -> list[Change]:
        return [change for change in self.functions if change.orig is None]

    @property
    def changed_data(self) -> list[Change]:
        return [change for change in self.data if change.orig and change.patched]

    @property
    def empty(self) -> bool:
        """Whether nothing differs that could matter to a kernel."""
        return not (self.functions or self.data or self.init or self.exports)

    @functools.cached_property
    def orig_by_name(self) -> dict[str, Atom]:
        return {symbol.name: atom for atom in self.orig.atoms for symbol in atom.symbols}


def diff_objects(orig: ObjectFile, patched: ObjectFile, unit: str = "") -> ObjectDiff:
    """Compare two compilations of one translation unit.

    Raises:
        ElfError: a special section of unknown format in either object.
    """
    btf_ids.keep_names(orig, patched)
    left, right = make_layout(orig), make_layout(patched)
    left_ids, right_ids = correlate_statics(left, right)
    result = ObjectDiff(unit or orig.name, left, right, Signer(left, left_ids), Signer(right, right_ids))
    twins = {number: atom for atom, number in left_ids.items()}
    _compare(result, {atom: twins[number] for atom, number in right_ids.items()})
    return result


def _compare(diff: ObjectDiff, twins: dict[Atom, Atom]) -> None:
    orig = {symbol.name: atom for atom in diff.orig.atoms if _comparable(atom) for symbol in atom.symbols}
    seen: set[Atom] = set()
    for atom in diff.patched.atoms:
        if not _comparable(atom):
            continue
        twin = twins.get(atom) or orig.get(atom.name)
        if twin is not None and (twin in seen or twin.kind is not atom.kind):
            twin = None
        if twin is None:
            _record(diff, Change(atom.name, None, atom, "new"))
            continue
        seen.add(twin)
        why = difference(diff.orig_signer.sign(twin), diff.patched_signer.sign(atom)) or _kept_longer(twin, atom)
        if why:
            _record(diff, Change(atom.name, twin, atom, why))
    for atom in dict.fromkeys(orig.values()):
        if atom not in seen:
            _record(diff, Change(atom.name, atom, None, "gone"))
    _compare_unnamed(diff)


def _compare_unnamed(diff: ObjectDiff) -> None:
    """Tables without symbols that nothing refers to: initcalls, and whatever section this builder has never seen."""
    orig, patched = ({a.section.name: a for a in side.atoms if _standalone(a)} for side in (diff.orig, diff.patched))
    for name in sorted(orig.keys() | patched.keys()):
        before, after = orig.get(name), patched.get(name)
        if before is None or after is None:
            _record(diff, Change(name, before, after, "gone" if after is None else "new"))
            continue
        why = difference(diff.orig_signer.sign(before), diff.patched_signer.sign(after))
        if why:
            _record(diff, Change(name, before, after, why))


def _standalone(atom: Atom) -> bool:
    """Unnamed data with a meaning of its own; constants without a name are compared where they are used."""
    section = atom.section
    if atom.kind is not Kind.ANONYMOUS or section.name in TABLES or section.name == orc.TABLE.companion:
        return False
    if section.flags & c.SHF_MERGE or section.name.startswith((".altinstr_", ".static_call.text", "runtime_")):
        return False  # places in code, compared with it (runtime_: asm/runtime-const.h of x86)
    if names.metadata_section(section.name):
        return False
    return section.writable or not section.name.startswith(".rodata")


def _kept_longer(orig: Atom, patched: Atom) -> str:
    """The running kernel has freed what the changed one would keep."""
    if names.init_section(orig.section.name) and not names.init_section(patched.section.name):
        return f"moves from {orig.section.name} to {patched.section.name}"
    return ""


def _comparable(atom: Atom) -> bool:
    """Atoms with a meaning of their own: not tables, literals, or constants compared where they are used."""
    if atom.kind is Kind.ANONYMOUS or atom.section.name in TABLES or atom.section.name == orc.TABLE.companion:
        return False
    if names.prefix_of(atom.name):
        return False
    if atom.section.strings and not atom.section.name.startswith("__ksymtab"):
        return False
    if atom.section.name.startswith((".altinstr_", ".discard", ".static_call.text")):
        return False
    if names.per_place(atom.name, atom.section.name):
        return False
    return not named_by_content(atom)


def _record(diff: ObjectDiff, change: Change) -> None:
    section = change.section
    atom = change.patched or change.orig
    assert atom is not None
    if change.leaves_init or names.init_section(section) or (names.exit_section(section) and not atom.section.code):
        diff.init.append(change)
    elif names.metadata_section(section):
        diff.exports.append(change)
    elif atom.kind is Kind.FUNCTION:
        diff.functions.append(change)
    else:
        diff.data.append(change)


def difference(one: Signature, other: Signature) -> str:
    """The first difference of two signatures in words, or an empty string."""
    if one == other:
        return ""
    if len(one.code) != len(other.code):
        return f"size {len(one.code)} -> {len(other.code)} bytes"
    if one.code != other.code:
        at = next(index for index, (a, b) in enumerate(zip(one.code, other.code, strict=True)) if a != b)
        return f"bytes differ at +{at:#x}"
    for left, right in zip(one.relocs, other.relocs, strict=False):
        if left != right:
            return f"reference at +{right[0]:#x}: {_words(left)} -> {_words(right)}"
    if len(one.relocs) != len(other.relocs):
        return "number of references differs"
    for left, right in zip(one.entries, other.entries, strict=False):
        if left != right:
            return f"entry in {right[0]} differs"
    return "number of table entries differs"


def _words(reloc: tuple[int, int, tuple[object, ...], int]) -> str:
    kind, *rest = reloc[2]
    detail = rest[0] if rest else ""
    if isinstance(detail, Signature):
        detail = f"{len(detail.code)} bytes"
    return f"{kind} {detail!r}{reloc[3]:+#x}" if detail != "" else f"{kind}{reloc[3]:+#x}"


def first_differing_instruction(change: Change) -> tuple[str, str] | None:
    """The first pair of instructions that differ, as text, for `explain`; None if only references differ."""
    if change.orig is None or change.patched is None:
        return None
    before, after = disassemble(change.orig.data), disassemble(change.patched.data)
    for (one_at, one), (other_at, other) in zip(before, after, strict=False):
        if one != other:
            return f"+{one_at:#x}: {one}", f"+{other_at:#x}: {other}"
    return None
