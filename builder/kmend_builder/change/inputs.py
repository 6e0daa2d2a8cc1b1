# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways a change comes in: patch files, an edited tree, files with a suffix, a slice of a distribution upgrade.

All end as one Change: fixes in the order they apply, each with its patch. A patch, and not new file content, because
two fixes may touch one file.
"""

import dataclasses
import fnmatch
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kmend_builder.change import linediff, pick, text
from kmend_builder.change.patchfile import MAX_BYTES, Patch, find_cves, parse_patch
from kmend_builder.errors import BuildError, UsageError
from kmend_builder.inputfile import read_input

# What a build, git or an editor leaves in a tree
_IGNORED_DIRS = (".git", "include/generated", "include/config")
_IGNORED_NAMES = (
    *("*~", "*.orig", "*.rej", "*.bak", ".*", "#*#", "tags", "TAGS", "cscope.*", "GPATH", "GRTAGS", "GTAGS"),
    *("*.o", "*.ko", "*.a", "*.so", "*.so.dbg", "*.mod", "*.mod.c", "*.cmd", "*.order", "*.builtin", "*.d"),
    *("vmlinux", "vmlinux.*", "System.map", "Module.symvers", "modules.*", "*.dtb", "*.lex.c", "*.tab.[ch]"),
)
_SOURCE_SUFFIXES = (".c", ".h", ".S")


@dataclasses.dataclass(frozen=True)
class FixInput:
    """One fix: `id` names it in manifest and messages."""

    id: str
    cves: tuple[str, ...]
    title: str
    patch: Patch


@dataclasses.dataclass(frozen=True)
class Change:
    """Fixes in the order they apply; at least one, ids unique."""

    fixes: tuple[FixInput, ...]


def make_change(fixes: Iterable[FixInput]) -> Change:
    """Bring fixes together.

    Raises:
        UsageError: none given, two of one id, or an id that is no name of a directory.
    """
    found = tuple(fixes)
    if not found:
        raise UsageError("no fix given", hint="name a patch file, an edited tree, or a fix list")
    ids = [fix.id for fix in found]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise UsageError(f"two fixes are called {twice[0]}", hint="give each its own id or file name")
    for name in ids:
        if not names_directory(name):
            raise UsageError(
                f"not an id for a fix: {name[:80]!r}",
                why="the work directory has a directory of that name for it",
                hint="take up to 200 characters without a slash, such as a CVE id, or rename the patch file",
            )
    return Change(found)


def names_directory(name: str) -> bool:
    """Whether a text is the name of something inside a directory, and nowhere else."""
    return name not in ("", ".", "..") and "/" not in name and name.isprintable() and len(name.encode()) <= 200


def patch_files(paths: Sequence[Path]) -> Change:
    """One fix for each patch file. Its id is the file's name without suffix; CVEs come from its text or name.

    Raises:
        BuildError: a file can't be read, or is no acceptable patch.
        UsageError: none given, or two of one name.
    """
    return make_change(patch_fix(path) for path in paths)


def patch_fix(path: Path) -> FixInput:
    """The fix of one patch file."""
    patch = parse_patch(read_input(path, "the patch", MAX_BYTES), path.name)
    name = path.name.removesuffix(".patch").removesuffix(".diff")
    return FixInput(name, patch.cves or find_cves(name), patch.subject or name, patch)


def edited_tree(original: Path, edited: Path, *, fix_id: str = "edited") -> Change:
    """The difference between a source tree and an edited copy of it.

    Files that only the edited tree has count if they are C, header or assembly files and no build made them.

    Raises:
        BuildError: the trees are the same, or differ in a binary file.
    """
    for root in (original, edited):
        _must_be_tree(root)
    before, after = set(_files(original)), set(_files(edited))
    new = {rel for rel in after - before if rel.endswith(_SOURCE_SUFFIXES) and not _was_generated(edited, rel)}
    pairs = [(rel, original, edited) for rel in sorted((before & after) | (before - after) | new)]
    return Change((_difference_fix(fix_id, pairs, f"{edited} against {original}"),))


def suffixed_files(root: Path, suffix: str, *, fix_id: str = "edited") -> Change:
    """New versions that lie beside the originals: `dir/foo.c.SUFFIX` replaces `dir/foo.c`.

    Raises:
        UsageError: the suffix is empty or not a part of a name.
        BuildError: no file has the suffix, or all are equal to their originals.
    """
    if not suffix.strip(".") or "/" in suffix:
        raise UsageError(f"not a file suffix: {suffix!r}")
    _must_be_tree(root)
    tail = "." + suffix.lstrip(".")
    found = sorted(rel.removesuffix(tail) for rel in _walk(root, "") if rel.endswith(tail))
    if not found:
        raise BuildError(f"no file in {root} ends in {tail}", hint=f"copy foo.c to foo.c{tail} and edit that")
    chunks = [_file_diff(root / rel, root / (rel + tail), rel) for rel in found]
    return Change((_fix(fix_id, "".join(chunks), f"files ending in {tail}"),))


def upgrade_slice(
    source_a: Path, source_b: Path, only: Sequence[str], *, functions: Sequence[str] = (), name: str = "slice"
) -> Patch:
    """What an upgrade from tree A to tree B changes in some paths: files, directories or globs.

    With `functions`, only what it changes inside of these; see pick.py.

    Raises:
        UsageError: no path, one that leaves the tree, or one that is in neither tree.
        BuildError: nothing differs there, or not in one of the functions.
    """
    if not only:
        raise UsageError("no path given", hint="name the files of the fix, such as net/ipv4/tcp.c")
    for root in (source_a, source_b):
        _must_be_tree(root)
    wanted = sorted({rel for pattern in only for rel in _expand((source_a, source_b), pattern)})
    if functions:
        return _patch(_picked(source_a, source_b, wanted, functions), name, ", ".join(only))
    return _patch("".join(_file_diff(source_a / rel, source_b / rel, rel) for rel in wanted), name, ", ".join(only))


def _picked(source_a: Path, source_b: Path, wanted: Sequence[str], functions: Sequence[str]) -> str:
    """The diff of some files inside of some functions; each of these must have changed in one of the files."""
    missing, chunks = set(functions), []
    for rel in wanted:
        old, new = _content(source_a / rel), _content(source_b / rel)
        if old is None or new is None or old == new:
            continue
        before = text.decode(old)
        after, found = pick.pick(before, text.decode(new), functions, rel)
        missing -= found
        chunks.append(linediff.unified(text.lines(before), text.lines(after), rel))
    if missing:
        why = f"the upgrade changes no function of that name in {', '.join(wanted)}"
        raise BuildError(f"no change to {min(missing)}", why=why, hint="is it in another file, or a macro?")
    return "".join(chunks)


def _difference_fix(fix_id: str, pairs: list[tuple[str, Path, Path]], where: str) -> FixInput:
    chunks = [_file_diff(before / rel, after / rel, rel) for rel, before, after in pairs]
    return _fix(fix_id, "".join(chunks), where)


def _fix(fix_id: str, diff: str, where: str) -> FixInput:
    return FixInput(fix_id, find_cves(fix_id), fix_id, _patch(diff, fix_id, where))


def _patch(diff: str, name: str, where: str) -> Patch:
    if not diff:
        raise BuildError(f"{name}: changes nothing", why=f"no difference in {where}")
    return parse_patch(text.encode(diff), name)


def _file_diff(before: Path, after: Path, rel: str) -> str:
    old, new = _content(before), _content(after)
    if old == new:
        return ""
    if b"\0" in (old or b"") + (new or b""):
        raise BuildError(f"{rel} is a binary file and differs", hint="leave binary files out of the change")
    return linediff.unified(_lines(old), _lines(new), rel)


def _content(path: Path) -> bytes | None:
    try:
        if path.is_symlink() or not path.is_file():
            return None
        return path.read_bytes()
    except OSError as error:
        raise BuildError(f"can't read {path}", why=error.strerror or str(error)) from error


def _lines(data: bytes | None) -> list[str] | None:
    return None if data is None else text.lines(text.decode(data))


def _must_be_tree(root: Path) -> None:
    if not root.is_dir():
        raise UsageError(f"no source tree at {root}")


def _expand(roots: tuple[Path, Path], pattern: str) -> set[str]:
    """The files of either tree a path, directory or glob stands for."""
    if pattern.startswith("/") or ".." in pattern.split("/") or not pattern.strip("/"):
        raise UsageError(f"not a path inside a source tree: {pattern!r}")
    wanted = pattern.removesuffix("/")
    literal = wanted.split("*")[0].split("?")[0].split("[")[0]
    start = wanted if literal == wanted else literal.rpartition("/")[0]
    found: set[str] = set()
    for root in roots:
        if (root / start).is_file():
            found.add(start)
        for rel in _walk(root, start):
            if rel.startswith(f"{wanted}/") or fnmatch.fnmatchcase(rel, wanted):
                found.add(rel)
    if not found:
        raise UsageError(f"{pattern} is in neither tree", hint="paths start at the top of the source tree")
    return found


def _walk(root: Path, start: str) -> Iterator[str]:
    """Paths of the files below a directory of a tree."""
    for directory, subdirectories, names in os.walk(root / start):
        rel = os.path.relpath(directory, root)
        prefix = "" if rel == "." else f"{rel}/"
        subdirectories[:] = [name for name in subdirectories if name != ".git"]
        yield from (prefix + name for name in names)


def _files(root: Path) -> Iterator[str]:
    for rel in _walk(root, ""):
        inside = any(rel.startswith(f"{top}/") or f"/{top}/" in rel for top in _IGNORED_DIRS)
        name = rel.rpartition("/")[2]
        if not inside and not any(fnmatch.fnmatchcase(name, pattern) for pattern in _IGNORED_NAMES):
            yield rel


def _was_generated(root: Path, rel: str) -> bool:
    """Kbuild leaves the command of every file it makes beside it."""
    directory, _, name = rel.rpartition("/")
    return (root / directory / f".{name}.cmd").exists() or "/include/generated/" in rel
