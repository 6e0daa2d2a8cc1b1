# SPDX-License-Identifier: GPL-2.0-or-later
"""Object diff and run-pre match in functions a second, and where their time goes.

Each object of KVM and of IPv4 is read twice, compared with itself, and matched with what is shipped. The compiler's
time for the same units is beside it: what counts is whether comparing costs more than compiling.
"""

import cProfile
import pstats
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from kernels import KernelPair
from kmend_builder.cli.options import default_cache
from kmend_builder.compile import Compiler
from kmend_builder.elf.diff import ObjectDiff, diff_objects
from kmend_builder.elf.read import read_object
from kmend_builder.kernel.acquire import acquire
from kmend_builder.kernel.kbuild import kbuild_map
from kmend_builder.match.match import match_object
from kmend_builder.progress import make_progress
from kmend_builder.spaces import Spaces

_DIRECTORIES = ("arch/x86/kvm/", "net/ipv4/")
_SHOWN = 8


def main(pair: KernelPair) -> None:
    """Print a line for each stage and directory, and the functions that most of the time is spent in."""
    kernel = acquire(pair.running.release, cache=default_cache(), progress=make_progress(quiet=True))
    kbuild, spaces = kbuild_map(kernel), Spaces(kernel)
    compiler = Compiler(kernel, kbuild, jobs=2)
    print(f"{'':20} {'units':>6} {'functions':>9} {'seconds':>8} {'a second':>9}")
    profile = cProfile.Profile()
    for directory in _DIRECTORIES:
        units = [name for name in kbuild.objects if Path(name).parent == Path(directory)]
        objects = compiler.keep(units)
        for owner in {kbuild.objects[name] for name in units}:
            spaces(owner)
        started = time.perf_counter()
        diffs = {name: _diff(path, name) for name, path in objects.items()}
        _line(f"diff {directory}", diffs, time.perf_counter() - started)
        started = time.perf_counter()
        for name, diff in diffs.items():
            match_object(diff.orig, spaces(kbuild.objects[name]))
        _line(f"match {directory}", diffs, time.perf_counter() - started)
        _profiled(profile, list(objects.items()), kbuild.objects, spaces)
    stats = pstats.Stats(profile)
    print("\nmost time, itself (profiled, so slower):")
    rows = sorted(stats.stats.items(), key=lambda row: -row[1][2])[:_SHOWN]  # type: ignore[attr-defined]
    for (path, line, name), (_, calls, own, *_) in rows:
        print(f"{own:7.2f} s {calls:9} calls  {Path(path).name}:{line} {name}")


def _diff(path: Path, name: str) -> ObjectDiff:
    """Compared with itself, read twice as orig and patched objects are."""
    data = path.read_bytes()
    return diff_objects(read_object(data, name), read_object(data, name), name)


def _line(title: str, diffs: dict[str, ObjectDiff], seconds: float) -> None:
    functions = sum(1 for diff in diffs.values() for _ in diff.orig.functions())
    print(f"{title:20} {len(diffs):6} {functions:9} {seconds:8.2f} {functions / seconds:9.0f}")


def _profiled(
    profile: cProfile.Profile, objects: Sequence[tuple[str, Path]], owners: Mapping[str, str], spaces: Spaces
) -> None:
    with profile:
        for name, path in objects:
            match_object(_diff(path, name).orig, spaces(owners[name]))
