# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests take the distribution's own archives and the machine's way of reaching them."""

from pathlib import Path

import pytest

from kmend_builder.errors import BuildError
from kmend_builder.kernel.aptconf import acquire_options
from kmend_builder.prove.aptsrc import source_files
from kmend_builder.prove.rootfs import kernel_release, newest_release


def test_third_party_sources_stay_out() -> None:
    listing = "Debian\t/etc/a.sources:1\nDebian\t/etc/a.sources:7\nACME\t/etc/b.list:1\nDebian\t/etc/c.list:2\n"
    assert source_files(listing, "debian") == (Path("/etc/a.sources"), Path("/etc/c.list"))
    assert source_files(listing, "fedora") == ()


def test_only_options_on_reaching_archives_are_passed_on() -> None:
    dump = (
        'APT::Install-Recommends "1";\nAcquire::http::Proxy "http://proxy:1";\nAcquire::Check-Valid-Until "false";\n'
        'Acquire::Languages "none";\nAcquire::http "";\nAcquire::http::Timeout "";\n'
    )
    assert acquire_options(dump) == (
        'Acquire::http::Proxy "http://proxy:1";',
        'Acquire::Check-Valid-Until "false";',
    )


def test_the_boot_loaders_choice_is_the_highest_kernel() -> None:
    names = ["config-6.1.0-99", "vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-53-amd64", "vmlinuz-6.1.0-10-amd64"]
    assert newest_release(names) == "6.1.0-53-amd64"
    with pytest.raises(BuildError, match="no kernel in /boot"):
        newest_release(["config-6.1.0-99"])


def test_a_file_that_is_no_kernel_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no kernel package"):
        kernel_release(tmp_path / "missing.deb")
    bogus = tmp_path / "bogus.deb"
    bogus.write_bytes(b"not a package")
    with pytest.raises(BuildError, match="can't read"):
        kernel_release(bogus)
