# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether every instance of a type lives in a frame of a function that the live patch redirects.

Then no instance is older than the patch for the code that reads it: a task changes sides only while none of the
redirected functions is on its stack (Documentation/livepatch/livepatch.rst, consistency model). What the compiler
says about types does not tell who else gets a pointer, so this reads the source, and believes only what it can name:
in the unit's own file, each mention of the type is

- its definition;
- an automatic variable of it, in a function that is redirected or new;
- a parameter that points to it, of a static function that is only ever called by its name.

A cast, a local pointer, an allocation, a container_of(), a sizeof outside of memset(), another type or a variable
that holds one, a macro: any other mention, and the type is taken to be shared.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from kmend_builder.change.citems import Item, items
from kmend_builder.livepatch.units import UnitResult

_TYPEOF = frozenset(("typeof", "__typeof__", "__auto_type", "typeof_unqual"))
_STARTS = frozenset("{;}")


@dataclasses.dataclass
class _Uses:
    """The functions of one text: who has an instance in its frame, and who only gets a pointer."""

    owners: set[str] = dataclasses.field(default_factory=set)
    takers: set[str] = dataclasses.field(default_factory=set)
    definitions: int = 0


def frames_only(unit: UnitResult, name: str) -> set[str]:
    """The functions whose frames hold all instances of a type ("struct x"); empty: that can't be shown."""
    if unit.texts is None or not name.startswith(("struct ", "union ")):
        return set()
    found: set[str] = set()
    for text, replaced in zip(unit.texts, _replaced(unit), strict=True):
        parts = items(text)
        uses = _uses(parts, name.split())
        if uses is None or uses.definitions != 1 or not uses.owners:
            return set()
        if not _all_replaced(parts, uses, replaced) or _address_taken(parts, uses.takers):
            return set()
        found |= uses.owners
    return found


def _replaced(unit: UnitResult) -> tuple[set[str], set[str]]:
    """Names of functions that the live patch replaces, as they are called before and after."""
    twins = {twin.name for twin in map(unit.twin, unit.redirected) if twin is not None}
    new = {atom.name for atom in unit.diff.patched.functions() if unit.twin(atom) is None}
    return twins, {atom.name for atom in unit.redirected} | new


def _all_replaced(parts: Sequence[Item], uses: _Uses, replaced: set[str]) -> bool:
    """The owners, and whoever calls one by name: the compiler may have put a copy of the owner into the caller."""
    callers = {
        _name(item)
        for item in parts
        if item.kind == "function" and uses.owners & set(item.tokens[_body(item.tokens) :])
    }
    return uses.owners | callers <= replaced


def _address_taken(parts: Sequence[Item], functions: set[str]) -> bool:
    """Whether a function is named other than to call, declare or define it."""
    return any(
        word in functions and item.tokens[index + 1 : index + 2] != ("(",)
        for item in parts
        for index, word in enumerate(item.tokens)
    )


def _uses(parts: Sequence[Item], tag: list[str]) -> _Uses | None:
    """Who uses a type and how; None if a mention is none of the three kinds."""
    uses = _Uses()
    for item in parts:
        places = list(_mentions(item.tokens, tag))
        if not places:
            continue
        if item.kind == "function":
            if not _function(uses, item, places):
                return None
        elif item.kind == "declaration" and places == [0] and item.tokens[2:3] == ("{",):
            if _closing(item.tokens, 2) != len(item.tokens) - 2:
                return None  # a variable or an attribute behind the brace
            uses.definitions += 1
        elif not (item.kind == "declaration" and _taker(uses, item.tokens, places)):
            return None
    return uses


def _mentions(tokens: Sequence[str], tag: list[str]) -> Iterator[int]:
    return (index for index in range(len(tokens) - 1) if list(tokens[index : index + 2]) == tag)


def _function(uses: _Uses, item: Item, places: list[int]) -> bool:
    """Take in one function definition; False if it uses the type in a way that is not understood."""
    tokens, body = item.tokens, _body(item.tokens)
    if _TYPEOF & set(tokens):
        return False
    head, inside = [place for place in places if place < body], [place for place in places if place > body]
    if head and not _taker(uses, tokens[:body], head):
        return False
    instances = {tokens[place + 3] for place in head}
    for place in inside:
        declared = _automatic(tokens, place)
        if not declared:
            return False
        instances |= declared
        uses.owners.add(_name(item))
    return _sizes_only_to_clear(tokens, instances)


def _taker(uses: _Uses, tokens: Sequence[str], places: list[int]) -> bool:
    """A static function with parameters `struct x *p`."""
    if "static" not in tokens or "(" not in tokens or "=" in tokens:
        return False
    for place in places:
        words = tokens[place + 2 : place + 5]
        if len(words) < 3 or words[0] != "*" or not words[1].isidentifier() or words[2] not in (",", ")"):
            return False
    uses.takers.add(tokens[tokens.index("(") - 1])
    return True


def _automatic(tokens: Sequence[str], place: int) -> set[str]:
    """The variables a declaration `struct x a, b = { ... };` inside a body declares; none if it is anything else."""
    before = tokens[place - 1] if tokens[place - 1] != "const" else tokens[place - 2]
    if before not in _STARTS:
        return set()
    names, depth, expect = set(), 0, True
    for word in tokens[place + 2 :]:
        if expect:
            if not word.isidentifier():
                return set()
            names.add(word)
            expect = False
        depth += (word in "([{") - (word in ")]}")
        if depth == 0 and word == ";":
            return names
        expect = depth == 0 and word == ","
    return set()


def _sizes_only_to_clear(tokens: Sequence[str], instances: set[str]) -> bool:
    """Whether the size of an instance is taken for memset() only: bytes copied elsewhere would outlive the frame."""
    for index, word in enumerate(tokens):
        if word == "sizeof" and instances & set(_operand(tokens, index + 1)) and _call(tokens, index) != "memset":
            return False
    return True


def _operand(tokens: Sequence[str], start: int) -> Sequence[str]:
    if tokens[start] == "(":
        return tokens[start : _closing(tokens, start)]
    return tokens[start : start + 2]


def _call(tokens: Sequence[str], index: int) -> str:
    """The function whose argument list holds a word."""
    depth = 0
    for place in range(index - 1, 0, -1):
        depth += (tokens[place] == ")") - (tokens[place] == "(")
        if depth < 0:
            return tokens[place - 1]
    return ""


def _body(tokens: Sequence[str]) -> int:
    """Where a function's body begins."""
    depth = 0
    for index, word in enumerate(tokens):
        depth += (word == "(") - (word == ")")
        if word == "{" and depth == 0:
            return index
    return len(tokens)


def _closing(tokens: Sequence[str], start: int) -> int:
    """The index of the bracket that closes the one at `start`."""
    depth = 0
    for index in range(start, len(tokens)):
        depth += (tokens[index] in "([{") - (tokens[index] in ")]}")
        if depth == 0:
            return index
    return len(tokens)


def _name(item: Item) -> str:
    head = item.tokens[: _body(item.tokens)]
    return head[head.index("(") - 1] if "(" in head else ""
