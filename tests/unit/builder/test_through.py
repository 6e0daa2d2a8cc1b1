# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions without an fentry call are replaced through their callers in all units, or not at all."""

from collections.abc import Callable, Collection, Iterable

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.guard import no_entry
from kmend_builder.livepatch.assemble import assemble
from kmend_builder.livepatch.resolve import Resolver
from kmend_builder.livepatch.select import select_all
from kmend_builder.livepatch.units import UnitResult
from kmend_builder.match.users import Users, image_users
from kmend_builder.shipped import Shipped
from kmend_builder.through import with_their_callers
from support.image import Image, kernel_image
from support.units import unit_in

LIBRARY = """
notrace noinline int measure(const char *s) { return s[0] * 3; }
notrace noinline int twice(const char *s) { return measure(s) + 1; }
"""
FIXED = LIBRARY.replace("* 3", "* 5")
NEAR = "extern int measure(const char *); int near(const char *s) { return measure(s) + 9; }"
FAR = "extern int twice(const char *); int far(const char *s) { return twice(s) - 1; } int idle(int a) { return a; }"
HOLDER = "extern int measure(const char *); int (*hook)(const char *) = measure;"
INIT = 'extern int measure(const char *); section(".init.text") int setup(const char *s) { return measure(s); }'


class Here(Shipped):
    """The users in an image linked by the test."""

    def __init__(self, image: Image) -> None:
        self.image = image

    def users(self, address: int, called: Collection[str]) -> dict[str, Users]:
        return {"vmlinux": image_users(map(self.region, self.image.memory.parts.items()), address)}

    def region(self, part: tuple[int, bytes]) -> tuple[str, int, bytes]:
        """Named after what is in it."""
        start, data = part
        inside = {symbol.name for symbol in self.image.symbols if start <= symbol.address < start + len(data)}
        return ".init.text" if "setup" in inside else ".text" if "measure" in inside else ".data", start, data

    def function_at(self, name: str, address: int) -> str:
        return max((symbol for symbol in self.image.symbols if symbol.address <= address), key=lambda s: s.address).name


def compared(image: Image, text: str, name: str, after: str | None = None) -> UnitResult:
    unit = unit_in(image.space(), text, after or text, source=name.replace(".o", ".c"))
    unit.unit = unit.diff.unit = name
    return unit


def spread(*callers: str, found: Collection[str] | None = None) -> list[UnitResult]:
    """The results for LIBRARY -> FIXED in a kernel with these callers; `found`: those a search for the words finds."""
    image = kernel_image(LIBRARY, *callers)
    texts = {f"drivers/u{number}.o": text for number, text in enumerate(callers) if found is None or text in found}

    def naming(names: Iterable[str], objects: Collection[str]) -> dict[str, str]:
        wanted = tuple(names)
        return {unit: unit.replace(".o", ".c") for unit, text in texts.items() if any(name in text for name in wanted)}

    def compare(objects: dict[str, str]) -> list[UnitResult]:
        return [compared(image, texts[name], name) for name in objects]

    return with_their_callers([compared(image, LIBRARY, "lib/l.o", FIXED)], Here(image), naming, compare)


def redirected(results: list[UnitResult]) -> dict[str, list[str]]:
    return {result.unit: [atom.name for atom in result.redirected] for result in results}


def test_all_callers_are_redirected_also_through_others() -> None:
    results = spread(NEAR, FAR)
    assert redirected(results) == {"lib/l.o": [], "drivers/u0.o": ["near"], "drivers/u1.o": ["far"]}
    assert {atom.name for atom in results[0].carried} == {"measure", "twice"}
    assert all("did not come with this kernel" in note for note in no_entry.check(results[0]))
    assert [no_entry.check(result) for result in results[1:]] == [[], []]


def test_the_new_code_calls_the_new_functions() -> None:
    results = spread(NEAR, FAR)
    spaces: Callable[[str], object] = {"vmlinux": results[0].match.space}.__getitem__
    assembled = assemble(select_all(results), Resolver({}, spaces), "patch")  # type: ignore[arg-type]
    assert [item.name for item in assembled.redirects] == ["near", "far"]
    assert not assembled.pinned
    targets = {
        (section.name, reloc.symbol.name): reloc.symbol.undefined
        for section in assembled.object.sections
        for reloc in section.relocs
        if reloc.symbol.name in ("measure", "twice")
    }
    assert not any(targets.values())
    assert targets.keys() == {(".text.near", "measure"), (".text.twice", "measure"), (".text.far", "twice")}


def test_what_only_boot_code_calls_is_no_user() -> None:
    assert redirected(spread(NEAR, INIT)) == {"lib/l.o": [], "drivers/u0.o": ["near"]}


def test_a_caller_that_no_unit_accounts_for_refuses() -> None:
    with pytest.raises(Refused) as caught:
        spread(NEAR, FAR, found=(NEAR,))
    assert (caught.value.reason, caught.value.place) == (Reason.NO_ENTRY, "lib/l.c: twice")
    assert "far of vmlinux, which calls it, can't be replaced" in caught.value.why


def test_a_held_address_leaves_it_to_the_guard() -> None:
    results = spread(NEAR, HOLDER)
    assert [result.unit for result in results] == ["lib/l.o"]
    with pytest.raises(Refused) as caught:
        no_entry.check(results[0])
    assert caught.value.reason is Reason.NO_ENTRY


def test_a_caller_without_entry_whose_address_is_held_stops_it() -> None:
    middle = "extern int twice(const char *); notrace int middle(const char *s) { return twice(s) + 4; }"
    caller = "extern int middle(const char *); int top(const char *s) { return middle(s) + 2; }"
    holder = "extern int middle(const char *); int (*hook)(const char *) = middle;"
    assert redirected(spread(middle, caller))["drivers/u1.o"] == ["top"]
    assert [result.unit for result in spread(middle, caller, holder)][0] == "lib/l.o"
    with pytest.raises(Refused):
        for result in spread(middle, caller, holder):
            no_entry.check(result)


def test_a_function_with_very_many_users_is_left_to_the_reboot() -> None:
    """Told before any of them is compiled; its twin with one fewer is taken on."""
    names = [f"drivers/u{number}.o" for number in range(33)]
    image = kernel_image(LIBRARY, NEAR, FAR)
    library = [compared(image, LIBRARY, "lib/l.o", FIXED)]
    compiled: list[str] = []

    def compare(objects: dict[str, str]) -> list[UnitResult]:
        compiled.extend(objects)
        return [compared(image, NEAR, "drivers/near.o"), compared(image, FAR, "drivers/far.o")]

    with pytest.raises(Refused) as caught:
        with_their_callers(library, Here(image), lambda _, __: dict.fromkeys(names, "u.c"), compare)
    assert (caught.value.reason, compiled) == (Reason.NO_ENTRY, [])
    assert "33 units may call it" in caught.value.why
    with_their_callers(library, Here(image), lambda _, __: dict.fromkeys(names[1:], "u.c"), compare)
    assert compiled
