# SPDX-License-Identifier: GPL-2.0-or-later
"""The documentation says what the programs do: links, commands, options, codes, versions and quoted code."""

import argparse
import ast
import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import kmend
import kmend_builder
from kmend import report as client_report
from kmend.cli import main as client_main
from kmend.reasons import Reason, Verdict
from kmend_builder import errors, run
from kmend_builder.change.inputs import Change, FixInput
from kmend_builder.change.patchfile import Patch
from kmend_builder.cli import main as builder_main
from kmend_builder.judge import Judgement
from kmend_builder.kernel.model import Kernel
from kmend_builder.workdir import Stage
from support import docs

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "apt-hook").glob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
DECISIONS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(actions[0].choices) if actions else {}


def options(parser: argparse.ArgumentParser) -> set[str]:
    """The long options of a parser and of everything below it."""
    found = {name for action in parser._actions for name in action.option_strings if name.startswith("--")}
    return found.union(*(options(child) for child in subparsers(parser).values()))


def test_the_pages_everybody_looks_for_are_there() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/kmend-build.md"):
        assert name in NAMES
    assert "Version 2, June 1991" in text_of("LICENSE")


# Links and paths


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    assert docs.broken_links(ROOT / name) == []


@pytest.mark.parametrize("name", NAMES)
def test_paths_of_this_repository_exist(name: str) -> None:
    assert docs.missing_paths(ROOT, text_of(name)) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# The Title, here\n")
    page = tmp_path / "page.md"
    page.write_text("[a](other.md) [b](other.md#the-title-here) [c](https://example.org/x)\n")
    assert docs.broken_links(page) == []
    page.write_text("[a](gone.md) [b](other.md#no-title) [c](#nothing)\n")
    assert docs.broken_links(page) == ["gone.md", "other.md#no-title", "#nothing"]


def test_a_path_that_is_gone_is_found() -> None:
    assert docs.missing_paths(ROOT, "`docs/adr/` and `client/kmend/plan.py`") == []
    assert docs.missing_paths(ROOT, "`docs/gone.md`, `client/kmend/plans.py`") == [
        "docs/gone.md",
        "client/kmend/plans.py",
    ]


# Commands


def accepts(parser: argparse.ArgumentParser, argv: list[str]) -> bool:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            parser.parse_args(argv)
        except SystemExit as end:
            return end.code == 0
    return True


@pytest.mark.parametrize("name", NAMES)
def test_the_programs_take_every_command_shown(name: str) -> None:
    parsers = {"kmend": client_main.build_parser(), "kmend-build": builder_main.parser()}
    commands = [argv for argv in docs.commands(text_of(name)) if argv[0] in parsers]
    wrong = [argv for argv in commands if not accepts(parsers[argv[0]], argv[1:])]
    assert wrong == []


def test_a_command_nobody_takes_is_found() -> None:
    good, bad = docs.commands("```\nsudo kmend apply -n out  # try\nbin/kmend-build run --no-such thing \\\n  x\n```\n")
    assert (good, bad) == (["kmend", "apply", "-n", "out"], ["kmend-build", "run", "--no-such", "thing", "x"])
    assert accepts(client_main.build_parser(), good[1:])
    assert not accepts(builder_main.parser(), bad[1:])


@pytest.mark.parametrize("name", NAMES)
def test_make_targets_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.M))
    fenced = {argv[1] for argv in docs.commands(text_of(name)) if argv[0] == "make" and len(argv) > 1}
    named = set(re.findall(r"`make ([a-z-]+)`", text_of(name)))
    assert (fenced | named) - targets == set()


def test_readme_shows_the_demo() -> None:
    assert ["make", "demo"] in docs.commands(text_of("README.md"))


# The builder's reference


@pytest.mark.parametrize("verb", builder_main.VERBS)
def test_every_verb_and_option_of_the_builder_is_documented(verb: str) -> None:
    text = text_of("docs/kmend-build.md") + text_of("docs/publishing.md")
    assert re.search(rf"`{verb}`", text_of("docs/kmend-build.md")) or f"`{verb}" in text
    missing = {name for name in options(subparsers(builder_main.parser())[verb]) if name not in text}
    assert missing - {"--help"} == set()


def test_every_option_in_the_reference_exists() -> None:
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text_of("docs/kmend-build.md")))
    assert shown - options(builder_main.parser()) == set()


def test_every_verb_of_the_agent_is_in_the_manual_page() -> None:
    page = text_of("docs/man/kmend.8")
    missing = [verb for verb in subparsers(client_main.build_parser()) if not re.search(rf"^\.B {verb}\b", page, re.M)]
    assert missing == []


def test_every_stage_is_documented() -> None:
    for page in ("docs/kmend-build.md", "docs/architecture.md"):
        assert docs.first_column(text_of(page), r"[1-9]-[a-z]+/?") == [stage.directory for stage in Stage], page


def test_every_reason_code_is_documented() -> None:
    section = docs.section(text_of("docs/kmend-build.md"), "Reason codes")
    assert docs.first_column(section, r"[a-z-]+") == [reason.value for reason in Reason]


def test_every_exit_code_of_the_builder_is_documented() -> None:
    section = docs.section(text_of("docs/kmend-build.md"), "Exit codes")
    codes = {errors.BuildError.exit_code, errors.UsageError.exit_code, errors.Refused.exit_code, 0, 130}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.M)} == codes


def test_every_exit_code_of_the_agent_is_documented() -> None:
    first = docs.section(text_of("docs/exit-codes.md"), "Exit codes").partition("Every verb:")[0]
    codes = {getattr(client_report, name) for name in ("COVERED", "AVAILABLE", "PARTIAL", "REBOOT", "FAILED")}
    codes.add(client_report.UNSUPPORTED)
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", first, re.M)} == codes


def a_result() -> run.RunResult:
    fields = {field.name: Path("/x") if field.type is Path else "x" for field in dataclasses.fields(Kernel)}
    fix = FixInput("id", (), "title", Patch("id", "", (), ()))
    refusal = errors.Refused(Reason.CONFLICT, "place")
    judgement = Judgement(Change((fix,)), Verdict.REBOOT, [], [], refusal=refusal)
    outcome = run.FixOutcome(fix, judgement)
    return run.RunResult(Kernel(**fields), "1+1", "1", [outcome], None, None, {}, 0.0)  # type: ignore[arg-type]


def test_every_field_of_the_json_is_documented() -> None:
    section = docs.section(text_of("docs/kmend-build.md"), "JSON")
    value = run.result_value(a_result(), [], "")
    [fix] = value["fixes"]
    names = {*value, *value["kernel"], *fix, *fix["refusal"]}
    assert {name for name in names if f"`{name}`" not in section} == set()


# The fence between client and builder

CONTRACT = {"kmend.manifest", "kmend.reasons", "kmend.errors"}
DISTRO_ONLY = {"apt", "apt_pkg", "apt_inst"}


def imported(files: Iterable[Path]) -> set[str]:
    """The modules that Python files import, parsed as Python 3.9."""
    found: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module or "")
    return found


def foreign(files: Iterable[Path]) -> set[str]:
    """Imported modules that are neither the standard library's nor the client's own."""
    return {name for name in imported(files) if name.partition(".")[0] not in {*sys.stdlib_module_names, "kmend"}}


def test_the_client_needs_nothing_but_python() -> None:
    files = set((ROOT / "client").rglob("*.py"))
    distro = {file for file in files if file.parent.name == "distro"}
    assert len(distro) > 3 and len(files) > 40
    assert foreign(files - distro) == set()
    assert foreign(distro) <= DISTRO_ONLY


def test_a_library_in_the_client_is_found(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("import os\nfrom kmend.manifest import parse\n")
    assert foreign(tmp_path.glob("*.py")) == set()
    (tmp_path / "two.py").write_text("def f():\n    import yaml\n    from kmend_builder import run\n")
    assert foreign(tmp_path.glob("*.py")) == {"yaml", "kmend_builder"}


def test_the_builder_takes_the_contract_from_the_client_and_nothing_else() -> None:
    names = set()
    for file in (ROOT / "builder").rglob("*.py"):
        names |= set(re.findall(r"^\s*(?:from|import) (kmend(?:\.\w+)*)\b", file.read_text(encoding="utf-8"), re.M))
    assert names == CONTRACT


# Versions, decisions, quoted code


def test_versions_agree() -> None:
    newest = re.search(r"^## (\S+)", text_of("CHANGELOG.md"), re.M)
    assert newest
    assert kmend.__version__ == kmend_builder.__version__ == newest.group(1)
    assert set(re.findall(r"kmend_([0-9][^_]*)_all\.deb", text_of("README.md"))) == {kmend.__version__}
    assert f'"kmend {kmend.__version__}"' in text_of("docs/man/kmend.8")


def test_packaging_takes_its_version_from_the_code() -> None:
    assert 'version = { attr = "kmend.__version__" }' in text_of("pyproject.toml")
    assert 'version = { attr = "kmend_builder.__version__" }' in text_of("builder/pyproject.toml")
    assert "client/kmend/__init__.py" in text_of("packaging/debian/build")


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_is_short_complete_and_listed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    assert re.findall(r"^## (.*)", text, re.M) == ["Context", "Decision", "Consequences"]
    assert re.search(r"^# (\d{4}): ", text, re.M).group(1) == page.name[:4]  # type: ignore[union-attr]
    assert f"]({page.name})" in text_of("docs/adr/README.md")


def test_contributing_quotes_real_code() -> None:
    quotes = docs.good_examples(text_of("CONTRIBUTING.md"))
    assert len(quotes) >= 4
    for place, lines in quotes:
        source = [line.strip() for line in text_of(place).splitlines()]
        assert [line for line in lines if line not in source] == [], place


def test_a_quote_that_is_not_in_the_code_is_found() -> None:
    [(place, lines)] = docs.good_examples("```python\n# GOOD: client/kmend/plan.py\n# why\nx = no_such()\n```\n")
    assert (place, lines) == ("client/kmend/plan.py", ["x = no_such()"])
    assert "x = no_such()" not in text_of(place)
