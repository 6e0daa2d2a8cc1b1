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


@pytest.mark.parametrize(
    "name", ["__key.5", "__func__.0", "_rs.2", "__UNIQUE_ID_ddebug9", "__already_done.77", "C.0.1"]
)
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
    assert names.exit_section(".exit.text")
    assert not names.exit_section(".text.exit_mm")
    assert names.metadata_section("___ksymtab_gpl+f")
    assert names.metadata_section(".modinfo")
    assert not names.metadata_section(".data.modinfo")
