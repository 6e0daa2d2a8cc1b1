# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads back from a finished live patch what it redirects and which livepatch symbols it needs."""

from typing import Any

from kmend_builder.elf import constants as c
from kmend_builder.elf.model import ObjectFile
from kmend_builder.elf.read import read_object

_PREFIX = ".klp.sym."


def read_klp(data: bytes, name: str) -> dict[str, Any]:
    """`functions`: the names of redirected functions; `symbols`: livepatch symbols; `relocations`: by klp section.

    Raises:
        ElfError: not an object this builder understands.
    """
    module = read_object(data, name)
    symbols = sorted(
        symbol.name.removeprefix(_PREFIX) for symbol in module.symbols if symbol.special == c.SHN_LIVEPATCH
    )
    return {"functions": sorted(_redirected(module)), "symbols": symbols, "relocations": _by_section(module)}


def _redirected(module: ObjectFile) -> list[str]:
    """Symbols at the places that the glue's labels name."""
    labels = {(symbol.section, symbol.value) for symbol in module.symbols if symbol.name.startswith("kmend_new_")}
    return [
        symbol.name
        for symbol in module.symbols
        if (symbol.section, symbol.value) in labels
        and symbol.type == c.STT_FUNC
        and not symbol.name.startswith("kmend_new_")
    ]


def _by_section(module: ObjectFile) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for section in module.sections:
        for reloc in section.relocs:
            if reloc.symbol.special == c.SHN_LIVEPATCH:
                text = f"{section.name}+{reloc.offset:#x} {reloc.type.name} {reloc.symbol.name.removeprefix(_PREFIX)}"
                found.setdefault(section.name, []).append(text)
    return found
