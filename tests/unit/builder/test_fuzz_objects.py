# SPDX-License-Identifier: GPL-2.0-or-later
"""Ten thousand damaged objects through stages 4 to 7: each is built or ends in a typed error, in time and memory.

A failure names the unit, the side and the seed; `Mutator(data).mutant(seed)` makes the same object again.
"""

import collections
import dataclasses
from pathlib import Path

import pytest

from kmend_builder.cli.main import main
from kmend_builder.elf.read import read_object
from kmend_builder.errors import ElfError
from support.gauntlet import Pair, outcome, through_all_stages
from support.limits import limited, little_memory
from support.mutate import Mutator
from support.richunits import NAMES, rich_pair

MUTATIONS = 10_000
#: For `make test-all`, with seeds of their own.
MORE = 40_000


def _campaign(pair: Pair, seeds: range) -> collections.Counter[str]:
    """What became of the mutants: of the patched object two times out of three, else of the orig one."""
    mutators = {side: Mutator(getattr(pair, side)) for side in ("orig", "patched")}
    results: collections.Counter[str] = collections.Counter()
    with little_memory():
        for seed in seeds:
            side = "patched" if seed % 3 else "orig"
            mutant = mutators[side].mutant(seed)
            damaged = _with(pair, side, mutant.data)
            try:
                results[outcome(lambda damaged=damaged: through_all_stages(damaged))] += 1  # type: ignore[misc]
            except BaseException as error:
                raise AssertionError(f"{side} object, {mutant}: {error!r}") from error
    return results


def _with(pair: Pair, side: str, data: bytes) -> Pair:
    return dataclasses.replace(pair, patched=data) if side == "patched" else dataclasses.replace(pair, orig=data)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_objects_are_built_or_a_typed_error(name: str) -> None:
    count = MUTATIONS // len(NAMES)
    results = _campaign(rich_pair(name), range(count))
    # The mutator is good for something: some damage is noticed by the reader, some later, some does not matter.
    assert results["ElfError"] > count // 5
    assert results["Refused"] > count // 100
    assert results["built"] > count // 5


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_more_damaged_objects(name: str) -> None:
    count = MORE // len(NAMES)
    assert _campaign(rich_pair(name), range(1_000_000, 1_000_000 + count)).total() == count


@pytest.mark.parametrize("name", NAMES)
def test_truncation_at_every_structure_is_an_elf_error(name: str) -> None:
    data = rich_pair(name).patched
    assert read_object(data, "x.o")
    boundaries = Mutator(data).boundaries()
    assert len(boundaries) > 100
    for length in boundaries:
        with limited(), pytest.raises(ElfError):
            read_object(data[:length], "x.o")


def test_the_same_seed_is_the_same_damage() -> None:
    data = rich_pair("tables").patched
    one, other = ([str(Mutator(data).mutant(seed)) for seed in range(200)] for _ in range(2))
    assert one == other
    assert len(set(one)) > 150


def test_the_verb_diff_ends_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = rich_pair("data")
    orig, damaged = tmp_path / "orig.o", tmp_path / "damaged.o"
    orig.write_bytes(pair.orig)
    mutator = Mutator(pair.patched)
    codes: collections.Counter[int] = collections.Counter()
    for seed in range(300):
        mutant = mutator.mutant(seed)
        damaged.write_bytes(mutant.data)
        with limited():
            code = main(["diff", *(["--json"] if seed % 2 else []), str(orig), str(damaged)])
        said = capsys.readouterr()
        assert code in (0, 1), mutant
        assert (bool(said.out), said.err.startswith("kmend-build: ")) == (code == 0, code == 1), mutant
        assert ("hint: " in said.err) == (code == 1), mutant
        codes[code] += 1
    assert min(codes[0], codes[1]) > 50
