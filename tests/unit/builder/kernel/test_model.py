# SPDX-License-Identifier: GPL-2.0-or-later
"""kernel.json: what is written is read back; anything else is refused."""

import dataclasses
import json
from pathlib import Path

import pytest

from kmend_builder.errors import BuildError
from kmend_builder.kernel.model import Kernel

TEXTS = ("release", "version", "source_version", "arch", "build_id", "compiler")


def kernel(root: Path = Path("/cache/kernels/one")) -> Kernel:
    places = {field.name: root / field.name for field in dataclasses.fields(Kernel) if field.name not in TEXTS}
    places["toolchain"] = Path("/")
    return Kernel("6.1.0-53-cloud-amd64", "6.1.187-1", "6.1.187-1", "amd64", "ab" * 20, "gcc-12", **places)


def test_json_round_trip() -> None:
    text = kernel().to_json()
    assert Kernel.from_json(text) == kernel()
    assert text.endswith("}\n")
    assert kernel().cache_dir == Path("/cache/kernels/one")


def test_a_kernel_kept_before_there_were_toolchains_is_compiled_by_this_machine() -> None:
    value = json.loads(kernel().to_json())
    del value["toolchain"]
    assert Kernel.from_json(json.dumps(value)).toolchain == Path("/")


@pytest.mark.parametrize("field", ["release", "image_deb"])
def test_missing_and_odd_fields_are_refused(field: str) -> None:
    value = json.loads(kernel().to_json())
    for damaged in ({**value, "more": "x"}, {**value, field: 7}, {k: v for k, v in value.items() if k != field}):
        with pytest.raises(BuildError, match=r"kernel\.json is damaged"):
            Kernel.from_json(json.dumps(damaged))


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"'])
def test_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(BuildError, match=r"kernel\.json is damaged"):
        Kernel.from_json(text)
