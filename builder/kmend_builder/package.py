# SPDX-License-Identifier: GPL-2.0-or-later
"""Stages 8 and 9 of a run: the proof if it is asked for, then manifest, signature and packages."""

import argparse
import datetime
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kmend.manifest import Manifest, ModuleFile, ObjectId
from kmend_builder import run as engine
from kmend_builder.errors import BuildError
from kmend_builder.kernel.model import Kernel
from kmend_builder.progress import Progress
from kmend_builder.publish import keys
from kmend_builder.publish.home import default_home
from kmend_builder.publish.module_key import sign_module
from kmend_builder.publish.package import Format, build_packages
from kmend_builder.workdir import Stage, WorkDir


def package_run(
    work: WorkDir, result: engine.RunResult, args: argparse.Namespace, progress: Progress
) -> tuple[list[Path], str]:
    """The packages' paths, or none and why there is none.

    Raises:
        BuildError: signing or packaging failed.
        Refused: proof-failed.
    """
    engine.require_live(result)
    assert result.module is not None
    if args.module_key:
        sign_file = result.kernel.build / "scripts" / "sign-file"
        sign_module(result.module, args.module_key, args.module_cert, sign_file=sign_file)
    if args.prove:
        from kmend_builder.prove.prove import prove_run  # needs QEMU; nothing else here does

        prove_run(work.path, progress=progress)
    home = args.home or default_home()
    if not args.key and not keys.list_keys(home=home):
        return [], "no signing key: make one with 'kmend-build key create'"
    key = keys.signing_key(args.key, home=home)
    started = time.monotonic()
    with progress.step(Stage.PACKAGE.directory):
        directory = work.begin(Stage.PACKAGE)
        epoch = source_date_epoch()
        manifest = make_manifest(work, result, epoch, args.valid_days)
        packages = build_packages(
            directory, manifest, result.module, fingerprint=key.fingerprint, key_home=home, source_date_epoch=epoch,
            forms=forms(args.format, result.kernel),
        )  # fmt: skip
        work.complete(Stage.PACKAGE, manifest.version)
    result.seconds[Stage.PACKAGE.directory] = time.monotonic() - started
    return packages, ""


def forms(asked: Sequence[str], kernel: Kernel) -> tuple[Format, ...]:
    """The kinds of packages to make: those asked for, each once, else that of the kernel's own package."""
    return tuple(dict.fromkeys(map(Format, asked or (kernel.packaging,))))


def source_date_epoch() -> int:
    """$SOURCE_DATE_EPOCH, or now (https://reproducible-builds.org/specs/source-date-epoch/).

    Raises:
        BuildError: the variable is no number of seconds.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return int(time.time())
    if not text.isdigit():
        raise BuildError("bad SOURCE_DATE_EPOCH", why=f"{text!r} is not a number of seconds since 1970")
    return int(text)


def make_manifest(work: WorkDir, result: engine.RunResult, epoch: int, valid_days: int) -> Manifest:
    """The manifest of a run that has a live patch."""
    assert result.module is not None and result.judgement is not None
    data = result.module.read_bytes()
    module = json.loads((work.stage(Stage.MODULE) / "module.json").read_text())
    created = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc)
    target, _, serial = result.version.rpartition("+")
    return Manifest(
        version=result.version,
        serial=int(serial),
        kernel=engine.kernel_id(result.kernel),
        target=target,
        module=ModuleFile(module["module"], result.module.name, hashlib.sha256(data).hexdigest(), len(data)),
        objects=tuple(ObjectId(**item) for item in module["objects"]),
        functions=tuple(engine.functions(result.judgement)),
        fixes=engine.manifest_fixes(result),
        evidence=evidence(work, result),
        created=created,
        expires=created + datetime.timedelta(days=valid_days),
    )


def evidence(work: WorkDir, result: engine.RunResult) -> dict[str, Any]:
    """What was proven: functions matched against the shipped code, and the guest's verdict if there is one."""
    assert result.judgement is not None
    units = result.judgement.units
    value: dict[str, Any] = {
        "match": {
            "functions": sum(len(unit.match.functions) for unit in units),
            "mismatched": sum(len(unit.match.mismatches) for unit in units),
            "ambiguous": sum(len(unit.match.ambiguous) for unit in units),
        }
    }
    proof = work.stage(Stage.PROVE) / "proof.json"
    if proof.is_file():
        value["proof"] = json.loads(proof.read_text())
    return value
