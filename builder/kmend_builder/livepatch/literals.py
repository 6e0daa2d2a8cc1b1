# SPDX-License-Identifier: GPL-2.0-or-later
"""String and other mergeable constants of the included code, each kept once."""

from kmend_builder.elf import constants as c
from kmend_builder.elf.model import ObjectFile, Section, Symbol


class Literals:
    """Appends constants to sections of the same kind as those they come from."""

    def __init__(self, obj: ObjectFile) -> None:
        self.obj = obj
        self._sections: dict[str, tuple[Section, Symbol]] = {}
        self._known: dict[tuple[str, bytes], int] = {}

    def place(self, content: bytes, origin: Section) -> tuple[Symbol, int]:
        """The section symbol and offset under which `content` is found."""
        width = max(origin.entsize, 1)
        name = f".rodata.kmend.str{width}.{origin.align}" if origin.strings else f".rodata.kmend.cst{origin.align}"
        if name not in self._sections:
            self._sections[name] = self._make(name, origin.align)
        section, symbol = self._sections[name]
        if (name, content) not in self._known:
            section.data += bytes(-len(section.data) % origin.align)
            self._known[name, content] = len(section.data)
            section.data += content
            section.size = len(section.data)
        return symbol, self._known[name, content]

    def _make(self, name: str, align: int) -> tuple[Section, Symbol]:
        section = Section(name, flags=c.SHF_ALLOC, align=align)
        symbol = Symbol(name, type=c.STT_SECTION, section=section)
        self.obj.sections.append(section)
        self.obj.symbols.append(symbol)
        return section, symbol
