# SPDX-License-Identifier: GPL-2.0-or-later
"""May this update be loaded? Pure decisions, in a fixed order; gpg.py and catalogue.py do the reading.

The order: signature by a pinned key, schema, expiry, not older than the last seen, made for the running build, and
last the hash of the very bytes that are loaded. Nothing of a manifest is looked at before its signature holds.
"""

import dataclasses
import datetime
import hashlib
from typing import Dict, FrozenSet, List, Optional

from kmend import manifest as manifest_format
from kmend.errors import TrustError
from kmend.manifest import KernelId, Manifest

# RFC 9580 section 9.5: MD5, SHA-1 and RIPEMD-160 signatures can be forged.
_WEAK_HASHES = frozenset({"1", "2", "3"})
# ERRSIG's sixth field: GPG_ERR_BAD_PUBKEY (libgpg-error, err-codes.h.in), also of a key made in the future.
_BAD_KEY = "6"
_BAD_STATUS: Dict[str, str] = {
    "BADSIG": "the signature does not match the manifest",
    "ERRSIG": "it is signed by a key that is not trusted",
    "NO_PUBKEY": "it is signed by a key that is not trusted",
    "EXPSIG": "the signature has expired",
    "EXPKEYSIG": "the signing key has expired",
    "REVKEYSIG": "the signing key was revoked",
    "NODATA": "there is no signature in the file",
}
HINT_KEYS = "trusted are the keys in /usr/share/keyrings/kmend-archive-keyring.gpg and /etc/kmend/trusted.d"
HINT_NEWER = "wait for a newer update: kmend asks for one every hour"


@dataclasses.dataclass(frozen=True)
class Signer:
    """Who signed: fingerprint of the primary key, upper-case hex."""

    fingerprint: str


def signer_in_status(status: str) -> Signer:
    """The one good signature in the status lines of gpgv (`--status-fd`, see GnuPG's doc/DETAILS).

    Raises:
        TrustError: there is none, more than one, or a bad one among them.
    """
    lines = [line.split()[1:] for line in status.splitlines() if line.startswith("[GNUPG:] ")]
    words: FrozenSet[str] = frozenset(line[0] for line in lines if line)
    if any(line[0] == "ERRSIG" and line[6:7] == [_BAD_KEY] for line in lines if line):
        raise untrusted("the signing key can't be used: it is newer than this machine's clock, or damaged")
    for word, why in _BAD_STATUS.items():
        if word in words:
            raise untrusted(why)
    valid = [line for line in lines if line and line[0] == "VALIDSIG" and len(line) >= 11]
    good = [line for line in lines if line and line[0] == "GOODSIG"]
    if len(valid) != 1 or len(good) != 1:
        raise untrusted("it does not carry exactly one good signature")
    if valid[0][8] in _WEAK_HASHES:
        raise untrusted("the signature uses a hash function that is broken")
    return Signer(valid[0][10])


def untrusted(why: str) -> TrustError:
    """The error of a signature that does not hold."""
    return TrustError("update refused: no valid signature", why=why, hint=HINT_KEYS)


def read_manifest(data: bytes, kernel: KernelId, now: datetime.datetime, floor: Optional[int]) -> Manifest:
    """Everything after the signature and before the module; `floor` is the serial of the last seen update.

    Raises:
        ManifestError: the schema does not hold.
        TrustError: expired, older than the last seen, or for another kernel.
    """
    found = manifest_format.parse(data)
    _require_current(found, now)
    _require_not_older(found, floor)
    _require_kernel(found, kernel)
    return found


def _require_current(found: Manifest, now: datetime.datetime) -> None:
    if found.expires <= now:
        raise TrustError(
            f"update {found.version} refused: expired",
            why=f"it was valid until {found.expires:%Y-%m-%d %H:%M} UTC",
            hint=f"check the clock; otherwise {HINT_NEWER}",
        )


def _require_not_older(found: Manifest, floor: Optional[int]) -> None:
    if floor is not None and found.serial < floor:
        raise TrustError(
            f"update {found.version} refused: older than one seen before",
            why=f"its serial is {found.serial}, and {floor} was seen",
            hint="somebody may be replaying an old update; check the archive or mirror",
        )


def _require_kernel(found: Manifest, kernel: KernelId) -> None:
    if found.kernel.build_id != kernel.build_id or found.kernel.release != kernel.release:
        raise TrustError(
            f"update {found.version} refused: made for another kernel build",
            why=f"{found.kernel.release} {found.kernel.build_id[:12]}, running is "
            f"{kernel.release} {kernel.build_id[:12]}",
            hint="the kernel itself would load it all the same; see `kmend list` for the right one",
        )


def require_module(found: Manifest, image: bytes) -> None:
    """`image` holds the bytes that are to be loaded, not a second reading of the file.

    Raises:
        TrustError: they are not the module the manifest speaks of.
    """
    problems: List[str] = []
    if len(image) != found.module.size:
        problems.append(f"{len(image)} bytes instead of {found.module.size}")
    elif hashlib.sha256(image).hexdigest() != found.module.sha256:
        problems.append("its SHA-256 differs from the manifest's")
    if problems:
        raise TrustError(
            f"update {found.version} refused: {found.module.file} was altered",
            why=problems[0],
            hint=f"reinstall the package kmend-patch-{found.kernel.release}",
        )
