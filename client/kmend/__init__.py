# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend: keeps the running Linux kernel patched during ordinary package upgrades."""

__version__ = "0.1.0"
