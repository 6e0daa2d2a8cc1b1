# SPDX-License-Identifier: GPL-2.0-or-later
"""Its presence puts this directory on the import path, for the shared helpers in support/.

What tests measured is shown at the end of a run.
"""

from collections.abc import Callable

import pytest
from _pytest.terminal import TerminalReporter

from support.figures import KEY, Figure


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Tells what was measured: figure("36 power cuts: ...")."""
    return lambda text: record_property(KEY, text)


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    reports = terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", [])
    found = sorted({str(text) for report in reports for key, text in report.user_properties if key == KEY})
    if found:
        terminalreporter.section("figures")
        for text in found:
            terminalreporter.write_line(text)
