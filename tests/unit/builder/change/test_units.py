# SPDX-License-Identifier: GPL-2.0-or-later
"""Which units a change affects, in a tree of a few files."""

import pytest

from kmend_builder.change.names import Headers
from kmend_builder.change.units import ORIG, Units, affected_units
from kmend_builder.errors import BuildError

ORIGINAL = {
    "include/h.h": "#define SIZE 1\n#define OTHER 2\n",
    "include/mid.h": "#define DOUBLE (SIZE * 2)\n",
    "net/user.c": "int a = SIZE;\n",
    "net/through.c": "int b = DOUBLE;\n",
    "net/not.c": "int c = OTHER;\n",
    "net/parts.c": '#include "part.c"\n',
    "net/part.c": "int d = SIZE;\n",
    "net/entry.S": "nop\n",
    "net/off.c": "int off;\n",
}
BUILT = {"net/user.o": "vmlinux", "net/through.o": "mod", "net/not.o": "vmlinux", "net/parts.o": "mod"}
BUILT |= {"net/entry.o": "vmlinux"}
SEES = {
    "include/h.h": {"net/user.c", "net/through.c", "net/not.c", "net/parts.c"},
    "net/part.c": {"net/parts.c"},
    "include/new.h": {"net/not.c"},
}


def search(words: object) -> list[tuple[str, str]]:
    return [(rel, text) for rel, text in ORIGINAL.items() if rel.endswith(".h")]


def units(changed: dict[str, str | None], headers: Headers | None = search) -> Units:
    patched: dict[str, str | None] = {**ORIGINAL, **changed}
    return affected_units(
        changed,
        owner=BUILT.get,
        includers=lambda rel: set(SEES.get(rel, ())),
        read=lambda side, rel: ORIGINAL.get(rel) if side == ORIG else patched.get(rel),
        headers=headers,
    )


def test_a_source_is_its_own_object() -> None:
    found = units({"net/user.c": "int a;\n", "net/entry.S": "ret\n"})
    assert found.objects == {"net/user.o": "net/user.c", "net/entry.o": "net/entry.S"}
    assert found.reasons["net/user.o"] == "net/user.c changes"
    assert found.absent == ()


def test_a_source_included_by_another() -> None:
    found = units({"net/part.c": "int d;\n"})
    assert found.objects == {"net/parts.o": "net/parts.c"}
    assert found.reasons["net/parts.o"] == "includes net/part.c"


def test_a_header_goes_to_those_that_use_what_changes() -> None:
    found = units({"include/h.h": "#define SIZE 9\n#define OTHER 2\n"})
    assert set(found.objects) == {"net/user.o", "net/through.o", "net/parts.o"}
    assert "uses what it changes" in found.reasons["net/through.o"]
    assert set(units({"include/h.h": "#define SIZE 1\n#define OTHER 3\n"}).objects) == {"net/not.o"}


def test_a_header_in_doubt_goes_to_all() -> None:
    everyone = {"net/user.o", "net/through.o", "net/parts.o", "net/not.o"}
    assert set(units({"include/h.h": "#include <x.h>\n" + ORIGINAL["include/h.h"]}).objects) == everyone
    assert set(units({"include/h.h": "#define SIZE 9\n#define OTHER 2\n"}, headers=None).objects) == everyone
    assert set(units({"include/h.h": None}).objects) == everyone


def test_a_new_header_goes_to_all_that_see_it() -> None:
    assert set(units({"include/new.h": "#define SIZE 1\n"}).objects) == {"net/not.o"}


@pytest.mark.parametrize(
    ("path", "text", "note"),
    [
        ("include/h.h", "/* new words */\n" + ORIGINAL["include/h.h"], "only comments"),
        ("net/user.c", "int a  =\nSIZE; // a\n", "only comments"),
        ("include/h.h", ORIGINAL["include/h.h"] + "#define UNUSED 1\n", "no unit that sees it uses"),
        ("net/off.c", "int on;\n", "not built"),
        ("net/new.c", "int new;\n", "not built"),
        ("Documentation/x.rst", "words\n", "not compiled"),
        ("tools/testing/Makefile", "x\n", "not compiled"),
    ],
)
def test_changes_without_objects(path: str, text: str, note: str) -> None:
    found = units({path: text})
    assert found.objects == {}
    assert found.absent == (path,)
    assert note in found.notes[path]


@pytest.mark.parametrize("path", ["net/Kconfig", "Makefile", "net/Kbuild", "kernel/vmlinux.lds.S", "a/syscall_64.tbl"])
def test_build_files_are_not_supported(path: str) -> None:
    with pytest.raises(BuildError, match="not supported"):
        units({path: "x\n", "net/user.c": "int a;\n"})


def test_a_deleted_source_that_is_built() -> None:
    assert units({"net/off.c": None}).absent == ("net/off.c",)
    with pytest.raises(BuildError, match="deletes net/user.c"):
        units({"net/user.c": None})
