# SPDX-License-Identifier: GPL-2.0-or-later
"""`kmend-build publish`: put updates into a signed repository for apt or dnf."""

import argparse
import datetime
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kmend_builder.errors import BuildError, UsageError
from kmend_builder.publish.home import default_home
from kmend_builder.publish.index import Entry, Identity
from kmend_builder.publish.keys import signing_key
from kmend_builder.publish.repodata import RpmEntry
from kmend_builder.publish.repository import VALID_FOR, PublishResult, publish
from kmend_builder.publish.rpmrepo import RpmPublishResult, publish_rpm

STAGE = "9-package"
JSON_SCHEMA = 1
_SUITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*\Z")


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "publish",
        help="put updates into a signed repository for apt or dnf",
        description="Put updates into a signed apt repository, or with --rpm into one for dnf. Without updates only its"
        " signature and validity are renewed; do that more often than every --valid-days.",
    )
    parser.add_argument("repository", type=Path, metavar="REPO", help="top directory of the repository")
    parser.add_argument(
        "updates", type=Path, nargs="*", metavar="UPDATE", help="output directory of a run, or a package of kmend"
    )
    parser.add_argument("--rpm", action="store_true", help="an RPM repository: packages are .rpm files")
    parser.add_argument(
        "--uri", metavar="URI", help="with --rpm: where machines find the repository; writes kmend.repo for it"
    )
    parser.add_argument("--key", metavar="FINGERPRINT", help="signing key (default: the only pinned one)")
    parser.add_argument("--valid-days", type=int, metavar="N", help="Valid-Until of an apt repository (default 7)")
    parser.add_argument("--suite", help="directory below dists of an apt repository (default stable)")
    parser.add_argument("--home", type=Path, metavar="DIR", help="key directory (default: KMEND_HOME, ~/.config/kmend)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Publish and print what happened; returns the exit code."""
    home = args.home or default_home()
    _check(args)
    try:
        value, text = _publish_rpm(args, home) if args.rpm else _publish_deb(args, home)
    except OSError as error:
        raise BuildError(
            "can't publish",
            why=str(error),
            hint="make room or fix permissions, then run it again: nothing is half done",
        ) from error
    print(json.dumps(value, indent=2, sort_keys=True) if args.json else text)
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.suite is not None and not _SUITE.match(args.suite):
        raise UsageError(f"{args.suite!r} is no suite name", hint="letters, digits, dots and dashes")
    if args.rpm and (args.suite is not None or args.valid_days is not None):
        raise UsageError("--suite and --valid-days do not go with --rpm", why="RPM repositories have neither")
    if args.uri is not None and not args.rpm:
        raise UsageError("--uri goes with --rpm")


def _publish_deb(args: argparse.Namespace, home: Path) -> tuple[dict[str, Any], str]:
    result = publish(
        args.repository,
        list(find_packages(args.updates)),
        fingerprint=signing_key(args.key, home=home).fingerprint,
        key_home=home,
        valid_for=VALID_FOR if args.valid_days is None else datetime.timedelta(days=args.valid_days),
        identity=Identity(suite=args.suite or "stable"),
    )
    return _as_json(result), _as_text(result)


def _publish_rpm(args: argparse.Namespace, home: Path) -> tuple[dict[str, Any], str]:
    result = publish_rpm(
        args.repository,
        list(find_packages(args.updates, ".rpm")),
        fingerprint=signing_key(args.key, home=home).fingerprint,
        key_home=home,
        uri=args.uri,
    )
    value = {
        **_common(result),
        "repository": str(result.repository),
        "fingerprint": result.fingerprint,
        "date": result.date.isoformat(),
    }
    rows = [*_rows(result), f"repository {result.repository}, {result.packages} packages"]
    return value, "\n".join([*rows, f"signed     {result.fingerprint}"])


def find_packages(paths: Iterable[Path], suffix: str = ".deb") -> Iterator[Path]:
    """The packages that arguments stand for: themselves, a finished run's, or those lying in a directory.

    Raises:
        UsageError: nothing there, or a run that did not finish its last stage.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        stage = path if path.name == STAGE else path / STAGE
        directory = stage if stage.is_dir() else path
        if directory is stage and not (stage / ".complete").exists():
            raise UsageError(
                f"{path} is not finished", why=f"no {stage / '.complete'}", hint="kmend-build run it first"
            )
        found = sorted(directory.glob(f"*{suffix}"))
        if not found:
            raise UsageError(
                f"no {suffix} package in {directory}",
                hint=f"give output directories of runs with --format {suffix[1:]}, or {suffix} files",
            )
        yield from found


def _as_json(result: PublishResult) -> dict[str, Any]:
    return {
        **_common(result),
        "repository": str(result.repository),
        "suite": result.suite,
        "fingerprint": result.fingerprint,
        "date": result.date.isoformat(),
        "valid_until": result.valid_until.isoformat(),
    }


def _common(result: PublishResult | RpmPublishResult) -> dict[str, Any]:
    return {
        "schema": JSON_SCHEMA,
        "added": [_entry(item) for item in result.added],
        "unchanged": [_entry(item) for item in result.unchanged],
        "packages": result.packages,
    }


def _entry(entry: Entry | RpmEntry) -> dict[str, Any]:
    return {
        "package": entry.package,
        "version": entry.version,
        "architecture": entry.architecture,
        "filename": entry.filename,
        "size": entry.size,
        "sha256": entry.sha256,
    }


def _as_text(result: PublishResult) -> str:
    rows = [
        *_rows(result),
        f"repository {result.repository}, suite {result.suite}, {result.packages} packages",
        f"signed     {result.fingerprint}, valid until {result.valid_until:%Y-%m-%d %H:%M} UTC",
    ]
    return "\n".join(rows)


def _rows(result: PublishResult | RpmPublishResult) -> list[str]:
    rows = [f"added      {item.package} {item.version}" for item in result.added]
    return rows + [f"unchanged  {item.package} {item.version}" for item in result.unchanged]
