# SPDX-License-Identifier: GPL-2.0-or-later
"""Judge a directory of fixes, each alone, and prove those that can be live: how much of an upgrade is covered?

`fixes` finds the patches and what their results depend on, `results` keeps records, `pool` runs workers, `judging` and
`proving` are what workers do, `summary` counts, `cover` puts them together.
"""
