# SPDX-License-Identifier: GPL-2.0-or-later
"""acquire(): which kernel is taken from the cache, and what it says when it can't have one."""

import dataclasses
import gzip
from pathlib import Path

import pytest

from kmend_builder.errors import BuildError
from kmend_builder.kernel import store
from kmend_builder.kernel.acquire import acquire
from kmend_builder.kernel.failures import CompilerMissing, VersionGone
from kmend_builder.kernel.model import Kernel
from kmend_builder.progress import SilentProgress

from .fakes import FakeApt, boot_image, kernel_image
from .test_model import kernel

QUIET = SilentProgress()
RELEASE = "6.1.0-53-cloud-amd64"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def put(cache: Path, version: str) -> Kernel:
    """A complete entry of a version, with its source."""
    source, entry = cache / "sources" / version, cache / "kernels" / f"{RELEASE}_{version}_abc"
    kept = dataclasses.replace(kernel(entry), version=version, source=source / "linux", build=entry / "build")
    for folder in (source, entry):
        with store.making(folder):
            (folder / "kernel.json").write_text(kept.to_json())
    return kept


def test_what_left_the_archive_is_still_in_the_cache(apt: FakeApt, cache: Path) -> None:
    older, newer = put(cache, "6.1.186-1"), put(cache, "6.1.187-1")
    assert acquire(RELEASE, cache=cache, progress=QUIET, version="6.1.186-1") == older
    assert acquire(RELEASE, cache=cache, progress=QUIET) in (older, newer)
    with pytest.raises(VersionGone, match="has no package"):
        acquire(RELEASE, cache=cache, progress=QUIET, version="6.1.1-1")
    with pytest.raises(VersionGone, match="has no package"):
        acquire("6.1.0-53", cache=cache, progress=QUIET)


def test_incomplete_moved_and_sourceless_entries_don_t_count(apt: FakeApt, cache: Path) -> None:
    kept = put(cache, "6.1.187-1")
    assert acquire(RELEASE, cache=cache, progress=QUIET) == kept
    cache.rename(cache.with_name("moved"))
    with pytest.raises(VersionGone):
        acquire(RELEASE, cache=cache.with_name("moved"), progress=QUIET)
    cache.with_name("moved").rename(cache)
    mark = kept.source.parent / store.MARK
    mark.unlink()
    with pytest.raises(VersionGone):
        acquire(RELEASE, cache=cache, progress=QUIET)
    mark.touch()
    (kept.cache_dir / store.MARK).unlink()
    with pytest.raises(VersionGone):
        acquire(RELEASE, cache=cache, progress=QUIET)


@pytest.mark.parametrize("release", ["", "../../etc", "-x", "6.1 amd64", "amd64"])
def test_odd_releases_are_refused(apt: FakeApt, cache: Path, release: str) -> None:
    with pytest.raises(BuildError, match="not a kernel release"):
        acquire(release, cache=cache, progress=QUIET)


def offer(apt: FakeApt, config: bytes, vmlinuz: bytes) -> None:
    files = {
        f"boot/config-{RELEASE}": config,
        f"boot/vmlinuz-{RELEASE}": vmlinuz,
        f"lib/modules/{RELEASE}/kernel/a.ko": b"",
    }
    apt.offer(f"linux-image-{RELEASE}", "6.1.187-1", files, "Built-Using: linux (= 6.1.187-1)\n")
    apt.offer(f"linux-headers-{RELEASE}", "6.1.187-1", {f"usr/src/linux-headers-{RELEASE}/Module.symvers": b"0x1\tx\n"})


def test_a_missing_compiler_stops_before_the_source_is_fetched(apt: FakeApt, cache: Path) -> None:
    offer(apt, b'CONFIG_CC_VERSION_TEXT="gcc-77 (Debian 77.1-1) 77.1"\n', b"")
    with pytest.raises(CompilerMissing, match="gcc-77"):
        acquire(RELEASE, cache=cache, progress=QUIET)
    assert "linux-source" not in apt.downloads.read_text()
    assert not any(path.is_dir() for path in (cache / "kernels").iterdir())


def test_a_missing_source_names_it_and_leaves_no_entry(apt: FakeApt, cache: Path) -> None:
    apt.program("gcc-77", "echo 'gcc-77 (Debian 77.1-1) 77.1'")
    offer(apt, b'CONFIG_CC_VERSION_TEXT="gcc-77 (Debian 77.1-1) 77.1"\n', boot_image(gzip.compress(kernel_image())))
    with pytest.raises(VersionGone, match=r"no package linux-source-6\.1"):
        acquire(RELEASE, cache=cache, progress=QUIET)
    assert not any(path.is_dir() for path in (cache / "kernels").iterdir())


def test_missing_headers_are_named_before_anything_is_fetched(apt: FakeApt, cache: Path) -> None:
    offer(apt, b"", b"")
    apt.withdraw(f"linux-headers-{RELEASE}")
    with pytest.raises(VersionGone, match=f"no package linux-headers-{RELEASE}"):
        acquire(RELEASE, cache=cache, progress=QUIET)
    assert not apt.downloads.exists()


def test_a_split_kernel_package_is_refused(apt: FakeApt, cache: Path) -> None:
    apt.offer(f"linux-image-{RELEASE}", "6.1.187-1", {"usr/share/doc/x": b""})
    apt.offer(f"linux-headers-{RELEASE}", "6.1.187-1", {"usr/src/linux-headers-x/Module.symvers": b""})
    with pytest.raises(BuildError, match="has no boot/vmlinuz") as caught:
        acquire(RELEASE, cache=cache, progress=QUIET)
    assert "split" in caught.value.hint
