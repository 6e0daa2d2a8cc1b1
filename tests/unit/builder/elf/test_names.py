# SPDX-License-Identifier: GPL-2.0-or-later
"""What names of symbols and sections mean."""

import pytest

from kmend_builder.elf import names


@pytest.mark.parametrize(
    ("name", "plain", "numbered"),
    [
        ("count.12", "count", True),
        ("count", "count", False),
        ("__func__.3", "__func__", True),
        ("__UNIQUE_ID_ddebug123.4", "__UNIQUE_ID_ddebug", True),
        ("__UNIQUE_ID_license77", "__UNIQUE_ID_license", True),
        ("sha256", "sha256", False),
        ("foo.cold", "foo.cold", False),
        ("foo.isra.0", "foo.isra", True),
    ],
)
def test_numbers_the_compiler_appends(name: str, plain: str, numbered: bool) -> None:
    assert names.numbered(name) is numbered
    assert names.base(name) == plain


@pytest.mark.parametrize("name", ["__key.5", "__func__.0", "_rs.2", "__UNIQUE_ID_ddebug9", "__already_done.77"])
def test_statics_of_one_place(name: str) -> None:
    assert names.per_place(name) or names.per_place(names.base(name))


@pytest.mark.parametrize("name", ["count.5", "key", "keys.1", "__func", "rs.2", "Cx.1"])
def test_other_statics(name: str) -> None:
    assert not names.per_place(name)


@pytest.mark.parametrize(("name", "parent"), [("f.cold", "f"), ("f.cold.3", "f"), ("f.coldly", None), ("cold", None)])
def test_cold_parts(name: str, parent: str | None) -> None:
    assert names.cold_parent(name) == parent


def test_sections_by_life_time() -> None:
    assert names.init_section(".init.text")
    assert names.init_section(".initcall6.init")
    assert not names.init_section(".text.init_module")
    assert not names.init_section(".meminit.text")
    assert names.exit_section(".exit.text")
    assert not names.exit_section(".text.exit_mm")
    assert names.metadata_section("___ksymtab_gpl+f")
    assert names.metadata_section(".modinfo")
    assert not names.metadata_section(".data.modinfo")


def test_a_variable_of_the_whole_file_is_state_whatever_its_name() -> None:
    assert not any(names.per_place(name) for name in ("__key", "_rs", "__warned", "C", "C.1"))


def test_a_descriptor_is_of_one_place_in_its_section_only() -> None:
    assert names.per_place("descriptor.4", "__dyndbg")
    assert not names.per_place("descriptor.4", ".data.descriptor.4")


@pytest.mark.parametrize("name", ["f", "f.isra.0", "f.part.1.cold", "f.constprop.0.isra.2", "f.cold"])
def test_clones_and_parts_of_a_function(name: str) -> None:
    assert names.source_function(name) == "f"
