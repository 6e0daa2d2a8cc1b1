# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways in which getting a kernel fails that a caller may want to tell apart."""

from kmend_builder.errors import BuildError


class VersionGone(BuildError):
    """The archive does not offer the package, or no longer in this version."""


class DamagedPackage(BuildError):
    """A package file is not what the archive's index says, or can't be unpacked."""


class DiskFull(BuildError):
    """No room for the cache."""


class CompilerMissing(BuildError):
    """The compiler the kernel was built with is not installed, or in another version."""


class ConfigDiffers(BuildError):
    """The shipped configuration does not survive `make olddefconfig` on this machine."""
