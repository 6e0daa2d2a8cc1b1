# SPDX-License-Identifier: GPL-2.0-or-later
"""The command `kmend`: parse, run one verb, print, end with its code. Nothing else calls sys.exit()."""

import argparse
import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence

from kmend import __version__
from kmend.cli import messages
from kmend.cli.result import Result
from kmend.cli.table import VERBS
from kmend.errors import KmendError

ERROR = 1
INTERRUPTED = 130
DESCRIPTION = "Keeps the running kernel patched during ordinary package upgrades."
EPILOG = (
    "exit codes of status, check and reconcile: 0 covered, 1 error, 2 usage, 3 update available, 4 partly covered, "
    "5 reboot required, 6 stalled or failed, 7 unsupported kernel"
)


def build_parser() -> argparse.ArgumentParser:
    """The parser, made from the table."""
    parser = argparse.ArgumentParser("kmend", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"kmend {__version__}")
    _common(parser, default=False)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        sub = verbs.add_parser(verb.name, help=verb.help, description=verb.about)
        # After the verb as well, without overwriting what was given before it.
        _common(sub, default=argparse.SUPPRESS)
        for argument in verb.arguments:
            sub.add_argument(*argument.names, help=argument.help, **argument.options)
    return parser


def _common(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument("--json", action="store_true", default=default, help="print JSON, the stable interface")
    parser.add_argument("--debug", action="store_true", default=default, help="print tracebacks")
    parser.add_argument("--root", default=default, help=argparse.SUPPRESS)


def main(argv: Optional[Sequence[str]] = None, make: Optional[Callable[[], Any]] = None) -> int:
    """Run one command; gives its exit code. `make` builds the agent and is replaced in tests."""
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as end:  # argparse's own way to say usage (2) or help (0)
        return int(end.code or 0)
    try:
        result = run_verb(args, make or _agent_maker(args))
        _print(result, args.json)
        return result.code
    except KmendError as error:
        _complain(error, args)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    except KeyboardInterrupt:
        print(messages.INTERRUPTED, file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if args.debug:
            raise
        print(f"{messages.UNHANDLED.format(repr(error))}\n{messages.UNHANDLED_HINT}", file=sys.stderr)
        return ERROR


def run_verb(args: argparse.Namespace, make: Callable[[], Any]) -> Result:
    """Import the verb's module and run it."""
    module = importlib.import_module(f"kmend.cli.{args.verb}")
    result: Result = module.run(make(), args)
    return result


def _agent_maker(args: argparse.Namespace) -> Callable[[], Any]:
    def make() -> Any:
        from kmend.agent import build
        from kmend.system import System

        return build(System(Path(args.root)) if args.root else None)

    return make


def _print(result: Result, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.data, indent=2, sort_keys=True, ensure_ascii=True))
    else:
        for line in result.lines:
            print(line)
    sys.stdout.flush()


def _complain(error: KmendError, args: argparse.Namespace) -> None:
    if args.debug:
        traceback.print_exc()
    if args.json:
        value = {"error": error.what, "why": error.why, "hint": error.hint, "exit_code": error.exit_code}
        print(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True))
    print(f"kmend: {error}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)


def verb_names() -> List[str]:
    """All verbs, in the order of the table."""
    return [verb.name for verb in VERBS]


if __name__ == "__main__":
    sys.exit(main())
