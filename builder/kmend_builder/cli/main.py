# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend-build: one verb per module of this package, each with register(subparsers) and run(args) -> exit code."""

import argparse
import errno
import importlib
import sys
from collections.abc import Sequence

from kmend_builder import __version__
from kmend_builder.errors import BuildError
from kmend_builder.kernel.tool import disk_full

VERBS = ("run", "diff", "match", "inspect", "explain", "prove", "coverage", "key", "publish")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="kmend-build",
        description="Turns fixes into signed live patch packages for the kernels a distribution shipped.",
        epilog="Exit codes: 0 built, 1 error, 2 usage, 3 refused.",
    )
    top.add_argument("--version", action="version", version=f"kmend-build {__version__}")
    top.add_argument("--debug", action="store_true", help="show a traceback with an error")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        module = importlib.import_module(f"kmend_builder.cli.{verb}")
        module.register(verbs)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; expected failures become one line of what and why and one of what next."""
    args = parser().parse_args(argv)
    module = importlib.import_module(f"kmend_builder.cli.{args.verb}")
    try:
        return int(module.run(args))
    except (BuildError, OSError) as error:
        if args.debug:
            raise
        return _tell(error if isinstance(error, BuildError) else file_error(error))
    except KeyboardInterrupt:
        print("kmend-build: interrupted; finished stages are kept", file=sys.stderr)
        return 130


def _tell(error: BuildError) -> int:
    print(f"kmend-build: {error}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
    return error.exit_code


def file_error(error: OSError) -> BuildError:
    """What the machine refused, in the words of all other errors; any file may be the one the disk has no room for."""
    place = error.filename2 or error.filename or "a file"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(f"can't write {place}")
    return BuildError(f"can't use {place}", why=error.strerror or str(error), hint="see --debug for where this was")


if __name__ == "__main__":
    sys.exit(main())
