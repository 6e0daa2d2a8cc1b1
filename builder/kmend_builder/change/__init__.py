# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage 2-change: from a change to its files, old and new, and the translation units to compile. The way of the data:

1. `inputs`, `fixlist`   patch files, an edited tree or a slice of an upgrade become a Change: fixes with a Patch each
2. `patchfile`           reads unified diffs strictly; `linediff` makes them from two texts
3. `apply`               fits the hunks: no fuzz, all or nothing, an offset only where there is one place to go to
4. `tree`, `twin`        one patched tree for each kernel, hard links into the cached source; changed files come and go
5. `lines`               #line directives, so that __LINE__ of untouched code stays what it was
6. `prepare`             1 to 5 together; leaves patched/, change.patch
7. `units`               changed files -> objects; `names` (what does a header change?), `headers` (who has the word?),
                         `buildfiles` (Kconfig, Makefile and the like), `constants` (computed before the build)
8. `explain`             which function a hunk touches
9. `order`               which units are compiled first
10. `clex`, `citems`     C as tokens and as top-level items, for 5, 7 and 8; `declarers`: macros that declare items;
                         `text` is bytes <-> lines without loss
"""
