# SPDX-License-Identifier: GPL-2.0-or-later
"""make demo: the main job on real input, told in a screen. Also the fixture of the end-to-end tests.

material.py  fixes -> signed update, client package, repositories, seed disk
story.py     the guest: vulnerable, apt full-upgrade, fixed, reverted, applied again
"""
