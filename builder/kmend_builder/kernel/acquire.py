# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage 1: everything about one distribution kernel, from the name of its release.

The kernel need not be installed. Entries of the cache are named by what they are made of, so a package that was
rebuilt under the same version is another entry.
"""

import hashlib
import re
import shutil
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel import aptconf, prepare, store
from kmend_builder.kernel.debian import DebianKernel
from kmend_builder.kernel.failures import VersionGone
from kmend_builder.kernel.image import Image
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.origin import Origin
from kmend_builder.kernel.rpmset import RpmKernel
from kmend_builder.kernel.vmlinuz import extract_vmlinux
from kmend_builder.progress import Progress

_JSON = "kernel.json"
# Part of the entry's name: raise it when entries are made differently.
_RECIPE = "1"
_RELEASE = re.compile(r"[0-9][A-Za-z0-9._+~-]{2,63}\Z")


def acquire(
    release: str,
    *,
    cache: Path,
    progress: Progress,
    version: str | None = None,
    rpms: Path | None = None,
    tools: Path | None = None,
) -> Kernel:
    """Get a kernel: image, modules, configuration, source and a prepared build tree.

    Args:
        release: `uname -r`, e.g. "6.1.0-53-cloud-amd64".
        cache: directory shared by all builds; made if missing.
        version: package version, if the archive has several under one release; the newest by default.
        rpms: a directory with the kernel's RPM packages (rpmset.py); without it apt is asked.
        tools: with `rpms`, a root directory whose programs compile for that kernel; this machine's by default.

    Raises:
        VersionGone: neither archive nor cache has it.
        CompilerMissing: the compiler it was built with is not installed.
        ConfigDiffers: its configuration does not hold here.
        DamagedPackage, DiskFull, ElfError, BuildError: see the message.
    """
    if not _RELEASE.match(release):
        raise BuildError(f"{release!r} is not a kernel release", hint="it is what uname -r prints")
    cache = cache.absolute()
    if rpms is not None:
        return _from(RpmKernel(release, rpms, cache=cache, progress=progress, tools=tools), release, cache, progress)
    try:
        apt = aptconf.of_kernel(release, cache=cache, progress=progress)
        origin = DebianKernel(release, version, apt, cache=cache, progress=progress)
    except VersionGone:
        kernel = _cached(cache, release, version)
        if kernel is None:
            raise
        progress.note(f"{release} {kernel.version} is not in the archive; the cache has it")
        return kernel
    return _from(origin, release, cache, progress)


def _from(origin: Origin, release: str, cache: Path, progress: Progress) -> Kernel:
    entry = cache / "kernels" / _entry_name(release, origin)
    with store.locked(entry):
        return _kept(entry) or _make(release, origin, entry, progress)


def _kept(entry: Path) -> Kernel | None:
    """The kernel of an entry; None if it is not complete, was moved, or its source was removed."""
    if not store.is_complete(entry):
        return None
    try:
        kernel = Kernel.from_json((entry / _JSON).read_text("utf-8", "replace"))
    except (BuildError, OSError):
        return None  # damaged since: it is made anew
    # Build trees remember their absolute path and that of the source: after a move they would compile nonsense.
    return kernel if kernel.cache_dir == entry and store.is_complete(kernel.source.parent) else None


def _entry_name(release: str, origin: Origin) -> str:
    digest = hashlib.sha256(f"{_RECIPE} {origin.key}".encode()).hexdigest()
    return f"{release}_{origin.version.replace(':', '%3a')}_{digest[:12]}"


def _cached(cache: Path, release: str, version: str | None) -> Kernel | None:
    """A complete entry of that release: the named version, or the one made last."""
    entries = sorted((cache / "kernels").glob(f"{release}_*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for kernel in filter(None, map(_kept, entries)):
        if kernel.release == release and version in (None, kernel.version):
            return kernel
    return None


def _make(release: str, origin: Origin, entry: Path, progress: Progress) -> Kernel:
    with store.making(entry):
        package = origin.unpack(entry)
        places = (f"lib/modules/{release}", f"usr/lib/modules/{release}")
        vmlinuz = _only(entry / "image", f"boot/vmlinuz-{release}", *(f"{place}/vmlinuz" for place in places))
        config = _only(entry / "image", f"boot/config-{release}", *(f"{place}/config" for place in places))
        compiler = prepare.compiler_of(config.read_text())
        root = origin.toolchain(compiler)
        prepare.must_be_installed(compiler, root)
        with progress.step("decompress the kernel image"):
            (entry / "vmlinux").write_bytes(extract_vmlinux(vmlinuz.read_bytes()))
        build = entry / "build"
        build.mkdir()
        source = origin.source()
        prepare.prepare(prepare.Tree(source, build, release, compiler.command, root), config, progress)
        shutil.copyfile(entry / "Module.symvers", build / "Module.symvers")
        kernel = Kernel(
            release=release,
            version=origin.version,
            source_version=origin.source_version,
            arch=origin.arch,
            build_id=Image.open(entry / "vmlinux").build_id,
            compiler=compiler.command,
            source=source,
            build=build,
            config=config,
            symvers=build / "Module.symvers",
            vmlinuz=vmlinuz,
            image=entry / "vmlinux",
            modules=_only(entry / "image", *places),
            image_deb=package,
            toolchain=root,
        )
        store.write_through(entry / _JSON, kernel.to_json().encode())
    return kernel


def _only(root: Path, *places: str) -> Path:
    """The first of some places that exists; newer packages have files elsewhere."""
    for place in places:
        if (root / place).exists():
            return root / place
    raise BuildError(
        f"the image package has no {places[0]}",
        why="it is not a whole kernel",
        hint="releases of Debian 14 and later split their kernel into several packages; they are not supported yet",
    )
