# SPDX-License-Identifier: GPL-2.0-or-later
"""make bench: figures as ratios within one run on one machine. Nothing here is asserted; machines differ."""
