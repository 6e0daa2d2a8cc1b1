# SPDX-License-Identifier: GPL-2.0-or-later
"""init_module(2) and delete_module(2), nothing else. livepatch.py is the only caller."""

import ctypes
import os
from typing import Protocol


class ModuleLoader(Protocol):
    """Loads and unloads kernel modules; the simulator of the tests implements it too."""

    def load(self, image: bytes) -> None:
        """Load the module whose ELF image this is.

        Raises:
            OSError: as the kernel answers.
        """

    def unload(self, name: str) -> None:
        """Unload a module without waiting for its users.

        Raises:
            OSError: as the kernel answers.
        """


class SyscallLoader:
    """The kernel's own interface.

    init_module takes bytes rather than a file: they are this process's private memory, so what was hashed is what
    gets loaded, whatever happens to the file in between. A module signature at the end is checked all the same.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def load(self, image: bytes) -> None:
        """See `ModuleLoader`."""
        done = self._libc.init_module(ctypes.c_char_p(image), ctypes.c_ulong(len(image)), ctypes.c_char_p(b""))
        self._check(done)

    def unload(self, name: str) -> None:
        """See `ModuleLoader`."""
        self._check(self._libc.delete_module(ctypes.c_char_p(name.encode("ascii")), ctypes.c_uint(os.O_NONBLOCK)))

    def _check(self, done: int) -> None:
        if done:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
