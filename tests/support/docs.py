# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads Markdown pages as far as the tests of the documentation need: links, fenced commands, tables, quoted code."""

import re
import shlex
from pathlib import Path

_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
_PATH = re.compile(r"`((?:client|builder|kmod|apt-hook|packaging|demo|tests|benchmarks|docs|tools|bin)/[\w./-]*)`")
_GOOD = re.compile(r"^# GOOD: (\S+)\n(.*)", re.M | re.S)


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub makes of a page's headings: lower case, punctuation dropped, blanks to dashes."""
    headings = re.findall(r"^#+ (.*)", _FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Relative links of a page whose file or heading does not exist, in order."""
    found = []
    for link in _LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, fragment = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            found.append(link)
    return found


def missing_paths(root: Path, text: str) -> list[str]:
    """Paths in backticks below the repository's own directories that are not there."""
    return [path for path in _PATH.findall(text) if not (root / path).exists()]


def commands(text: str) -> list[list[str]]:
    """The command lines in fenced blocks as argument lists, `sudo` and directories taken off the program.

    Lines with placeholders (…, ...) or shell syntax are left out, and blocks of another language than sh.
    """
    found = []
    for language, block in _FENCE.findall(text):
        if language not in ("", "sh"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            argv = _command(line)
            if argv:
                found.append(argv)
    return found


def _command(line: str) -> list[str]:
    if re.search(r"…|\.\.\.|&&|\||\$\(|\[", line):
        return []
    try:
        argv = shlex.split(line, comments=True)
    except ValueError:
        return []
    if argv[:1] == ["sudo"]:
        argv = argv[1:]
    if not argv or not re.match(r"(?:\S+/)?(?:kmend|kmend-build|make)\Z", argv[0]):
        return []
    return [argv[0].rpartition("/")[2], *argv[1:]]


def section(text: str, heading: str) -> str:
    """The text below a heading, up to the next one of the same or a higher level.

    Raises:
        LookupError: there is no such heading.
    """
    start = re.search(rf"^(#+) {re.escape(heading)}$", text, re.M)
    if start is None:
        raise LookupError(heading)
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(start.group(1))}}} ", rest, re.M)
    return rest[: end.start()] if end else rest


def first_column(text: str, pattern: str) -> list[str]:
    """What stands in backticks in the first column of tables, where it matches; a slash at the end is dropped."""
    return [name.rstrip("/") for name in re.findall(rf"^\| `({pattern})` \|", text, re.M)]


def good_examples(text: str) -> list[tuple[str, list[str]]]:
    """The GOOD halves that name a file: (path, its code lines without comments and indentation)."""
    found = []
    for _, block in _FENCE.findall(text):
        good = _GOOD.search(block)
        if good:
            lines = [line.strip() for line in good.group(2).splitlines()]
            found.append((good.group(1), [line for line in lines if line and not line.startswith("#")]))
    return found
