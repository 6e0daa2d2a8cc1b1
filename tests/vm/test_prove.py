# SPDX-License-Identifier: GPL-2.0-or-later
"""Proofs of live patches written by hand, good and bad, on the real kernel: every refusal has its passing twin."""

import argparse
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmend.manifest import ObjectId
from kmend_builder.cli import prove as command
from kmend_builder.cli.options import default_cache
from kmend_builder.errors import Refused
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.modules import module_files, module_identity
from kmend_builder.progress import SilentProgress
from kmend_builder.prove.base import GuestBase
from kmend_builder.prove.behaviour import TestSet, read_tests
from kmend_builder.prove.proof import Level, ObjectEvidence, Order, Proof
from kmend_builder.prove.prove import prove_many
from kmend_builder.prove.subject import VMLINUX, Subject
from vm.conftest import ModuleBuilder

QUIET = SilentProgress()
STALL_SECONDS = 4.0
SHOW = ("cmdline_proc_show", "struct seq_file *m, void *v")
TEMPLATE = """
#include <linux/module.h>
#include <linux/livepatch.h>
#include <linux/seq_file.h>
#include <linux/netdevice.h>
{functions}
{tables}
static struct klp_object objects[] = {{ {objects} {{ }} }};
static struct klp_patch patch = {{ .mod = THIS_MODULE, .objs = objects, .replace = true }};
static int __init start(void) {{ return klp_enable_patch(&patch); }}
static void __exit stop(void) {{ }}
module_init(start);
module_exit(stop);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
"""
COMMAND_LINE_TEST = """#!/bin/sh
# kmend-fix: the-fix
# kmend-object: vmlinux
# kmend-before: console=*
# kmend-after: live patched
cat /proc/cmdline
"""
DUMMY_TEST = """#!/bin/sh
# kmend-fix: the-module-fix
# kmend-object: dummy
# kmend-before: *:*
# kmend-after: refused
modprobe dummy numdummies=0
ip link add test0 address 02:00:00:00:00:01 type dummy 2>/dev/null || { echo refused; exit; }
cat /sys/class/net/test0/address
ip link del test0
"""


@dataclasses.dataclass(frozen=True)
class Patched:
    """One function to redirect, and the C text of its replacement."""

    owner: str
    name: str
    parameters: str
    body: str


GOOD = Patched(VMLINUX, *SHOW, 'seq_puts(m, "live patched\\n"); return 0;')
WARNS = Patched(VMLINUX, *SHOW, 'WARN_ON_ONCE(1); seq_puts(m, "live patched\\n"); return 0;')
PANICS = Patched(VMLINUX, *SHOW, 'panic("on purpose"); return 0;')
WRONG = Patched(VMLINUX, *SHOW, 'seq_puts(m, "console=unchanged\\n"); return 0;')
MISSING = Patched(VMLINUX, "no_such_function_at_all", "void", "return 0;")
NEVER_LEFT = Patched(VMLINUX, "kthreadd", "void *unused", "return 0;")
IN_DUMMY = Patched("dummy", "dummy_validate", "void *tb, void *data, void *extack", "return -EINVAL;")
IN_KVM = Patched("kvm_intel", "handle_ept_violation", "void *vcpu", "return 0;")

SERIES = {
    "kt_good": [GOOD],
    "kt_warns": [WARNS],
    "kt_modules": [GOOD, IN_DUMMY, IN_KVM],
    "kt_panics": [PANICS],
    "kt_missing": [MISSING],
    "kt_stalls": [NEVER_LEFT],
    "kt_wrong": [WRONG],
    "kt_last": [GOOD],
}


def source(patched: list[Patched]) -> str:
    """The C source of a live patch module."""
    functions, tables, objects = "", "", ""
    for number, item in enumerate(patched):
        functions += f"static int new_{number}({item.parameters}) {{ {item.body} }}\n"
        entry = f'{{ .old_name = "{item.name}", .new_func = new_{number} }}'
        tables += f"static struct klp_func table_{number}[] = {{ {entry}, {{ }} }};\n"
        name = "NULL" if item.owner == VMLINUX else f'"{item.owner}"'
        objects += f"{{ .name = {name}, .funcs = table_{number} }},"
    return TEMPLATE.format(functions=functions, tables=tables, objects=objects)


@pytest.fixture(scope="module")
def subjects(kernel: Kernel, build_module: ModuleBuilder) -> dict[str, Subject]:
    files = module_files(kernel)
    made = {}
    for name, patched in SERIES.items():
        modules = {item.owner for item in patched} - {VMLINUX}
        made[name] = Subject(
            name=name,
            file=build_module(name, source(patched)),
            release=kernel.release,
            build_id=kernel.build_id,
            objects=tuple(ObjectId(module, *module_identity(files[module])) for module in sorted(modules)),
            functions=tuple((item.owner, item.name) for item in patched),
            fixes=frozenset({"the-fix", "the-module-fix"} if modules else {"the-fix"}),
        )
    return made


@pytest.fixture(scope="module")
def tests(tmp_path_factory: pytest.TempPathFactory) -> TestSet:
    directory = tmp_path_factory.mktemp("tests")
    (directory / "command-line.sh").write_text(COMMAND_LINE_TEST)
    (directory / "dummy.sh").write_text(DUMMY_TEST)
    return read_tests([directory])


@pytest.fixture(scope="module")
def proofs(subjects: dict[str, Subject], tests: TestSet, minimal_base: GuestBase) -> Iterator[dict[str, Proof]]:
    done = prove_many(list(subjects.values()), minimal_base, QUIET, tests, transition_seconds=STALL_SECONDS)
    yield {proof.module: proof for proof in done}


def failed_steps(proof: Proof) -> list[str]:
    assert not proof.proven
    return [failure.step for failure in proof.failures]


def evidence(proof: Proof, name: str) -> ObjectEvidence:
    [found] = [item for item in proof.objects if item.name == name]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kt_good", "kt_last"])
def test_a_good_patch_is_proven_by_behaviour(proofs: dict[str, Proof], name: str) -> None:
    proof = proofs[name]
    assert proof.failures == [] and proof.proven
    assert evidence(proof, VMLINUX).level is Level.BEHAVIOUR
    [test] = proof.tests
    assert test.before.startswith("console=") and test.after == "live patched" and test.reverted == test.before
    assert {"apply", "revert", "re-apply", "second revert"} <= set(proof.steps)


@pytest.mark.slow
def test_modules_are_proven_in_both_orders(proofs: dict[str, Proof]) -> None:
    proof = proofs["kt_modules"]
    assert proof.failures == [] and proof.proven
    dummy, kvm = evidence(proof, "dummy"), evidence(proof, "kvm_intel")
    assert dummy.level is Level.BEHAVIOUR
    assert dummy.orders == {Order.BEFORE.value: "patched", Order.AFTER.value: "patched"}
    [late] = [test for test in proof.tests if test.objects == ["dummy"]]
    assert (late.after, late.late) == ("refused", "refused") and late.before == late.reverted != "refused"
    assert kvm.level is Level.RELOCATED
    assert kvm.orders[Order.BEFORE.value] == kvm.orders[Order.AFTER.value] == "refused: Operation not supported"


@pytest.mark.slow
def test_a_warning_in_the_log_fails(proofs: dict[str, Proof]) -> None:
    proof = proofs["kt_warns"]
    assert failed_steps(proof) == ["log: apply and revert"] * 2
    assert "WARNING: " in proof.failures[0].what and "new_0" in proof.failures[0].excerpt
    assert "'W'" in proof.failures[1].what


@pytest.mark.slow
def test_a_panic_fails_with_the_console(proofs: dict[str, Proof]) -> None:
    proof = proofs["kt_panics"]
    assert failed_steps(proof) == ["guest"]
    assert "Kernel panic - not syncing: on purpose" in proof.failures[0].excerpt


@pytest.mark.slow
def test_a_function_that_is_not_there_fails(proofs: dict[str, Proof]) -> None:
    proof = proofs["kt_missing"]
    assert failed_steps(proof) == ["log: apply and revert", "load"]
    assert proof.failures[0].what == "livepatch: symbol 'no_such_function_at_all' not found in symbol table"


@pytest.mark.slow
def test_a_stalled_transition_names_the_blocker(proofs: dict[str, Proof]) -> None:
    proof = proofs["kt_stalls"]
    assert failed_steps(proof) == ["apply"]
    assert "stalled" in proof.failures[0].what
    assert proof.failures[0].excerpt.startswith("kthreadd (pid 2)")


@pytest.mark.slow
def test_a_patch_without_effect_fails_its_test(proofs: dict[str, Proof]) -> None:
    proof = proofs["kt_wrong"]
    assert failed_steps(proof) == ["test"]
    assert "under the patch: expected 'live patched', got 'console=unchanged'" in proof.failures[0].what


def test_another_build_of_the_kernel_is_refused(
    subjects: dict[str, Subject], minimal_base: GuestBase, kernel: Kernel
) -> None:
    other = dataclasses.replace(subjects["kt_good"], build_id="00" * 20)
    [proof] = prove_many([other], minimal_base, QUIET)
    assert failed_steps(proof) == ["kernel"]
    assert kernel.build_id in proof.failures[0].what


def test_another_build_of_a_module_is_refused(subjects: dict[str, Subject], minimal_base: GuestBase) -> None:
    good = subjects["kt_modules"]
    wrong = tuple(dataclasses.replace(item, build_id="00" * 20) for item in good.objects)
    [proof] = prove_many([dataclasses.replace(good, objects=wrong)], minimal_base, QUIET)
    assert failed_steps(proof) == ["module"]


def work_directory(out: Path, kernel: Kernel, subject: Subject) -> Path:
    """What a run leaves after stage 7."""
    (out / "1-kernel").mkdir(parents=True)
    (out / "1-kernel/kernel.json").write_text(kernel.to_json())
    (out / "7-module").mkdir()
    shutil.copy(subject.file, out / "7-module")
    value = {
        "module": subject.name,
        "file": subject.file.name,
        "release": subject.release,
        "build_id": subject.build_id,
        "objects": [dataclasses.asdict(item) for item in subject.objects],
        "functions": [{"object": owner, "name": name} for owner, name in subject.functions],
        "pinned": False,
    }
    (out / "7-module/module.json").write_text(json.dumps(value))
    return out


def run_command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    return command.run(parser.parse_args(["prove", "--cache", str(default_cache()), "--quiet", *arguments]))


def test_the_command_proves_a_run(
    tmp_path: Path, kernel: Kernel, subjects: dict[str, Subject], capsys: pytest.CaptureFixture[str]
) -> None:
    out = work_directory(tmp_path / "run", kernel, subjects["kt_good"])
    assert run_command("--json", str(out)) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "8-prove/proof.json").read_text())
    assert printed["outcome"] == "proven" and (out / "8-prove/.complete").is_file()


def test_the_command_refuses_a_run(
    tmp_path: Path, kernel: Kernel, subjects: dict[str, Subject], capsys: pytest.CaptureFixture[str]
) -> None:
    out = work_directory(tmp_path / "run", kernel, subjects["kt_missing"])
    with pytest.raises(Refused, match="refused, proof-failed: kt_missing") as caught:
        run_command(str(out))
    assert caught.value.exit_code == 3 and "no_such_function_at_all" in caught.value.why
    assert json.loads((out / "8-prove/proof.json").read_text())["outcome"] == "failed"
    assert not (out / "8-prove/.complete").exists()
    assert "failed" in capsys.readouterr().out
