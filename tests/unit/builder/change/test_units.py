# SPDX-License-Identifier: GPL-2.0-or-later
"""Which units a change affects, in a tree of a few files."""

from collections.abc import Iterable

import pytest

from kmend.reasons import Reason
from kmend_builder.change.headers import Search, words_in
from kmend_builder.change.units import ORIG, Units, affected_units
from kmend_builder.errors import BuildError, Refused

ORIGINAL = {
    "include/h.h": "#define SIZE 1\n#define OTHER 2\n",
    "include/mid.h": "#define DOUBLE (SIZE * 2)\n",
    "net/user.c": "int a = SIZE;\n",
    "net/through.c": "int b = DOUBLE;\n",
    "net/not.c": "int c = OTHER;\n",
    "net/parts.c": '#include "part.c"\n',
    "net/part.c": "int d = SIZE;\n",
    "net/entry.S": "nop\n",
    "net/macro.S": "\tmov $SIZE, %eax\n",
    "net/paste.c": "#define GET(x) get_##x(1)\nint e = GET(box);\n",
    "net/lost.c": '#include "made-by-the-build.c"\n',
    "include/get.h": "static inline int get_box(int a) { return a; }\n",
    "arch/x86/kernel/asm-offsets.c": "DEFINE(SIZE_asm, SIZE);\n",
    "include/box.h": "struct box { int a; };\n",
    "include/trace/box.h": "TRACE_EVENT(opened, TP_PROTO(struct box *b), TP_ARGS(b), TP_fast_assign(b->a));\n",
    "net/creates.c": "#define CREATE_TRACE_POINTS\n",
    "net/creates-others.c": "#define CREATE_TRACE_POINTS\n",
    "net/traces.c": "int f(void) { trace_opened(0); }\n",
    "kernel/bounds.c": "DEFINE(NR, nothing_of_these);\n",
    "net/off.c": "int off;\n",
}
BUILT = {"net/user.o": "vmlinux", "net/through.o": "mod", "net/not.o": "vmlinux", "net/parts.o": "mod"}
BUILT |= {"net/entry.o": "vmlinux", "net/macro.o": "vmlinux", "net/paste.o": "mod", "net/lost.o": "mod"}
BUILT |= {"net/creates.o": "mod", "net/creates-others.o": "mod", "net/traces.o": "mod"}
SEES = {
    "include/box.h": {"net/creates.c", "net/creates-others.c", "net/traces.c", "net/not.c"},
    "include/trace/box.h": {"net/creates.c", "net/traces.c"},
    "include/h.h": {"net/user.c", "net/through.c", "net/not.c", "net/parts.c", "net/macro.S"},
    "include/get.h": {"net/paste.c", "net/not.c", "net/lost.c"},
    "net/part.c": {"net/parts.c"},
    "include/new.h": {"net/not.c"},
}


WORDS = {rel: {word.decode() for word in words_in(text.encode())} for rel, text in ORIGINAL.items()}


def files(words: Iterable[str]) -> set[str]:
    return {rel for rel, found in WORDS.items() if not found.isdisjoint(words)}


def headers(words: Iterable[str]) -> list[tuple[str, str]]:
    return [(rel, ORIGINAL[rel]) for rel in sorted(files(words)) if rel.endswith(".h")]


SEARCH = Search(files, lambda words: {word for word in words if files([word])}, headers)


def units(changed: dict[str, str | None], search: Search | None = SEARCH) -> Units:
    patched: dict[str, str | None] = {**ORIGINAL, **changed}
    return affected_units(
        changed,
        owner=BUILT.get,
        includers=lambda rel: set(SEES.get(rel, ())),
        read=lambda side, rel: ORIGINAL.get(rel) if side == ORIG else patched.get(rel),
        search=search,
        builds=lambda directory: any(path.startswith(f"{directory}/" if directory else "") for path in BUILT),
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
    assert set(found.objects) == {"net/user.o", "net/through.o", "net/parts.o", "net/macro.o"}
    assert found.constants == ("arch/x86/kernel/asm-offsets.c",)
    assert "uses what it changes" in found.reasons["net/through.o"]
    other = units({"include/h.h": "#define SIZE 1\n#define OTHER 3\n"})
    assert (set(other.objects), other.constants) == ({"net/not.o"}, ())


def test_a_header_in_doubt_goes_to_all() -> None:
    everyone = {"net/user.o", "net/through.o", "net/parts.o", "net/not.o", "net/macro.o"}
    assert set(units({"include/h.h": "#include <x.h>\n" + ORIGINAL["include/h.h"]}).objects) == everyone
    assert set(units({"include/h.h": "#define SIZE 9\n#define OTHER 2\n"}, search=None).objects) == everyone
    assert set(units({"include/h.h": None}).objects) == everyone


def test_a_source_that_pastes_a_name_and_one_with_a_part_that_is_not_there() -> None:
    assert set(units({"include/get.h": "static inline int get_box(int a) { return 2; }\n"}).objects) == {
        "net/paste.o",
        "net/lost.o",
    }


def test_trace_events_have_their_code_where_they_are_created() -> None:
    found = units({"include/box.h": "struct box { long a; };\n"})
    assert set(found.objects) == {"net/creates.o"}
    event = ORIGINAL["include/trace/box.h"]
    assert set(units({"include/trace/box.h": event.replace("b->a", "b->a + 1")}).objects) == {
        "net/creates.o",
        "net/traces.o",
    }
    assert set(units({"include/trace/box.h": event + "int unrelated(void);\n"}).objects) == set()


def test_assembly_uses_macros_only() -> None:
    assert "net/macro.o" in units({"include/h.h": "#define SIZE 9\n#define OTHER 2\n"}).objects
    assert units({"include/h.h": ORIGINAL["include/h.h"] + "int SIZE_of(void);\n"}).objects == {}


def test_a_new_name_that_the_patch_itself_uses() -> None:
    added = ORIGINAL["include/h.h"] + "static inline int fresh(void) { return 1; }\n"
    found = units({"include/h.h": added, "net/user.c": "int a = fresh();\n"})
    assert (set(found.objects), found.notes) == ({"net/user.o"}, {})


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


def test_a_change_of_the_build_beside_code_is_refused() -> None:
    code = {"net/user.c": "int a;\n"}
    with pytest.raises(Refused) as refused:
        units({"net/Makefile": "obj-y += new.o\n", **code})
    assert refused.value.reason is Reason.CONFLICT
    beside = units({"elsewhere/Makefile": "obj-y += new.o\n", **code})
    assert (set(beside.objects), beside.absent) == ({"net/user.o"}, ("elsewhere/Makefile",))


def test_a_deleted_source_that_is_built() -> None:
    assert units({"net/off.c": None}).absent == ("net/off.c",)
    with pytest.raises(Refused) as refused:
        units({"net/user.c": None})
    assert (refused.value.reason, refused.value.place) == (Reason.CONFLICT, "net/user.c")


def test_a_source_of_a_tool_that_the_kernel_borrows() -> None:
    changed = {"tools/lib/bpf/relo_core.c": "int a;\n"}

    def judge(built: dict[str, str]) -> Units:
        return affected_units(changed, owner=built.get, includers=lambda _: set(), read=lambda *_: "int b;\n")

    with pytest.raises(BuildError, match="relo_core"):
        judge({"kernel/bpf/relo_core.o": "vmlinux"})
    assert judge({}).absent == ("tools/lib/bpf/relo_core.c",)
