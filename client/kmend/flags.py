# SPDX-License-Identifier: GPL-2.0-or-later
"""The "reboot required" flag that Debian's tools share: /run/reboot-required and /run/reboot-required.pkgs.

unattended-upgrades, update-notifier, motd, kured and fleet tools all read these two files; whoever installs a kernel
writes them. kmend owns the kernel's entries and no others: while the running kernel is covered they are kept aside,
and put back when coverage is lost. The `.pkgs` list has one package per line; the flag itself is a text or empty.

All writes go through a temporary file and a rename. The other writers append without a lock, so an entry appended
between our read and our rename can be lost; the agent runs again after every package run and sees to that.
"""

import contextlib
import re
from pathlib import Path
from typing import Iterator, List, Optional

from kmend import sharedfile
from kmend.errors import StoreError

_FLAG = Path("run/reboot-required")
_LIST = Path("run/reboot-required.pkgs")
_SAVED_FLAG = Path("run/kmend/reboot-required.saved")
_SAVED_LIST = Path("run/kmend/reboot-required.pkgs.saved")
# Read by the needrestart and motd snippets: there while a reboot for the kernel may wait.
ADVISED = Path("run/kmend/reboot-advised")
OWN = "kmend"
TEXT = "*** System restart required ***\n"
# linux-base is what reboot-notifier puts in the list for a kernel; `kmend` is our own entry (see `require`).
_KERNEL = re.compile(r"(?:linux-(?:image|modules|binary|headers|base)(?:-\S+)?|kernel(?:-\S+)?|kmend)\Z")


def is_kernel_entry(package: str) -> bool:
    """Whether an entry of the list is there because of a kernel."""
    return _KERNEL.match(package) is not None


def other_entries(root: Path = Path("/")) -> List[str]:
    """The packages in the list that are no kernels."""
    return [entry for entry in _entries(root / _LIST) if not is_kernel_entry(entry)]


def suppress_kernel_entries(root: Path = Path("/"), note: str = "") -> bool:
    """Take the kernel's entries out of the list, and the flag away when nothing else is left in it.

    Saves what it takes for `restore`, and leaves the mark for needrestart and motd with `note` in it. Gives whether
    the flag files changed. A flag without a list is left alone: nobody knows what it is for.

    Raises:
        StoreError: the files can't be written.
    """
    with _writing("reboot flag"):
        _write(root / ADVISED, (note or "The running kernel is patched; a reboot may wait.").rstrip("\n") + "\n")
        entries = _entries(root / _LIST)
        kernel = [entry for entry in entries if is_kernel_entry(entry)]
        if not kernel:
            return False
        # Saved before anything is removed: killed in between, the entries are there twice and not lost.
        # Our own entry is not kept: `require` writes it anew if the agent comes to that conclusion again.
        saved = [entry for entry in kernel if entry != OWN]
        _write_entries(root / _SAVED_LIST, _merge(_entries(root / _SAVED_LIST), saved))
        others = [entry for entry in entries if not is_kernel_entry(entry)]
        if others:
            _write_entries(root / _LIST, others)
            return True
        flag = _text(root / _FLAG)
        if flag is not None:
            _write(root / _SAVED_FLAG, flag)
        # The flag first: without it the list is ignored, while a flag without a list would be nobody's.
        _remove(root / _FLAG)
        _remove(root / _LIST)
        return True


def restore(root: Path = Path("/")) -> bool:
    """Put back what `suppress_kernel_entries` took, next to what others wrote since; gives whether there was any.

    Raises:
        StoreError: the files can't be written.
    """
    with _writing("reboot flag"):
        _remove(root / ADVISED)
        saved = _entries(root / _SAVED_LIST)
        if not saved:
            return False
        _write_entries(root / _LIST, _merge(_entries(root / _LIST), saved))
        _raise_flag(root)
        _remove(root / _SAVED_FLAG)
        _remove(root / _SAVED_LIST)
        return True


def require(package: str = OWN, root: Path = Path("/")) -> bool:
    """Say that a reboot is required because of `package`, as the kernel's own tools would have; restores first.

    Many systems have no tool that writes the flag when a kernel is installed, and none writes it when a live patch
    fails. Gives whether anything changed.

    Raises:
        StoreError: the files can't be written.
    """
    changed = restore(root)
    with _writing("reboot flag"):
        entries = _entries(root / _LIST)
        if any(is_kernel_entry(entry) for entry in entries) and (root / _FLAG).exists():
            return changed
        _write_entries(root / _LIST, _merge(entries, [package]))
        _raise_flag(root)
        return True


def withdraw(root: Path = Path("/")) -> bool:
    """Take `require` back: what others wrote stays, or comes back, and nothing of ours; gives whether anything changed.

    Raises:
        StoreError: the files can't be written.
    """
    changed = restore(root)
    with _writing("reboot flag"):
        entries = _entries(root / _LIST)
        others = [entry for entry in entries if entry != OWN]
        if others == entries:
            return changed
        if others:
            _write_entries(root / _LIST, others)
        else:
            _remove(root / _FLAG)
            _remove(root / _LIST)
        return True


@contextlib.contextmanager
def _writing(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"can't update the {what}",
            why=f"{error.filename}: {error.strerror}",
            hint="kmend needs to run as root, with /run writable",
        ) from error


def _raise_flag(root: Path) -> None:
    if not (root / _FLAG).exists():
        _write(root / _FLAG, _text(root / _SAVED_FLAG) or TEXT)


def _merge(first: List[str], second: List[str]) -> List[str]:
    return list(dict.fromkeys([*first, *second]))


def _text(path: Path) -> Optional[str]:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None


def _entries(path: Path) -> List[str]:
    return [line.strip() for line in (_text(path) or "").splitlines() if line.strip()]


def _write_entries(path: Path, entries: List[str]) -> None:
    _write(path, "".join(f"{entry}\n" for entry in entries))


def _write(path: Path, text: str) -> None:
    sharedfile.replace(path, text.encode())


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
