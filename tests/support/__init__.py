# SPDX-License-Identifier: GPL-2.0-or-later
"""Helpers shared by the tests: they make objects, kernel images and units out of readable source."""
