# SPDX-License-Identifier: GPL-2.0-or-later
"""Line numbers after a change, judged by the compiler's own preprocessor."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmend_builder.change.lines import boundaries, stabilise

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

FUNCTION = "int {0}(void)\n{{\n\tint {0}_line = __LINE__;\n\treturn {0}_line;\n}}\n\n"
ORIGINAL = "".join(FUNCTION.format(name) for name in ("alpha", "beta", "gamma"))


def line_numbers(source: str, *defines: str) -> dict[str, int]:
    """What __LINE__ is at every `NAME_line = __LINE__`, says the preprocessor."""
    command = ["gcc", "-E", "-P", "-x", "c", "-", *(f"-D{name}" for name in defines)]
    out = subprocess.run(command, input=source, text=True, check=True, capture_output=True).stdout
    return {name: int(number) for name, number in re.findall(r"(\w+)_line = (\d+)", out)}


def without_directives(source: str) -> str:
    return re.sub(r"^#line \d+\n", "", source, flags=re.MULTILINE)


def test_directive_goes_behind_the_changed_function() -> None:
    patched = ORIGINAL.replace("return beta_line", "beta_line++;\n\treturn beta_line")
    lines = stabilise(ORIGINAL, patched).split("\n")
    assert [line for line in lines if line.startswith("#")] == ["#line 12"]
    assert lines[lines.index("#line 12") - 1] == "}"


@needs_gcc
def test_functions_behind_keep_their_line() -> None:
    patched = ORIGINAL.replace("return beta_line", "beta_line++;\n\treturn beta_line")
    assert line_numbers(patched)["gamma"] == line_numbers(ORIGINAL)["gamma"] + 1
    assert line_numbers(stabilise(ORIGINAL, patched)) == line_numbers(ORIGINAL)


@pytest.mark.parametrize(
    "patched",
    [
        ORIGINAL,
        ORIGINAL.replace("return beta_line", "return -beta_line"),
        ORIGINAL.replace("return gamma_line;", "gamma_line++;\n\treturn gamma_line;"),
        ORIGINAL + "/* a last\n * word */\n",
    ],
    ids=["no change", "same count", "nothing follows", "comment at the end"],
)
def test_no_directive_where_none_is_needed(patched: str) -> None:
    assert stabilise(ORIGINAL, patched) == patched


@pytest.mark.parametrize(
    "between",
    [
        "/* a comment }\n;\n that goes on\n*/\n",
        "#define MACRO(x) do { \\\n\tx; \\\n} while (0)\n",
        'static const char *text = "a\\\n};\\\nb";\n',
        "DECLARE(a,\n(b;),\nc);\n",
        "static int table[] = {\n{\n1\n},\n{\n2\n}\n};\n",
        'asm(".text\\n"\n"nop\\n"\n);\n',
        "struct s {\n\tint a;\n#ifdef X\n\tint b;\n#endif\n};\n",
        "// a comment; \\\nthat goes on;\n",
        "#error don't\n",
    ],
)
def test_never_inside_of_something(between: str) -> None:
    rows = boundaries("int x;\n" + between + "int y;\n")
    assert rows[0]
    assert rows[-1]
    inside = rows[2:-1]
    assert not any(inside), between


@needs_gcc
@pytest.mark.parametrize("defines", [(), ("A",), ("B",), ("A", "B")])
def test_conditionals_seen_or_not(defines: tuple[str, ...]) -> None:
    original = (
        "#ifdef A\n" + FUNCTION.format("one") + FUNCTION.format("two") + "#else\n" + FUNCTION.format("three")
        + "#endif\n" + FUNCTION.format("four") + "#ifdef B\n" + FUNCTION.format("five") + "#endif\n"
        + FUNCTION.format("six")
    )  # fmt: skip
    for name in ("one", "three", "four", "five"):
        patched = original.replace(f"return {name}_line", f"{name}_line++;\n\n\treturn {name}_line")
        result = stabilise(original, patched)
        assert without_directives(result) == patched
        assert line_numbers(result, *defines) == line_numbers(original, *defines), name


def test_braces_opened_by_halves_fall_back_to_column_zero() -> None:
    odd = "void f(void)\n{\n#ifdef A\n\tif (1) {\n#endif\n\t\tx();\n\t}\n}\n"
    original = odd + ORIGINAL
    patched = original.replace("return alpha_line", "alpha_line++;\n\treturn alpha_line")
    result = stabilise(original, patched)
    assert without_directives(result) == patched
    assert result.count("#line") == 1


CHUNK = st.sampled_from(
    [
        FUNCTION,
        "struct {0}_s {{\n\tint a;\n}};\n",
        "#ifdef CONFIG_{0}\nint {0};\n#endif\n",
        "/*\n * {0} }}\n */\n",
        "#define {0}_M(x) \\\n\t(x)\n",
        "static int {0}_t[] = {{\n\t1,\n}};\n\n",
    ]
)


@needs_gcc
@given(chunks=st.lists(CHUNK, min_size=2, max_size=7), extra=st.integers(0, 3), at=st.data())
@settings(max_examples=40, deadline=None)
def test_property_functions_that_did_not_change_keep_their_line(
    chunks: list[str], extra: int, at: st.DataObject
) -> None:
    """Lines added to or removed from one chunk: all others keep their numbers, whatever configuration is set."""
    texts = [chunk.format(f"n{index}") for index, chunk in enumerate([*chunks, FUNCTION])]
    index = at.draw(st.integers(0, len(texts) - 1))
    new = "int added;\n" * extra if extra else ""
    changed = texts[index].replace("\treturn", f"\t{new}\treturn") if "return" in texts[index] else new
    original, patched = "".join(texts), "".join([*texts[:index], changed, *texts[index + 1 :]])
    result = stabilise(original, patched)
    assert without_directives(result) == patched
    for defines in ((), tuple(f"CONFIG_n{number}" for number in range(len(texts)))):
        before, after = line_numbers(original, *defines), line_numbers(result, *defines)
        del_key = f"n{index}"
        before.pop(del_key, None), after.pop(del_key, None)
        assert before == after
