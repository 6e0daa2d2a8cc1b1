# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiles small C sources the way a kernel is compiled, as stage 3 does it and as a distribution ships it."""

import functools
import subprocess
import tempfile
from pathlib import Path

from kmend_builder.elf.model import ObjectFile
from kmend_builder.elf.read import read_object

#: What decides the shape of kernel code on x86-64 (arch/x86/Makefile and the top Makefile of 6.1).
KERNEL = (
    "-O2",
    "-std=gnu11",
    "-nostdinc",
    "-gbtf",
    "-mcmodel=kernel",
    "-mno-red-zone",
    "-mno-sse",
    "-mfentry",
    "-pg",
    "-mrecord-mcount",
    "-fno-PIE",
    "-fno-common",
    "-fno-strict-aliasing",
    "-fno-asynchronous-unwind-tables",
    "-fno-stack-protector",
    "-fno-jump-tables",
    "-falign-jumps=1",
    "-falign-loops=1",
    "-fcf-protection=none",
)
#: What the builder adds for its own compilations.
SPLIT = ("-ffunction-sections", "-fdata-sections")

#: In front of every source: the kernel's words for what the tests use most.
PRELUDE = """
#define noinline __attribute__((__noinline__))
#define notrace __attribute__((__no_instrument_function__))
#define cold __attribute__((__cold__))
#define section(name) __attribute__((__section__(name)))
#define NULL ((void *)0)
typedef unsigned int u32;
typedef unsigned long u64;
#line 1 "unit.c"
"""


@functools.cache
def compile_bytes(source: str, *extra: str, split: bool = True) -> bytes:
    """The object file of a C source.

    Args:
        source: C, without includes; the words of PRELUDE are defined.
        extra: further options of the compiler.
        split: one section per function and variable, as for orig and patched objects; False is how kernels ship.
    """
    with tempfile.TemporaryDirectory(prefix="kmend-cc-") as directory:
        target = Path(directory) / "unit.o"
        argv = ["gcc", *KERNEL, *(SPLIT if split else ()), *extra, "-x", "c", "-c", "-o", str(target), "-"]
        done = subprocess.run(argv, input=PRELUDE + source, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return target.read_bytes()


def compile_c(source: str, *extra: str, split: bool = True, name: str = "unit.o") -> ObjectFile:
    """The same as a model; a fresh one every time, because stages 4 to 7 change the models they are given."""
    return read_object(compile_bytes(source, *extra, split=split), name)


def run(*argv: str) -> str:
    """The output of a tool of binutils that has to succeed without a warning."""
    done = subprocess.run(argv, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout
