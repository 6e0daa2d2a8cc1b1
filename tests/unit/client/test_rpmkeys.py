# SPDX-License-Identifier: GPL-2.0-or-later
"""Which key gets into rpm's keyring; with real rpm in tests/integration/test_dnf_meeting.py."""

import hashlib
from pathlib import Path
from typing import List, Mapping, Sequence, Tuple

import pytest

from kmend.distro import rpmkeys
from kmend.distro.base import PackageManagerError
from kmend.distro.run import Finished

KEY = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
DIGEST = hashlib.sha256(KEY).hexdigest()


class Rpm:
    """Answers as rpm does, and keeps what was imported."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.signed, self.digest, self.installed = True, DIGEST, True
        self.imports = Finished(0, "", "")
        self.imported: List[bytes] = []
        path = root / rpmkeys.KEY
        path.parent.mkdir(parents=True)
        path.write_bytes(KEY)

    def __call__(self, argv: Sequence[str], extra: Mapping[str, str]) -> Finished:
        if argv[0] == "rpmkeys":
            assert argv[-2] == "--import"
            self.imported.append(Path(argv[-1]).read_bytes())
            return self.imports
        if not self.installed:
            return Finished(1, "package kmend is not installed\n", "")
        word = "signed" if self.signed else "unsigned"
        return Finished(0, f"{word}\n/usr/bin/kmend\t{'0' * 64}\n/{rpmkeys.KEY}\t{self.digest}\n", "")

    def ensure(self) -> "Tuple[int, str]":
        """How many keys were imported so far, and what was wrong."""
        found = rpmkeys.ensure(self.root, self)
        return len(self.imported), found.why if found else ""


@pytest.fixture()
def rpm(tmp_path: Path) -> Rpm:
    return Rpm(tmp_path)


def test_the_key_of_the_signed_package_once(rpm: Rpm) -> None:
    assert rpm.ensure() == (1, "") and rpm.imported == [KEY]
    assert rpm.ensure() == (1, "")  # an administrator may have taken it out again
    new = b"another key"
    (rpm.root / rpmkeys.KEY).write_bytes(new)
    rpm.digest = hashlib.sha256(new).hexdigest()
    assert rpm.ensure() == (2, "") and rpm.imported[1] == new


REFUSED = {
    "not installed": ("installed", False, "no package kmend"),
    "not signed": ("signed", False, "is not signed"),
    "another file": ("digest", "0" * 64, "is not as the package"),
    "not the package's file": ("digest", "", "is not of the package"),
    "a weak digest": ("digest", "d41d8cd98f00b204e9800998ecf8427e", "is not of the package"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_no_other_key(rpm: Rpm, what: str) -> None:
    name, value, why = REFUSED[what]
    good = getattr(rpm, name)
    setattr(rpm, name, value)
    count, said = rpm.ensure()
    assert count == 0 and why in said
    setattr(rpm, name, good)
    assert rpm.ensure() == (1, "")


def test_no_key_no_question(rpm: Rpm) -> None:
    (rpm.root / rpmkeys.KEY).unlink()
    rpm.installed = False
    assert rpm.ensure() == (0, "")


def test_rpm_fails(rpm: Rpm) -> None:
    rpm.imports = Finished(1, "", "error: /tmp/x: key 1 import failed.\n")
    assert rpm.ensure() == (1, "error: /tmp/x: key 1 import failed.")
    rpm.imports = Finished(0, "", "")
    assert rpm.ensure() == (2, "")


def test_nothing_can_be_kept(rpm: Rpm) -> None:
    (rpm.root / "var").write_bytes(b"")
    found = rpmkeys.ensure(rpm.root, rpm)
    assert isinstance(found, PackageManagerError) and "var" in found.why and found.hint
