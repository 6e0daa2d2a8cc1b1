# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's initrd: static busybox, the modules of virtio disk and console and of ext4, and a short init script.

Pure apart from the reader it is given: files of the guest's root come from a directory tree or out of a disk.
Format: the "newc" cpio of Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import posixpath
import stat
from collections.abc import Callable, Iterable
from importlib import resources

Reader = Callable[[str], bytes]

# Cloud kernels have ext4 built in. Elsewhere it asks for a crc32c when it mounts, and nobody is there yet to load one.
MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "crc32c_generic", "ext4")
BUSYBOX = "/bin/busybox"
_DIRECTORIES = ("bin", "dev", "proc", "sys", "root", "modules")
_TRAILER = "TRAILER!!!"


def build(read: Reader, release: str, modules: Iterable[str] = MODULES) -> bytes:
    """The initrd of one kernel; `read` maps an absolute path in the guest's root to the file's bytes.

    Raises:
        FileNotFoundError: from `read`, when busybox or a module is missing.
    """
    base = f"/lib/modules/{release}"
    wanted = load_order(read(f"{base}/modules.dep").decode(), read(f"{base}/modules.builtin").decode(), modules)
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in _DIRECTORIES]
    entries.append(("bin/busybox", stat.S_IFREG | 0o755, read(BUSYBOX)))
    entries.append(("init", stat.S_IFREG | 0o755, guest_file("initrd-init")))
    names = [posixpath.basename(path) for path in wanted]
    entries.append(("modules.order", stat.S_IFREG | 0o644, "".join(f"{name}\n" for name in names).encode()))
    for path, name in zip(wanted, names, strict=True):
        entries.append((f"modules/{name}", stat.S_IFREG | 0o644, read(f"{base}/{path}")))
    return archive(entries)


def guest_file(name: str) -> bytes:
    """A file of guest_files/, which is package data."""
    return (resources.files(__package__) / "guest_files" / name).read_bytes()


def load_order(modules_dep: str, modules_builtin: str, wanted: Iterable[str]) -> list[str]:
    """Paths of the wanted modules and all they depend on, dependencies first; those built in are left out.

    Raises:
        FileNotFoundError: a wanted module is neither a module nor built in.
    """
    depends = {path: rest.split() for path, rest in (line.split(":", 1) for line in modules_dep.splitlines())}
    by_name = {module_name(path): path for path in depends}
    builtin = {module_name(path) for path in modules_builtin.split()}
    order: list[str] = []
    for name in wanted:
        if name in by_name:
            # depmod lists all dependencies, direct or not; the last one needs to go in first.
            order += [*reversed(depends[by_name[name]]), by_name[name]]
        elif name not in builtin:
            raise FileNotFoundError(f"kernel module {name}")
    return list(dict.fromkeys(order))


def module_name(path: str) -> str:
    """The kernel's name of a module file: "kernel/net/nf-x.ko.xz" is nf_x."""
    return posixpath.basename(path).split(".", 1)[0].replace("-", "_")


def archive(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """A newc archive of (name, mode, content), all owned by root and dated 0, so that equal input is equal bytes."""
    out = bytearray()
    for inode, (name, mode, content) in enumerate([*entries, (_TRAILER, 0, b"")], 1):
        encoded = name.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
        out += b"\0" * (-len(out) % 4) + content
        out += b"\0" * (-len(out) % 4)
    return bytes(out)
