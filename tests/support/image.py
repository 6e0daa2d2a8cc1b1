# SPDX-License-Identifier: GPL-2.0-or-later
"""Links small sources into what stands for a shipped kernel: bytes at kernel addresses, and all their symbols."""

import functools
import tempfile
from pathlib import Path

from kmend_builder.elf.read import read_object
from kmend_builder.match.space import Space, SpaceSymbol, module_space
from support.cc import compile_bytes, run
from support.objects import parsed

BASE = 0xFFFFFFFF81000000


class Memory:
    """The bytes of a linked program by address; `flip` damages one."""

    def __init__(self, parts: dict[int, bytes]) -> None:
        self.parts = parts

    def read(self, address: int, size: int) -> bytes:
        for start, data in self.parts.items():
            if start <= address and address + size <= start + len(data):
                return data[address - start : address - start + size]
        raise LookupError(hex(address))

    def flip(self, address: int) -> "Memory":
        """The same with the lowest bit of one byte inverted."""
        assert self.read(address, 1)
        return self.write(address, bytes([self.read(address, 1)[0] ^ 1]))

    def write(self, address: int, new: bytes) -> "Memory":
        """The same with other bytes at `address`."""
        parts = {}
        for start, data in self.parts.items():
            at = address - start
            parts[start] = data[:at] + new + data[at + len(new) :] if 0 <= at < len(data) else data
        return Memory(parts)


class Image:
    """A linked program: its memory and its symbols in the order of their addresses, as kallsyms has them."""

    def __init__(self, memory: Memory, symbols: list[SpaceSymbol]) -> None:
        self.memory = memory
        self.symbols = symbols

    def addresses(self, name: str) -> list[int]:
        return [symbol.address for symbol in self.symbols if symbol.name == name]

    def address(self, name: str) -> int:
        """The address of a unique symbol."""
        (address,) = self.addresses(name)
        return address

    def space(self) -> Space:
        return Space("vmlinux", self.memory, self.symbols)


@functools.cache
def kernel_image(*sources: str) -> Image:
    """Compile and link `sources` the way they would be in vmlinux; whatever they leave undefined is a stub."""
    objects = [compile_bytes(source, split=False) for source in sources]
    models = [read_object(data, "unit.o") for data in objects]
    defined = {symbol.name for model in models for symbol in model.symbols if not symbol.undefined}
    undefined = {symbol.name for model in models for symbol in model.symbols if symbol.undefined and symbol.name}
    objects.append(compile_bytes(_stubs(sorted(undefined - defined)), split=False))
    return _load(_linked(objects))


def module_image(source: str, name: str = "mod") -> Space:
    """Compile `source` the way it would be in a shipped module."""
    return module_space(read_object(compile_bytes(source, split=False), f"{name}.ko"), name)


def _stubs(names: list[str]) -> str:
    return "\n".join(f'asm(".globl {name}\\n.type {name}, @function\\n{name}: ret");' for name in names)


def _linked(objects: list[bytes]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="kmend-ld-") as directory:
        paths = [Path(directory) / f"{number}.o" for number in range(len(objects))]
        for path, data in zip(paths, objects, strict=True):
            path.write_bytes(data)
        target = Path(directory) / "image"
        layout = [f"-Ttext={BASE:#x}", "-z", "noexecstack", "-e", "0", "--no-warn-rwx-segments"]
        run("ld", *layout, "-o", str(target), *map(str, paths))
        return target.read_bytes()


def _load(data: bytes) -> Image:
    elf = parsed(data)
    parts = {
        section["sh_addr"]: bytes(section["sh_size"]) if section["sh_type"] == "SHT_NOBITS" else section.data()
        for section in elf.iter_sections()
        if section["sh_flags"] & 2
    }
    symbols = [
        SpaceSymbol(
            symbol.name,
            symbol["st_value"],
            symbol["st_info"]["bind"] != "STB_LOCAL",
            weak=symbol["st_info"]["bind"] == "STB_WEAK",
        )
        for symbol in elf.get_section_by_name(".symtab").iter_symbols()
        if symbol.name and symbol["st_info"]["type"] not in ("STT_SECTION", "STT_FILE")
    ]
    return Image(Memory(parts), sorted(symbols, key=lambda symbol: symbol.address))
