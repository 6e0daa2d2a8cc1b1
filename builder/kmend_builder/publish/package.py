# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage 9: the update as a package, reproducible under SOURCE_DATE_EPOCH, its signature included.

The package drops three files into the directory the agent watches with a file trigger of dpkg or rpm; it has no
maintainer scripts, so installing it can't stall or fail on a busy kernel. It does not depend on the kernel image, so
that an old kernel can still be removed.
"""

import dataclasses
import enum
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from kmend.manifest import FILE_NAME, SIGNATURE_NAME, Manifest, serialise
from kmend_builder.errors import BuildError
from kmend_builder.publish import texts
from kmend_builder.publish.deb import write_deb
from kmend_builder.publish.files import write_atomic
from kmend_builder.publish.keys import Key, sign_detached, signing_key
from kmend_builder.publish.rpm import write_rpm
from kmend_builder.publish.rpmnames import PREFIX, rpm_naming
from kmend_builder.publish.rpmspec import render_spec

PATCH_ROOT = "usr/lib/kmend/patches"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class Format(enum.Enum):
    """A kind of package, called as its files end."""

    DEB = "deb"
    RPM = "rpm"


@dataclasses.dataclass(frozen=True)
class Naming:
    """Names that follow from a manifest: package, Debian architecture, directory of the files (no leading slash)."""

    package: str
    architecture: str
    directory: str


def naming(manifest: Manifest) -> Naming:
    """What the package of this manifest must be called; the repository holds every package to it."""
    kernel = manifest.kernel
    return Naming(
        # A package name has no upper case, underscore or tilde (Debian policy 5.6.1); a release may.
        PREFIX + kernel.release.lower().replace("_", "-").replace("~", "-"),
        _MACHINES.get(kernel.arch, kernel.arch),
        patch_directory(manifest),
    )


def patch_directory(manifest: Manifest) -> str:
    """Where the agent looks for updates of that kernel build; no leading slash."""
    return f"{PATCH_ROOT}/{manifest.kernel.build_id}"


def build_package(
    out_dir: Path,
    manifest: Manifest,
    module: Path,
    *,
    fingerprint: str,
    key_home: Path,
    source_date_epoch: int,
    form: Format = Format.DEB,
) -> Path:
    """Write manifest, signature, module and one package into `out_dir`; returns the package's path.

    For the arguments see build_packages().
    """
    (package,) = build_packages(
        out_dir, manifest, module, fingerprint=fingerprint, key_home=key_home,
        source_date_epoch=source_date_epoch, forms=(form,),
    )  # fmt: skip
    return package


def build_packages(
    out_dir: Path,
    manifest: Manifest,
    module: Path,
    *,
    fingerprint: str,
    key_home: Path,
    source_date_epoch: int,
    forms: Sequence[Format],
) -> list[Path]:
    """Write manifest, signature and module into `out_dir`, and a package of each form with the very same three files.

    Args:
        module: the live patch, already signed for the kernel if it is to be: its hash is in the manifest.
        fingerprint: the pinned key that signs the manifest, of the store in `key_home`. RPM packages are signed with
            it, too.
        source_date_epoch: seconds since 1970 for every time in the package. Of the signatures too, unless the
            key is younger: then the moment it was made.

    Raises:
        BuildError: the module is not the one the manifest describes, or a tool failed.
    """
    key = signing_key(fingerprint, home=key_home)
    content = _checked_module(module, manifest)
    out_dir.mkdir(parents=True, exist_ok=True)
    write_atomic(out_dir / FILE_NAME, serialise(manifest))
    write_atomic(out_dir / manifest.module.file, content)
    sign_detached(out_dir / FILE_NAME, key.fingerprint, home=key_home, when=source_date_epoch)
    directory = patch_directory(manifest)
    files = {f"{directory}/{name}": (out_dir / name).read_bytes() for name in _payload(manifest)}
    made = []
    for form in forms:
        if form is Format.DEB:
            made.append(_deb(out_dir, manifest, files, key, source_date_epoch))
        else:
            made.append(_rpm(out_dir, manifest, files, key, key_home, source_date_epoch))
    return made


def _deb(out_dir: Path, manifest: Manifest, files: Mapping[str, bytes], key: Key, epoch: int) -> Path:
    names = naming(manifest)
    documents = texts.documents(names.package, manifest, maintainer=key.uid, epoch=epoch)
    control = texts.control(names.package, names.architecture, manifest, maintainer=key.uid)
    deb = out_dir / f"{names.package}_{manifest.version.split(':', 1)[-1]}_{names.architecture}.deb"
    write_deb(control, {**files, **documents}, deb, epoch=epoch)
    return deb


def _rpm(out_dir: Path, manifest: Manifest, files: Mapping[str, bytes], key: Key, home: Path, epoch: int) -> Path:
    name = rpm_naming(manifest)
    spec = render_spec(name, manifest, files, packager=key.uid, epoch=epoch)
    write_rpm(spec, files, out_dir / name.file_name, arch=name.arch, epoch=epoch, key=key, home=home)
    return out_dir / name.file_name


def _payload(manifest: Manifest) -> tuple[str, str, str]:
    return FILE_NAME, SIGNATURE_NAME, manifest.module.file


def _checked_module(module: Path, manifest: Manifest) -> bytes:
    content = module.read_bytes()
    if (hashlib.sha256(content).hexdigest(), len(content)) != (manifest.module.sha256, manifest.module.size):
        raise BuildError(
            f"can't package {module.name}",
            why="hash or size differs from the manifest",
            hint="was it signed or stripped after the manifest was made? run again from stage 7",
        )
    return content
