# SPDX-License-Identifier: GPL-2.0-or-later
"""`kmend-build key` and `kmend-build publish`: arguments in, JSON and files out."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kmend_builder.cli import key, publish
from kmend_builder.errors import BuildError, UsageError
from kmend_builder.publish.package import Format

if TYPE_CHECKING:
    from unit.builder.publish.conftest import MakeUpdate, Store

Run = Callable[..., Any]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line and return what it printed, decoded when --json is among the words."""

    def call(*words: str | Path) -> Any:
        parser = argparse.ArgumentParser()
        subparsers = parser.add_subparsers(required=True)
        key.register(subparsers)
        publish.register(subparsers)
        args = parser.parse_args([str(word) for word in words])
        assert args.run(args) == 0
        text = capsys.readouterr().out
        return json.loads(text) if "--json" in words else text

    return call


def test_key_is_created_listed_exported_and_distrusted(run: Run, home: Path, tmp_path: Path) -> None:
    words = ("--name", "Ops", "--email", "ops@example.org", "--bits", "2048", "--home", home)
    fingerprint = run("key", "create", *words).strip()
    (listed,) = run("key", "list", "--home", home, "--json")
    assert (listed["fingerprint"], listed["pinned"], listed["secret"]) == (fingerprint, True, True)
    assert fingerprint in run("key", "list", "--home", home)
    exported = run("key", "export", tmp_path / "k.gpg", "--home", home, "--json")
    assert exported["fingerprints"] == [fingerprint]
    assert (tmp_path / "k.gpg").read_bytes()[0] & 0x80
    run("key", "export", tmp_path / "k.asc", "--armor", "--home", home)
    assert (tmp_path / "k.asc").read_text().startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----")
    assert run("key", "distrust", fingerprint, "--home", home, "--json")["pinned"] is False
    with pytest.raises(UsageError, match="no key to export"):
        run("key", "export", tmp_path / "none.gpg", "--home", home)


def test_key_of_another_builder_is_trusted(run: Run, home: Path, tmp_path: Path, stranger: Store) -> None:
    run("key", "export", tmp_path / "k.asc", "--armor", "--home", stranger.home)
    answer = run("key", "trust", tmp_path / "k.asc", "--fingerprint", stranger.fingerprint, "--home", home, "--json")
    assert answer == {"fingerprint": stranger.fingerprint, "pinned": True}
    (listed,) = run("key", "list", "--home", home, "--json")
    assert (listed["pinned"], listed["secret"]) == (True, False)


def test_module_key_says_how_to_enrol_it(run: Run, home: Path) -> None:
    text = run("key", "create", "--module", "--name", "Ops", "--bits", "2048", "--home", home)
    assert f"mokutil --import {home / 'module/module-cert.der'}" in text


def test_openpgp_key_needs_an_address(run: Run, home: Path) -> None:
    with pytest.raises(UsageError, match="--email"):
        run("key", "create", "--name", "Ops", "--home", home)


def test_finished_run_and_package_file_are_published(
    run: Run, tmp_path: Path, store: Store, make_update: MakeUpdate
) -> None:
    stage = tmp_path / "OUT/9-package"
    stage.mkdir(parents=True)
    shutil.copy(make_update(1), stage)
    words = ("publish", tmp_path / "repo", tmp_path / "OUT", "--home", store.home, "--json")
    with pytest.raises(UsageError, match="not finished"):
        run(*words)
    (stage / ".complete").touch()
    first = run(*words)
    assert [item["version"] for item in first["added"]] == ["6.1.190-1+1"]
    assert set(first) == {
        "schema", "repository", "suite", "fingerprint", "date", "valid_until", "added", "unchanged", "packages",
    }  # fmt: skip
    second = run("publish", tmp_path / "repo", stage, make_update(2), "--key", store.fingerprint, "--home", store.home)
    assert "unchanged  kmend-patch-6.1.0-53-cloud-amd64 6.1.190-1+1\n" in second
    assert "added      kmend-patch-6.1.0-53-cloud-amd64 6.1.190-1+2\n" in second


def test_directory_without_packages_is_a_usage_error(run: Run, tmp_path: Path, store: Store) -> None:
    with pytest.raises(UsageError, match="no .deb package"):
        run("publish", tmp_path / "repo", tmp_path, "--home", store.home)


@pytest.mark.parametrize("suite", ["..", "a/b", "", ".x"])
def test_suite_can_not_leave_the_repository(run: Run, tmp_path: Path, store: Store, suite: str) -> None:
    with pytest.raises(UsageError, match="suite"):
        run("publish", tmp_path / "repo", "--suite", suite, "--home", store.home)


def test_errors_say_why_and_what_next(
    run: Run, tmp_path: Path, store: Store, stranger: Store, make_update: MakeUpdate
) -> None:
    with pytest.raises(BuildError) as caught:
        run("publish", tmp_path / "repo", make_update(signer=stranger), "--home", store.home)
    assert caught.value.exit_code == 1
    assert caught.value.why and caught.value.hint


def test_unwritable_places_are_errors_not_tracebacks(run: Run, tmp_path: Path, store: Store) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match="can't publish"):
        run("publish", tmp_path / "file", "--home", store.home)
    with pytest.raises(BuildError, match="can't use the keys"):
        run("key", "export", tmp_path / "file/k.gpg", "--home", store.home)


def test_file_that_is_no_package_is_refused(run: Run, tmp_path: Path, store: Store) -> None:
    (tmp_path / "a.deb").write_text("text")
    with pytest.raises(BuildError, match="can't read a.deb: it is no whole Debian package"):
        run("publish", tmp_path / "repo", tmp_path / "a.deb", "--home", store.home)


def test_rpm_packages_of_a_run_are_published(run: Run, tmp_path: Path, store: Store, make_update: MakeUpdate) -> None:
    stage = tmp_path / "OUT/9-package"
    stage.mkdir(parents=True)
    shutil.copy(make_update(1, form=Format.RPM), stage)
    shutil.copy(make_update(1), stage)
    (stage / ".complete").touch()
    words = ("publish", "--rpm", tmp_path / "repo", tmp_path / "OUT", "--home", store.home)
    first = run(*words, "--uri", "https://kmend.example.org/", "--json")
    assert set(first) == {"schema", "repository", "fingerprint", "date", "added", "unchanged", "packages"}
    assert [(item["version"], item["architecture"]) for item in first["added"]] == [("6.1.190-1^1", "x86_64")]
    assert (tmp_path / "repo/kmend.repo").is_file()
    assert "unchanged  kmend-patch-6.1.0_53_cloud_amd64 6.1.190-1^1\n" in run(*words)
    with pytest.raises(UsageError, match="no .rpm package"):
        run("publish", "--rpm", tmp_path / "repo", tmp_path / "repo", "--home", store.home)


@pytest.mark.parametrize("words", [("--rpm", "--suite", "x"), ("--rpm", "--valid-days", "3"), ("--uri", "https://a/")])
def test_options_of_the_other_kind_of_repository_are_refused(
    run: Run, tmp_path: Path, store: Store, words: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match="--rpm"):
        run("publish", tmp_path / "repo", "--home", store.home, *words)
    run("publish", tmp_path / "repo", "--home", store.home, "--rpm")


def test_package_of_the_client_is_signed(run: Run, tmp_path: Path, store: Store, make_update: MakeUpdate) -> None:
    rpm = make_update(form=Format.RPM)
    signed = rpm.read_bytes()
    subprocess.run(["rpmsign", "--delsign", str(rpm)], check=True, capture_output=True)
    assert rpm.read_bytes() != signed
    answer = run("key", "sign", rpm, "--home", store.home, "--json")
    assert answer == {"fingerprint": store.fingerprint, "packages": [str(rpm)]}
    run("publish", "--rpm", tmp_path / "repo", rpm, "--home", store.home)
