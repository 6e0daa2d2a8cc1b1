# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of one fix: scripts whose output differs between the unpatched and the patched kernel.

A test is an executable file for the guest that prints a line. Its head says, in comments, what it belongs to and what
it must print; the values are shell patterns (fnmatch) for its whole output:

    #!/usr/bin/python3
    # kmend-fix: CVE-2026-0001
    # kmend-object: nf_tables
    # kmend-before: accepted*
    # kmend-after: EINVAL

`# kmend-boot: WORDS` asks for a guest with these words on its kernel's command line, `# kmend-timeout: SECONDS` for
more or less time. It runs before the patch is applied, after, and once more when it has been reverted, and must be
repeatable.
"""

import dataclasses
import fnmatch
import re
from collections.abc import Iterable
from pathlib import Path

from kmend_builder.errors import UsageError

GUEST_DIR = "/run/kmend-tests"
_HEADER = re.compile(r"^#\s*kmend-(fix|object|before|after|timeout|boot):\s*(\S.*?)\s*$", re.MULTILINE)
_HEAD_BYTES = 8192
_TIMEOUT = 120.0


@dataclasses.dataclass(frozen=True)
class BehaviourTest:
    """One test. `objects` are those it is evidence for; `timeout` is in seconds of host time, `boot` kernel options."""

    file: Path
    fix: str
    objects: tuple[str, ...]
    before: str
    after: str
    timeout: float = _TIMEOUT
    boot: tuple[str, ...] = ()

    @property
    def guest_path(self) -> str:
        return f"{GUEST_DIR}/{self.file.name}"

    def accepts(self, output: str, *, patched: bool) -> bool:
        """Whether that is the output expected of a patched, or of an unpatched, kernel."""
        return fnmatch.fnmatchcase(output.strip(), self.after if patched else self.before)


@dataclasses.dataclass(frozen=True)
class TestSet:
    """Tests, and the other files of their directories, which tests may need beside them in the guest."""

    __test__ = False  # pytest collects by name

    tests: tuple[BehaviourTest, ...] = ()
    helpers: tuple[Path, ...] = ()

    def for_fixes(self, fixes: frozenset[str]) -> tuple[BehaviourTest, ...]:
        """The tests of those fixes; all of them when it is not known what is fixed."""
        return tuple(test for test in self.tests if not fixes or test.fix in fixes)

    def boot(self, fixes: frozenset[str]) -> str:
        """What the tests of those fixes ask for on the kernel's command line, each word once."""
        return " ".join(sorted({word for test in self.for_fixes(fixes) for word in test.boot}))


def read_tests(paths: Iterable[Path]) -> TestSet:
    """Read test files, and directories in which files without a header are helpers.

    Raises:
        UsageError: a file is missing, or a test's head is incomplete.
    """
    tests: list[BehaviourTest] = []
    helpers: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UsageError(f"no test {path}")
        for file in sorted(entry for entry in path.iterdir() if entry.is_file()) if path.is_dir() else [path]:
            test = read_test(file)
            if test is not None:
                tests.append(test)
            elif path.is_dir():
                helpers.append(file)
            else:
                raise UsageError(f"{file} is no test", why="it has no '# kmend-before:' line")
    return TestSet(tuple(tests), tuple(helpers))


def read_test(file: Path) -> BehaviourTest | None:
    """The test in a file, or None when it has no header at all.

    Raises:
        UsageError: some of the header is there, but not all of it.
    """
    with open(file, "rb") as stream:
        head = stream.read(_HEAD_BYTES).decode("utf-8", "replace")
    fields = dict(_HEADER.findall(head))
    if not fields:
        return None
    missing = {"fix", "object", "before", "after"} - set(fields)
    if missing or not head.startswith("#!"):
        what = "a '#!' line" if not missing else "'# kmend-" + min(missing) + ":'"
        raise UsageError(f"{file} is no complete test", why=f"it has no {what}")
    if fields["before"] == fields["after"]:
        raise UsageError(f"{file} can't tell anything", why="it expects the same output before and after")
    timeout = float(fields.get("timeout", _TIMEOUT))
    objects, boot = fields["object"].split(), fields.get("boot", "").split()
    return BehaviourTest(file, fields["fix"], tuple(objects), fields["before"], fields["after"], timeout, tuple(boot))
