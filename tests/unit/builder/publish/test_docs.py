# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/manifest.md against the code: its example is a manifest, its tables have every field and no other."""

import dataclasses
import re
from pathlib import Path

import pytest

from kmend import manifest

DOC = Path(__file__).resolve().parents[4] / "docs/manifest.md"


def test_example_is_a_valid_canonical_manifest() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert manifest.parse(example.encode()).version == "6.1.190-1+1"


@pytest.mark.parametrize(
    ("before", "cls"),
    [
        ("## Fields\n", manifest.Manifest),
        ("`kernel`:\n", manifest.KernelId),
        ("`module`:\n", manifest.ModuleFile),
        ("Each of `objects`:\n", manifest.ObjectId),
        ("Each of `functions`:\n", manifest.Function),
        ("Each of `fixes`:\n", manifest.Fix),
    ],
)
def test_table_lists_the_fields(before: str, cls: type) -> None:
    table = DOC.read_text().split(before, 1)[1].lstrip("\n").split("\n\n", 1)[0]
    cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    listed = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    extra = {"schema"} if cls is manifest.Manifest else set()
    assert listed == {field.name for field in dataclasses.fields(cls)} | extra
