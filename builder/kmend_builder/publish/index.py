# SPDX-License-Identifier: GPL-2.0-or-later
"""The index files of an apt repository, as bytes. Pure: no clock, no disk.

Formats: deb-control(5) stanzas for Packages; the Release file as in apt-secure(8) and the Debian repository format.
"""

import dataclasses
import datetime
import email.utils
import gzip
import hashlib
import lzma
import re
from collections.abc import Iterable, Mapping

from kmend_builder.errors import BuildError

COMPONENT = "main"
HASHES = ("SHA256", "SHA512")
_DATE = "%a, %d %b %Y %H:%M:%S"


@dataclasses.dataclass(frozen=True)
class Identity:
    """How the repository presents itself; apt pins and unattended-upgrades select by these words."""

    origin: str = "kmend"
    label: str = "kmend"
    suite: str = "stable"
    codename: str = "kmend"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One package in an index. `text` is its stanza without trailing newline."""

    package: str
    version: str
    architecture: str
    filename: str
    size: int
    sha256: str
    text: str


@dataclasses.dataclass(frozen=True)
class Release:
    """What a signed Release file says: its times, and of every index file size and hashes by algorithm."""

    date: datetime.datetime
    valid_until: datetime.datetime
    architectures: tuple[str, ...]
    hashes: Mapping[str, Mapping[str, str]]


def make_entry(
    control: str, package: str, version: str, architecture: str, *, filename: str, size: int, sha256: str, sha512: str
) -> Entry:
    """An index entry from a control file and the measures of the package."""
    text = f"{control}\nFilename: {filename}\nSize: {size}\nSHA256: {sha256}\nSHA512: {sha512}"
    return Entry(package, version, architecture, filename, size, sha256, text)


def render_packages(entries: Iterable[Entry]) -> bytes:
    """A Packages file, in the order given."""
    return "".join(f"{entry.text}\n\n" for entry in entries).encode()


def parse_packages(data: bytes) -> list[Entry]:
    """Read a Packages file that render_packages() wrote.

    Raises:
        BuildError: a stanza lacks a field.
    """
    return [_entry(text) for text in data.decode().split("\n\n") if text.strip()]


def compressed(path: str, data: bytes) -> dict[str, bytes]:
    """The file and its compressed twins; equal input gives equal bytes."""
    return {path: data, f"{path}.gz": gzip.compress(data, 9, mtime=0), f"{path}.xz": lzma.compress(data, preset=6)}


def render_release(
    files: Mapping[str, bytes],
    *,
    identity: Identity,
    architectures: Iterable[str],
    date: datetime.datetime,
    valid_until: datetime.datetime,
) -> bytes:
    """The Release file over `files`, whose paths are relative to it."""
    lines = [
        f"Origin: {identity.origin}",
        f"Label: {identity.label}",
        f"Suite: {identity.suite}",
        f"Codename: {identity.codename}",
        f"Date: {date.strftime(_DATE)} UTC",
        f"Valid-Until: {valid_until.strftime(_DATE)} UTC",
        "Acquire-By-Hash: yes",
        f"Architectures: {' '.join(sorted(architectures))}",
        f"Components: {COMPONENT}",
        # Packages of architecture all are in every index, so apt need not look for a binary-all of its own.
        "No-Support-for-Architecture-all: Packages",
        "Description: Live patches for distribution kernels",
    ]
    for algorithm in HASHES:
        lines.append(f"{algorithm}:")
        lines += [f" {file_hash(data, algorithm)} {len(data)} {path}" for path, data in sorted(files.items())]
    return ("\n".join(lines) + "\n").encode()


def parse_release(data: bytes) -> Release:
    """Read a Release file that render_release() wrote.

    Raises:
        BuildError: a field is missing or makes no sense.
    """
    text = data.decode("utf-8", "replace")
    hashes: dict[str, dict[str, str]] = {}
    for algorithm in HASHES:
        block = re.search(rf"^{algorithm}:\n((?: .*\n)*)", text, re.MULTILINE)
        rows = [line.split() for line in block[1].splitlines()] if block else []
        if not all(len(row) == 3 for row in rows):
            raise BuildError("Release file is damaged", why=f"bad line below {algorithm}")
        hashes[algorithm] = {path: value for value, _size, path in rows}
    architectures = tuple(_value(text, "Architectures").split())
    return Release(_time(text, "Date"), _time(text, "Valid-Until"), architectures, hashes)


def file_hash(data: bytes, algorithm: str) -> str:
    """Hash in lower-case hex; `algorithm` as Release files name it."""
    return hashlib.new(algorithm.lower(), data).hexdigest()


def by_hash(path: str, algorithm: str, value: str) -> str:
    """Where apt looks for an index file when Acquire-By-Hash is set."""
    return f"{path.rpartition('/')[0]}/by-hash/{algorithm}/{value}"


def _entry(text: str) -> Entry:
    value = {name: _value(text, name) for name in ("Package", "Version", "Architecture", "Filename", "Size", "SHA256")}
    return Entry(
        value["Package"], value["Version"], value["Architecture"], value["Filename"], int(value["Size"]),
        value["SHA256"], text.strip("\n"),
    )  # fmt: skip


def _value(text: str, name: str) -> str:
    found = re.search(rf"^{name}: (.+)$", text, re.MULTILINE)
    if not found:
        raise BuildError("index file is damaged", why=f"no field {name}", hint="restore the repository from a mirror")
    return found[1]


def _time(text: str, name: str) -> datetime.datetime:
    try:
        moment = email.utils.parsedate_to_datetime(_value(text, name).replace("UTC", "+0000"))
    except ValueError as error:
        raise BuildError("Release file is damaged", why=f"bad time in {name}") from error
    return moment.astimezone(datetime.timezone.utc)
