# SPDX-License-Identifier: GPL-2.0-or-later
"""Other kernel lines than the one most tests use: reproduced, patched in vmlinux and in a module, and proven.

The first run downloads some hundred megabytes for each line and prepares its build tree, for Debian 13 also a tree with
its compiler.
"""

from pathlib import Path

import pytest

from kernels import KernelLine, first_there, kernel_lines
from kmend_builder.cli.options import default_cache
from kmend_builder.kernel.acquire import acquire
from kmend_builder.kernel.kallsyms import kernel_symbols
from kmend_builder.kernel.kbuild import kbuild_map
from kmend_builder.kernel.model import Kernel
from kmend_builder.livepatch.kbuild_link import KEPT
from kmend_builder.progress import SilentProgress
from support import fixes
from support.buildcli import BuildCli
from support.fixes import patch_text

pytestmark = [pytest.mark.slow, pytest.mark.network]
SAMPLE = 12


@pytest.fixture(scope="module", params=kernel_lines(), ids=lambda line: line.name)
def line_kernel(request: pytest.FixtureRequest) -> Kernel:
    line: KernelLine = request.param
    return first_there(line, lambda release: acquire(release, cache=default_cache(), progress=SilentProgress()))


@pytest.fixture
def line_cli(line_kernel: Kernel, no_keys: Path) -> BuildCli:
    return BuildCli(line_kernel.release, no_keys, seconds=3600)


def test_the_symbol_table_names_the_entry_code(line_kernel: Kernel) -> None:
    symbols = {symbol.name for symbol in kernel_symbols(line_kernel)}
    assert {"_text", "entry_SYSCALL_64", "do_sys_openat2", "linux_banner"} <= symbols


def test_units_of_other_directories_are_made_under_the_name_they_have_there(line_kernel: Kernel) -> None:
    assert kbuild_map(line_kernel).target("virt/kvm/eventfd.o") == "arch/x86/kvm/../../../virt/kvm/eventfd.o"
    assert kbuild_map(line_kernel).target("kernel/fork.o") == "kernel/fork.o"


def test_a_sample_of_its_units_is_what_is_shipped(line_cli: BuildCli) -> None:
    done = line_cli.verb("match", "--all", "--sample", str(SAMPLE), "--json", "--kernel", line_cli.release)
    value = done.value
    assert not value["failed"]
    assert set(value["causes"]) <= {"overridden", "not_linked", "discarded", "ambiguous"}, value["exceptions"]
    assert value["functions"]["identical"] > 0.99 * value["functions"]["shipped"] > 0


def test_commands_that_were_kept_link_what_kbuild_links(
    line_cli: BuildCli, line_kernel: Kernel, tmp_path: Path
) -> None:
    patch = tmp_path / "fix.patch"
    patch.write_text(patch_text(line_kernel.source, fixes.CMDLINE))
    (line_kernel.cache_dir / KEPT).unlink(missing_ok=True)
    modules, by_kbuild = [], []
    for name in ("one", "two"):
        done = line_cli.run(tmp_path / name, patch)
        assert done.code == 0, done.stderr
        modules.append(Path(done.value["module"]).read_bytes())
        by_kbuild.append((done.out / "7-module/kbuild/.modules.order.cmd").exists())
    assert by_kbuild == [True, False]
    assert modules[0] == modules[1]


@pytest.mark.vm
def test_fixes_of_the_image_and_of_a_module_are_proven(line_cli: BuildCli, line_kernel: Kernel, tmp_path: Path) -> None:
    patch = tmp_path / "fix.patch"
    source = line_kernel.source
    patch.write_text(patch_text(source, fixes.CMDLINE, fixes.HYBLA, fixes.library(source)))
    done = line_cli.run(tmp_path / "out", patch)
    assert done.code == 0, done.stderr
    first, caller, last = done.fix["functions"]
    assert (first, last) == ("vmlinux:cmdline_proc_show", "tcp_hybla:hybla_init")
    assert caller.startswith("vmlinux:write_irq_affinity.")  # of a library function without an fentry call
    proof = line_cli.verb("prove", str(done.out), "--json")
    assert proof.code == 0, proof.stderr
    assert proof.value["outcome"] == "proven"
