# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend-build: turns fixes into signed live patch packages for the kernels a distribution shipped."""

__version__ = "0.1.0"
