# SPDX-License-Identifier: GPL-2.0-or-later
"""The command lines that Kbuild keeps."""

import pytest

from kmend_builder.kernel.savedcmd import saved_command


@pytest.mark.parametrize("prefix", ["cmd", "savedcmd"])
def test_the_command_comes_without_makes_escapes(prefix: str) -> None:
    text = f"{prefix}_/a/x.mod := printf '%s' $(pound) | awk '!x[$$0]++ {{ print $$$$ }}' > /a/x.mod\n\nsource_x := y\n"
    assert saved_command(text) == "printf '%s' # | awk '!x[$0]++ { print $$ }' > /a/x.mod"


@pytest.mark.parametrize("text", ["", "deps_x := y\n", "cmd_x gcc\n", "\0\1"])
def test_a_file_without_one_is_told(text: str) -> None:
    assert saved_command(text) is None
