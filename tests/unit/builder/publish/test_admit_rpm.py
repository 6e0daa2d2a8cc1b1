# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate of the RPM repository: each kind of bad package is refused, and the good one it was made from is admitted.

The bad ones are signed by the publisher's own key but where the signature is what is wrong.
"""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kmend.manifest import Manifest, parse
from kmend_builder.errors import BuildError
from kmend_builder.publish.admit_rpm import AdmittedRpm, admit_rpm
from kmend_builder.publish.keys import find_key, write_keyring
from kmend_builder.publish.package import Format
from kmend_builder.publish.rpm import write_rpm
from kmend_builder.publish.rpmnames import rpm_naming
from kmend_builder.publish.rpmspec import render_spec

if TYPE_CHECKING:
    from unit.builder.publish.conftest import MakeUpdate, Store

DIRECTORY = "usr/lib/kmend/patches/" + "ab" * 20
MODULE = f"{DIRECTORY}/kmend_6_1_190_1_1.ko"
EPOCH = 1_700_000_000
Check = Callable[..., AdmittedRpm]
Files = dict[str, bytes]
Rebuild = Callable[..., Path]


@pytest.fixture
def check(store: Store, tmp_path: Path) -> Check:
    keyring = tmp_path / "keyring.gpg"

    def check_one(rpm: Path, days: int = 0) -> AdmittedRpm:
        now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
        return admit_rpm(rpm, keyring=keyring, pinned=write_keyring(keyring, home=store.home), now=now)

    return check_one


@pytest.fixture
def rebuild(store: Store, make_update: MakeUpdate, tmp_path: Path) -> Rebuild:
    """A good update's files and spec, changed, packaged and signed by the publisher."""

    def make(files: Callable[[Files], None] = lambda files: None, spec: tuple[str, str] = ("", "")) -> Path:
        made = make_update(form=Format.RPM).parent
        manifest: Manifest = parse((made / "manifest.json").read_bytes())
        names = ("manifest.json", "manifest.json.asc", "kmend_6_1_190_1_1.ko")
        content = {f"{DIRECTORY}/{name}": (made / name).read_bytes() for name in names}
        files(content)
        key = find_key(store.fingerprint, home=store.home)
        text = render_spec(rpm_naming(manifest), manifest, content, packager=key.uid, epoch=EPOCH)
        assert spec[0] in text
        target = tmp_path / "rebuilt.rpm"
        write_rpm(
            text.replace(*spec, 1) if spec[0] else text, content, target, arch="x86_64", epoch=EPOCH, key=key,
            home=store.home,
        )  # fmt: skip
        return target

    return make


def test_update_is_admitted_with_its_manifest(check: Check, make_update: MakeUpdate) -> None:
    rpm = make_update(form=Format.RPM)
    item = check(rpm)
    assert item.manifest is not None and item.manifest.version == "6.1.190-1+1"
    assert item.size == rpm.stat().st_size


def test_rebuilding_alone_does_no_harm(check: Check, rebuild: Rebuild) -> None:
    assert check(rebuild()).manifest is not None


def _put(name: str, data: bytes) -> Callable[[Files], None]:
    return lambda files: files.update({name: data})


def _edit(name: str, old: bytes, new: bytes) -> Callable[[Files], None]:
    def edit(files: Files) -> None:
        assert old in files[name]
        files[name] = files[name].replace(old, new)

    return edit


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_put(MODULE, b"another module"), "module is not the one"),
        (_put("etc/cron.d/evil", b"* * * * * root true\n"), "unexpected or missing file"),
        (_put(f"{DIRECTORY}/other.ko", b"x"), "unexpected or missing file"),
        (_put("usr/lib/kmend/patches/00/manifest.json", b"{}"), "two of it"),
        (lambda files: files.pop(MODULE), "unexpected or missing file"),
        (lambda files: files.pop(f"{DIRECTORY}/manifest.json.asc"), "signature is missing"),
        (_edit(f"{DIRECTORY}/manifest.json", b"CVE-2026-10001", b"CVE-2026-19999"), "BADSIG"),
        # The update of one build in the place of another.
        (lambda files: [files.update({name.replace("abab", "cdcd", 1): files.pop(name)}) for name in [*files]],
         "unexpected or missing file"),
    ],
)  # fmt: skip
def test_update_with_other_files_is_refused(
    check: Check, rebuild: Rebuild, change: Callable[[Files], None], why: str
) -> None:
    with pytest.raises(BuildError, match=why):
        check(rebuild(change))


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (("Name: kmend-patch-6.1.0_53", "Name: kmend-patch-6.1.0_54"), "the manifest is for"),
        (("Release: 1^1", "Release: 1^2"), "the manifest is for"),
        (("Version:", "Epoch: 1\nVersion:"), "the manifest is for"),
        (("Name: kmend-patch-6.1.0_53_cloud_amd64", "Name: glibc"), "not one of kmend"),
        (("Name: kmend-patch-6.1.0_53_cloud_amd64", "Name: kmend"), "ships files below"),
        (("%install", "%post\ntouch /x\n%install"), "a tag that updates have not"),
        (("%install", "%post -p <lua>\nprint(1)\n%install"), "a tag that updates have not"),
        (("%install", "%transfiletriggerin -- /usr\ntrue\n%install"), "a tag that updates have not"),
        (("Requires: kmend", "Requires: kmend\nRequires: evil"), "other Requires.*evil"),
        (("Requires: kmend", "Requires: bash"), "other Requires"),
        (("Requires: kmend", "Requires: kmend\nProvides: glibc"), "other Provides.*glibc"),
        (("Requires: kmend", "Requires: kmend\nObsoletes: kernel"), "a tag that updates have not"),
        (("Requires: kmend", "Requires: kmend\nSupplements: bash"), "a tag that updates have not"),
        (("%attr(0644,root,root)", "%attr(0755,root,root)"), "executable"),
        (("%attr(0644,root,root)", "%attr(0644,nobody,root)"), "not root's|other owners"),
        (("%dir %attr(0755,", "%dir %attr(0777,"), "writable for others"),
        (("%files", "%files\n%ghost /etc/passwd"), "other files|unexpected"),
    ],
)
def test_update_with_another_spec_is_refused(check: Check, rebuild: Rebuild, spec: tuple[str, str], why: str) -> None:
    with pytest.raises(BuildError, match=why):
        check(rebuild(spec=spec))


def test_update_with_a_link_is_refused(check: Check, rebuild: Rebuild) -> None:
    link = f'cp -a "%{{kmend_tree}}/." "%{{buildroot}}/"\nln -sf /etc/passwd "%{{buildroot}}/{MODULE}"'
    with pytest.raises(BuildError, match="is a link"):
        check(rebuild(spec=('cp -a "%{kmend_tree}/." "%{buildroot}/"', link)))


def test_update_of_a_stranger_is_refused(check: Check, make_update: MakeUpdate, stranger: Store) -> None:
    with pytest.raises(BuildError, match="signature of .*rpm refused"):
        check(make_update(form=Format.RPM, signer=stranger))


def test_package_signed_by_us_around_a_strangers_manifest_is_refused(
    check: Check, make_update: MakeUpdate, stranger: Store, store: Store
) -> None:
    rpm = make_update(form=Format.RPM, signer=stranger)
    gnupg = f"GNUPGHOME={store.home / 'gnupg'}"
    sign = ["rpmsign", "--define", "__gpg /usr/bin/gpg", "--define", f"_gpg_name {store.fingerprint}", "--resign"]
    subprocess.run(["env", gnupg, *sign, str(rpm)], check=True, capture_output=True)
    with pytest.raises(BuildError, match="signature of manifest.json refused"):
        check(rpm)


def test_unsigned_update_is_refused(check: Check, make_update: MakeUpdate) -> None:
    rpm = make_update(form=Format.RPM)
    assert check(rpm).manifest is not None
    subprocess.run(["rpmsign", "--delsign", str(rpm)], check=True, capture_output=True)
    with pytest.raises(BuildError, match="the package has none"):
        check(rpm)


def test_changed_update_is_refused(check: Check, make_update: MakeUpdate) -> None:
    rpm = make_update(form=Format.RPM)
    data = rpm.read_bytes()
    rpm.write_bytes(data[:-100] + bytes(byte ^ 1 for byte in data[-100:-90]) + data[-90:])
    with pytest.raises(BuildError, match="Payload SHA256 digest: BAD"):
        check(rpm)
    rpm.write_bytes(data)
    check(rpm)


def test_expired_update_is_refused(check: Check, make_update: MakeUpdate) -> None:
    rpm = make_update(form=Format.RPM)
    assert check(rpm, days=29).manifest is not None
    with pytest.raises(BuildError, match="refused|expired"):
        check(rpm, days=91)
