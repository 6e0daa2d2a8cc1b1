# SPDX-License-Identifier: GPL-2.0-or-later
"""The top-level items of a C source: macros, functions, types, variables; what each is called and is made of.

A reading without preprocessing, so it can't always know; an item whose names can't be told has `names` None.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from kmend_builder.change import clex, declarers

_TAGGED = frozenset(("struct", "union", "enum"))
_KEYWORD_TEXT = (
    "auto bool break case char const continue default do double else extern float for goto if inline int long "
    "register restrict return short signed sizeof static switch typedef typeof unsigned void volatile while "
    "__inline __inline__ __always_inline noinline __typeof__ __extension__ _Bool s8 s16 s32 s64 u8 u16 u32 u64 "
    "__s8 __s16 __s32 __s64 __u8 __u16 __u32 __u64 size_t ssize_t"
)
_KEYWORDS = _TAGGED | frozenset(_KEYWORD_TEXT.split())
_ATTRIBUTE_TEXT = (
    "__attribute__ __printf __scanf __aligned __section __acquires __releases __must_hold __cond_acquires "
    "__alloc_size __realloc_size __malloc __nonnull __guarded_by __counted_by __assume_aligned __diagnose_as "
    "__alias __packed __must_check __init __exit __user __rcu __percpu __iomem __read_mostly __ro_after_init "
    "__maybe_unused __used __cold __pure __weak __visible asmlinkage notrace noinstr __deprecated __bpf_kfunc "
    "__cacheline_aligned __cacheline_aligned_in_smp ____cacheline_aligned ____cacheline_aligned_in_smp "
    "__randomize_layout __no_sanitize_address __attribute_const__ __noreturn"
)
_ATTRIBUTES = frozenset(_ATTRIBUTE_TEXT.split())
_NAMELESS = frozenset(("static_assert", "_Static_assert"))


@dataclasses.dataclass(frozen=True)
class Item:
    """One item. `kind` is macro, function (with a body), declaration, include or directive.

    `tokens` are its text without comments, `condition` the #if lines it stands under, `first` and `last` its lines.
    """

    kind: str
    names: frozenset[str] | None
    tokens: tuple[str, ...]
    condition: tuple[str, ...]
    first: int
    last: int


def items(text: str) -> list[Item]:
    """The items of a source text, in order."""
    reader = _Reader()
    for token in clex.scan(text):
        if token.kind not in ("comment", "splice"):
            reader.token(token)
    reader.finish(complete=False)
    return reader.items


def outline(tokens: Sequence[str]) -> list[str]:
    """The tokens outside of any bracket, the brackets themselves included."""
    return [token for token, depth in _depths(tokens) if depth == 0]


class _Reader:
    """Collects tokens to items."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.conditions: list[str] = []
        self.depths: list[int] = []
        self.directive: list[str] = []
        self.current: list[clex.Token] = []
        self.depth = 0
        self.body = False

    def token(self, token: clex.Token) -> None:
        if token.directive:
            self.directive_token(token)
            return
        if token.text == "}" and not self.current:
            return  # the end of extern "C"
        if token.text == "{" and self.depth == 0:
            self.body = _opens_body([item.text for item in self.current])
        self.current.append(token)
        self.depth += (token.text in clex.OPENING) - (token.text in clex.CLOSING)
        if [item.text for item in self.current[-3:]] == ["extern", '"C"', "{"]:
            self.current, self.depth = [], 0
        elif self.depth <= 0 and (token.text == ";" or (token.text == "}" and self.body)):
            self.finish(complete=True)

    def finish(self, complete: bool) -> None:
        """End the current item; one that the file's end cut off was misread, so that its names are not known."""
        words = tuple(token.text for token in self.current)
        if words and words != (";",):
            kind = "function" if self.body else "declaration"
            names = _names(words, self.body) if complete else None
            self.add(kind, names, words, self.current[0].line, self.current[-1].end)
        self.current, self.depth, self.body = [], 0, False

    def add(self, kind: str, names: frozenset[str] | None, words: tuple[str, ...], first: int, last: int) -> None:
        self.items.append(Item(kind, names, words, tuple(self.conditions), first, last))

    def directive_token(self, token: clex.Token) -> None:
        if token.kind != "newline":
            self.directive.append(token.text)
            return
        words, self.directive = tuple(self.directive), []
        name = words[1] if len(words) > 1 else ""
        if name in clex.CONDITIONS:
            self.condition(clex.CONDITIONS[name], " ".join(words))
            if self.current:
                self.current += [token._replace(text=word) for word in words if word not in "([{}])"]
        elif name in ("define", "undef") and len(words) > 2:
            self.add("macro", frozenset((words[2],)), words, token.line, token.end)
        elif name:
            self.add("include" if name == "include" else "directive", None, words, token.line, token.end)

    def condition(self, kind: str, text: str) -> None:
        if kind == "if":
            self.conditions.append(text)
            self.depths.append(self.depth)
        elif self.conditions and kind == "else":
            self.conditions[-1] += f" {text}"
            self.depth = self.depths[-1]
        elif self.conditions:
            self.conditions.pop()
            self.depths.pop()


def _opens_body(words: list[str]) -> bool:
    """Whether a brace after these words opens a function body, and not a type or an initialiser."""
    if not words or words[-1] == "=" or words[-1] in _TAGGED or (len(words) > 1 and words[-2] in _TAGGED):
        return False
    outer = outline(words)
    return "(" in outer and "=" not in outer and not _defines_type(outer)


def _defines_type(outer: list[str]) -> bool:
    """`struct __attribute__((packed)) name`: a tagged type whose attributes come first."""
    return outer[0] in _TAGGED and len(outer) > 1 and outer[1] in _ATTRIBUTES


def _names(words: tuple[str, ...], body: bool) -> frozenset[str] | None:
    if words[0] in _NAMELESS:
        return frozenset()
    if len(words) > 1 and _is_name(words[0]) and words[1] == "(" and words[0] not in _ATTRIBUTES:
        inner = declarers.prototype(words)  # a macro that declares; few are known
        return _names(inner, body) if inner else declarers.declared(words)
    found = set(_tags(words)) | set(_enumerators(words))
    called = _before_parentheses(words)
    found |= called if called or body else _declared(words)
    found |= set(_pointers(words))
    return frozenset(found) or None


def _depths(words: Sequence[str]) -> Iterator[tuple[str, int]]:
    depth = 0
    for word in words:
        if word in clex.CLOSING:
            depth -= 1
        yield word, depth
        if word in clex.OPENING:
            depth += 1


def _is_name(word: str) -> bool:
    return (word[0].isalpha() or word[0] == "_") and word not in _KEYWORDS and word.replace("_", "a").isalnum()


def _tags(words: tuple[str, ...]) -> Iterator[str]:
    """Tags of types defined here, nested ones included, or declared (`struct name;`)."""
    for index, word in enumerate(words):
        if word not in _TAGGED:
            continue
        rest = [item for item in words[index + 1 : index + 12] if item not in _ATTRIBUTES]
        names = [item for item in rest if _is_name(item)]
        opened = "{" in rest[:6]
        if names and (rest[1:2] == ["{"] or len(words) == 3 or (opened and rest[0] == "(")):
            yield names[0]


def _enumerators(words: tuple[str, ...]) -> Iterator[str]:
    levels: list[bool] = []
    enum = False
    for index, word in enumerate(words):
        enum = enum or word == "enum"
        if word in clex.OPENING:
            levels.append(enum and word == "{")
            enum = False
        elif word in clex.CLOSING and levels:
            levels.pop()
        elif levels and levels[-1] and words[index - 1] in ("{", ",") and _is_name(word):
            yield word
        elif word in (";", ")"):
            enum = False


def _before_parentheses(words: tuple[str, ...]) -> set[str]:
    """Names followed by a parenthesis outside of all brackets: functions, and attributes we do not know."""
    outer = [(word, index) for index, (word, depth) in enumerate(_depths(words)) if depth == 0]
    return {
        word
        for word, index in outer
        if index + 1 < len(words) and words[index + 1] == "(" and _is_name(word) and word not in _ATTRIBUTES
    }


def _declared(words: tuple[str, ...]) -> set[str]:
    """The variables or typedef names of a declaration: its outer names, but not the type's."""
    outer = outline(words)
    names = [
        word
        for before, word in zip(["", *outer], outer, strict=False)
        if _is_name(word) and word not in _ATTRIBUTES and before not in _TAGGED
    ]
    builtin = any(word in _KEYWORDS - {"extern", "static", "const", "typedef", "volatile"} for word in outer)
    return set(names if builtin or len(names) < 2 else names[1:])


def _pointers(words: tuple[str, ...]) -> Iterator[str]:
    """The name in `type (*name)(…)`, outside of function bodies and types."""
    depths = list(_depths(words))
    for index in range(2, len(words) - 1):
        if depths[index][1] == 1 and words[index - 2 : index] == ("(", "*") and words[index + 1] in (")", "["):
            yield words[index]
