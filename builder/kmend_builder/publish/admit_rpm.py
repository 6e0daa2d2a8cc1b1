# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate of the RPM repository; admit.py is that of the Debian one.

The package must be signed by a pinned key. An update must also carry a manifest signed by one, be named as the
manifest says, and hold the three files and nothing else: no scriptlets, no triggers, no dependencies but on kmend.
"""

import dataclasses
import datetime
import re
from collections.abc import Collection
from pathlib import Path

from kmend.manifest import FILE_NAME, SIGNATURE_NAME, Manifest
from kmend_builder.publish.files import digest
from kmend_builder.publish.package import PATCH_ROOT, patch_directory
from kmend_builder.publish.rpmnames import PREFIX, rpm_naming
from kmend_builder.publish.update_files import must_not_be_expired, read_update, refused
from kmend_builder.rpm import header as tags
from kmend_builder.rpm.check import verify_rpm
from kmend_builder.rpm.header import RpmFile, read_rpm
from kmend_builder.rpm.payload import open_payload

_OURS = re.compile(r"kmend(-[A-Za-z0-9._+-]+)?\Z")
# Of what a package can do to a machine nothing is left open: every tag that rpmbuild writes for an update, by number
# (rpm's include/rpm/rpmtag.h). Scriptlets, triggers, capabilities, Obsoletes and the like have others.
_UPDATE_TAGS = frozenset(
    (
        *(63, 100, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1009, 1014, 1015, 1016, 1021, 1022),
        *(1028, 1030, 1033, 1034, 1035, 1036, 1037, 1039, 1040, 1044, 1045, 1047, 1048, 1049, 1050, 1064),
        *(1080, 1081, 1082, 1095, 1096, 1097, 1112, 1113, 1116, 1117, 1118, 1122, 1124, 1125, 1126, 1132),
        *(1140, 1141, 1142, 5011, 5062, 5092, 5093, 5097),
    )
)


@dataclasses.dataclass(frozen=True)
class AdmittedRpm:
    """A package that may be published, and its measures. `manifest` is None for anything but an update."""

    rpm: RpmFile
    size: int
    sha256: str
    manifest: Manifest | None


def admit_rpm(path: Path, *, keyring: Path, pinned: Collection[str], now: datetime.datetime) -> AdmittedRpm:
    """Check one package.

    Args:
        keyring: binary keyring for gpgv; `pinned` the primary fingerprints of it that may sign.
        now: decides whether a manifest has expired.

    Raises:
        BuildError: the package must not be published, and why.
    """
    rpm = read_rpm(path)
    if not _OURS.match(rpm.name) or rpm.is_source:
        raise refused(path, f"package {rpm.name} is not one of kmend", "this repository must not replace others")
    verify_rpm(rpm, keyring, pinned)
    manifest = None
    if rpm.name.startswith(PREFIX):
        manifest = read_manifest(rpm, keyring, pinned)
        must_not_be_expired(path, manifest, now)
    elif any(name.startswith(f"/{PATCH_ROOT}/") for name in rpm.header.files):
        raise refused(path, f"it ships files below /{PATCH_ROOT}", "only update packages may")
    return AdmittedRpm(rpm, path.stat().st_size, digest(path), manifest)


def read_manifest(rpm: RpmFile, keyring: Path, pinned: Collection[str]) -> Manifest:
    """The manifest of an update, verified; the package agrees with it.

    Raises:
        BuildError: it does not, or holds what updates do not.
    """
    odd = sorted(set(rpm.header.values) - _UPDATE_TAGS)
    if odd:
        raise refused(rpm.path, f"it has a tag that updates have not: {odd[0]}", "updates only hold files")

    def named(manifest: Manifest) -> None:
        name = rpm_naming(manifest)
        if (rpm.name, rpm.evr, rpm.arch) != (name.package, name.evr, name.arch):
            raise refused(
                rpm.path, f"the manifest is for {name.package} {name.evr} {name.arch}", "one of the two is mislabelled"
            )

    with open_payload(rpm.path) as archive:
        manifest = read_update(rpm.path, archive, keyring, pinned, named=named)
    _agrees(rpm, manifest)
    return manifest


def _agrees(rpm: RpmFile, manifest: Manifest) -> None:
    """What rpm takes from the header, not from the payload: dependencies, owners, and files that have no content."""
    header = rpm.header
    required = {name for name in header.texts(tags.REQUIRENAME) if not name.startswith("rpmlib(")}
    provided = {name.partition("(")[0] for name in header.texts(tags.PROVIDENAME)}
    owners = {*header.texts(tags.FILEUSERNAME), *header.texts(tags.FILEGROUPNAME)}
    directory = f"/{patch_directory(manifest)}"
    files = {directory, *(f"{directory}/{name}" for name in (FILE_NAME, SIGNATURE_NAME, manifest.module.file))}
    for what, found, expected in (
        ("Requires", required, {"kmend"}),
        ("Provides", provided, {rpm.name}),
        ("owners", owners, {"root"}),
        ("files", set(header.files), files),
    ):
        if found != expected:
            odd = sorted(found ^ expected)[0]
            raise refused(rpm.path, f"it has other {what} than updates have: {odd}", "build it again")
