# SPDX-License-Identifier: GPL-2.0-or-later
"""The archives of another release, derived from the machine's own sources."""

import subprocess
from pathlib import Path

import pytest

from kmend_builder.errors import BuildError
from kmend_builder.kernel import aptconf
from kmend_builder.kernel.aptconf import Entry
from kmend_builder.progress import SilentProgress

LISTING = """Debian\thttp://mirror.example/debian/\tbookworm\tmain
Debian\thttp://mirror.example/debian/\tbookworm\tmain
Debian\thttp://mirror.example/security/\tbookworm-security\tmain
Others\thttp://other.example/x/\tbookworm\tmain
noise
"""


@pytest.mark.parametrize(
    ("release", "codename"),
    [
        ("6.1.0-53-cloud-amd64", ""),
        ("6.12.115+deb12-cloud-amd64", "bookworm"),
        ("6.12.115+deb13.1-rt-amd64", "trixie"),
        ("6.12.115+deb13u1-amd64", "trixie"),
        ("6.12.115+debug-amd64", ""),
    ],
)
def test_what_a_release_says(release: str, codename: str) -> None:
    assert aptconf.codename_of(release) == codename


def test_an_unknown_release_of_the_distribution() -> None:
    with pytest.raises(BuildError, match="kernel of Debian 99"):
        aptconf.codename_of("7.2.1+deb99-amd64")


def test_entries_of_the_distribution_once_each() -> None:
    assert aptconf.parse_targets(LISTING, "debian") == [
        Entry("http://mirror.example/debian/", "bookworm", "main"),
        Entry("http://mirror.example/security/", "bookworm-security", "main"),
    ]


def test_entries_move_to_another_release() -> None:
    entries = aptconf.parse_targets(LISTING, "debian")
    moved = aptconf.moved([*entries, Entry("http://x.example/", "stable", "main")], "bookworm", "trixie")
    assert [entry.suite for entry in moved] == ["trixie", "trixie-security"]
    assert [entry.uri for entry in moved] == [entry.uri for entry in entries]


def test_the_list_names_the_kind_and_a_key() -> None:
    lines = aptconf.render("deb-src", [Entry("http://m.example/", "trixie", "main")]).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("deb-src ")
    assert lines[0].endswith("http://m.example/ trixie main")


def test_a_kernel_of_the_machines_own_release_needs_no_other_apt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aptconf, "own_codename", lambda: "bookworm")
    for release in ("6.1.0-53-amd64", "6.12.115+deb12-amd64"):
        apt = aptconf.of_kernel(release, cache=tmp_path, progress=SilentProgress())
        assert apt.sources is None and not any("SourceList" in option or "Status" in option for option in apt.options)
    assert not list((tmp_path / "apt" / "machine").iterdir())


def test_what_apt_works_out_is_kept_in_the_cache(tmp_path: Path) -> None:
    apt = aptconf.machine(tmp_path)
    command = ["apt-config", *apt.options, "shell", "FILE", "Dir::Cache::pkgcache/f"]
    assert subprocess.check_output(command, text=True) == f"FILE='{tmp_path}/apt/machine/pkgcache.bin'\n"


def test_sources_without_code_names_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aptconf, "own_codename", lambda: "bookworm")
    monkeypatch.setattr(aptconf, "machine_entries", lambda: [Entry("http://m.example/", "stable", "main")])
    with pytest.raises(BuildError, match="can't tell where the archives of trixie are"):
        aptconf.of_kernel("6.12.115+deb13-amd64", cache=tmp_path, progress=SilentProgress())
