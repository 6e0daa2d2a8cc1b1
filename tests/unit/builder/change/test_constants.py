# SPDX-License-Identifier: GPL-2.0-or-later
"""Constants computed before the build proper."""

import subprocess
from pathlib import Path

import pytest

from kmend.reasons import Reason
from kmend_builder.change.constants import must_be_equal, values
from kmend_builder.errors import Refused

SOURCE = """\
#define DEFINE(sym, val) asm volatile("\\n.ascii \\"->" #sym " %0 " #val "\\"" : : "i" (val))
struct box { int a; MEMBER int b; };
int main(void)
{
	DEFINE(BOX_b, __builtin_offsetof(struct box, b));
	DEFINE(NEGATIVE, -1);
	return 0;
}
"""


def constants(tmp_path: Path, member: str = "") -> dict[str, str]:
    (tmp_path / "x.c").write_text(SOURCE.replace("MEMBER", member))
    argv = ["gcc", "-O2", "-S", "-o", str(tmp_path / "x.s"), str(tmp_path / "x.c")]
    subprocess.run(argv, check=True)
    return values((tmp_path / "x.s").read_text())


def test_what_the_compiler_writes(tmp_path: Path) -> None:
    assert constants(tmp_path) == {"BOX_b": "4", "NEGATIVE": "-1"}


def test_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        must_be_equal("x.c", constants(tmp_path), constants(tmp_path, "long more;"))
    assert (refused.value.reason, refused.value.place) == (Reason.DATA_LAYOUT, "x.c: BOX_b")
    assert "from 4 to 16" in refused.value.why


def test_an_equal_one_passes(tmp_path: Path) -> None:
    must_be_equal("x.c", constants(tmp_path), constants(tmp_path, "/* no more */"))


def test_one_more_is_a_change_too() -> None:
    with pytest.raises(Refused, match="none"):
        must_be_equal("x.c", {"A": "1"}, {"A": "1", "B": "2"})
