# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a rebuilt function is not found in the shipped code: a closed set of classes, each with its own test.

A class other than CODE and CONSTANT says that the function could not have been found, because the kernel does not
hold this copy of it. These two say that the rebuild is another one than what was shipped.
"""

import enum
from collections.abc import Container

from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom
from kmend_builder.match.match import NO_SYMBOL, OTHER_CONSTANT, ObjectMatch
from kmend_builder.match.space import Space


class Cause(enum.Enum):
    """The class of an exception; the value is what reports say."""

    OVERRIDDEN = "weak, and another object's definition is the one linked"
    NOT_LINKED = "an object of a library that nothing pulled in"
    DISCARDED = "exit code, which the linker drops from the image"
    UNLISTED = "a symbol that the kernel's symbol table leaves out"
    ABSENT = "no function of this name is shipped"
    AMBIGUOUS = "equal to several shipped functions of its name"
    CONSTANT = "refers to another constant"
    CODE = "other code"

    @property
    def not_shipped(self) -> bool:
        """Whether the kernel has no copy of the function that it could have been compared with."""
        return self in (Cause.OVERRIDDEN, Cause.NOT_LINKED, Cause.DISCARDED)


def classify(match: ObjectMatch, weak: Container[str]) -> dict[Atom, Cause]:
    """The class of every function of an object that was not found, or at more than one place.

    Args:
        weak: the names whose definition in the kernel's symbol table is a weak one.
    """
    unlinked = nothing_linked(match)
    found = {atom: _cause(atom, why, match.space, weak, unlinked) for atom, why in match.mismatches.items()}
    return found | dict.fromkeys(match.ambiguous, Cause.AMBIGUOUS)


def nothing_linked(match: ObjectMatch) -> bool:
    """Whether the shipped object has no symbol at all of this unit's functions.

    A member of lib.a that resolves no reference is left out whole (ld(1), archives).
    """
    functions = [*match.functions, *match.mismatches, *match.ambiguous]
    return not any(match.space.named(symbol.name) for atom in functions for symbol in atom.symbols)


def _cause(atom: Atom, why: str, space: Space, weak: Container[str], unlinked: bool) -> Cause:
    if unlinked:
        return Cause.NOT_LINKED
    if overridden(atom, space, weak):
        return Cause.OVERRIDDEN
    if why == NO_SYMBOL:
        return _without_symbol(atom)
    return Cause.CONSTANT if why.startswith(OTHER_CONSTANT) else Cause.CODE


def overridden(atom: Atom, space: Space, weak: Container[str]) -> bool:
    """A weak definition where every shipped one of the name is strong: the linker took that."""
    shipped = space.named(atom.name)
    return atom.weak and bool(shipped) and atom.name not in weak


def _without_symbol(atom: Atom) -> Cause:
    if names.exit_section(atom.section.name):
        return Cause.DISCARDED
    return Cause.UNLISTED if unlisted(atom.name) else Cause.ABSENT


def unlisted(name: str) -> bool:
    """scripts/mksysmap and scripts/kallsyms.c, is_ignored_symbol(): names that never get into kallsyms."""
    return name.startswith((".L", "L0", "$", "__pi_", "__efistub_", "__crc_", "__kstrtab"))
