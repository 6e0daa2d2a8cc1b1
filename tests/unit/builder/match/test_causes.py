# SPDX-License-Identifier: GPL-2.0-or-later
"""The classes of functions that were not found."""

import pytest

from kmend_builder.elf.normalise import layout
from kmend_builder.match.causes import Cause, classify, unlisted
from kmend_builder.match.match import match_object
from kmend_builder.match.space import Space
from support.cc import compile_c
from support.image import kernel_image

SOURCE = """
extern int outside(int, const char *);
int f(int a) { return outside(a, "text"); }
__attribute__((weak)) int hook(int a) { return a + 2; }
int g(int a) { return a * 9; }
"""
STRONG = "int hook(int a) { return a * 5; }"


def _causes(source: str, space: Space, weak: frozenset[str] = frozenset()) -> dict[str, Cause]:
    return {atom.name: cause for atom, cause in classify(match_object(layout(compile_c(source)), space), weak).items()}


def test_everything_found_has_no_class() -> None:
    assert _causes(SOURCE, kernel_image(SOURCE).space(), frozenset({"hook"})) == {}


def test_a_weak_function_is_overridden_only_where_the_shipped_one_is_strong() -> None:
    space = kernel_image(SOURCE, STRONG).space()
    assert _causes(SOURCE, space) == {"hook": Cause.OVERRIDDEN}
    assert _causes(SOURCE, space, frozenset({"hook"})) == {"hook": Cause.CODE}


def test_a_strong_function_is_never_overridden() -> None:
    shipped = kernel_image(SOURCE.replace("a * 9", "a * 7")).space()
    assert _causes(SOURCE, shipped, frozenset({"hook"})) == {"g": Cause.CODE}


def test_other_constants_are_told_from_other_code() -> None:
    shipped = kernel_image(SOURCE.replace("text", "next")).space()
    assert _causes(SOURCE, shipped, frozenset({"hook"})) == {"f": Cause.CONSTANT}


def test_a_function_without_a_symbol() -> None:
    more = (
        SOURCE
        + """
    section(".exit.text") int leave(int a) { return a - 3; }
    int __pi_early(int a) { return a - 4; }
    int fresh(int a) { return a - 5; }
    """
    )
    expected = {"leave": Cause.DISCARDED, "__pi_early": Cause.UNLISTED, "fresh": Cause.ABSENT}
    assert _causes(more, kernel_image(SOURCE).space(), frozenset({"hook"})) == expected


def test_an_object_of_which_nothing_is_there_was_not_linked() -> None:
    other = "int member(int a) { return a; } int second(int a) { return a + 1; }"
    space = kernel_image(SOURCE).space()
    assert _causes(other, space) == {"member": Cause.NOT_LINKED, "second": Cause.NOT_LINKED}
    partly = other + "int g(int a) { return a * 9; }"
    assert _causes(partly, space) == {"member": Cause.ABSENT, "second": Cause.ABSENT}


def test_equal_copies_are_ambiguous() -> None:
    twin = "static noinline int twin(int a) { return a * 3 + 1; } int (*hook{0})(int) = twin;"
    one, two = twin.replace("{0}", "1"), twin.replace("{0}", "2")
    assert _causes(one, kernel_image(one, two).space()) == {"twin": Cause.AMBIGUOUS}


@pytest.mark.parametrize(
    ("cause", "shipped"),
    [
        (Cause.OVERRIDDEN, False),
        (Cause.NOT_LINKED, False),
        (Cause.DISCARDED, False),
        (Cause.UNLISTED, True),
        (Cause.ABSENT, True),
        (Cause.AMBIGUOUS, True),
        (Cause.CONSTANT, True),
        (Cause.CODE, True),
    ],
)
def test_which_classes_count_against_the_builder(cause: Cause, shipped: bool) -> None:
    assert cause.not_shipped is not shipped


def test_names_kallsyms_leaves_out() -> None:
    assert unlisted("__pi_memcpy")
    assert not unlisted("memcpy")
