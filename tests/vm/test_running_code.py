# SPDX-License-Identifier: GPL-2.0-or-later
"""The last check in the kernel: shipped code passes however the kernel has rewritten it, changed code is named."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from kmend_builder.elf.read import read_object
from kmend_builder.kernel.image import Image
from kmend_builder.kernel.kallsyms import kernel_symbols
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.modules import module_bytes, module_files
from kmend_builder.prove.base import ColdGuest
from kmend_builder.prove.guest import Guest
from kmend_builder.prove.klp import Livepatch, StepFailed
from kmend_builder.prove.rootfs import Rootfs
from kmend_builder.prove.subject import VMLINUX, Subject, from_manifest
from kmend_builder.running.image import image_sites
from kmend_builder.running.sites import How
from vm.agent_support import Machine
from vm.agent_updates import without_signature
from vm.conftest import AgentSeed
from vm.gdbstub import flip

MODULE = "sch_sfq"
# Behind the call of ftrace: an ordinary instruction in all functions changed here.
OFFSET = 5
TRACING = "/sys/kernel/tracing"
#: What decides how the kernel rewrites itself: CPUs (LOCK prefixes), mitigations, features.
MACHINES: dict[str, dict[str, Any]] = {
    "one-cpu": {"smp": 1},
    "two-cpus": {"smp": 2},
    "mitigations-off": {"smp": 2, "append": "mitigations=off"},
    "untrained-return-thunks": {"smp": 2, "cpu": "EPYC"},
}
#: Writes the kernel's text, with its address and size before it, to standard output, compressed.
DUMP = """
import base64, struct, sys, zlib
names = {}
for line in open("/proc/kallsyms"):
    fields = line.split()
    if fields[2] in ("_text", "_etext"):
        names[fields[2]] = int(fields[0], 16)
core = open("/proc/kcore", "rb")
head = core.read(64)
core.seek(struct.unpack_from("<Q", head, 32)[0])
start, size = names["_text"], names["_etext"] - names["_text"]
for _ in range(struct.unpack_from("<H", head, 56)[0]):
    kind, flags, offset, address, physical, length, memory, align = struct.unpack("<IIQQQQQQ", core.read(56))
    if kind == 1 and address <= start < address + length:
        break
core.seek(offset + start - address)
text = core.read(size)
open(sys.argv[1], "wb").write(zlib.compress(struct.pack("<QQ", start, size) + text, 1))
"""


@pytest.fixture(scope="module")
def first(agent_seed: AgentSeed) -> Subject:
    return from_manifest(agent_seed.first.directory / "manifest.json")


@pytest.fixture(scope="module")
def second(agent_seed: AgentSeed) -> Subject:
    return from_manifest(agent_seed.second.directory / "manifest.json")


@pytest.fixture(scope="module", params=MACHINES)
def stock(request: pytest.FixtureRequest, minimal_rootfs: Rootfs) -> Iterator[Guest]:
    """A freshly booted kernel at an address of its own, the patched module loaded."""
    with ColdGuest(minimal_rootfs, init="tiny", **MACHINES[request.param]) as cold:
        cold.guest.run(["modprobe", MODULE])
        yield cold.guest


@pytest.mark.slow
def test_shipped_code_is_patched_on_every_machine(stock: Guest, first: Subject, second: Subject) -> None:
    """Also over an earlier update, after a revert, and with the function tracer in every function."""
    lp = Livepatch(stock)
    lp.apply(first)
    lp.apply(second)
    lp.revert(second)
    lp.apply(second)
    lp.revert(second)
    # the calls are what matters; recording them as well takes an emulated machine minutes
    stock.run(f"echo 0 > {TRACING}/tracing_on; echo function > {TRACING}/current_tracer", timeout=240)
    lp.apply(second)
    lp.revert(second)
    stock.run(f"echo nop > {TRACING}/current_tracer", timeout=240)
    assert "refused: " not in lp.log()


@pytest.mark.slow
def test_a_cpu_runs_what_another_has_rewritten(stock: Guest) -> None:
    """Of the emulator, not of ours: one that runs old code makes every proof worthless (docs/adr/0018)."""
    key = "/proc/sys/kernel/sched_schedstats"  # a static key in the paths that all CPUs take most
    busy = "(while :; do /bin/true; done) >/dev/null 2>&1 &\n" * 2
    switch = f"for i in $(seq 200); do echo 1 >{key} && echo 0 >{key} || exit; done; echo done; kill 0"
    assert stock.run(["sh", "-c", busy + switch], check=False, timeout=240).out == "done\n"
    log = stock.run(["dmesg"]).out
    assert "BUG:" not in log and "stall" not in log


@pytest.mark.slow
def test_every_function_in_memory_is_as_its_sites_say(stock: Guest, kernel: Kernel) -> None:
    """All of the kernel's text, not only what is patched: nothing is rewritten where no table says so."""
    stock.put(DUMP.encode(), "/run/dump.py")
    stock.run(["python3", "/run/dump.py", "/run/text"], timeout=240)
    dump = zlib.decompress(stock.get("/run/text"))
    start, size = struct.unpack_from("<QQ", dump)
    image, symbols = Image.open(kernel.image), kernel_symbols(kernel)
    linked = next(symbol.address for symbol in symbols if symbol.name == "_text")
    found = bytearray(dump[16:])
    shipped = bytearray(image.read(linked, size))
    sites = image_sites(image, symbols).within(linked, size)
    for site in sites:
        place = slice(site.start, site.start + site.size)
        if site.how is How.SKIP:
            shipped[place] = found[place]
            continue
        moved = (start - linked) * (1 if site.how is How.MOVED else -1)
        value = int.from_bytes(shipped[place], "little") + moved
        shipped[place] = (value % (1 << 8 * site.size)).to_bytes(site.size, "little")
    names = {
        symbol.name
        for symbol, after in zip(symbols, symbols[1:], strict=False)
        if linked <= symbol.address < linked + size
        and shipped[symbol.address - linked : after.address - linked]
        != found[symbol.address - linked : after.address - linked]
    }
    # the trampolines of static calls are jumps that are rewritten, and can't be redirected
    assert all(name.startswith("__SCT__") for name in names), names
    assert sum(site.size for site in sites if site.how is How.SKIP) < size / 20


def _address(guest: Guest, owner: str, name: str) -> int:
    mark = "" if owner == VMLINUX else f"\\[{owner}\\]"
    found = guest.run(f"grep -P ' {name}(\t{mark})?$' /proc/kallsyms").out.split()
    return int(found[0], 16)


def _refused(lp: Livepatch, subject: Subject, owner: str, name: str) -> None:
    with pytest.raises(StepFailed) as caught:
        lp.apply(subject)
    assert caught.value.failure.step == "load"
    said = caught.value.failure.excerpt
    assert f"{subject.name}: refused: {owner}:{name} is not the code that was shipped" in said
    assert f"at +{OFFSET:#x}" in said


def _function(subject: Subject, owner: str) -> str:
    return next(name for place, name in subject.functions if place == owner)


@pytest.mark.parametrize("owner", [VMLINUX, MODULE])
def test_a_changed_byte_is_refused_and_named(guest: Guest, second: Subject, owner: str) -> None:
    guest.run(["modprobe", MODULE])
    lp, name = Livepatch(guest), _function(second, owner)
    place = _address(guest, owner, name) + OFFSET
    flip(guest, place)
    _refused(lp, second, owner, name)
    assert guest.run("ls /sys/kernel/livepatch").out == ""
    assert not lp.is_loaded(second.name)
    flip(guest, place)
    lp.apply(second)


def test_a_refused_update_leaves_the_earlier_one_live(guest: Guest, first: Subject, second: Subject) -> None:
    guest.run(["modprobe", MODULE])
    lp, name = Livepatch(guest), _function(second, MODULE)
    lp.apply(first)
    place = _address(guest, MODULE, name) + OFFSET
    flip(guest, place)
    _refused(lp, second, MODULE, name)
    lp.check_objects(first)
    flip(guest, place)
    lp.apply(second)


def _altered(kernel: Kernel, name: str) -> bytes:
    """The shipped module with one byte of a function changed, and no signature that would tell."""
    data = without_signature(module_bytes(module_files(kernel)[MODULE]))
    module = read_object(data, MODULE)
    symbol = module.symbol(name)
    assert symbol is not None and symbol.section is not None
    assert data.count(symbol.section.data) == 1
    at = data.index(symbol.section.data) + symbol.value + OFFSET
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


@pytest.mark.parametrize("altered", [True, False], ids=["altered", "shipped"])
def test_a_module_that_comes_later(guest: Guest, kernel: Kernel, second: Subject, altered: bool) -> None:
    lp, name = Livepatch(guest), _function(second, MODULE)
    data = _altered(kernel, name) if altered else module_bytes(module_files(kernel)[MODULE])
    guest.put(data, f"/run/{MODULE}.ko")
    lp.apply(second)
    done = guest.run(["insmod", f"/run/{MODULE}.ko"], check=False)
    assert (done.rc != 0) is altered
    assert lp.is_loaded(MODULE) is not altered
    assert (f"refused: {MODULE}:{name} is not the code that was shipped" in lp.log()) is altered
    lp.check_objects(second)


def test_the_agent_names_what_was_changed(machine: Machine, agent_seed: AgentSeed) -> None:
    """A probe inside a function, which nothing tells of without debugfs: the live patch itself refuses, the agent says
    why, and once the probe is gone the same update goes live."""
    found = agent_seed.first.manifest
    name = found.functions[0].name
    probe = f"{TRACING}/events/kprobes/kmend_test/enable"
    machine.guest.run(f"mkdir -p {TRACING}; mountpoint -q {TRACING} || mount -t tracefs tracefs {TRACING}")
    machine.guest.run(f"echo 'p:kmend_test {name}+{OFFSET}' > {TRACING}/kprobe_events; echo 1 > {probe}")
    machine.guest.run("mountpoint -q /sys/kernel/debug && umount -l /sys/kernel/debug || true")
    machine.install("first")
    refused = machine.kmend("apply")
    assert refused.rc == 6, refused
    assert f"vmlinux:{name} is not the code that was shipped" in refused.data["why"]
    assert "reboot" in refused.data["hint"]
    assert (machine.live(), machine.modules()) == ({}, [])
    machine.guest.run(f"echo 0 > {probe}")
    assert machine.kmend("apply").rc == 0
    assert machine.live() == {found.module.name: "live"}
