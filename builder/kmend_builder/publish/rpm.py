# SPDX-License-Identifier: GPL-2.0-or-later
"""RPM packages: write one reproducibly, sign it, verify what came out.

rpmbuild and rpmsign do the work; what decides about bytes (times, host, payload, the signature's clock) is fixed here.
Their exit codes are not believed: rpmsign has ended with 0 and left a package unsigned where its gpg was missing.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.publish.files import copy_atomic, place, settle
from kmend_builder.publish.keys import Key, gnupg_home, signing_moment, write_public
from kmend_builder.publish.tool import run
from kmend_builder.rpm.check import verify_rpm
from kmend_builder.rpm.header import read_rpm


def write_rpm(
    spec: str, files: Mapping[str, bytes], destination: Path, *, arch: str, epoch: int, key: Key, home: Path
) -> None:
    """Build a package of regular files and sign it.

    Args:
        spec: copies the directory of the macro `kmend_tree`, which holds `files`, into its build root.
        destination: the .rpm; replaced whole or not at all.
        arch: the architecture it is for.
        epoch: SOURCE_DATE_EPOCH, seconds since 1970, for every time in it; of the signature too, unless the key is
            younger.

    Raises:
        BuildError: a tool is missing or failed.
        SignatureError: what came out is not signed by that key.
    """
    with tempfile.TemporaryDirectory(prefix="kmend-rpm-") as scratch:
        top = Path(scratch)
        for name, data in files.items():
            place(top / "tree" / name, data)
        settle(top / "tree", epoch)
        (top / "kmend.spec").write_text(spec)
        run(_rpmbuild(top, arch), package="rpm", environ={"SOURCE_DATE_EPOCH": str(epoch), "HOME": scratch})
        made = list(top.glob("out/*.rpm"))
        if len(made) != 1:
            raise BuildError("rpmbuild made no package", why=f"{len(made)} files came out", hint="see its macros")
        sign_rpm(made[0], key, home=home, when=epoch)
        copy_atomic(made[0], destination)


def sign_rpm(path: Path, key: Key, *, home: Path, when: int) -> None:
    """Sign a package in place, and verify it as clients do.

    Raises:
        BuildError: rpmsign or gpg is missing or failed.
        SignatureError: the package is not signed by that key afterwards.
    """
    gpg = shutil.which("gpg")
    if gpg is None:
        raise BuildError("can't sign packages", why="gpg is not installed", hint="apt install gnupg")
    moment = f"--faked-system-time {signing_moment(key, when)}!"
    defines = {"__gpg": gpg, "_gpg_name": key.fingerprint, "_gpg_digest_algo": "sha512"}
    defines |= {"_gpg_sign_cmd_extra_args": f"--batch --no-options {moment}"}
    with tempfile.TemporaryDirectory(prefix="kmend-sign-") as scratch:
        environ = {"GNUPGHOME": str(gnupg_home(home)), "HOME": scratch}
        run(["rpmsign", *_defined(defines), "--addsign", str(path)], package="rpm", environ=environ)
        keyring = Path(scratch) / "keyring.gpg"
        write_public(keyring, [key.fingerprint], home=home)
        verify_rpm(read_rpm(path), keyring, {key.fingerprint})


def _rpmbuild(top: Path, arch: str) -> list[str]:
    defines = {
        "_topdir": f"{top}/top",
        "_rpmdir": f"{top}/out",
        "_tmppath": f"{top}/tmp",
        "_build_name_fmt": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
        "kmend_tree": f"{top}/tree",
        "_buildhost": "kmend",
        "use_source_date_epoch_as_buildtime": "1",
        # The first until rpm 4.19, the second since.
        "clamp_mtime_to_source_date_epoch": "1",
        "build_mtime_policy": "clamp_to_source_date_epoch",
        # Every rpm reads xz; one thread, because several split the blocks.
        "_binary_payload": "w6.xzdio",
        "_binary_filedigest_algorithm": "8",
    }
    os.makedirs(top / "tmp", exist_ok=True)
    return ["rpmbuild", "-bb", "--quiet", "--target", arch, *_defined(defines), str(top / "kmend.spec")]


def _defined(values: Mapping[str, str]) -> list[str]:
    return [word for name, value in values.items() for word in ("--define", f"{name} {value}")]
