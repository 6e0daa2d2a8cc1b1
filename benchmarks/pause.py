# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a machine stands still while a live patch goes in and out, beside the kernel's own sample live patch.

The guest counts instructions instead of time (QEMU's icount, one instruction a nanosecond, one CPU), so that figures
repeat; they are not hardware's, and what CPUs do to each other is out of their reach. A task of the highest
priority wakes up every 100 us and tells by how much it was late at most. A module that stops the machine for 1.5 ms
shows that the reading is right.
"""

import shutil
import tempfile
from pathlib import Path

from demo.material import FIXES
from kernels import KernelPair
from kmend_builder.cli.options import default_cache
from kmend_builder.kernel import archive
from kmend_builder.kernel.acquire import acquire
from kmend_builder.kernel.model import Kernel
from kmend_builder.progress import make_progress
from kmend_builder.prove.base import GuestBase
from kmend_builder.prove.guest import Guest
from kmend_builder.prove.images import run_tool
from kmend_builder.prove.rootfs import build_rootfs

_ROOT = Path(__file__).resolve().parents[1]
_PERIOD = 100_000
_TIMES = 3
_STOPPED_US = 1500
_CONTROL = """
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/stop_machine.h>
static int stop(void *unused) { udelay(%d); return 0; }
static int __init begin(void) { return stop_machine(stop, NULL, NULL); }
static void __exit end(void) { }
module_init(begin);
module_exit(end);
MODULE_LICENSE("GPL");
"""
# Transition: from the load to `transition` reading 0, and from `enabled` being cleared to the patch being gone.
_APPLY = "insmod /{name}.ko; until test $(cat {sysfs}/transition) = 0; do :; done"
_REVERT = (
    "echo 0 > {sysfs}/enabled; while test -e {sysfs}; do :; done; until rmmod {name} 2>/dev/null; do sleep 0.1; done"
)


def main(pair: KernelPair) -> None:
    """Print the worst delay in microseconds and the guest's seconds of each step."""
    cache, progress = default_cache(), make_progress(quiet=True)
    kernel = acquire(pair.running.release, cache=cache, progress=progress)
    package = archive.find(f"linux-image-{pair.running.release}", pair.running.version)
    rootfs = build_rootfs(archive.fetch(package, cache=cache, progress=progress), cache, progress)
    with tempfile.TemporaryDirectory(prefix="kmend-bench-") as directory:
        scratch = Path(directory)
        modules = {path.stem: path for path in (_sample(kernel, scratch), _update(pair, scratch))}
        control = _build(kernel, scratch, "control", _CONTROL % _STOPPED_US)
        monitor = scratch / "gapmon"
        run_tool(["gcc", "-O2", "-static", "-o", str(monitor), str(_ROOT / "benchmarks/gapmon.c")], "no gapmon")
        for append in ("", "preempt=full"):
            with GuestBase(rootfs, icount=True, append=append) as base, base.make().clone() as guest:
                print(f"\n{append or 'preempt=voluntary (as shipped)'}")
                for file in (*modules.values(), control, monitor):
                    guest.put(file, f"/{file.name}", 0o755)
                _measure(guest, list(modules))


def _measure(guest: Guest, names: list[str]) -> None:
    _line("idle", [_late(guest, "sleep 1") for _ in range(_TIMES)])
    _line(f"stopped for {_STOPPED_US} us", [_late(guest, "insmod /control.ko; rmmod control") for _ in range(_TIMES)])
    for name in names:
        sysfs = f"/sys/kernel/livepatch/{name}"
        found = [
            [_late(guest, step.format(name=name, sysfs=sysfs)) for step in (_APPLY, _REVERT)] for _ in range(_TIMES)
        ]
        _line(f"{name}: apply", [apply for apply, _ in found])
        _line(f"{name}: revert", [revert for _, revert in found])


def _late(guest: Guest, command: str) -> tuple[float, float]:
    """(worst delay in us, the guest's seconds the command took)."""
    script = f"mkfifo /gap; /gapmon {_PERIOD} < /gap > /late & exec 3> /gap; sleep 0.3; {command}; exec 3>&-; wait"
    try:
        begin = float(guest.run("cut -d' ' -f1 /proc/uptime").out)
        out = guest.run(f"{script}; cat /late", timeout=600).out
        return int(out) / 1000, float(guest.run("cut -d' ' -f1 /proc/uptime").out) - begin
    finally:
        guest.run("rm -f /gap /late")


def _line(what: str, found: list[tuple[float, float]]) -> None:
    late = ", ".join(f"{late:.0f}" for late, _ in found)
    print(f"{what:40} at most {late} us late; {min(seconds for _, seconds in found):.1f} s")


def _sample(kernel: Kernel, scratch: Path) -> Path:
    source = kernel.source / "samples/livepatch/livepatch-sample.c"
    return _build(kernel, scratch, "livepatch_sample", source.read_text())


def _build(kernel: Kernel, scratch: Path, name: str, source: str) -> Path:
    directory = scratch / name
    directory.mkdir()
    (directory / f"{name}.c").write_text(source)
    (directory / "Makefile").write_text(f"obj-m := {name}.o\n")
    command = ["make", "-s", "-C", str(kernel.build), f"M={directory}", f"CC={kernel.compiler}", "modules"]
    run_tool(command, f"can't build {name}")
    return directory / f"{name}.ko"


def _update(pair: KernelPair, scratch: Path) -> Path:
    """The demo's update, as the builder makes it."""
    out = scratch / "out"
    argv = [str(_ROOT / "bin/kmend-build"), "run", "--fixes", str(FIXES), "--upgrade-to", pair.next.version]
    argv += ["--kernel", pair.running.release, "--out", str(out), "--quiet"]
    run_tool(argv, "the update can't be built")
    [module] = out.glob("7-module/*.ko")
    return Path(shutil.copy(module, scratch))
