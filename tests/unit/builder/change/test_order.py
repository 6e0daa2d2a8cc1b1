# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of compiling."""

from kmend_builder.change.order import WHOLE, batches


def objects(*sources: str) -> dict[str, str]:
    return {source.replace(".c", ".o"): source for source in sources}


def test_few_units_are_one_batch() -> None:
    few = objects(*(f"net/{number:02}.c" for number in range(WHOLE)))
    assert batches(few, {"include/net/x.h"}) == [list(few)]
    assert batches({}, {"net/a.c"}) == []


def test_what_the_patch_changes_comes_first_and_neighbours_next() -> None:
    far = [f"drivers/{number:02}.c" for number in range(WHOLE)]
    near = ["net/ipv4/near.c", "net/core/sock.c"]
    found = batches(objects(*far, *near, "net/ipv4/own.c"), {"net/ipv4/own.c", "include/net/x.h"})
    assert found[0] == ["net/ipv4/own.o"]
    assert found[1][:2] == ["net/ipv4/near.o", "net/core/sock.o"]
    assert found[1][2] == "drivers/00.o"


def test_batches_grow_and_hold_every_object_once() -> None:
    many = objects(*(f"net/{number:04}.c" for number in range(500)))
    found = batches(many, {"include/net/x.h"})
    sizes = [len(batch) for batch in found]
    assert sizes[0] < sizes[1] < sizes[2]
    assert len(found) < 8
    assert sorted(name for batch in found for name in batch) == sorted(many)


def test_the_order_does_not_depend_on_that_of_the_input() -> None:
    many = objects(*(f"net/{number:04}.c" for number in range(50)))
    backwards = dict(reversed(many.items()))
    assert batches(many, {"net/x.h"}) == batches(backwards, {"net/x.h"})
