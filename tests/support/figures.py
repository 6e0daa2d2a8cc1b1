# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests say they have measured. The fixture `figure` takes it, from worker processes too (tests/conftest.py)."""

from collections.abc import Callable

Figure = Callable[[str], None]
#: Of the property in a test's report.
KEY = "figure"
