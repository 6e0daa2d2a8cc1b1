# SPDX-License-Identifier: GPL-2.0-or-later
"""`kmend-build key`: the publisher's keys."""

import argparse
import json
from pathlib import Path
from typing import Any

from kmend_builder.errors import BuildError, UsageError
from kmend_builder.publish import keys, module_key
from kmend_builder.publish.files import write_atomic
from kmend_builder.publish.home import default_home
from kmend_builder.publish.rpm import sign_rpm
from kmend_builder.rpm.header import BUILDTIME, read_rpm


def register(subparsers: Any) -> None:
    """Add the command and its actions."""
    parser = subparsers.add_parser("key", help="create, list, export and pin the keys that sign updates")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _create(actions.add_parser("create", help="make a signing key and pin it"))
    _finish(actions.add_parser("list", help="show the keys and which are pinned"), _run_list)
    export = actions.add_parser("export", help="write public keys for clients")
    export.add_argument("file", type=Path, metavar="FILE", help="the keyring to write, e.g. kmend-archive-keyring.gpg")
    export.add_argument(
        "--key", action="append", metavar="FINGERPRINT", help="only this key (default: all pinned keys)"
    )
    export.add_argument("--armor", action="store_true", help="ASCII armour instead of a binary keyring")
    _finish(export, _run_export)
    sign = actions.add_parser("sign", help="sign RPM packages, such as that of the client, in place")
    sign.add_argument("packages", type=Path, nargs="+", metavar="PACKAGE", help=".rpm files of kmend")
    sign.add_argument("--key", metavar="FINGERPRINT", help="sign with this key (default: the only pinned one)")
    _finish(sign, _run_sign)
    trust = actions.add_parser("trust", help="import and pin the public key of another builder")
    trust.add_argument("file", type=Path, metavar="FILE")
    trust.add_argument("--fingerprint", metavar="FINGERPRINT", help="refuse the file unless it has this fingerprint")
    _finish(trust, _run_trust)
    distrust = actions.add_parser("distrust", help="stop believing a key")
    distrust.add_argument("fingerprint", metavar="FINGERPRINT")
    _finish(distrust, _run_distrust)


def run(args: argparse.Namespace) -> int:
    """Do the chosen action and print its result; returns the exit code."""
    home = args.home or default_home()
    try:
        value, text = args.perform(args, home)
    except OSError as error:
        raise BuildError("can't use the keys", why=str(error), hint=f"check {home} and the file named") from error
    print(json.dumps(value, indent=2, sort_keys=True) if args.json else text)
    return 0


def _create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="who signs, e.g. 'Example Operations'")
    parser.add_argument("--email", help="address of the key (not for --module)")
    parser.add_argument("--bits", type=int, default=4096, help="RSA key size (default %(default)s)")
    parser.add_argument("--valid-days", type=int, metavar="N", help="default 730; 3650 for --module")
    parser.add_argument("--module", action="store_true", help="an X.509 key for kernel modules (Secure Boot) instead")
    _finish(parser, _run_create)


def _finish(parser: argparse.ArgumentParser, perform: Any) -> None:
    parser.add_argument("--home", type=Path, metavar="DIR", help="key directory (default: KMEND_HOME, ~/.config/kmend)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(perform=perform, run=run)


def _run_create(args: argparse.Namespace, home: Path) -> tuple[Any, str]:
    if args.module:
        days = args.valid_days or 3650
        made = module_key.create_module_key(args.name, home=home, bits=args.bits, valid_days=days)
        value = {"key": str(made.key), "certificate": str(made.certificate), "der": str(made.der)}
        return value, f"{made.certificate}\nenrol it on each machine: mokutil --import {made.der}"
    if not args.email:
        raise UsageError("can't create a key", why="--email is missing", hint="--email ops@example.org")
    days = args.valid_days or 730
    fingerprint = keys.create_key(args.name, args.email, home=home, bits=args.bits, valid_days=days)
    return {"fingerprint": fingerprint}, fingerprint


def _run_list(args: argparse.Namespace, home: Path) -> tuple[Any, str]:
    found = keys.list_keys(home=home)
    rows = [
        f"{key.fingerprint}  {'pinned' if key.pinned else '-':6}  {'secret' if key.secret else 'public':6}  "
        f"{key.expires.date() if key.expires else 'never'}  {key.uid}"
        for key in found
    ]
    return [_as_json(key) for key in found], "\n".join(rows) or "no keys; make one: kmend-build key create"


def _as_json(key: keys.Key) -> dict[str, Any]:
    return {
        "fingerprint": key.fingerprint,
        "uid": key.uid,
        "created": key.created.isoformat(),
        "expires": key.expires.isoformat() if key.expires else None,
        "bits": key.bits,
        "secret": key.secret,
        "pinned": key.pinned,
    }


def _run_export(args: argparse.Namespace, home: Path) -> tuple[Any, str]:
    names = sorted(args.key or keys.pinned_fingerprints(home=home))
    write_atomic(args.file, keys.export_public(names, home=home, armor=args.armor))
    return {"file": str(args.file), "fingerprints": names}, f"{args.file}: {', '.join(names)}"


def _run_sign(args: argparse.Namespace, home: Path) -> tuple[Any, str]:
    key = keys.signing_key(args.key, home=home)
    for path in args.packages:
        sign_rpm(path, key, home=home, when=read_rpm(path).header.numbers(BUILDTIME)[0])
    value = {"fingerprint": key.fingerprint, "packages": [str(path) for path in args.packages]}
    return value, "\n".join(f"signed {path}" for path in args.packages)


def _run_trust(args: argparse.Namespace, home: Path) -> tuple[Any, str]:
    fingerprint = keys.import_key(args.file, home=home, fingerprint=args.fingerprint)
    return {"fingerprint": fingerprint, "pinned": True}, f"pinned {fingerprint}"


def _run_distrust(args: argparse.Namespace, home: Path) -> tuple[Any, str]:
    keys.unpin(args.fingerprint, home=home)
    fingerprint = keys.normal_fingerprint(args.fingerprint)
    return {"fingerprint": fingerprint, "pinned": False}, f"no longer pinned: {fingerprint}"
