# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of stage 2-change; a package, so that test files may be named after the modules they test."""
