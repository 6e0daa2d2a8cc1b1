# SPDX-License-Identifier: GPL-2.0-or-later
"""Macros that declare, and who uses what they declare."""

import pytest

from kmend_builder.change.citems import items
from kmend_builder.change.declarers import traces


def names_of(text: str) -> frozenset[str] | None:
    (item,) = items(text)
    return item.names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("EXPORT_SYMBOL_GPL(f);", frozenset()),
        ("TRACE_DEFINE_ENUM(RED);", frozenset()),
        ("DECLARE_PER_CPU(struct box, boxes);", {"boxes"}),
        ("DECLARE_PER_CPU_READ_MOSTLY(int (*[3])(int, int), table);", {"table"}),
        ("DECLARE_STATIC_KEY_FALSE(key);", {"key"}),
        ("DECLARE_STATIC_KEY_MAYBE(CONFIG_X, key);", {"key"}),
        ("INDIRECT_CALLABLE_DECLARE(int mtu(const struct box *));", {"mtu"}),
    ],
)
def test_known_macros(text: str, names: frozenset[str]) -> None:
    assert names_of(text) == names


@pytest.mark.parametrize(
    "text",
    [
        "DECLARE_THING(key);",
        "DECLARE_STATIC_KEY_FALSE(key) DECLARE_STATIC_KEY_FALSE(other);",
        "DECLARE_STATIC_KEY_FALSE(a ## b);",
        "DECLARE_PER_CPU(int);",
        "DECLARE_PER_CPU(int, array[2]);",
        "INDIRECT_CALLABLE_DECLARE(OTHER(x));",
    ],
)
def test_what_is_not_known(text: str) -> None:
    assert names_of(text) is None


def test_events() -> None:
    body = 'TP_PROTO(struct box *b), TP_ARGS(b), TP_STRUCT__entry(), TP_fast_assign(), TP_printk("x"));'
    event, made = names_of(f"TRACE_EVENT(box_opened, {body}"), names_of("DEFINE_EVENT(box, box_shut, TP_ARGS(b));")
    assert event is not None
    assert {"trace_box_opened", "trace_box_opened_enabled", "register_trace_box_opened"} <= event
    assert "box_opened" not in event
    assert made is not None
    assert "trace_box_shut" in made
    assert "trace_box" not in made
    group = names_of(f"DECLARE_EVENT_CLASS(box, {body}")
    assert group is not None
    assert "box" in group  # DEFINE_EVENT() names it


def test_who_makes_code_of_its_own_for_events() -> None:
    assert traces(("TRACE_EVENT", "(", "x", ")", ";"))
    assert not traces(("DECLARE_PER_CPU", "(", "int", ",", "x", ")", ";"))
    assert not traces(())
