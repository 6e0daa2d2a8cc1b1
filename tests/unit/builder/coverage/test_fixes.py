# SPDX-License-Identifier: GPL-2.0-or-later
"""Which patches are found, and what makes an earlier result count."""

from pathlib import Path

import pytest

from kmend_builder.coverage import fixes
from kmend_builder.coverage.fixes import changes_header, find_fixes, judging_key, proving_key
from kmend_builder.errors import UsageError

PATCH = b"--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1 +1 @@\n-a\n+b\n"


def test_patches_are_found_by_name_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.patch", "a.patch", "notes.txt", ".hidden.patch", "c.patch.orig"):
        (tmp_path / name).write_bytes(PATCH)
    (tmp_path / "below.patch").mkdir()
    found = find_fixes(tmp_path)
    assert [fix.id for fix in found] == ["a", "b"]
    assert found[0].sha256 == found[1].sha256


def test_no_patches_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no \*\.patch"):
        find_fixes(tmp_path)
    with pytest.raises(UsageError, match="no directory"):
        find_fixes(tmp_path / "gone")


@pytest.mark.parametrize(
    ("patch", "header"),
    [
        (PATCH, False),
        (PATCH.replace(b"a.c", b"a.h"), True),
        (PATCH.replace(b"+++ b/fs/a.c", b"+++ b/fs/a.h\t2026-01-01"), True),
        (PATCH + PATCH.replace(b"a.c", b"b.h"), True),
        (PATCH.replace(b"+b", b"+b.h"), False),
    ],
)
def test_patches_of_headers_are_told(patch: bytes, header: bool) -> None:
    assert changes_header(patch) is header


def test_the_key_follows_patch_kernel_and_builder(tmp_path: Path) -> None:
    (tmp_path / "a.patch").write_bytes(PATCH)
    [fix] = find_fixes(tmp_path)
    key = judging_key(fix, "11", "builder")
    assert judging_key(find_fixes(tmp_path)[0], "11", "builder") == key
    (tmp_path / "a.patch").write_bytes(PATCH + b"\n")
    [edited] = find_fixes(tmp_path)
    others = {judging_key(edited, "11", "builder"), judging_key(fix, "12", "builder"), judging_key(fix, "11", "other")}
    assert len(others - {key}) == 3


def test_the_key_of_a_proof_follows_module_kernel_and_prover() -> None:
    key = proving_key(b"module", "11", "prover")
    assert proving_key(b"module", "11", "prover") == key
    others = {
        proving_key(b"m", "11", "prover"),
        proving_key(b"module", "1", "prover"),
        proving_key(b"module", "11", "p"),
    }
    assert len(others - {key}) == 3


def test_the_builders_own_code_counts_where_it_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("judge.py", "prove/klp.py", "coverage/pool.py", "elf/diff.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one\n")
    monkeypatch.setattr(fixes, "_PACKAGE", tmp_path)
    judging, proving = fixes.judging_digest(), fixes.proving_digest()
    (tmp_path / "prove/klp.py").write_text("two\n")
    assert fixes.judging_digest() == judging
    assert fixes.proving_digest() != proving
    proving = fixes.proving_digest()
    (tmp_path / "elf/diff.py").write_text("two\n")
    assert fixes.judging_digest() != judging
    assert fixes.proving_digest() == proving
