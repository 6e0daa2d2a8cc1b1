# SPDX-License-Identifier: GPL-2.0-or-later
"""What the displays say, and that they never hide a failure."""

import io
import re

import pytest
from rich.console import Console

from kmend_builder.progress import PlainProgress, Progress, SilentProgress, TerminalProgress, make_progress


def test_plain_lines_show_nesting_and_seconds() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream)
    with progress.step("outer"):
        progress.note("a fact")
        with progress.step("inner"):
            pass
    text = re.sub(r"\d+\.\d s", "N s", stream.getvalue())
    assert text == "outer ...\n  a fact\n  inner ...\n  inner: done (N s)\nouter: done (N s)\n"


@pytest.mark.parametrize("kind", ["plain", "terminal", "silent"])
def test_a_failed_step_passes_its_exception_on(kind: str) -> None:
    stream = io.StringIO()
    displays: dict[str, Progress] = {
        "plain": PlainProgress(stream),
        "terminal": TerminalProgress(Console(file=stream, force_terminal=True)),
        "silent": SilentProgress(),
    }
    with pytest.raises(RuntimeError, match="broken"), displays[kind].step("work"):
        raise RuntimeError("broken")
    assert ("failed" in stream.getvalue()) == (kind != "silent")


def test_a_terminal_shows_each_step_done_and_can_start_again() -> None:
    stream = io.StringIO()
    progress = TerminalProgress(Console(file=stream, force_terminal=True, width=100))
    for title in ("first [1]", "second"):
        with progress.step(title), progress.step(f"inside {title}"):
            progress.note("a note [x]")
    text = stream.getvalue()
    assert "inside first [1]" in text
    assert "inside second" in text
    assert "a note [x]" in text
    assert "done" in text
    assert "failed" not in text


def test_make_progress_picks_the_display(capsys: pytest.CaptureFixture[str]) -> None:
    make_progress(quiet=True).note("nothing")
    make_progress().note("something")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "something\n")
