# SPDX-License-Identifier: GPL-2.0-or-later
"""`kmend-build publish`: put updates into a signed apt repository."""

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
from kmend_builder.publish.repository import PublishResult, publish

STAGE = "9-package"
JSON_SCHEMA = 1
_SUITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*\Z")


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "publish",
        help="put updates into a signed apt repository",
        description="Put updates into a signed apt repository. Without updates only its signature and validity are"
        " renewed; do that more often than every --valid-days.",
    )
    parser.add_argument("repository", type=Path, metavar="REPO", help="top directory of the repository")
    parser.add_argument(
        "updates", type=Path, nargs="*", metavar="UPDATE", help="output directory of a run, or a .deb of kmend"
    )
    parser.add_argument("--key", metavar="FINGERPRINT", help="signing key (default: the only pinned one)")
    parser.add_argument("--valid-days", type=int, default=7, metavar="N", help="Valid-Until (default %(default)s)")
    parser.add_argument("--suite", default="stable", help="directory below dists (default %(default)s)")
    parser.add_argument("--home", type=Path, metavar="DIR", help="key directory (default: KMEND_HOME, ~/.config/kmend)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Publish and print what happened; returns the exit code."""
    home = args.home or default_home()
    if not _SUITE.match(args.suite):
        raise UsageError(f"{args.suite!r} is no suite name", hint="letters, digits, dots and dashes")
    try:
        result = _publish(args, home)
    except OSError as error:
        raise BuildError(
            "can't publish",
            why=str(error),
            hint="make room or fix permissions, then run it again: nothing is half done",
        ) from error
    print(json.dumps(_as_json(result), indent=2, sort_keys=True) if args.json else _as_text(result))
    return 0


def _publish(args: argparse.Namespace, home: Path) -> PublishResult:
    return publish(
        args.repository,
        list(find_packages(args.updates)),
        fingerprint=signing_key(args.key, home=home).fingerprint,
        key_home=home,
        valid_for=datetime.timedelta(days=args.valid_days),
        identity=Identity(suite=args.suite),
    )


def find_packages(paths: Iterable[Path]) -> Iterator[Path]:
    """The .deb files that arguments stand for: themselves, a finished run's, or those lying in a directory.

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
        found = sorted(directory.glob("*.deb"))
        if not found:
            raise UsageError(f"no package in {directory}", hint="give output directories of runs, or .deb files")
        yield from found


def _as_json(result: PublishResult) -> dict[str, Any]:
    return {
        "schema": JSON_SCHEMA,
        "repository": str(result.repository),
        "suite": result.suite,
        "fingerprint": result.fingerprint,
        "date": result.date.isoformat(),
        "valid_until": result.valid_until.isoformat(),
        "added": [_entry(item) for item in result.added],
        "unchanged": [_entry(item) for item in result.unchanged],
        "packages": result.packages,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "package": entry.package,
        "version": entry.version,
        "architecture": entry.architecture,
        "filename": entry.filename,
        "size": entry.size,
        "sha256": entry.sha256,
    }


def _as_text(result: PublishResult) -> str:
    rows = [f"added      {item.package} {item.version}" for item in result.added]
    rows += [f"unchanged  {item.package} {item.version}" for item in result.unchanged]
    rows += [
        f"repository {result.repository}, suite {result.suite}, {result.packages} packages",
        f"signed     {result.fingerprint}, valid until {result.valid_until:%Y-%m-%d %H:%M} UTC",
    ]
    return "\n".join(rows)
