# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
# Shared by the hooks: is the running kernel ours to look after?

kmend_in_container() {
    [ -e /.dockerenv ] || [ -e /run/.containerenv ] || [ -e /run/systemd/container ] || [ -n "${container:-}" ] ||
        grep -qsz '^container=' /proc/1/environ ||
        { command -v systemd-detect-virt && systemd-detect-virt -c -q; } >/dev/null 2>&1
}

kmend_wanted() {
    # ischroot ends with 1 only when it is sure that this is no chroot; without /proc it isn't.
    ischroot 2>/dev/null
    [ $? -eq 1 ] || return 1
    # An offline update reboots when it is done, into the new kernel.
    if [ -e /system-update ] || [ -L /system-update ]; then return 1; fi
    ! kmend_in_container
}
