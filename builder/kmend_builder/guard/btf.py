# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads BTF, the compact type information that `gcc -gbtf` leaves in an object (Documentation/bpf/btf.rst).

Only what layouts need: names, sizes, members, enumerators. Types are described by text that names other structures
instead of following them, so that each structure answers for its own layout only.

A *plain* description leaves out what does not change memory: qualifiers, and which typedef a type goes by.
"""

import contextlib
import dataclasses
import struct
from collections.abc import Iterator

from kmend_builder.errors import ElfError

_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MAGIC = 0xEB9F

(INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC) = range(
    1, 16
)
FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = 16, 17, 18, 19
_TRAILER = {INT: 4, VAR: 4, DECL_TAG: 4, ARRAY: 12}
_PER_ITEM = {STRUCT: 12, UNION: 12, ENUM: 8, FUNC_PROTO: 8, DATASEC: 12, ENUM64: 12}
_QUALIFIERS = {VOLATILE: "volatile ", CONST: "const ", RESTRICT: "", TYPE_TAG: ""}
_MAX_DEPTH = 64
# Anonymous structures are written out where they are used; damaged data could make them multiply without end. The
# largest units of a kernel need some hundred thousand.
_MAX_PARTS = 1 << 22
# Many members may share one long name, so that the text of a small section is larger than any memory.
_MAX_TEXT = 1 << 27
_DAMAGE = (struct.error, IndexError, ValueError)


@dataclasses.dataclass(frozen=True)
class Member:
    """One member: place and width in bits, its type as plain text. `width` of a bit-field is its own."""

    name: str
    offset: int
    width: int
    type: str
    bits: bool = False

    @property
    def end(self) -> int:
        return self.offset + self.width


@dataclasses.dataclass(frozen=True)
class Shape:
    """The layout of a structure, union or typedef; `size` in bytes. What has no members says its `type`."""

    keyword: str
    size: int
    members: tuple[Member, ...] = ()
    type: str = ""


@dataclasses.dataclass(frozen=True)
class Type:
    kind: int
    name: str
    size: int
    flag: bool
    items: bytes


class Btf:
    """The types of one object.

    Raises:
        ElfError: the data is damaged.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self._parts = self._text = 0
        with self._checked():
            self._types = self._read(data)

    @contextlib.contextmanager
    def _checked(self) -> Iterator[None]:
        """Whatever damaged data trips over is an ElfError."""
        try:
            yield
        except _DAMAGE as error:
            raise ElfError(f"can't read the types of {self.name}", why=str(error) or "damaged") from error

    def _read(self, data: bytes) -> list[Type | None]:
        magic, _, _, header, type_off, type_len, str_off, str_len = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise ValueError("no BTF magic")
        body = data[header + type_off : header + type_off + type_len]
        strings = data[header + str_off : header + str_off + str_len]
        if len(body) != type_len or len(strings) != str_len:
            raise ValueError("cut short")
        self._strings = strings
        types: list[Type | None] = [None]
        place = 0
        while place < len(body):
            name, info, size = _TYPE.unpack_from(body, place)
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            length = _TRAILER.get(kind, 0) + _PER_ITEM.get(kind, 0) * count
            items = body[place + _TYPE.size : place + _TYPE.size + length]
            if len(items) != length:
                raise ValueError("cut short")
            types.append(Type(kind, self._string(name), size, bool(info >> 31), items))
            place += _TYPE.size + length
        return types

    def _string(self, offset: int) -> str:
        end = self._strings.index(b"\0", offset)
        self._text += end - offset
        if self._text > _MAX_TEXT:
            raise ValueError("too much text")
        return self._strings[offset:end].decode()

    def describe(self, number: int, depth: int = 0, plain: bool = False) -> str:
        """A type as text; named structures by name only. `plain`: without qualifiers and typedefs."""
        self._parts += 1
        if depth > _MAX_DEPTH:
            raise ValueError("types nested without end")
        if self._parts > _MAX_PARTS:
            raise ValueError("too many types")
        kind = self._types[number] if 0 < number < len(self._types) else None
        if kind is None:
            return "void"
        if kind.kind in _QUALIFIERS:
            return ("" if plain else _QUALIFIERS[kind.kind]) + self.describe(kind.size, depth + 1, plain)
        if kind.kind == PTR:
            return self.describe(kind.size, depth + 1, plain) + "*"
        if kind.kind == TYPEDEF:
            return self.describe(kind.size, depth + 1, plain) if plain else kind.name
        if kind.kind == ARRAY:
            element, _, count = struct.unpack("<III", kind.items)
            return f"{self.describe(element, depth + 1, plain)}[{count}]"
        if kind.kind in _TAGGED and kind.name:
            return f"{_keyword(kind)} {kind.name}"
        if kind.kind in (STRUCT, UNION):
            return self._body(kind, depth, plain)
        if kind.kind in (ENUM, ENUM64):
            return f"enum({kind.size})"
        if kind.kind == FUNC_PROTO:
            return self.prototype(number, depth, plain)
        return kind.name or f"kind{kind.kind}"

    def prototype(self, number: int, depth: int = 0, plain: bool = False) -> str:
        """The return and parameter types of a function type; parameter names do not count."""
        kind = self._types[number]
        if kind is None or kind.kind != FUNC_PROTO:
            raise ValueError(f"type {number} is not a prototype")
        parameters = [self.describe(item[1], depth + 1, plain) for item in struct.iter_unpack("<II", kind.items)]
        return f"{self.describe(kind.size, depth + 1, plain)}({', '.join(parameters)})"

    def _body(self, kind: Type, depth: int = 0, plain: bool = False) -> str:
        members = []
        for name, member, offset in struct.iter_unpack("<III", kind.items):
            bits = f":{offset >> 24}" if kind.flag and offset >> 24 else ""
            place = offset & 0xFFFFFF if kind.flag else offset
            members.append(f"{place} {self.describe(member, depth + 1, plain)} {self._string(name)}{bits}")
        return f"{_KEYWORD[kind.kind]}({kind.size}){{{'; '.join(members)}}}"

    def shapes(self) -> dict[str, list[Shape]]:
        """The layout of every named structure, union and typedef; several, if scopes or branches define several.

        Raises:
            ElfError: the data is damaged.
        """
        result: dict[str, list[Shape]] = {}
        with self._checked():
            for kind in self._types:
                if kind is None or not kind.name:
                    continue
                if kind.kind in (STRUCT, UNION):
                    result.setdefault(f"{_keyword(kind)} {kind.name}", []).append(self._shape(kind))
                elif kind.kind in (ENUM, ENUM64):
                    result.setdefault(f"enum {kind.name}", []).append(Shape("enum", kind.size))
                elif kind.kind == TYPEDEF:
                    result.setdefault(kind.name, []).append(self._aliased(kind))
        return result

    def _aliased(self, kind: Type) -> Shape:
        """What a typedef stands for; the members, if it is a structure that has no other name."""
        inner = self._inner(kind.size)
        if inner is not None and inner.kind in (STRUCT, UNION) and not inner.name:
            return self._shape(inner)
        return Shape("typedef", self._size(kind.size), (), self.describe(kind.size, plain=True))

    def _shape(self, kind: Type) -> Shape:
        members = []
        for name, number, offset in struct.iter_unpack("<III", kind.items):
            bits = offset >> 24 if kind.flag else 0
            width = bits or self._size(number) * 8
            place = offset & 0xFFFFFF if kind.flag else offset
            members.append(Member(self._string(name), place, width, self.describe(number, plain=True), bool(bits)))
        return Shape(_keyword(kind), kind.size, tuple(members))

    def _inner(self, number: int) -> Type | None:
        """The type behind typedefs and qualifiers; None is void."""
        for _ in range(_MAX_DEPTH):
            kind = self._types[number] if 0 < number < len(self._types) else None
            if kind is None or (kind.kind != TYPEDEF and kind.kind not in _QUALIFIERS):
                return kind
            number = kind.size
        raise ValueError("types nested without end")

    def _size(self, number: int, depth: int = 0) -> int:
        """The bytes an instance takes; 0 for what has no instances."""
        if depth > _MAX_DEPTH:
            raise ValueError("types nested without end")
        kind = self._inner(number)
        if kind is None or kind.kind in (FWD, FUNC_PROTO, FUNC):
            return 0
        if kind.kind == PTR:
            return _POINTER
        if kind.kind == ARRAY:
            element, _, count = struct.unpack("<III", kind.items)
            return self._size(element, depth + 1) * int(count)
        return kind.size

    def enumerators(self) -> dict[str, set[int]]:
        """The values of every enumeration constant. Scopes can give one name several.

        Raises:
            ElfError: the data is damaged.
        """
        result: dict[str, set[int]] = {}
        with self._checked():
            for kind in self._types:
                if kind is not None and kind.kind in (ENUM, ENUM64):
                    for name, value in self._constants(kind):
                        result.setdefault(name, set()).add(value)
        return result

    def _constants(self, kind: Type) -> Iterator[tuple[str, int]]:
        """Negative values as the unsigned pattern they have in memory."""
        form = "<II" if kind.kind == ENUM else "<III"
        for name, *words in struct.iter_unpack(form, kind.items):
            yield self._string(name), words[0] | (words[1] << 32 if len(words) > 1 else 0)

    def variables(self) -> dict[str, str]:
        """The plain type of every variable of file scope.

        Raises:
            ElfError: the data is damaged.
        """
        with self._checked():
            kinds = [kind for kind in self._types if kind is not None and kind.kind == VAR and kind.name]
            return {kind.name: self.describe(kind.size, plain=True) for kind in kinds}

    def functions(self, plain: bool = False) -> dict[str, str]:
        """The prototype of every function of the object."""
        with self._checked():
            kinds = [kind for kind in self._types if kind is not None and kind.kind == FUNC and kind.name]
            return {kind.name: self.prototype(kind.size, plain=plain) for kind in kinds}


_KEYWORD = {STRUCT: "struct", UNION: "union", ENUM: "enum", ENUM64: "enum"}
_TAGGED = (*_KEYWORD, FWD)
_POINTER = 8


def _keyword(kind: Type) -> str:
    """The flag of a forward declaration tells a union from a structure."""
    return ("union" if kind.flag else "struct") if kind.kind == FWD else _KEYWORD[kind.kind]
