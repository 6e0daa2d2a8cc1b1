# SPDX-License-Identifier: GPL-2.0-or-later
"""needs-review: macros that get another value."""

import pytest

from kmend_builder.guard.macros import hints
from kmend_builder.guard.review import review
from support.units import make_unit


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("#define SIZE 16\n", "#define SIZE 32\n", "goes from 16 to 32; old values may be stored"),
        (
            "#define FLAG BIT(3)\n",
            "#define FLAG BIT(4)\n",
            "goes from BIT ( 3 ) to BIT ( 4 ); old values may be stored",
        ),
        ("#define ALL (A | B)\n", "#define ALL (A | B | C)\n", "goes from ( A | B ) to ( A | B | C ); old values"),
    ],
)
def test_another_value(before: str, after: str, why: str) -> None:
    ((_, found),) = hints(before, after)
    assert found.startswith(why)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("#define SIZE 16\n", "#define SIZE 16 /* bytes */\n"),
        ("#define SIZE 16\n", "#define SIZE 16\n#define MORE 5\n"),
        ("#define add(x) ((x) + 1)\n", "#define add(x) ((x) + 2)\n"),
        ("#define SIZE 16\n", "#undef SIZE\n"),
        (
            "#if A\n#define SIZE 1\n#else\n#define SIZE 2\n#endif\n",
            "#if B\n#define SIZE 2\n#else\n#define SIZE 1\n#endif\n",
        ),
    ],
    ids=["comment", "new", "code", "gone", "conditions"],
)
def test_no_other_value(before: str, after: str) -> None:
    assert list(hints(before, after)) == []


def test_every_changed_file_is_read() -> None:
    unit = make_unit("int f(int a) { return a; }", "int f(int a) { return a + 1; }")
    texts = {"include/linux/unit.h": ("#define SIZE 16\n", "#define SIZE 32\n")}
    (hint,) = review([unit], bool, texts)
    assert (hint.kind, hint.place) == ("constant", "include/linux/unit.h: SIZE")
    assert review([unit], bool, {"include/linux/unit.h": ("#define SIZE 16\n", "#define SIZE 16\n\n")}) == []
