# SPDX-License-Identifier: GPL-2.0-or-later
"""Its presence puts this directory on the import path, for the shared helpers in support/."""
