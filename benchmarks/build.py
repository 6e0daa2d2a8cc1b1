# SPDX-License-Identifier: GPL-2.0-or-later
"""From a patch to a signed package, against the time the compiler alone takes for the same translation units.

The compiler's time is that of gcc for every unit twice (orig and patched) and for the glue of the module. "first" is
a prepared kernel's first build of all: it makes the orig objects and has Kbuild link. "next" finds the commands Kbuild
links with, as every later build for that kernel does, "again" the orig objects as well.
"""

import itertools
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure
from kernels import KernelPair
from kmend_builder.change import linediff, text
from kmend_builder.change.fixlist import FixSpec, load_fix_list
from kmend_builder.change.twin import patched_tree
from kmend_builder.cli.options import default_cache
from kmend_builder.compile import Compiler
from kmend_builder.kernel.acquire import acquire
from kmend_builder.kernel.kbuild import kbuild_map
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.savedcmd import saved_command
from kmend_builder.kernel.source import fetch_source
from kmend_builder.livepatch.kbuild_link import KEPT
from kmend_builder.progress import make_progress
from kmend_builder.publish.keys import create_key

_ROOT = Path(__file__).resolve().parents[1]
_FIXES = ("CVE-2026-89603", "CVE-2026-89560", "CVE-2026-98012", "CVE-2026-90114")


def main(pair: KernelPair) -> None:
    """Print one line a fix."""
    cache, progress = default_cache(), make_progress(quiet=True)
    kernel = acquire(pair.running.release, cache=cache, progress=progress)
    later = fetch_source(pair.next.version, cache=cache, progress=progress)
    with tempfile.TemporaryDirectory(prefix="kmend-bench-") as directory:
        scratch = Path(directory)
        create_key("kmend benchmark", "bench@localhost", home=scratch / "keys", bits=2048)
        print(f"{'fix':16} {'gcc':>6}" + "".join(f" {name:>7} {'ratio':>6}" for name in ("first", "next", "again")))
        for spec in load_fix_list(_ROOT / "demo" / "fixes.toml"):
            if spec.id in _FIXES:
                patch = scratch / f"{spec.id}.patch"
                patch.write_bytes(text.encode(_diff(spec, kernel.source, later)))
                _measure(kernel, patch, scratch)


def _diff(spec: FixSpec, source: Path, later: Path) -> str:
    """The fix as the patch file a user would hand over."""
    chunks = []
    for rel in spec.only:
        sides = [
            text.lines(text.decode((root / rel).read_bytes())) if (root / rel).is_file() else None
            for root in (source, later)
        ]
        chunks.append(linediff.unified(sides[0], sides[1], rel))
    return "".join(chunks)


def _measure(kernel: Kernel, patch: Path, scratch: Path) -> None:
    out = scratch / "out"
    argv = [str(_ROOT / "bin" / "kmend-build"), "run", str(patch), "--kernel", kernel.release, "--out", str(out)]
    argv += ["--home", str(scratch / "keys"), "--quiet"]
    (kernel.cache_dir / KEPT).unlink(missing_ok=True)  # only Kbuild leaves the glue's command, which is timed
    units = _units(argv, out)
    compiler = _compiler_seconds(kernel, units, out, scratch)
    walls = []
    for gone in ([*units, KEPT], units, []):
        walls.append(measure.median(3, lambda gone=gone: _without(gone, kernel, argv, out)).wall)  # type: ignore[misc]
    print(f"{patch.stem:16} {compiler:5.1f}s" + "".join(f" {wall:6.1f}s {wall / compiler:6.2f}" for wall in walls))


def _without(gone: Sequence[str], kernel: Kernel, argv: Sequence[str], out: Path) -> measure.Cost:
    """A run without some of what is kept beside the kernel, and with nothing from an earlier run."""
    for name in gone:
        for folder in (kernel.cache_dir, kernel.cache_dir / "units", kernel.build):
            (folder / name).unlink(missing_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    return measure.run(argv)


def _units(argv: list[str], out: Path) -> list[str]:
    measure.run(argv)
    return list(json.loads((out / "2-change" / "units.json").read_text())["objects"])


def _compiler_seconds(kernel: Kernel, units: list[str], out: Path, scratch: Path) -> float:
    """gcc alone, one process after the other: every unit from both trees, and the glue."""
    compiler, total = Compiler(kernel, kbuild_map(kernel), 1), 0.0
    target = scratch / "gcc.o"
    changed = out / "2-change" / "patched"
    files = {str(path.relative_to(changed)): path.read_bytes() for path in changed.rglob("*") if path.is_file()}
    with patched_tree(kernel.source, kernel.cache_dir / "patched", files) as patched:
        for tree, name in itertools.product((kernel.source, patched), units):
            command = compiler.command(name, tree, target)[0]
            total += measure.median(3, lambda command=command: measure.run(command, cwd=kernel.build)).wall  # type: ignore[misc]
    glue = out / "7-module" / "kbuild"
    saved = saved_command((glue / ".glue.o.cmd").read_text())
    assert saved is not None
    words = saved.split(" ; ", 1)[0]
    return total + measure.median(3, lambda: measure.run(["sh", "-c", words], cwd=kernel.build)).wall
