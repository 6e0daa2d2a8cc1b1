# SPDX-License-Identifier: GPL-2.0-or-later
"""Which identifiers a header change alters, and which others are defined in terms of those. Pure.

To use what a header changes, code has to name it, or name something that leads to it: a macro, an inline function, a
variable, or a type with a member of that type. So the closure over the headers' items, and then a search for words.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import lru_cache

from kmend_builder.change import declarers
from kmend_builder.change.citems import Item, items, outline
from kmend_builder.change.clex import code_tokens

MAX_NAMES = 400
"""A closure that grows beyond this is a change of something everybody uses; looking on would find no one to spare."""

Headers = Callable[[Iterable[str]], Iterable[tuple[str, str]]]
"""Given words: path and text of every header of the tree that has one of them; `##word` is a word next to a paste."""

Known = Callable[[Iterable[str]], Set[str]]
"""Those of some words that any file has that could use the change."""

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PASTE = "##"
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def changed_names(old: str, new: str) -> frozenset[str] | None:
    """The identifiers whose definitions differ between two versions of a header; None when that can't be told.

    Empty when only comments and white space differ.
    """
    if code_tokens(old) == code_tokens(new):
        return frozenset()
    before, after = Counter(map(_key, items(old))), Counter(map(_key, items(new)))
    changed = (before - after) + (after - before)
    if not changed:
        return None  # the same items in another order: which one counts where is up to the preprocessor
    names: set[str] = set()
    for _, _, found in changed:
        if found is None:
            return None
        names |= found
    return frozenset(names)


def changes_macros(old: str, new: str) -> bool:
    """Whether a macro differs, or something that may be one. Assembly can use nothing else of a header."""
    before, after = Counter(map(_kind, items(old))), Counter(map(_kind, items(new)))
    return any(kind not in ("function", "declaration") or found is None for kind, found, *_ in before - after) or any(
        kind not in ("function", "declaration") or found is None for kind, found, *_ in after - before
    )


def changes_events(old: str, new: str) -> bool:
    """Whether a trace event differs between two versions of a header."""
    before, after = Counter(map(_key, items(old))), Counter(map(_key, items(new)))
    return any(declarers.traces(tokens) for tokens, *_ in [*(before - after), *(after - before)])


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What code must name to use a change: one of `names`, or a macro of `pasters` and one of its arguments.

    `pasters` are macros that paste (##) one of the names from an argument: macro -> such arguments.
    `traced` are headers whose trace events use the change, in the units that create these.
    """

    names: frozenset[str]
    pasters: Mapping[str, frozenset[str]]
    traced: frozenset[str] = frozenset()

    def used_by(self, words: Set[str]) -> bool:
        """Whether a text of these words may use the change."""
        return not words.isdisjoint(self.names) or bool(self.pasted_by(words))

    def pasted_by(self, words: Set[str]) -> list[str]:
        """The macros that these words may call to make one of the names."""
        return [
            macro for macro, arguments in self.pasters.items() if macro in words and not words.isdisjoint(arguments)
        ]


def closure(names: frozenset[str], headers: Headers, known: Known = frozenset) -> Wanted | None:
    """The names, and all that headers define in terms of them; None when that can't be told or is too much.

    `known` drops what a macro could paste a name from, but nobody writes: most ways to cut a name in pieces.
    """
    wanted = Wanted(names, {})
    fresh: Set[str] = names
    while fresh:
        if len(wanted.names) + len(wanted.pasters) > MAX_NAMES:
            return None
        larger = _round(wanted, fresh, headers, known)
        if larger is None:
            return None
        fresh = (larger.names - wanted.names) | (larger.pasters.keys() - wanted.pasters.keys())
        wanted = larger
    return wanted


def _round(wanted: Wanted, fresh: Set[str], headers: Headers, known: Known) -> Wanted | None:
    """One step of the closure: all items of headers that name a fresh identifier or may paste one."""
    parts = _Parts(fresh & wanted.names, known, fresh - wanted.names)
    larger: Wanted | None = wanted
    for rel, text in headers(sorted(fresh | {_PASTE + part for part in parts.ends})):
        for item in _items(text):
            larger = _with_item(larger, item, fresh, parts)
            if larger is None or len(larger.names) > MAX_NAMES:
                return None
            if declarers.traces(item.tokens) and not fresh.isdisjoint(item.tokens):
                larger = dataclasses.replace(larger, traced=larger.traced | {rel})
    return larger


def words_of(text: str) -> frozenset[str]:
    """All identifiers in a text, comments included."""
    return frozenset(_WORD.findall(text))


def paste_marks(names: Set[str], known: Known = frozenset) -> frozenset[str]:
    """What an index is asked for to find macros that may paste one of the names: `##` and a literal part."""
    return frozenset(_PASTE + part for part in _Parts(names, known).ends)


def pastes(text: str, names: Set[str], known: Known = frozenset) -> bool:
    """Whether a source has a macro of its own that may paste one of the names."""
    if _PASTE not in text:
        return False
    parts = _Parts(names, known)
    return any(parts.pasted(item) for item in items(text) if item.kind == "macro")


@lru_cache(maxsize=4096)
def splits(name: str) -> tuple[tuple[str, str, str], ...]:
    """Ways a macro may paste the name: literal front, argument, literal back; cut at underscores and capitals."""
    cuts = {index for index, char in enumerate(name) if char == "_"}
    cuts |= {index + 1 for index in cuts} | {match.start() for match in _CAMEL.finditer(name)}
    ends = sorted({0, len(name)} | {cut for cut in cuts if 0 < cut < len(name)})
    pairs = [(low, high) for low in ends for high in ends if low < high and high - low < len(name)]
    return tuple((name[:low], name[low:high], name[high:]) for low, high in pairs if name[low:high].strip("_"))


def _with_item(wanted: Wanted | None, item: Item, fresh: Set[str], parts: "_Parts") -> Wanted | None:
    """What is wanted when an item of a header has been looked at; None when its names can't be told."""
    if wanted is None or item.kind in ("include", "directive") or item.names == frozenset():
        return wanted
    words = frozenset(_relevant(item))
    pasters = dict(wanted.pasters)
    if item.kind == "macro":
        arguments = parts.pasted(item)
        arguments |= {word for macro in words & pasters.keys() for word in pasters[macro]}
        if arguments:
            name = item.tokens[2]
            pasters[name] = pasters.get(name, frozenset()) | arguments
            wanted = dataclasses.replace(wanted, pasters=pasters)
    others = words - (item.names or frozenset())
    if words.isdisjoint(fresh & wanted.names) and not wanted.pasted_by(others):
        return wanted
    return None if item.names is None else dataclasses.replace(wanted, names=wanted.names | item.names)


def _relevant(item: Item) -> Sequence[str]:
    """The words by which an item is defined.

    The parameters of a prototype are not: callers pass what they have. Nor are those of a trace event; the code that
    looks into them is where the event is created (Wanted.traced).
    """
    if item.tokens[1:2] == ("(",) and not declarers.traces(item.tokens):
        inner = declarers.prototype(item.tokens)
        return outline(inner) if inner else item.tokens
    plain = item.kind == "declaration" and item.names is not None
    if plain and "{" not in item.tokens and "typedef" not in item.tokens:
        return outline(item.tokens)
    return item.tokens


class _Parts:
    """The ways names may be pasted, by the literal part at their front or back."""

    def __init__(self, names: Set[str], known: Known = frozenset, macros: Set[str] = frozenset()) -> None:
        """`macros`: pasting macros, whose own names may be pasted; by more than underscores (`__##x` is everywhere)."""
        ways = [split for name in names for split in splits(name)]
        ways += [split for name in macros for split in splits(name) if (split[0] + split[2]).strip("_")]
        arguments = known({split[1] for split in ways})
        self.ends: dict[str, list[tuple[str, str, str]]] = {}
        for split in ways:
            for end in {split[0], split[2]} - {""} if split[1] in arguments else ():
                self.ends.setdefault(end, []).append(split)

    def pasted(self, item: Item) -> frozenset[str]:
        """The arguments with which a macro's ## may make one of the names."""
        tokens = item.tokens
        near = {""}
        for index, word in enumerate(tokens):
            if word == _PASTE:
                near.update((tokens[index - 1], *tokens[index + 1 : index + 2]))
        near -= _parameters(tokens)
        found = (split for side in near for split in self.ends.get(side, ()))
        return frozenset(word for front, word, back in found if front in near and back in near)


def _kind(item: Item) -> tuple[str, frozenset[str] | None, tuple[str, ...], tuple[str, ...]]:
    return item.kind, item.names, item.tokens, item.condition


def _key(item: Item) -> tuple[tuple[str, ...], tuple[str, ...], frozenset[str] | None]:
    return item.tokens, item.condition, item.names


@lru_cache(maxsize=2048)
def _items(text: str) -> list[Item]:
    return items(text)


def _parameters(tokens: tuple[str, ...]) -> frozenset[str]:
    """The parameters of a macro definition; what stands next to ## under such a name is no literal part."""
    if tokens[3:4] != ("(",) or ")" not in tokens:
        return frozenset()
    return frozenset(tokens[4 : tokens.index(")")])
