# SPDX-License-Identifier: GPL-2.0-or-later
# Made by packaging/completion/generate.py from the parser of kmend.
# shellcheck shell=bash

_kmend() {
    local current previous verb words i
    local IFS=$'\n'
    current=${COMP_WORDS[COMP_CWORD]}
    previous=${COMP_WORDS[COMP_CWORD - 1]}
    verb=
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} != -* ]]; then
            verb=${COMP_WORDS[i]}
            break
        fi
    done
    words=
    case $verb:$previous in
    cves:--only) words=$'live\nabsent\nreboot\nnot\\\\ live\nunknown' ;;
    *)
        case $verb in
        "") words=$'-h\n--help\n--version\n--json\n--debug\nstatus\nlist\nshow\ncves\nuname\ncheck\napply\nrevert\nreconcile\nmode\nconfig\nhold\nunhold\nhistory\nblocking\ndoctor\nmetrics\nreboot' ;;
        status) words=$'-h\n--help\n--json\n--debug' ;;
        list) words=$'-h\n--help\n--json\n--debug' ;;
        show) words=$'-h\n--help\n--json\n--debug' ;;
        cves) words=$'-h\n--help\n--json\n--debug\n--only\n--openvex' ;;
        uname) words=$'-h\n--help\n--json\n--debug\n-r\n--release\n-v\n--version' ;;
        check) words=$'-h\n--help\n--json\n--debug\n--blocking' ;;
        apply) words=$'-h\n--help\n--json\n--debug\n-n\n--dry-run' ;;
        revert) words=$'-h\n--help\n--json\n--debug' ;;
        reconcile) words=$'-h\n--help\n--json\n--debug' ;;
        mode) words=$'-h\n--help\n--json\n--debug\nauto\nmanual\nnotify' ;;
        config) words=$'-h\n--help\n--json\n--debug\n--unset\nmode\nsubscribe\ntransition_timeout\napply.delay\napply.quiet\nrollout.ring\nrollout.canary\nrollout.wait\nhold.packages\nhold.cves\nhold.until\nfixes.count\nfixes.ignore\nfixes.insist\nfixes.severity\nfixes.blacklisted\nreboot.enabled\nreboot.window\nreboot.jitter\nreboot.grace\nreboot.deadline\nreboot.method\nreboot.command\nreboot.wall\nreboot.block_users\nreboot.block_inhibitors\nreboot.block_command\nhealth.looks\nhealth.command\nhealth.timeout\nhazards.reload\nmetrics.file' ;;
        hold) words=$'-h\n--help\n--json\n--debug\n--until' ;;
        unhold) words=$'-h\n--help\n--json\n--debug' ;;
        history) words=$'-h\n--help\n--json\n--debug\n-l\n--limit' ;;
        blocking) words=$'-h\n--help\n--json\n--debug' ;;
        doctor) words=$'-h\n--help\n--json\n--debug' ;;
        metrics) words=$'-h\n--help\n--json\n--debug' ;;
        reboot) words=$'-h\n--help\n--json\n--debug\n--if-needed\nstatus\nschedule\ncancel' ;;
        esac
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    if [[ $verb == @(apply) && $current != -* ]]; then
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current")
        compopt -o filenames 2>/dev/null
    fi
}

complete -F _kmend kmend
