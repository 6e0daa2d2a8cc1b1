# SPDX-License-Identifier: GPL-2.0-or-later
"""The fixes of a directory, and what their results depend on."""

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path

import kmend.manifest
import kmend.reasons
from kmend_builder import __version__
from kmend_builder.errors import BuildError, UsageError
from kmend_builder.livepatch.link import KMOD
from kmend_builder.workdir import digest

SUFFIX = ".patch"
_PACKAGE = Path(__file__).resolve().parents[1]
# A verdict does not depend on how live patches are proven, published or asked for.
_NOT_JUDGING = ("prove", "publish", "cli", "coverage")
_HEADER_LINE = b"\n+++ "


@dataclasses.dataclass(frozen=True)
class FixFile:
    """One patch file. `id` is its name without suffix, `sha256` of its bytes; `headers`: whether it changes any."""

    id: str
    path: Path
    sha256: str
    headers: bool


def find_fixes(directory: Path) -> list[FixFile]:
    """The patch files of a directory (not of those below it), by name.

    Raises:
        UsageError: there is no such directory, or no patch in it.
        BuildError: a file can't be read.
    """
    if not directory.is_dir():
        raise UsageError(f"no directory {directory}", hint="name a directory of *.patch files")
    paths = sorted(path for path in directory.glob(f"*{SUFFIX}") if not path.name.startswith(".") and path.is_file())
    if not paths:
        raise UsageError(f"no *{SUFFIX} in {directory}", hint="name a directory of *.patch files")
    return [_fix_file(path) for path in paths]


def _fix_file(path: Path) -> FixFile:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BuildError(f"can't read the patch {path}", why=error.strerror or str(error)) from error
    return FixFile(path.name.removesuffix(SUFFIX), path, hashlib.sha256(data).hexdigest(), changes_header(data))


def changes_header(patch: bytes) -> bool:
    """Whether a patch names a header among its new files. Errs to either side cost time, not truth."""
    names = (line.split(b"\n", 1)[0].split(b"\t", 1)[0].rstrip() for line in patch.split(_HEADER_LINE)[1:])
    return any(name.endswith(b".h") for name in names)


def judging_digest() -> str:
    """What verdicts depend on of this builder: its version, its code and the glue."""
    files = [path for path in _sources(_PACKAGE) if path.relative_to(_PACKAGE).parts[0] not in _NOT_JUDGING]
    return _digest([*files, *_contract(), *sorted(KMOD.glob("*.[ch]"))])


def proving_digest() -> str:
    """What proofs depend on, apart from the live patch itself."""
    return _digest([*_sources(_PACKAGE / "prove"), *_sources(_PACKAGE / "coverage")])


def _sources(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _contract() -> list[Path]:
    return [Path(module.__file__) for module in (kmend.manifest, kmend.reasons) if module.__file__]


def _digest(files: Iterable[Path]) -> str:
    return digest(__version__, *(part for path in files for part in (path.name, path.read_bytes())))


def judging_key(fix: FixFile, build_id: str, builder: str) -> str:
    """One result is as good as another of the same patch, kernel and builder."""
    return digest("judge", fix.id, fix.sha256, build_id, builder)


def proving_key(module: bytes, build_id: str, prover: str) -> str:
    """One proof is as good as another of the same module, kernel and prover."""
    return digest("prove", module, build_id, prover)
