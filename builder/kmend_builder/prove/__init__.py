# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage 8: boot the exact shipped kernel in a guest, apply the live patch, check, revert, re-apply.

From the bottom up: `qmp` and `channel` talk to a guest, `qemu` builds command lines and owns the process, `initrd`,
`images` and `rootfs` make what it boots, `guest` is the harness that tests use too, `klp` and `kernlog` know
about live patches, `prove` judges.
"""
