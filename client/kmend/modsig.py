# SPDX-License-Identifier: GPL-2.0-or-later
"""The signature the kernel itself asks of modules: whether it is asked for, whose it is, and whose keys are enrolled.

A judgement in advance. The kernel has the last word, and refuses a module safely.
"""

import re
import struct
from typing import FrozenSet, Optional

from kmend.system import System

LOCKDOWN = "sys/kernel/security/lockdown"
SIG_ENFORCE = "sys/module/module/parameters/sig_enforce"
# include/linux/module_signature.h: struct module_signature, then this string, at the very end of the file.
MARK = b"~Module signature appended~\n"
_STRUCT = struct.Struct(">5B3xI")
# X.520 commonName (2.5.4.3) and what follows: the tag and length of a PrintableString, UTF8String or T61String.
_COMMON_NAME = re.compile(rb"\x06\x03\x55\x04\x03[\x0c\x13\x14](.)", re.S)
_KEY = re.compile(r"\basymmetri[c]?\s+(.*?):\s+[0-9a-f]+:\s")
ENROL = (
    "enrol the publisher's module certificate: mokutil --import FILE.der, reboot, confirm it in the MOK manager at the "
    "console; `mokutil --list-enrolled` then shows it"
)


def lockdown(system: System) -> str:
    """The lockdown mode: "none", "integrity" or "confidentiality"."""
    match = re.search(r"\[(\w+)\]", _read(system, LOCKDOWN))
    return match.group(1) if match else "none"


def required(system: System) -> bool:
    """Whether the kernel takes signed modules only: by lockdown, which Secure Boot switches on in most distributions,
    or by module.sig_enforce."""
    return lockdown(system) != "none" or _read(system, SIG_ENFORCE).strip() == "Y"


def signer(image: bytes) -> Optional[str]:
    """The common name of who signed a module; "" when it can't be read, None when the module is unsigned. Pure.

    Only the issuer and serial of the certificate stand in the signature (scripts/sign-file.c leaves the rest out), so
    the last common name is the signer's.
    """
    if not image.endswith(MARK):
        return None
    end = len(image) - len(MARK) - _STRUCT.size
    if end < 0:
        return ""
    size = _STRUCT.unpack_from(image, end)[-1]
    content = image[max(0, end - size) : end]
    matches = list(_COMMON_NAME.finditer(content))
    if not matches:
        return ""
    last = matches[-1]
    return content[last.end() : last.end() + last.group(1)[0]].decode("utf-8", "replace")


def enrolled(system: System) -> FrozenSet[str]:
    """The descriptions of the certificates in the kernel's keyrings; empty when it does not tell (not root)."""
    return frozenset(_KEY.findall(_read(system, "proc/keys")))


def is_enrolled(name: str, keys: FrozenSet[str]) -> bool:
    """Whether one of the descriptions is of that common name: the kernel writes "organisation: name". Pure."""
    return any(key == name or key.endswith(f": {name}") for key in keys)


def _read(system: System, name: str) -> str:
    try:
        return system.read_text(name) or ""
    except OSError:
        return ""
