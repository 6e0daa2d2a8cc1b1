# SPDX-License-Identifier: GPL-2.0-or-later
"""What a set of Kbuild directories comes to."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from kmend_builder.errors import BuildError
from kmend_builder.kernel import kbuild
from kmend_builder.kernel.kbuild import KbuildMap, collect
from kmend_builder.kernel.kbuild_eval import Directory, parse

TREE = {
    ".": "@y|init.o|\n@dir-y||kernel/ drivers/ lib/ rust/\n@dir-m||net/\n@subdir||scripts",
    "kernel": "@y|fork.o|\n@y|sched.o|core.o ../mm/common.o\n@m|test-mod.o|\n",
    "drivers": "noise of a Makefile\n@m|foo.o|foo-main.o sub/foo_io.o\n@m|bar.o|bar_main.o foo_shared.o\n",
    "lib": "@y|sort.o|\n@lib|string.o|\n@m|baz.o|../drivers/foo_shared.o\n",
    "net": "@y|forgotten.o|\n@m|net.o|\n@dir-y||core/",
    "net/core": "@y|also_forgotten.o|\n@m|dev.o|",
    "scripts": "@loose|host.o|",
    "arch/x86/entry/vdso": "@y|vma.o|\n@loose|vclock.o|\n@loose|vma.o|",
    "drivers/firmware/efi/libstub": "@lib|mem.stub.o|",
}


def evaluate(tree: Mapping[str, str]) -> KbuildMap:
    def directory(path: str) -> Directory:
        return parse(path, tree[path])

    return collect(directory, lambda path: path in tree)


def test_owners() -> None:
    result = evaluate(TREE)
    assert {path: owner for path, owner in result.objects.items() if path not in result.embedded} == {
        "init.o": "vmlinux",
        "kernel/fork.o": "vmlinux",
        "kernel/core.o": "vmlinux",
        "mm/common.o": "vmlinux",
        "kernel/test-mod.o": "test_mod",
        "drivers/foo-main.o": "foo",
        "drivers/sub/foo_io.o": "foo",
        "drivers/bar_main.o": "bar",
        "drivers/foo_shared.o": "bar",
        "lib/sort.o": "vmlinux",
        "lib/string.o": "vmlinux",
        "net/net.o": "net",
        "net/core/dev.o": "dev",
    }
    assert result.shared == {"drivers/foo_shared.o": ("bar", "baz")}
    assert result.modules == {"test_mod", "foo", "bar", "baz", "net", "dev"}


def test_objects_of_another_directory_keep_the_name_that_directory_makes_them_by() -> None:
    result = evaluate(TREE)
    assert result.outside == {"mm/common.o": "kernel/../mm/common.o"}
    assert result.target("mm/common.o") == "kernel/../mm/common.o"
    # drivers lists this one itself, lib as well
    assert result.target("drivers/foo_shared.o") == "drivers/foo_shared.o"
    assert result.target("kernel/fork.o") == "kernel/fork.o"


def test_built_in_objects_below_a_modular_directory_are_not_linked() -> None:
    assert evaluate(TREE).owner("net/forgotten.o") is None
    assert evaluate(TREE).owner("net/core/also_forgotten.o") is None
    builtin = TREE | {".": "@dir-y||net/"}
    assert evaluate(builtin).owner("net/forgotten.o") == "vmlinux"
    assert evaluate(builtin).owner("net/core/also_forgotten.o") == "vmlinux"


def test_a_directory_reached_both_ways_is_built_in() -> None:
    both = TREE | {".": "@dir-m||net/\n@dir-y||kernel/", "kernel": "@dir-y||../net/"}
    assert evaluate(both).owner("net/forgotten.o") == "vmlinux"


def test_embedded_programs_are_known_for_what_they_are() -> None:
    result = evaluate(TREE)
    assert result.embedded == {
        "arch/x86/entry/vdso/vclock.o": "vdso",
        "arch/x86/entry/vdso/vma.o": "vdso",
        "drivers/firmware/efi/libstub/mem.o": "boot",
        "drivers/firmware/efi/libstub/mem.stub.o": "boot",
    }
    linked = TREE | {".": "@dir-y||arch/x86/entry/vdso/"}
    assert evaluate(linked).embedded["arch/x86/entry/vdso/vclock.o"] == "vdso"
    assert "arch/x86/entry/vdso/vma.o" not in evaluate(linked).embedded


def test_the_object_of_a_source() -> None:
    result = evaluate(TREE)
    assert result.object_of("kernel/fork.c") == "kernel/fork.o"
    assert result.object_of("kernel/core.S") == "kernel/core.o"
    assert result.object_of("kernel/absent.c") is None
    assert result.object_of("kernel/fork.h") is None


def test_modules_must_be_those_that_are_shipped() -> None:
    kbuild._must_be_shipped(frozenset({"a", "b"}), {"a": Path("a.ko"), "b": Path("b.ko")})
    with pytest.raises(BuildError, match="2 against 2, e.g. b, c"):
        kbuild._must_be_shipped(frozenset({"a", "b"}), {"a": Path("a.ko"), "c": Path("c.ko")})


def test_what_is_kept_is_what_was_found(tmp_path: Path) -> None:
    result = evaluate(TREE)
    (tmp_path / "kbuild.json").write_bytes(kbuild._dump(result))
    assert kbuild._load(tmp_path / "kbuild.json") == result
    for damage in (b"", b"{}", b'{"schema": 0}', b"[]"):
        (tmp_path / "kbuild.json").write_bytes(damage)
        assert kbuild._load(tmp_path / "kbuild.json") is None
