# SPDX-License-Identifier: GPL-2.0-or-later
"""What a header change alters, and who is built on it."""

from collections.abc import Iterable

import pytest

from kmend_builder.change.citems import items
from kmend_builder.change.names import Headers, changed_names, changes_macros, closure, pastes

HEADER = """\
#ifndef _H
#define _H
#define LIMIT 10
/* words */
struct box { int a; struct { int b; } inner; };
enum color { RED, GREEN = 3 };
typedef int (*handler_t)(struct box *);
typedef struct box box_t;
extern struct box boxes[LIMIT];
extern int (*hook)(int);
int __must_check plain(struct box *box) __acquires(lock);
static inline int size(const struct box *box)
{
	return box->a;
}
DECLARE_THING(thing);
static_assert(sizeof(int) == 4);
#endif
"""


def headers_of(*texts: str) -> Headers:
    def search(words: Iterable[str]) -> list[tuple[str, str]]:
        plain = [word.removeprefix("##") for word in words]
        return [(f"{n}.h", text) for n, text in enumerate(texts) if any(word in text for word in plain)]

    return search


def test_names_of_items() -> None:
    assert [item.names and sorted(item.names) for item in items(HEADER)] == [
        ["_H"],
        ["LIMIT"],
        ["box"],
        ["GREEN", "RED", "color"],
        ["handler_t"],
        ["box_t"],
        ["boxes"],
        ["hook"],
        ["plain"],
        ["size"],
        None,
        frozenset(),
    ]


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("/* words */", "/* other words */\n\n", set()),
        ("LIMIT 10", "LIMIT   10 /* ten */", set()),
        ("LIMIT 10", "LIMIT 11", {"LIMIT"}),
        ("int b;", "long b;", {"box"}),
        ("GREEN = 3", "BLUE", {"color", "RED", "GREEN", "BLUE"}),
        ("return box->a", "return box->a + 1", {"size"}),
        ("extern int (*hook)(int);", "", {"hook"}),
        ("boxes[LIMIT]", "boxes[4]", {"boxes"}),
        ("#define LIMIT 10", "#define LIMIT 10\n#define MORE 1", {"MORE"}),
        ("DECLARE_THING(thing);", "DECLARE_THING(thing2);", None),
        ("#define LIMIT 10", "#include <x.h>\n#define LIMIT 10", None),
        ("#define LIMIT 10\n", "#ifdef X\n#define LIMIT 10\n#endif\n", {"LIMIT"}),
    ],
)
def test_changed_names(old: str, new: str, names: set[str] | None) -> None:
    assert old in HEADER
    assert changed_names(HEADER, HEADER.replace(old, new)) == names


def test_another_order_is_not_known_to_be_harmless() -> None:
    assert changed_names("#define A B\n#define B 1\n", "#define B 1\n#define A B\n") is None


def test_closure_follows_macros_types_and_functions() -> None:
    first = "#define USER size(x)\nint other(struct box *box);\nstatic inline int more(void) { return USER; }\n"
    second = "struct outer { struct box *box; };\nstruct apart { int x; };\n"
    wanted = closure(frozenset({"size"}), headers_of(HEADER, first, second))
    assert wanted is not None
    assert wanted.names == {"size", "USER", "more"}
    wanted = closure(frozenset({"box"}), headers_of(second))
    assert wanted is not None
    assert wanted.names == {"box", "outer"}


def test_closure_follows_macros_that_declare() -> None:
    header = "DECLARE_PER_CPU(struct box, boxes);\nINDIRECT_CALLABLE_DECLARE(int open_box(struct box *));\n"
    header += "TRACE_EVENT(opened, TP_PROTO(struct box *b));\n"
    wanted = closure(frozenset({"box"}), headers_of(header))
    assert wanted is not None
    assert wanted.names == {"box", "boxes"}
    assert wanted.traced == {"0.h"}


def test_closure_gives_up_on_unknown_declarations() -> None:
    assert closure(frozenset({"LIMIT"}), headers_of("int a;\n")) is not None
    assert closure(frozenset({"LIMIT"}), headers_of("DECLARE_X(a, LIMIT);\n")) is None


def test_pasted_names() -> None:
    macros = "#define CALL(op) do_##op##_now(1)\n#define OUTER(x) CALL(x)\n"
    wanted = closure(frozenset({"do_work_now"}), headers_of(macros))
    assert wanted is not None
    assert wanted.used_by({"CALL", "work"})
    assert wanted.used_by({"OUTER", "work"})
    assert not wanted.used_by({"CALL", "play"})
    assert not wanted.used_by({"work"})
    assert pastes("#define MINE(x) x##_now\n", {"do_work_now"})
    assert not pastes("#define MINE(x) x##_later\n", {"do_work_now"})


def test_what_nobody_writes_is_no_argument() -> None:
    macros = "#define TAIL(x) x##_now\n#define FRONT(x) do_##x\n"
    wanted = closure(frozenset({"do_work_now"}), headers_of(macros), known=lambda words: {"work_now"} & set(words))
    assert wanted is not None
    assert wanted.pasters == {"FRONT": {"work_now"}}
    both = closure(frozenset({"do_work_now"}), headers_of(macros))
    assert both is not None
    assert both.pasters == {"FRONT": {"work_now"}, "TAIL": {"do_work"}}


def test_macros_that_paste_are_not_pasted_by_underscores_alone() -> None:
    paster = "#define CALL_ONE(op) do_##op##_now(1)\n"
    for other, pasting in (("#define ANY(x) __##x\n", False), ("#define SOME(x) CALL_##x(work)\n", True)):
        wanted = closure(frozenset({"do_work_now"}), headers_of(paster, other))
        assert wanted is not None
        assert ("SOME" in wanted.pasters) is pasting
        assert "ANY" not in wanted.pasters


@pytest.mark.parametrize(
    ("new", "macros"),
    [
        ("#define LIMIT 11\n", True),
        ("#define LIMIT 10\n#include <x.h>\n", True),
        ("#define LIMIT 10\nDECLARE_THING(thing);\n", True),
        ("#define LIMIT 10\nint function(void);\n", False),
        ("#define LIMIT 10\nstruct box { int a; };\n", False),
    ],
)
def test_what_assembly_can_see(new: str, macros: bool) -> None:
    assert changes_macros("#define LIMIT 10\n", new) is macros
    assert changes_macros(new, "#define LIMIT 10\n") is macros
