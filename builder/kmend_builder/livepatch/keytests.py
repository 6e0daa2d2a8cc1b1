# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns jump labels into tests of their key, in the compiler's assembly; keyproof.py checks the result.

A jump label is a jump or a no-op that the kernel rewrites when its key is switched. The jump is taken when the key is
enabled, or for the inverted type when it is not (include/linux/jump_label.h, the table above static_branch_likely()).
`cmpl $0, key` and a conditional jump decide the same; -1, written while a key is being switched on, counts as enabled
(static_key_count()). The count is the first member of struct static_key. The flags may be overwritten: gcc takes them
to be changed by every asm statement on x86.

The assembly and not the object, because the place of a jump label may be two bytes long.
"""

import bisect
import re
from collections import Counter

from kmend_builder.errors import ElfError
from kmend_builder.livepatch.keys import Site

_FUNCTION = re.compile(r"^\s*\.type\s+([\w.$]+),\s*@function", re.MULTILINE)
_LABEL = re.compile(r"^([\w.$]+):", re.MULTILINE)
# arch/x86/include/asm/jump_label.h, JUMP_TABLE_ENTRY; the comment behind the jump is objtool's mark
_SITE = re.compile(
    r"1:\s*jmp (?P<to>\S+)[^\n]*\n"
    r"\s*\.pushsection __jump_table,[^\n]*\n\s*\.balign 8\s*\n"
    r"\s*\.long 1b - \.\s*\n\s*\.long (?P=to) - \.\s*\n"
    r"\s*\.quad (?P<symbol>[\w.$]+)(?:\+(?P<offset>\d+))? \+ (?P<flags>[0-3]) - \.\s*\n"
    r"\s*\.popsection"
)


def add_tests(assembly: str, sites: Counter[Site]) -> str:
    """The assembly of a unit with exactly these jump labels turned into tests.

    Raises:
        ElfError: other jump labels are found than the object has.
    """
    functions = set(_FUNCTION.findall(assembly))
    labels = [(match.start(), match[1]) for match in _LABEL.finditer(assembly) if match[1] in functions]
    starts = [start for start, _ in labels]
    done: Counter[Site] = Counter()

    def replace(match: re.Match[str]) -> str:
        index = bisect.bisect_right(starts, match.start()) - 1
        function = labels[index][1] if index >= 0 else ""
        offset = int(match["offset"] or 0)
        site = Site(function, match["symbol"], offset, bool(int(match["flags"]) & 1))
        if site not in sites:
            return match[0]
        done[site] += 1
        jump = "je" if site.branch else "jne"
        return f"cmpl $0, {site.symbol}+{offset}(%rip)\n\t{jump} {match['to']}"

    result = _SITE.sub(replace, assembly)
    if done != sites:
        raise _unproven(
            next(iter((sites - done) | (done - sites))).function, "the compiler's assembly has not the same places"
        )
    return result


def _unproven(function: str, why: str) -> ElfError:
    return ElfError(
        f"can't make {function} read the static keys of a module", why=why, hint="please report it with the patch"
    )
