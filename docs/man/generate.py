#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes kmend.8 and kmend.conf.5 from the tables that parser and policy are made from.

Run it after a change of kmend/cli/table.py or kmend/policy.py; a test compares the pages with what it would write.
"""

import argparse
import sys
from pathlib import Path
from typing import Dict, List

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "client"))

from kmend import __version__  # noqa: E402
from kmend.cli.main import DESCRIPTION, build_parser  # noqa: E402
from kmend.cli.table import VERBS, Argument, Verb  # noqa: E402
from kmend.policy import DROP_INS, MAIN, SETTINGS  # noqa: E402

LICENCE = '.\\" SPDX-License-Identifier: GPL-2.0-or-later'
MADE = '.\\" Made by docs/man/generate.py; edit the tables it reads.'
EXIT_CODES = (
    ("0", "covered: every CVE of the pending upgrade is live or does not concern this kernel; or nothing is pending"),
    ("1", "error; for apply also: the update was refused"),
    ("2", "usage, or not root"),
    ("3", "an update is available that is not live"),
    ("4", "partly covered; the rest needs a reboot"),
    ("5", "reboot required: nothing of the upgrade is live"),
    ("6", "an update failed, stalled, was refused, or is in quarantine"),
    ("7", "the running kernel can't be live patched here"),
)
FILES = (
    ("/usr/lib/kmend/patches/BUILD-ID/", "updates that packages bring"),
    ("/var/lib/kmend/", "the agent's records, and updates added by hand (local/)"),
    ("/usr/share/keyrings/kmend-archive-keyring.gpg", "keys trusted for updates and archive"),
    ("/etc/kmend/trusted.d/*.gpg", "more keys, of the administrator's choice (binary keyrings)"),
    ("/etc/kmend/kmend.conf", "the policy, see kmend.conf(5)"),
    ("/run/kmend/", "lock, queue, planned reboot; what ordinary users may know of the records"),
)


def text(value: str) -> str:
    """Escaped for roff; a dash in it is a minus sign, since most are options."""
    value = value.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + value if value[:1] in (".", "'") else value


def paragraph(value: str) -> str:
    """Running text; a quoted `word` becomes bold."""
    parts = text(value).split("`")
    return "".join(f"\\fB{part}\\fR" if index % 2 else part for index, part in enumerate(parts))


def command_page() -> str:
    """kmend(8)."""
    lines = [LICENCE, MADE, f'.TH KMEND 8 "" "kmend {__version__}" "System Administration"', ".SH NAME"]
    lines += [text("kmend - keep the running kernel patched"), ".SH SYNOPSIS"]
    lines += [".B kmend", text("[--json] [--debug] VERB [ARGUMENT...]"), ".SH DESCRIPTION", text(DESCRIPTION)]
    lines += [
        paragraph(
            "Hooks of the package manager start `kmend reconcile`, which applies a signed live patch to the running "
            "kernel, or plans a reboot when that does not cover what the new kernel fixes. All other verbs are for "
            "people and tools that want to look or to decide otherwise."
        )
    ]
    lines += [".SH OPTIONS", ".TP", ".B \\-\\-json", text("Print JSON, the stable interface. Text may change.")]
    lines += [".TP", ".B \\-\\-debug", text("Print tracebacks."), ".TP", ".B \\-\\-version", "Print the version."]
    lines += [".SH VERBS"]
    for verb in VERBS:
        lines += _verb(verb)
    lines += [".SH EXIT STATUS", "Of status, check, cves and reconcile; of other verbs 0 is success:"]
    for code, meaning in EXIT_CODES:
        lines += [".TP", f".B {code}", text(meaning)]
    lines += [".SH FILES"]
    for path, meaning in FILES:
        lines += [".TP", f".I {text(path)}", text(meaning)]
    lines += [".SH SEE ALSO", ".BR kmend.conf (5)"]
    return "\n".join(lines) + "\n"


def _verb(verb: Verb) -> List[str]:
    usage = " ".join(_usage(argument) for argument in verb.arguments)
    lines = [".TP", f".B {verb.name}" + (f" {text(usage)}" if usage else ""), paragraph(verb.about)]
    for argument in verb.arguments:
        lines += [".RS", ".TP", f".B {text(_shown(argument))}", paragraph(argument.help), ".RE"]
    return lines


def _usage(argument: Argument) -> str:
    return f"[{_shown(argument)}]"


def _shown(argument: Argument) -> str:
    """As argparse shows it."""
    name = ", ".join(argument.names)
    if argument.options.get("action") == "store_true":
        return name
    choices = argument.options.get("choices")
    value = "{" + ",".join(choices) + "}" if choices else argument.options.get("metavar", "")
    if not argument.names[0].startswith("-"):
        return value or argument.names[0].upper()
    return f"{name} {value}".strip()


def config_page() -> str:
    """kmend.conf(5)."""
    lines = [LICENCE, MADE, f'.TH KMEND.CONF 5 "" "kmend {__version__}" "File Formats"', ".SH NAME"]
    lines += [text("kmend.conf - policy of kmend"), ".SH SYNOPSIS", f".I /{text(MAIN)}", ".br"]
    lines += [f".I /{text(DROP_INS)}/*.conf", ".SH DESCRIPTION"]
    lines += [
        paragraph(
            "Lines of the form `NAME = VALUE`. Lines that begin with # or ; are comments. A section puts its name in "
            "front of the names in it, so that `window` in the section `[reboot]` is `reboot.window`. Files in the "
            "directory are read after the main file, in the order of their names; the last value counts. An unknown "
            "name is a warning; a value that makes no sense is an error that names file and line, and nothing is done."
        ),
        ".SH SETTINGS",
    ]
    for setting in SETTINGS:
        default = f"Default: {setting.default}." if setting.default else "Default: empty."
        lines += [".TP", f".B {setting.name}", f"({text(setting.form)})", paragraph(setting.help) + "."]
        lines += [text(default)]
    lines += [".SH EXAMPLE", ".nf", "mode = auto", "[reboot]", text("window = Sat,Sun 03:00-05:00"), "deadline = 14"]
    return "\n".join([*lines, ".fi", ".SH SEE ALSO", ".BR kmend (8)"]) + "\n"


def pages() -> Dict[str, str]:
    """File name -> content of every page."""
    build_parser()  # a table the parser can't be made from makes no page either
    return {"kmend.8": command_page(), "kmend.conf.5": config_page()}


def main() -> int:
    """Write the pages beside this file."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name, content in pages().items():
        (HERE / name).write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
