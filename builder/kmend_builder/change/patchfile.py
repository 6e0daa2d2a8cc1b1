# SPDX-License-Identifier: GPL-2.0-or-later
"""Unified diffs, read strictly: what the kernel's developers and git write, and nothing that has to be guessed.

Paths are those of `patch -p1`. Text is UTF-8 with undecodable bytes kept as surrogates, so that it can be written
back unchanged. Pure: bytes in, values out.
"""

import dataclasses
import email.header
import enum
import re

from kmend_builder.errors import BuildError

MAX_LINE = 64 << 10
MAX_BYTES = 64 << 20

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@(?: (.*))?\Z")
# In the text around diffs: what is left of one whose first lines were lost. Skipped, a part of the fix would be.
_STRAY = re.compile(r"@@ -|(?:---|\+\+\+) (?:[ab]/|/dev/null)")
_CVE = re.compile(r"\bCVE-[0-9]{4}-[0-9]{4,}\b")
_TAGS = re.compile(r"\A(?:\[[^\]]*\]\s*)+")
# git's extended header lines that neither rename nor change a mode, of ordinary files
_HARMLESS = ("index ", "new file mode ", "deleted file mode ")
_ORDINARY = re.compile(r"(?:(?:new|deleted) file mode|index [0-9a-f]+\.\.[0-9a-f]+)(?: 100644| 100755)?\Z")
# git's names of an empty file (SHA-1, SHA-256): what tells it from a patch that was cut off
_EMPTY = re.compile(r"index (?:0+\.\.(?:e69de29|473a0f4)[0-9a-f]*|(?:e69de29|473a0f4)[0-9a-f]*\.\.0+)\Z")
_BETWEEN = ("Index: ", "=====", "Only in ", "diff ")
_EPOCH = re.compile(r"(1970-01-01|1969-12-31) ")


class Kind(enum.Enum):
    """What a patch does to a file."""

    MODIFIED = "modified"
    ADDED = "added"
    DELETED = "deleted"


@dataclasses.dataclass(frozen=True)
class Hunk:
    """One hunk. `lines` have their tag (space, minus, plus) in front and their newline, if any, at the end."""

    old_start: int
    old_count: int
    new_start: int
    new_count: int
    section: str
    lines: tuple[str, ...]

    @property
    def old(self) -> list[str]:
        """The lines the hunk expects in the tree."""
        return [line[1:] for line in self.lines if line[0] != "+"]

    @property
    def new(self) -> list[str]:
        """The lines the hunk leaves in the tree."""
        return [line[1:] for line in self.lines if line[0] != "-"]

    @property
    def header(self) -> str:
        """The `@@` line, for messages."""
        text = f"@@ -{self.old_start},{self.old_count} +{self.new_start},{self.new_count} @@ {self.section}"
        return text.rstrip()


@dataclasses.dataclass(frozen=True)
class FilePatch:
    """The hunks of one file. `old` and `new` are paths in the tree; the missing side of added and deleted is None."""

    old: str | None
    new: str | None
    hunks: tuple[Hunk, ...]
    kind: Kind

    @property
    def path(self) -> str:
        """The path the file has, before or after."""
        path = self.new if self.new is not None else self.old
        assert path is not None
        return path


@dataclasses.dataclass(frozen=True)
class Patch:
    """One patch file: `subject` and `cves` come from the text in front of the first diff."""

    name: str
    subject: str
    cves: tuple[str, ...]
    files: tuple[FilePatch, ...]


def parse_patch(data: bytes, name: str) -> Patch:
    """Read one patch.

    Raises:
        BuildError: the patch is empty, truncated, damaged, or does what this parser does not accept (renames,
            binary hunks, changed modes, paths that leave the tree, CRLF line ends).
    """
    if len(data) > MAX_BYTES:
        raise BuildError(f"{name}: patch refused", why=f"larger than {MAX_BYTES} bytes")
    return _Parser(_split(data, name), name, whole=data.endswith(b"\n")).patch()


def find_cves(text: str) -> tuple[str, ...]:
    """The CVE ids in a text, each once, in the order of appearance."""
    return tuple(dict.fromkeys(_CVE.findall(text)))


def _split(data: bytes, name: str) -> list[str]:
    raw = data.split(b"\n")
    if raw and not raw[-1]:
        raw.pop()
    for number, line in enumerate(raw, 1):
        if len(line) > MAX_LINE:
            raise BuildError(f"{name}:{number}: patch refused", why=f"a line longer than {MAX_LINE} bytes")
        if line.endswith(b"\r"):
            raise BuildError(
                f"{name}:{number}: patch has CRLF line ends",
                why="it would not match the source",
                hint="convert it with dos2unix, or fetch it as raw text",
            )
    return [line.decode("utf-8", "surrogateescape") for line in raw]


class _Parser:
    """A cursor over the lines of a patch. `whole`: the last line has its newline."""

    def __init__(self, lines: list[str], name: str, *, whole: bool) -> None:
        self.lines = lines
        self.name = name
        self.whole = whole
        self.at = 0

    def fail(self, why: str, hint: str = "") -> BuildError:
        number = min(self.at + 1, len(self.lines))
        return BuildError(f"{self.name}:{number}: damaged or unsupported patch", why=why, hint=hint)

    def peek(self, ahead: int = 0) -> str | None:
        index = self.at + ahead
        return self.lines[index] if index < len(self.lines) else None

    def patch(self) -> Patch:
        while self.peek() is not None and not self.at_file():
            self.no_stray_hunk()
            self.at += 1
        head = self.lines[: self.at]
        files: list[FilePatch] = []
        while self.peek() is not None:
            files.append(self.file())
            self.between()
        if not files:
            raise BuildError(f"{self.name}: patch is empty", why="no diff in it", hint="make it with `git diff`")
        self.once_each(files)
        return Patch(self.name, _subject(head), find_cves("\n".join(head)), tuple(files))

    def at_file(self) -> bool:
        line = self.peek() or ""
        return line.startswith("diff --git ") or (line.startswith("--- ") and (self.peek(1) or "").startswith("+++ "))

    def no_stray_hunk(self) -> None:
        if _STRAY.match(self.peek() or ""):
            raise self.fail("a hunk that belongs to no file", "the ---/+++ lines in front of it are missing or damaged")

    def between(self) -> None:
        """Skip what may stand between two files: the mail signature, a next mail's head, tool chatter."""
        line = self.peek()
        if line is None or self.at_file():
            return
        if line[:1] in ("+", "-", " ", "\\") and line != "-- ":
            raise self.fail("more lines than the hunk's header counts", "the hunk was edited by hand; make it anew")
        if line and line != "-- " and not line.startswith((*_BETWEEN, "From ")):
            raise self.fail(f"unexpected text after a hunk: {line[:60]!r}")
        while self.peek() is not None and not self.at_file():
            self.no_stray_hunk()
            self.at += 1

    def once_each(self, files: list[FilePatch]) -> None:
        seen: set[str] = set()
        for file in files:
            if file.path in seen:
                raise BuildError(
                    f"{self.name}: {file.path} is patched twice",
                    why="several patches in one file",
                    hint="give every patch of a series its own file, in order",
                )
            seen.add(file.path)

    def file(self) -> FilePatch:
        git = self.git_header()
        if git is not None and not self.named():
            return self.without_hunks(git)
        old, old_epoch = self.path("--- ")
        new, new_epoch = self.path("+++ ")
        hunks = self.hunks()
        same = old is None or new is None or old == new
        if same and old_epoch and hunks[0].old_count == 0 and hunks[0].old_start == 0:
            old = None
        if same and new_epoch and hunks[0].new_count == 0 and hunks[0].new_start == 0:
            new = None
        return self.checked(old, new, hunks, git)

    def named(self) -> bool:
        return (self.peek() or "").startswith("--- ") and (self.peek(1) or "").startswith("+++ ")

    def git_header(self) -> "_GitHeader | None":
        line = self.peek() or ""
        if not line.startswith("diff --git "):
            return None
        header = _GitHeader(self.git_path(line))
        self.at += 1
        while (line := self.peek() or "").startswith(_HARMLESS):
            if not _ORDINARY.match(line):
                raise self.fail(
                    f"not of an ordinary file: {line[:80]!r}", "leave links and submodules out of the patch"
                )
            header.empty |= bool(_EMPTY.match(line))
            header.added |= line.startswith("new file")
            header.deleted |= line.startswith("deleted file")
            self.at += 1
        if line.startswith(("rename ", "copy ", "similarity ", "dissimilarity ")):
            raise self.fail("it renames or copies a file", "make it with `git diff --no-renames`")
        if line.startswith(("GIT binary patch", "Binary files ")):
            raise self.fail("it changes a binary file", "leave binary files out of the patch")
        if line.startswith("old mode "):
            raise self.fail("it changes a file's mode", "leave it out: a mode can't be live patched")
        return header

    def git_path(self, line: str) -> str:
        names = line[len("diff --git ") :]
        half = (len(names) - 1) // 2
        old, new = names[:half], names[half + 1 :]
        if names[half : half + 1] != " " or old.partition("/")[2] != new.partition("/")[2]:
            raise self.fail("the two names of `diff --git` differ", "make it with `git diff --no-renames`")
        return self.stripped(old)

    def without_hunks(self, git: "_GitHeader") -> FilePatch:
        if git.added != git.deleted and git.empty:
            empty: tuple[str | None, str | None] = (None, git.path) if git.added else (git.path, None)
            return FilePatch(*empty, (), Kind.ADDED if git.added else Kind.DELETED)
        raise self.fail(f"no hunk for {git.path}", "the patch is truncated")

    def path(self, marker: str) -> tuple[str | None, bool]:
        """One of the ---/+++ lines: the path, None for /dev/null; and whether its time says "does not exist"."""
        text, _, stamp = (self.peek() or "")[len(marker) :].partition("\t")
        if text == "/dev/null":
            self.at += 1
            return None, True
        result = self.stripped(text.rstrip(" "))
        self.at += 1
        return result, bool(_EPOCH.match(stamp))

    def stripped(self, text: str) -> str:
        """The path without its first component, as `patch -p1` takes it."""
        if text.startswith('"'):
            raise self.fail(f"a quoted path: {text[:80]}", "paths must be plain UTF-8")
        if any("\udc80" <= char <= "\udcff" for char in text) or not text.isprintable():
            raise self.fail(f"a path that is not plain UTF-8: {text[:80]!r}")
        if " " in text:
            raise self.fail(f"a path with a blank: {text[:80]!r}", "patch and git would read it in two ways")
        if text.startswith("/"):
            raise self.fail(f"an absolute path: {text[:200]}", "paths must be relative to the source tree, -p1")
        first, slash, rest = text.partition("/")
        parts = [first, *rest.split("/")]
        if not slash or not first:
            raise self.fail(f"not a -p1 path: {text[:200]!r}", "make it with `git diff`")
        if any(part in ("", ".", "..") for part in parts[1:]) or first == "..":
            raise self.fail(f"a path that is not inside the tree: {text[:200]}")
        return rest

    def checked(self, old: str | None, new: str | None, hunks: tuple[Hunk, ...], git: "_GitHeader | None") -> FilePatch:
        if old is None and new is None:
            raise self.fail("/dev/null on both sides")
        if old is not None and new is not None and old != new:
            raise self.fail(f"it renames {old} to {new}", "make it with `git diff --no-renames`")
        if git is not None and git.path != (new if new is not None else old):
            raise self.fail(f"`diff --git` names {git.path}, the ---/+++ lines name another file")
        kind = Kind.ADDED if old is None else Kind.DELETED if new is None else Kind.MODIFIED
        if git is not None and ((git.added and kind is not Kind.ADDED) or (git.deleted and kind is not Kind.DELETED)):
            raise self.fail(f"{git.path} is new or deleted in one line and not in another")
        if kind is Kind.ADDED and (len(hunks) != 1 or hunks[0].old_count or hunks[0].old_start):
            raise self.fail(f"{new} is new, but the hunk expects lines in it")
        if kind is Kind.DELETED and (len(hunks) != 1 or hunks[0].new_count or hunks[0].new_start):
            raise self.fail(f"{old} is deleted, but the hunk leaves lines in it")
        return FilePatch(old, new, hunks, kind)

    def hunks(self) -> tuple[Hunk, ...]:
        result: list[Hunk] = []
        end = 0
        while match := _HUNK.match(self.peek() or ""):
            hunk = self.hunk(match)
            if hunk.old_start < end:
                raise self.fail(f"hunks out of order or overlapping: {hunk.header}")
            end = hunk.old_start + hunk.old_count
            result.append(hunk)
        if not result:
            raise self.fail("no hunk after the file's names", "the patch is truncated")
        return tuple(result)

    def hunk(self, match: re.Match[str]) -> Hunk:
        start, count, new_start, new_count = (int(text) if text else 1 for text in match.groups()[:4])
        self.at += 1
        lines = self.body(count, new_count)
        if all(line[0] == " " for line in lines):
            raise self.fail("a hunk that changes nothing")
        return Hunk(start, count, new_start, new_count, match.group(5) or "", tuple(lines))

    def body(self, old: int, new: int) -> list[str]:
        lines: list[str] = []
        ended = ""
        while old or new:
            line = self.peek()
            if line is None:
                raise self.fail(f"truncated: {old} old and {new} new lines of the hunk are missing")
            if self.at == len(self.lines) - 1 and not self.whole:
                raise self.fail("truncated: its last line has no newline at its end", "the rest of the line is missing")
            # mailers cut the blank off an empty context line; patch and git accept it, too
            line = line or " "
            tag = line[0]
            if tag not in " +-" or (tag != "+" and not old) or (tag != "-" and not new):
                raise self.fail("the hunk's lines are not as many as its header counts")
            if tag == ended or (ended and " " in (tag, ended)):
                raise self.fail("lines behind one that has no newline at its end", "make the patch anew")
            old -= tag != "+"
            new -= tag != "-"
            lines.append(line + "\n")
            self.at += 1
            if self.no_newline(lines):
                ended = " " if ended else tag
        return lines

    def no_newline(self, lines: list[str]) -> bool:
        """Take the mark of a last line without newline, if there is one."""
        if not (self.peek() or "").startswith("\\ "):
            return False
        lines[-1] = lines[-1][:-1]
        self.at += 1
        return True


@dataclasses.dataclass
class _GitHeader:
    path: str
    added: bool = False
    deleted: bool = False
    empty: bool = False


def _subject(head: list[str]) -> str:
    """The mail's Subject without its [PATCH …] tags; continuation lines joined, encoded words decoded."""
    for index, line in enumerate(head):
        if line.lower().startswith("subject:"):
            parts = [line[len("subject:") :].strip()]
            for more in head[index + 1 :]:
                if not more.startswith((" ", "\t")) or not more.strip():
                    break
                parts.append(more.strip())
            return _TAGS.sub("", _decoded(" ".join(parts))).strip()
    return ""


def _decoded(text: str) -> str:
    try:
        return str(email.header.make_header(email.header.decode_header(text)))
    except (ValueError, LookupError):
        return text
