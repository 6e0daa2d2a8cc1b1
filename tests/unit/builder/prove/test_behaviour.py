# SPDX-License-Identifier: GPL-2.0-or-later
"""The head of a behaviour test."""

from pathlib import Path

import pytest

from kmend_builder.errors import UsageError
from kmend_builder.prove.behaviour import read_test, read_tests

HEAD = """#!/usr/bin/python3
# kmend-fix: CVE-2026-0001
# kmend-object: vmlinux nf_tables
# kmend-before: accepted*
# kmend-after: EINVAL
print("x")
"""


def written(directory: Path, text: str, name: str = "test.py") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def test_a_whole_head_is_read(tmp_path: Path) -> None:
    test = read_test(written(tmp_path, HEAD.replace("# kmend-after", "# kmend-timeout: 7.5\n# kmend-after")))
    assert test is not None
    assert (test.fix, test.objects, test.timeout) == ("CVE-2026-0001", ("vmlinux", "nf_tables"), 7.5)


def test_patterns_are_for_the_whole_output(tmp_path: Path) -> None:
    test = read_test(written(tmp_path, HEAD))
    assert test is not None
    assert test.accepts("accepted 7\n", patched=False) and not test.accepts("not accepted", patched=False)
    assert test.accepts(" EINVAL\n", patched=True) and not test.accepts("einval", patched=True)


@pytest.mark.parametrize("field", ["kmend-fix", "kmend-object", "kmend-before", "kmend-after", "#!"])
def test_an_incomplete_head_is_refused(tmp_path: Path, field: str) -> None:
    with pytest.raises(UsageError, match=f"no complete test.*{field}"):
        read_test(written(tmp_path, HEAD.replace(field, "other")))


def test_a_test_that_can_not_tell_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="same output"):
        read_test(written(tmp_path, HEAD.replace("EINVAL", "accepted*")))


def test_a_directory_holds_tests_and_helpers(tmp_path: Path) -> None:
    test, helper = written(tmp_path, HEAD), written(tmp_path, "helper", "lib.py")
    found = read_tests([tmp_path])
    assert [item.file for item in found.tests] == [test] and found.helpers == (helper,)
    assert read_tests([test]).helpers == ()


def test_what_is_no_test_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no test"):
        read_tests([written(tmp_path, "echo", "plain.sh")])
    with pytest.raises(UsageError, match="no test"):
        read_tests([tmp_path / "missing"])


def test_tests_are_chosen_by_fix(tmp_path: Path) -> None:
    written(tmp_path, HEAD)
    found = read_tests([tmp_path])
    assert found.for_fixes(frozenset({"CVE-2026-0001", "x"})) == found.tests
    assert found.for_fixes(frozenset({"CVE-2026-0002"})) == ()
    assert found.for_fixes(frozenset()) == found.tests


def test_the_boot_words_of_the_chosen_tests_are_joined(tmp_path: Path) -> None:
    boots = {"CVE-2026-0001": "nopku slab_nomerge", "CVE-2026-0002": "nopku init_on_alloc=0", "CVE-2026-0003": ""}
    for number, (fix, words) in enumerate(boots.items()):
        line = f"# kmend-boot: {words}\n# kmend-after" if words else "# kmend-after"
        text = HEAD.replace("CVE-2026-0001", fix).replace("# kmend-after", line)
        written(tmp_path, text, f"{number}.py")
    found = read_tests([tmp_path])
    assert found.boot(frozenset()) == "init_on_alloc=0 nopku slab_nomerge"
    assert found.boot(frozenset({"CVE-2026-0001", "CVE-2026-0003"})) == "nopku slab_nomerge"
    assert found.boot(frozenset({"CVE-2026-0003"})) == ""
