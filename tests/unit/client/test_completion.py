# SPDX-License-Identifier: GPL-2.0-or-later
"""The completions are made from the parser, work in their shells, and are in both packages."""

import importlib.util
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, List

import pytest

from kmend.cli.main import verb_names
from kmend.policy import MODES, SETTINGS

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "packaging/completion"


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_completion", FOLDER / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_files_are_up_to_date() -> None:
    for name, content in generator().files().items():
        assert (FOLDER / name).read_text() == content, f"run packaging/completion/generate.py: {name} is out of date"


def complete(*words: str, folder: Path = ROOT) -> List[str]:
    """What bash offers after these words; the last one is what is being typed."""
    script = (
        f'. {FOLDER}/kmend.bash; COMP_WORDS=(kmend "$@"); COMP_CWORD=$#; _kmend; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True, cwd=str(folder)
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


def test_bash_offers_verbs_and_options() -> None:
    assert set(verb_names()) < set(complete(""))
    assert complete("sta") == ["status"] and complete("--js") == ["--json"]
    assert complete("--json", "unam") == ["uname"]
    assert set(MODES) <= set(complete("mode", "")) and "status" not in complete("mode", "")
    assert complete("reboot", "sch") == ["schedule"] and complete("reboot", "--if") == ["--if-needed"]
    assert complete("nonsense", "") == []


def test_bash_offers_values_of_options_and_settings() -> None:
    assert complete("cves", "--only", "") == ["live", "absent", "reboot", "not\\ live", "unknown"]
    assert complete("cves", "--only", "no") == ["not\\ live"]
    assert complete("config", "reboot.block") == [s.name for s in SETTINGS if s.name.startswith("reboot.block")]


def test_bash_offers_files_where_a_path_belongs(tmp_path: Path) -> None:
    (tmp_path / "update.deb").touch()
    assert complete("apply", "up", folder=tmp_path) == ["update.deb"]
    assert complete("status", "up", folder=tmp_path) == []


# Stands in for the functions of zsh's completion system.
ZSH = """
_arguments() { print -rl -- "$@"; line=($VERB); if [[ $1 == -C ]]; then state=$STATE; fi; return 0 }
_describe() { print -rl -- "${(@P)4}"; return 0 }
source $1
"""


def zsh(state: str, verb: str = "") -> List[str]:
    """What the function asks of zsh's own ones."""
    argv = ["zsh", "-f", "-c", ZSH, "zsh", str(FOLDER / "_kmend")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={"STATE": state, "VERB": verb})
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh")
def test_zsh_asks_for_the_right_things() -> None:
    assert [line.partition(":")[0] for line in zsh("verb") if line.partition(":")[0] in verb_names()] == verb_names()
    assert ":mode:(auto manual notify)" in zsh("rest", "mode")
    assert ":mode:(auto manual notify)" not in zsh("rest", "status")
    assert ":path:_files" in zsh("rest", "apply")
    assert any("not\\ live" in line for line in zsh("rest", "cves"))


# An interactive shell whose kmend prints its words, each in brackets.
ZSH_SET_UP = f"PS1=; fpath=({FOLDER} $fpath); autoload -Uz compinit; compinit -u -D; "
ZSH_SET_UP += 'kmend() { print -r -- "[${(j:][:)@}]" }; print re""ady\n'
_WAIT = 60.0


def typed_in_zsh(line: str) -> str:
    """The words that kmend gets when that is typed and <Tab> and <Enter> pressed, in a real zsh."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve("/usr/bin/env", ["env", "-i", "PATH=/usr/bin:/bin", "TERM=dumb", "zsh", "-f", "-i"], {})
    try:
        os.write(terminal, ZSH_SET_UP.encode())
        _read_until(terminal, rb"\nready\r")
        os.write(terminal, line.encode() + b"\t\r")
        return _read_until(terminal, rb"\n(\[.*\])\r")
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(child, 0)


def _read_until(terminal: int, pattern: bytes) -> str:
    """What the pattern's last group found in what is printed."""
    out, deadline = b"", time.monotonic() + _WAIT
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            out += os.read(terminal, 1 << 16)
        if found := re.search(pattern, out):
            return found.group(found.lastindex or 0).decode()
    raise AssertionError(f"no {pattern!r} in {out!r}")


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("kmend sta", "[status]"),
        ("kmend --js", "[--json]"),
        ("kmend mode not", "[mode][notify]"),
        ("kmend cves --only not", "[cves][--only][not live]"),
        ("kmend reboot sch", "[reboot][schedule]"),
        ("kmend nonsense x", "[nonsense][x]"),
    ],
)
def test_zsh_completes_what_is_typed(line: str, words: str) -> None:
    assert typed_in_zsh(line) == words


@pytest.mark.parametrize("build", ["packaging/debian/build", "packaging/rpm/build"])
def test_both_packages_have_them(build: str) -> None:
    text = (ROOT / build).read_text()
    assert '"packaging/completion/kmend.bash": ("usr/share/bash-completion/completions/kmend", 0o644)' in text
    assert '"packaging/completion/_kmend": ("usr/share/zsh/' in text
