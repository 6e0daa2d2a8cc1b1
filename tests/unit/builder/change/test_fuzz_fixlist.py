# SPDX-License-Identifier: GPL-2.0-or-later
"""Damaged and hostile fix lists: taken, or a typed error; and no id leads out of the work directory."""

import random
from pathlib import Path

import pytest

from kmend_builder.change.fixlist import load_fix_list, resolve
from kmend_builder.change.inputs import patch_files
from kmend_builder.errors import BuildError, UsageError
from support.limits import limited, little_memory

PATCH = "--- a/a.c\n+++ b/a.c\n@@ -1 +1 @@\n-x\n+y\n"
LIST = """\
# two fixes
[[fix]]
id = "CVE-2026-1"
cves = ["CVE-2026-10001", "CVE-2026-10002"]
title = "net: check the length"
patch = "a.patch"

[[fix]]
id = "slice"
only = ["net/ipv4/tcp.c", "net/ipv4/*.h"]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "a.patch").write_text(PATCH)
    return tmp_path / "fixes.toml"


def test_a_damaged_list_is_an_error_or_a_list(place: Path) -> None:
    place.write_text(LIST)
    assert len(load_fix_list(place)) == 2
    tokens = [
        b"[",
        b"]",
        b'"',
        b"=",
        b"\n",
        b"\0",
        b"\xff",
        b"{",
        b"}",
        b"1e9",
        b"'''",
        b".",
        b"[[fix]]\n",
        b"#",
        b"\\u",
    ]
    rng = random.Random(1)
    taken = 0
    for _ in range(3000):
        data = LIST.encode()
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            data = data[:at] + rng.choice([*tokens, b""]) + data[at + rng.choice((0, 1, 1, 8, 40)) :]
        place.write_bytes(data)
        try:
            with limited():
                taken += bool(load_fix_list(place))
        except BuildError as error:
            assert str(place) in error.what
    assert 30 < taken < 2500


@pytest.mark.parametrize(
    "text",
    [
        "x=" + "[" * 100_000,
        "x=" + "9" * 5000,
        "x={a=" * 3000,
        "a." * 3000 + "b=1",
        "x=1979-99-99",
        "x='''" + "y" * 1_000_000,
    ],
)
def test_lists_that_ask_too_much_of_the_parser(place: Path, text: str) -> None:
    place.write_text(LIST)
    assert load_fix_list(place)
    place.write_text(text)
    with little_memory(), limited(), pytest.raises(BuildError) as caught:
        load_fix_list(place)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["..", ".", "/etc", "../../x", "a/b", "x" * 201, "ä" * 101])
def test_an_id_is_the_name_of_a_directory_of_the_work_directory(place: Path, name: str) -> None:
    entry = '[[fix]]\nid = "{}"\npatch = "a.patch"\n'
    for good in ("CVE-2026-1", "...", ".x", "x" * 200, "a b"):
        place.write_text(entry.format(good))
        assert resolve(load_fix_list(place), place.parent, None).fixes[0].id == good
    place.write_text(entry.format(name))
    with pytest.raises(BuildError, match="not an id for a fix|id must be one line"):
        resolve(load_fix_list(place), place.parent, None)


@pytest.mark.parametrize(
    ("name", "good"), [("x.patch", True), ("...patch", False), ("..patch", False), (".patch", False)]
)
def test_nor_does_the_name_of_a_patch_lead_out_of_it(tmp_path: Path, name: str, good: bool) -> None:
    (tmp_path / name).write_text(PATCH)
    if good:
        assert patch_files([tmp_path / name]).fixes[0].id == "x"
    else:
        with pytest.raises(UsageError, match="not an id for a fix"):
            patch_files([tmp_path / name])
