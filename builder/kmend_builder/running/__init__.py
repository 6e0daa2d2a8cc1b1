# SPDX-License-Identifier: GPL-2.0-or-later
"""What shipped code looks like in a running kernel, for the check the live patch makes before it redirects anything.

sites.py      the places in code that differ between file and memory, and how
image.py      those of the kernel image, from the tables the kernel itself goes by
kaslr.py      the relocations of the image, which the boot code applies at the address it chose
module.py     those of a module, from its tables and relocations
expected.py   bytes and sites of each function a live patch redirects
"""
