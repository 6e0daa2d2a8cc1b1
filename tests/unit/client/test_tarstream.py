# SPDX-License-Identifier: GPL-2.0-or-later
"""The tar archive in a .deb, hostile and whole; `kmend apply` of one whose payload a fake dpkg-deb prints."""

import io
import tarfile
from pathlib import Path
from typing import Dict, Optional

import pytest

from kmend import packagefile, tarstream
from kmend.errors import ArchiveError, UsageError
from unit.client.test_packagefile import require_limits

UPDATE = "usr/lib/kmend/patches/00ff"
END = b"\0" * 1024


def entry(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "", size: Optional[int] = None
) -> bytes:
    """Headers as GNU tar writes them, and the data; `size` is what the header says."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT) + data + b"\0" * (-len(data) % 512)


def read(data: bytes, limit: int = 1000, total: int = 1 << 20) -> Dict[str, bytes]:
    return tarstream.read(io.BytesIO(data), lambda name: name.startswith("keep"), limit, total)


def test_what_is_wanted_is_read() -> None:
    long = "keep/" + "x" * 200
    data = entry("./keep/a", b"1") + entry("drop", b"22") + entry("/keep/b", b"333") + entry(long, b"4")
    data += entry("keep/c", kind=tarfile.SYMTYPE, link="/etc/shadow") + entry(
        "keep/d", kind=tarfile.LNKTYPE, link="drop"
    )
    assert read(data + END) == {"keep/a": b"1", "keep/b": b"333", long: b"4"}


PAX = tarfile.TarInfo.create_pax_global_header({"size": "-1"})
HOSTILE = {
    "nothing": (b"", "empty"),
    "text": (b"no archive" * 100, "invalid header"),
    "cut off header": (entry("keep/a", b"1")[:300], "truncated"),
    "cut off data": (entry("keep/a", b"1" * 900, size=900)[:1000], "unexpected end of data"),
    "longer than it is": (entry("keep/a", b"1", size=2000) + END, "has 2000 bytes"),
    "exabytes to skip": (entry("drop", size=1 << 62) + END, "cut off"),
    "a negative size": (entry("keep/a", size=-5) + END, "claims -5 bytes"),
    "an endless name": (entry("x", kind=tarfile.GNUTYPE_LONGNAME, size=1 << 40) + END, "claims 1099511627776 bytes"),
    "an endless link": (entry("x", kind=tarfile.GNUTYPE_LONGLINK, size=1 << 40) + END, "claims 1099511627776 bytes"),
    "headers of pax": (PAX + entry("keep/a", b"1") + END, "which no .deb has"),
    "a sparse file": (entry("keep/a", kind=tarfile.GNUTYPE_SPARSE, size=1) + END, "which no .deb has"),
    "names of names": (entry("x", b"y\0", tarfile.GNUTYPE_LONGNAME) * 3000 + END, "recursion"),
    "twice": (entry("keep/a", b"1") + entry("./keep/a", b"2") + END, "twice"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive(what: str) -> None:
    data, why = HOSTILE[what]
    with pytest.raises(ArchiveError) as caught:
        read(data, total=1 << 30)
    assert why in caught.value.why


def test_limits() -> None:
    require_limits(read, entry("drop", b"0" * 4000) + entry("keep/a", b"1" * 10) + END)


def test_too_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarstream, "_MAX_FILES", 2)
    assert read(entry("a") * 2 + END) == {}
    with pytest.raises(ArchiveError, match="more than 2 files"):
        read(entry("a") * 3 + END)


@pytest.fixture()
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose dpkg-deb is the one that is found."""
    found = tmp_path / "fake"
    found.mkdir()
    monkeypatch.setattr(packagefile, "environment", lambda extra: {"PATH": f"{found}:/usr/bin:/bin"})
    return found


def unpack(folder: Path, payload: bytes, tail: str = "") -> Path:
    (folder / "payload").write_bytes(payload)
    (folder / "dpkg-deb").write_text(f"#!/bin/sh\ncat {folder}/payload\n{tail}\n")
    (folder / "dpkg-deb").chmod(0o755)
    scratch = folder / "deep/er/scratch"
    scratch.mkdir(parents=True)
    return packagefile.unpack(folder / "x.deb", scratch)


def test_only_the_updates_files_are_written(folder: Path) -> None:
    elsewhere = ["../../etc/cron.d/x", "/etc/cron.d/x", f"{UPDATE}/../../../../../../tmp/x", f"{UPDATE}/.hidden"]
    payload = b"".join(entry(name, b"evil") for name in elsewhere)
    payload += entry("usr", kind=tarfile.SYMTYPE, link="/tmp") + entry(f"./{UPDATE}/manifest.json", b"good") + END
    found = unpack(folder, payload)
    assert found == folder / "deep/er/scratch" / UPDATE
    written = [str(item.relative_to(folder / "deep")) for item in (folder / "deep").rglob("*") if item.is_file()]
    assert sorted(written) == ["er/scratch/.said", f"er/scratch/{UPDATE}/manifest.json"]
    assert not (folder / "deep/er/scratch/usr").is_symlink()


def test_an_endless_payload_is_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packagefile, "_MAX_PAYLOAD", 1 << 20)
    with pytest.raises(UsageError, match="more than 1048576 bytes"):
        unpack(folder, entry("drop", size=0x1FFFFFFFF), "exec cat /dev/zero")


def test_what_dpkg_deb_says_is_told(folder: Path) -> None:
    with pytest.raises(UsageError, match="not a Debian format archive"):
        unpack(folder, b"", "echo error: not a Debian format archive >&2; exit 2")
