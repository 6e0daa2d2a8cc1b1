# SPDX-License-Identifier: GPL-2.0-or-later
"""The only place that touches /sys/kernel/livepatch and loads modules. No decisions, no waiting: see transition.py.

Sources: Documentation/ABI/testing/sysfs-kernel-livepatch; `<object>/patched` exists since Linux 6.1.
"""

import dataclasses
import errno
from typing import Dict, Optional, Tuple

from kmend.errors import KernelError
from kmend.loader import ModuleLoader
from kmend.system import GONE, System

PREFIX = "kmend_"
_DIR = "sys/kernel/livepatch"
_LOAD_ERRORS: Dict[int, Tuple[str, str]] = {
    errno.EKEYREJECTED: (
        "the kernel loads modules only if they are signed by a key it knows",
        "enrol the publisher's module key (mokutil --import), or ask for an update signed by an enrolled one",
    ),
    errno.EPERM: (
        "the kernel is locked down (Secure Boot) or this process lacks CAP_SYS_MODULE",
        "enrol the publisher's module key (mokutil --import) and run as root",
    ),
    errno.ENOEXEC: ("the module was not built for this kernel", "wait for a newer update"),
    errno.EBUSY: (
        "another transition is running, or function tracing is switched off",
        "see `kmend blocking`, and check that kernel.ftrace_enabled is 1",
    ),
    errno.EEXIST: ("a module of this name is already loaded", "see `kmend list`"),
    # kmod/kmend_patch.c: its check of the running code before anything is redirected
    errno.EILSEQ: (
        "code of the running kernel is not the code that was shipped",
        "remove what changed it (a probe, another tool's patch), then: kmend apply; otherwise reboot",
    ),
    errno.EINVAL: ("the kernel found the live patch invalid", "see the kernel log"),
    errno.ENOMEM: ("not enough memory", "try again later: kmend apply"),
}
_NO_ERRNO = ("", "see the kernel log")


class LoadError(KernelError):
    """The kernel refused to load or unload the module; `number` is the errno."""

    def __init__(self, what: str, number: int, *, why: str = "", hint: str = "") -> None:
        super().__init__(what, why=why, hint=hint)
        self.number = number


@dataclasses.dataclass(frozen=True)
class PatchState:
    """One live patch as the kernel shows it; `objects` maps an object name to whether it is patched now.

    An object whose module is not loaded is not patched; the kernel patches it when the module is loaded.
    """

    name: str
    enabled: bool
    transition: bool
    objects: Dict[str, bool]

    @property
    def ours(self) -> bool:
        """Whether kmend owns it."""
        return self.name.startswith(PREFIX)


class LivePatches:
    """The kernel's live patches."""

    def __init__(self, system: System, loader: ModuleLoader) -> None:
        self._system = system
        self._loader = loader

    def all(self) -> Tuple[PatchState, ...]:
        """Every live patch of the kernel, ours or not, by name."""
        found = (self.get(name) for name in self._system.names(_DIR))
        return tuple(patch for patch in found if patch is not None)

    def get(self, name: str) -> Optional[PatchState]:
        """One live patch, or None when it is not there (any more)."""
        enabled = self._flag(f"{_DIR}/{name}/enabled")
        transition = self._flag(f"{_DIR}/{name}/transition")
        if enabled is None or transition is None:
            return None
        return PatchState(name, enabled, transition, self._objects(name, enabled))

    def _objects(self, name: str, enabled: bool) -> Dict[str, bool]:
        result: Dict[str, bool] = {}
        for item in self._system.names(f"{_DIR}/{name}"):
            if not self._system.path(f"{_DIR}/{name}/{item}").is_dir():
                continue
            patched = self._flag(f"{_DIR}/{name}/{item}/patched")
            # Kernels before 6.1 do not tell; there an enabled patch has patched every loaded object or failed.
            result[item] = (enabled and self._is_loaded(item)) if patched is None else patched
        return result

    def _is_loaded(self, item: str) -> bool:
        return item == "vmlinux" or self._system.path(f"sys/module/{item}").is_dir()

    def _flag(self, path: str) -> Optional[bool]:
        text = self._system.read_text(path)
        return None if text is None else text.strip() == "1"

    def module_loaded(self, name: str) -> bool:
        """Whether the module of a live patch is in the kernel, enabled or not."""
        return self._system.path(f"sys/module/{name}").is_dir()

    def idle_modules(self) -> Tuple[str, ...]:
        """Our modules that are loaded but are no live patch any more: replaced or disabled, and only taking memory."""
        live = set(self._system.names(_DIR))
        loaded = (name for name in self._system.names("sys/module") if name.startswith(PREFIX))
        return tuple(name for name in loaded if name not in live)

    def load(self, name: str, image: bytes) -> None:
        """Load a live patch module, which starts its transition.

        Raises:
            LoadError: the kernel refused it; nothing changed.
        """
        try:
            self._loader.load(image)
        except OSError as error:
            raise _load_error(f"the kernel refused {name}", error) from error

    def unload(self, name: str) -> None:
        """Unload a module that is no live patch any more; gone already is fine.

        Raises:
            LoadError: it is still in use.
        """
        try:
            self._loader.unload(name)
        except OSError as error:
            if error.errno not in GONE:
                raise _load_error(f"can't unload {name}", error) from error

    def disable(self, name: str) -> bool:
        """Start unpatching, or reverse a running transition; False when the patch is gone.

        Raises:
            LoadError: another transition is running (EBUSY).
        """
        return self._enable(name, "0")

    def enable(self, name: str) -> bool:
        """Reverse a disabling that is still in transition; False when the patch is gone.

        Raises:
            LoadError: the kernel refused; it can't enable again what was disabled completely.
        """
        return self._enable(name, "1")

    def _enable(self, name: str, value: str) -> bool:
        try:
            self._system.write_control(f"{_DIR}/{name}/enabled", value)
        except OSError as error:
            if error.errno in GONE:
                return False
            if error.errno == errno.EINVAL and self._already(name, value):
                return True
            raise _load_error(f"can't {'enable' if value == '1' else 'disable'} {name}", error) from error
        return True

    def _already(self, name: str, value: str) -> bool:
        """The kernel answers EINVAL when the attribute has that value already, which is what the caller wants."""
        patch = self.get(name)
        return patch is not None and patch.enabled == (value == "1")


def _load_error(what: str, error: OSError) -> LoadError:
    why, hint = _LOAD_ERRORS.get(error.errno or 0, _NO_ERRNO)
    return LoadError(what, error.errno or 0, why=why or str(error.strerror), hint=hint)
