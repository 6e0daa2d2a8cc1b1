# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual pages and docs/exit-codes.md say what the program does."""

import argparse
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict

import pytest

from kmend.cli.main import EPILOG, build_parser
from kmend.cli.table import VERBS
from kmend.errors import KernelError, UnsupportedKernelError, UsageError

DOCS = Path(__file__).resolve().parents[3] / "docs"


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_man", DOCS / "man/generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(name: str) -> str:
    return (DOCS / "man" / name).read_text()


def test_pages_are_up_to_date() -> None:
    for name, content in generator().pages().items():
        assert page(name) == content, f"run docs/man/generate.py: {name} is out of date"


def options_of_help() -> Dict[str, str]:
    """Verb -> its `--help`."""
    action = next(item for item in build_parser()._actions if isinstance(item, argparse._SubParsersAction))
    return {name: parser.format_help() for name, parser in action.choices.items()}


def test_every_verb_and_option_of_help_is_in_the_page() -> None:
    text = page("kmend.8").replace("\\-", "-")
    for verb, shown in options_of_help().items():
        assert re.search(rf"^\.B {verb}\b", text, re.M), verb
        for option in set(re.findall(r"--[a-z-]+", shown)) - {"--help"}:
            assert option in text, f"{verb} {option}"


def test_every_option_in_the_page_is_in_help() -> None:
    text = page("kmend.8").replace("\\-", "-")
    known = " ".join(options_of_help().values()) + build_parser().format_help()
    for option in re.findall(r"^\.B .*?(--[a-z-]+)", text, re.M):
        assert option in known


def test_top_help_lists_all_verbs() -> None:
    shown = build_parser().format_help()
    for verb in VERBS:
        assert verb.help.split(",")[0] in " ".join(shown.split())


def test_exit_codes_are_the_same_everywhere() -> None:
    text = (DOCS / "exit-codes.md").read_text()
    described = {int(code) for code in re.findall(r"^\| ([0-9]+) \|", text, re.M)}
    from_epilog = {int(code) for code in re.findall(r"\b([0-9]) ", EPILOG)}
    from_page = {int(code) for code in re.findall(r"^\.B ([0-9])$", page("kmend.8"), re.M)}
    assert from_epilog == from_page == set(range(8))
    assert described == set(range(8)) | {130}
    assert (UsageError.exit_code, KernelError.exit_code, UnsupportedKernelError.exit_code) == (2, 6, 7)


@pytest.mark.skipif(not shutil.which("man"), reason="no man")
@pytest.mark.parametrize("name", ["kmend.8", "kmend.conf.5"])
def test_page_renders_without_warnings(name: str) -> None:
    argv = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(DOCS / "man" / name)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
