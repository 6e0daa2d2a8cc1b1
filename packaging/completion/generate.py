#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the completions of bash and zsh from the parser of the command line and the table of settings.

Run it after a change of kmend/cli/table.py or kmend/policy.py; a test compares the files with what it would write.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Dict, List

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "client"))

from kmend.cli.main import build_parser  # noqa: E402
from kmend.cli.table import VERBS  # noqa: E402
from kmend.policy import SETTINGS  # noqa: E402

MADE = "# Made by packaging/completion/generate.py from the parser of kmend."
LICENCE = "# SPDX-License-Identifier: GPL-2.0-or-later"
# Verbs whose words are names of files; those of `config` are names of settings.
PATHS = ("apply",)
BASH = """\
{licence}
{made}
# shellcheck shell=bash

_kmend() {{
    local current previous verb words i
    local IFS=$'\\n'
    current=${{COMP_WORDS[COMP_CWORD]}}
    previous=${{COMP_WORDS[COMP_CWORD - 1]}}
    verb=
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${{COMP_WORDS[i]}} != -* ]]; then
            verb=${{COMP_WORDS[i]}}
            break
        fi
    done
    words=
    case $verb:$previous in
{values}
    *)
        case $verb in
{verbs}
        esac
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    if [[ $verb == @({paths}) && $current != -* ]]; then
        mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY < <(compgen -f -- "$current")
        compopt -o filenames 2>/dev/null
    fi
}}

complete -F _kmend kmend
"""
ZSH = """\
#compdef kmend
{licence}
{made}

_kmend() {{
    local context state line
    typeset -A opt_args
    _arguments -C {top} '1: :->verb' '*:: :->rest'
    case $state in
    verb)
        local -a verbs
        verbs=(
{verbs}
        )
        _describe -t verbs verb verbs
        ;;
    rest)
        case $line[1] in
{rest}
        esac
        ;;
    esac
}}

_kmend "$@"
"""


def actions(parser: argparse.ArgumentParser) -> List[argparse.Action]:
    """What a parser takes, without what its help does not show."""
    return [item for item in parser._actions if item.help != argparse.SUPPRESS]


def parsers() -> Dict[str, argparse.ArgumentParser]:
    """Verb -> its parser."""
    (found,) = (item for item in build_parser()._actions if isinstance(item, argparse._SubParsersAction))
    return dict(found.choices)


def choices(action: argparse.Action) -> List[str]:
    """The values an argument may have, as far as they are known."""
    return [str(value) for value in action.choices or [] if value]


def own_words(verb: str, parser: argparse.ArgumentParser) -> List[str]:
    """What may follow a verb, values of options aside."""
    found = [name for item in actions(parser) for name in item.option_strings]
    for item in actions(parser):
        found += [] if item.option_strings else choices(item)
    return found + ([setting.name for setting in SETTINGS] if verb == "config" else [])


def bash() -> str:
    """The completion of bash."""
    top = [name for item in actions(build_parser()) for name in item.option_strings]
    verbs = [_bash_case('""', [*top, *(verb.name for verb in VERBS)], 8)]
    values = []
    for name, parser in parsers().items():
        verbs.append(_bash_case(name, own_words(name, parser), 8))
        for item in actions(parser):
            if item.option_strings and choices(item):
                values.append(_bash_case(f"{name}:{'|'.join(item.option_strings)}", choices(item), 4))
    return BASH.format(
        licence=LICENCE, made=MADE, verbs="\n".join(verbs), values="\n".join(values), paths="|".join(PATHS)
    )


def _bash_case(pattern: str, words: List[str], indent: int) -> str:
    # compgen takes a level of quoting off, and what is inserted needs one for its blanks.
    text = "\\n".join(word.replace(" ", "\\\\\\\\ ") for word in words)
    return f"{' ' * indent}{pattern}) words=$'{text}' ;;"


def zsh() -> str:
    """The completion of zsh."""
    top = " ".join(_zsh_option(item) for item in actions(build_parser()) if item.option_strings)
    verbs = "\n".join(f"            {_quoted(f'{verb.name}:{verb.help}')}" for verb in VERBS)
    rest = []
    for name, parser in parsers().items():
        specs = [_zsh_option(item) for item in actions(parser) if item.option_strings]
        specs += [_zsh_words(name, item) for item in actions(parser) if not item.option_strings]
        rest.append(f"        {name}) _arguments {' '.join(specs)} ;;")
    return ZSH.format(licence=LICENCE, made=MADE, top=top, verbs=verbs, rest="\n".join(rest))


def _quoted(text: str) -> str:
    return shlex.quote(text)


def _escaped(text: str) -> str:
    """For the text in brackets of _arguments."""
    for char in "\\[]:":
        text = text.replace(char, "\\" + char)
    return text


def _zsh_values(action: argparse.Action) -> str:
    return "(" + " ".join(value.replace(" ", "\\ ") for value in choices(action)) + ")"


def _zsh_option(action: argparse.Action) -> str:
    names = action.option_strings
    about = f"[{_escaped(action.help or '')}]"
    value = "" if action.nargs == 0 else f":{(action.metavar or action.dest)}:{_zsh_values(action)}"
    if len(names) == 1:
        return _quoted(f"{names[0]}{about}{value}")
    return f"{_quoted('(' + ' '.join(names) + ')')}{{{','.join(names)}}}{_quoted(about + value)}"


def _zsh_words(verb: str, action: argparse.Action) -> str:
    many = "*" if action.nargs == "*" else ""
    values = _zsh_values(action)
    if verb == "config":
        values = "(" + " ".join(setting.name for setting in SETTINGS) + ")"
    if verb in PATHS:
        values = "_files"
    return _quoted(f"{many}:{_escaped(str(action.metavar or action.dest)).lower()}:{values}")


def files() -> Dict[str, str]:
    """File name -> content of every completion."""
    return {"kmend.bash": bash(), "_kmend": zsh()}


def main() -> int:
    """Write the completions beside this file."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name, content in files().items():
        (HERE / name).write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
