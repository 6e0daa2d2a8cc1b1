# SPDX-License-Identifier: GPL-2.0-or-later
"""How an update is called as an RPM package. Pure.

An update's version is `<target>+<serial>`. RPM's version and release hold no dash, so the target is split where RPM
would: `6.12.0-124.8.1.el10_1+2` is version `6.12.0`, release `124.8.1.el10_1^2`. The caret sorts behind the target
and before every later one, where a plus would count as one more number: `1+2` is more than `1.1+1` to rpm, but `1^2`
is less than `1.1^1`. rpm 4.15 and later know it.
"""

import dataclasses
import re

from kmend.manifest import Manifest
from kmend_builder.errors import BuildError

PREFIX = "kmend-patch-"
# rpm's build/parsePreamble.c: ALLOWED_CHARS_NAME, ALLOWED_CHARS_VERREL; braces and per cent would be macros to us.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\Z")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~^]*\Z")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclasses.dataclass(frozen=True)
class RpmName:
    """Name, epoch ("0" for none), version, release and architecture of the package."""

    package: str
    epoch: str
    version: str
    release: str
    arch: str

    @property
    def evr(self) -> str:
        """[epoch:]version-release, as compare_evr() takes it."""
        return f"{self.epoch}:{self.version}-{self.release}" if self.epoch != "0" else f"{self.version}-{self.release}"

    @property
    def file_name(self) -> str:
        return f"{self.package}-{self.version}-{self.release}.{self.arch}.rpm"


def rpm_naming(manifest: Manifest) -> RpmName:
    """What the package of this manifest must be called.

    Raises:
        BuildError: RPM can't express it.
    """
    epoch, version, release = split_version(manifest.version)
    # dnf takes a name apart at its dashes, so the release of the kernel brings none (kpatch-patch does the same).
    package = PREFIX + re.sub(r"[-~]", "_", manifest.kernel.release)
    name = RpmName(package, epoch, version, release, _MACHINES.get(manifest.kernel.arch, manifest.kernel.arch))
    wrong = [text for text in (version, release, name.arch) if not _VERSION.match(text)]
    wrong += [] if _NAME.match(package) else [package]
    if wrong or not epoch.isdigit():
        raise BuildError(
            f"can't make an RPM package of {manifest.version}",
            why=f"{(wrong or [epoch])[0]!r} can't be part of its name",
            hint="choose another --target, or --format deb",
        )
    return name


def split_version(version: str) -> tuple[str, str, str]:
    """Epoch ("0" for none), version and release of `<target>+<serial>`."""
    target, _, serial = version.rpartition("+")
    epoch, _, rest = target.rpartition(":")
    upstream, _, release = rest.rpartition("-")
    if not upstream:
        upstream, release = rest, "0"
    return epoch or "0", upstream.replace("-", "_"), f"{release}^{serial}"


def serial_of(evr: str) -> int:
    """The serial in the version of an update's package; 0 for other packages."""
    serial = evr.rpartition("^")[2]
    return int(serial) if serial.isdigit() else 0
