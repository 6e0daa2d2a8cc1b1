# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend-build run: from fixes to a verdict, a live patch and a signed package."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from kmend_builder import run as engine
from kmend_builder.change import fixlist, inputs
from kmend_builder.change.inputs import Change, FixInput
from kmend_builder.cli.options import add_common, add_kernel, add_rpms
from kmend_builder.errors import UsageError
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.source import fetch_source
from kmend_builder.package import package_run, source_date_epoch
from kmend_builder.progress import Progress, make_progress
from kmend_builder.publish.package import Format
from kmend_builder.workdir import Stage, WorkDir, open_workdir, stage_of


def register(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser(
        "run",
        help="turn fixes into a live patch for one kernel",
        description="Judges fixes for one kernel and builds a live patch of those that can be live.",
    )
    add_kernel(parser)
    add_rpms(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="work directory: new, empty, or of an earlier run"
    )
    _add_inputs(parser)
    _add_output(parser)
    add_common(parser)


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("patches", metavar="PATCH", nargs="*", type=Path, help="patch files (-p1), one fix each")
    parser.add_argument("--fixes", metavar="FILE", type=Path, help="a fix list (TOML), see docs/kmend-build.md")
    parser.add_argument("--tree", metavar="DIR", type=Path, help="an edited copy of the kernel's source tree")
    parser.add_argument(
        "--diffext", metavar="SUFFIX", help="with --tree: only files that lie beside the original as FILE.SUFFIX"
    )
    parser.add_argument(
        "--upgrade-to", metavar="VERSION", help="take the fix from this later version of the source package"
    )
    parser.add_argument(
        "--only", metavar="PATH", nargs="+", default=[], help="with --upgrade-to: the files or globs of the fix"
    )
    parser.add_argument(
        "--cve", metavar="CVE", action="append", default=[], help="CVE id of the fix given by --tree or --only"
    )
    parser.add_argument("--title", default="", help="title of the fix given by --tree or --only")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--serial",
        type=int,
        default=1,
        help="number of this update; grows with every one for the same kernel, whatever its target [%(default)s]",
    )
    parser.add_argument(
        "--target", metavar="VERSION", help="version whose fixes these are [--upgrade-to, else the kernel's own]"
    )
    parser.add_argument("--until", metavar="STAGE", default="package", help="stop after this stage, e.g. 6-guard")
    parser.add_argument("--from", dest="again", metavar="STAGE", help="do this stage and those behind it again")
    parser.add_argument(
        "--exhaustive", action="store_true", help="compile all units that see a changed file, to check the choice"
    )
    parser.add_argument(
        "--format",
        action="append",
        choices=[form.value for form in Format],
        default=[],
        help="kind of package, repeatable [that of the kernel's own package]",
    )
    parser.add_argument("--key", metavar="FINGERPRINT", help="sign with this key [the only one there is]")
    parser.add_argument(
        "--home", metavar="DIR", type=Path, help="where the keys are [KMEND_HOME, else ~/.config/kmend]"
    )
    parser.add_argument(
        "--module-key", metavar="FILE", type=Path, help="also sign the module for Secure Boot with this key"
    )
    parser.add_argument("--module-cert", metavar="FILE", type=Path, help="certificate of --module-key")
    parser.add_argument("--valid-days", type=int, default=90, help="days until the update expires [%(default)s]")
    parser.add_argument("--prove", action="store_true", help="prove the live patch in a guest before packaging it")


def run(args: argparse.Namespace) -> int:
    """0 built or absent, 3 refused."""
    _check(args)
    _read_inputs(args)
    progress = make_progress(quiet=args.quiet)
    work = open_workdir(args.out)
    options = engine.Options(
        args.kernel,
        work.path,
        args.cache,
        args.jobs,
        args.serial,
        args.target or args.upgrade_to,
        stage_of(args.until),
        stage_of(args.again) if args.again else None,
        args.exhaustive,
        args.kernel_rpms,
        args.kernel_tools,
    )
    result = engine.run(work, options, lambda kernel: _change(args, kernel, progress), progress)
    packages: list[Path] = []
    unpackaged = "there is no live patch" if result.live == [] else f"stopped after {options.until.directory}"
    if result.module is not None and options.until >= Stage.PROVE:
        packages, unpackaged = package_run(work, result, args, progress)
    value = engine.result_value(result, packages, unpackaged)
    (work.path / engine.RESULT).write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    if args.json:
        print(json.dumps(value, indent=2, sort_keys=True))
    else:
        _tell(value, work)
    refusal = engine.refusal_of(result)
    return refusal.exit_code if refusal else 0


def _check(args: argparse.Namespace) -> None:
    given = [bool(args.patches), bool(args.fixes), bool(args.tree), bool(args.upgrade_to and args.only)]
    if sum(given) != 1:
        raise UsageError(
            "name the change in exactly one way",
            hint="PATCH..., --fixes FILE, --tree DIR, or --upgrade-to VERSION --only PATH",
        )
    if args.only and not args.upgrade_to:
        raise UsageError("--only goes with --upgrade-to")
    if args.diffext and not args.tree:
        raise UsageError("--diffext goes with --tree")
    if stage_of(args.until) < Stage.GUARD:
        raise UsageError("--until starts at 6-guard", why="stages 2 to 6 make one judgement, in seconds")
    if args.kernel_tools and not args.kernel_rpms:
        raise UsageError("--kernel-tools goes with --kernel-rpms")
    if args.serial < 1 or args.jobs < 1 or args.valid_days < 1:
        raise UsageError("--serial, --jobs and --valid-days start at 1")
    if bool(args.module_key) != bool(args.module_cert):
        raise UsageError("--module-key and --module-cert go together")


def _read_inputs(args: argparse.Namespace) -> None:
    """What can be found wrong before minutes are spent on fetching a kernel."""
    source_date_epoch()
    if args.patches:
        inputs.patch_files(args.patches)
    if args.fixes:
        fixlist.load_fix_list(args.fixes)
    if args.kernel_rpms and not args.kernel_rpms.is_dir():
        raise UsageError(f"no directory {args.kernel_rpms}", why="--kernel-rpms is to name one")
    if args.tree and not args.tree.is_dir():
        raise UsageError(f"no source tree at {args.tree}")


def _change(args: argparse.Namespace, kernel: Kernel, progress: Progress) -> Change:
    if args.patches:
        return inputs.patch_files(args.patches)
    if args.tree:
        found = (
            inputs.suffixed_files(args.tree, args.diffext)
            if args.diffext
            else inputs.edited_tree(kernel.source, args.tree)
        )
        return inputs.make_change([_named(args, found.fixes[0])])
    later = None
    if args.upgrade_to:
        if kernel.packaging != "deb":
            raise UsageError(
                "--upgrade-to is for kernels of Debian", why="later sources come from its archive", hint="give PATCH..."
            )
        later = fetch_source(args.upgrade_to, cache=args.cache, progress=progress, release=kernel.release)
    if args.fixes:
        return fixlist.resolve(fixlist.load_fix_list(args.fixes), kernel.source, later)
    assert later is not None
    patch = inputs.upgrade_slice(kernel.source, later, args.only)
    return inputs.make_change([_named(args, FixInput("slice", (), "", patch))])


def _named(args: argparse.Namespace, fix: FixInput) -> FixInput:
    cves = tuple(args.cve) or fix.cves
    return FixInput(cves[0] if cves else fix.id, cves, args.title or fix.title or ", ".join(args.only), fix.patch)


def _tell(value: dict[str, Any], work: WorkDir) -> None:
    """The result for people."""
    for fix in value["fixes"]:
        print(f"{fix['verdict']:7} {fix['id']}  {fix['title']}")
        for function in fix["functions"]:
            print(f"          {function}")
        if fix["refusal"]:
            print(f"          {fix['refusal']['reason']}: {fix['refusal']['place']}: {fix['refusal']['why']}")
            if fix["refusal"]["advice"]:
                print(f"          hint: {fix['refusal']['advice']}")
        for hint in fix["review"]:
            print(f"          needs-review, {hint['kind']}: {hint['place']}: {hint['why']}")
        for place, why in fix["absent"].items():
            print(f"          {place}: {why}")
        if "exhaustive" in fix:
            _tell_exhaustive(fix["exhaustive"])
    print(f"module    {value['module'] or '-'}")
    for package in value["packages"] or [value["unpackaged"]]:
        print(f"package   {package}", file=sys.stdout)
    print(f"details   {work.path}/{engine.RESULT}")


def _tell_exhaustive(found: dict[str, Any]) -> None:
    print(f"          compiled {found['compiled']} units that see a changed file; chosen {len(found['chosen'])}")
    for name in found["missed"]:
        print(f"          {name}: differs, and was not chosen: please report this")
