# SPDX-License-Identifier: GPL-2.0-or-later
"""RPM package files: their headers, their payload, their digests and signatures."""
