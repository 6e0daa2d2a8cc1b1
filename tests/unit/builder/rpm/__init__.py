# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of kmend_builder.rpm; a package, so that test files may be named after the modules they test."""
