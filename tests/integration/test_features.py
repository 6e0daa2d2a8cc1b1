# SPDX-License-Identifier: GPL-2.0-or-later
"""One change that uses what kernel code is full of, built by the real command and seen at work in a guest.

Statics of a function, a table of strings, a mutex, dynamic debug, a rate limit, WARN_ONCE, a static key of its own that
is switched on while it runs, a tracepoint of the kernel (static key and static call), and a switch with many cases.
"""

from pathlib import Path

import pytest

from integration.conftest import MakePatch
from support.buildcli import BuildCli
from support.fixes import Edit

pytestmark = [pytest.mark.network, pytest.mark.vm, pytest.mark.slow]

_FILE = "fs/proc/cmdline.c"
RICH = (
    Edit(
        _FILE,
        "#include <linux/seq_file.h>\n",
        """#include <linux/seq_file.h>
#include <linux/mutex.h>
#include <linux/printk.h>
#include <linux/ratelimit.h>
#include <linux/jump_label.h>
#include <trace/events/sched.h>

static DEFINE_STATIC_KEY_FALSE(kmend_loud);
""",
    ),
    Edit(
        _FILE,
        "\tseq_puts(m, saved_command_line);\n",
        """\tstatic DEFINE_MUTEX(kmend_lock);
\tstatic const char * const words[] = { "zero", "one", "two", "three" };
\tstatic int shown;
\tint count;

\tmutex_lock(&kmend_lock);
\tcount = shown++;
\tmutex_unlock(&kmend_lock);
\tpr_debug("kmend: shown %d times\\n", count);
\tprintk_ratelimited(KERN_INFO "kmend: limited %d in %s\\n", count, __func__);
\tWARN_ONCE(count > 1000000, "kmend: %d", count);
\tif (static_branch_unlikely(&kmend_loud))
\t\tpr_info("kmend: loud\\n");
\tif (trace_sched_process_exit_enabled())
\t\ttrace_sched_process_exit(current);
\tif (count == 2)
\t\tstatic_branch_enable(&kmend_loud);
\tseq_printf(m, "%s ", words[count & 3]);
\tswitch (count) {
\tcase 0: seq_puts(m, "first "); break;
\tcase 1: seq_puts(m, "second "); break;
\tcase 2: seq_puts(m, "third "); break;
\tcase 3: seq_puts(m, "fourth "); break;
\tcase 4: seq_puts(m, "fifth "); break;
\tcase 5: seq_puts(m, "sixth "); break;
\t}
\tseq_puts(m, saved_command_line);
""",
    ),
)
# Others read the file, too: what it counts starts anywhere.
PROBE = """#!/bin/sh
# kmend-fix: fix
# kmend-object: vmlinux
# kmend-before: plain plain plain plain
# kmend-after: * in order, debug, limited in cmdline_proc_show, loud
dmesg -C
for module in /sys/module/kmend_*; do
\t[ -e "$module" ] && echo "module ${module##*/} +p" > /proc/dynamic_debug/control
done
said= order=
for i in 1 2 3 4; do
\tword=$(cut -d' ' -f1 /proc/cmdline)
\tcase $word in *=*) word=plain ;; esac
\tsaid="$said $word"
done
case $said in
*"zero one two three"* | *"one two three zero"* | *"two three zero one"* | *"three zero one two"*) order=" in order" ;;
esac
log=$(dmesg)
case $log in *"kmend: shown "*" times"*) order="$order, debug" ;; esac
case $log in *"kmend: limited "*" in cmdline_proc_show"*) order="$order, limited in cmdline_proc_show" ;; esac
case $log in *"kmend: loud"*) order="$order, loud" ;; esac
echo $said$order
"""


def test_a_change_that_uses_all_of_it(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    done = cli.run(tmp_path / "out", make_patch(*RICH))
    assert done.code == 0, done.stderr
    assert done.fix["functions"] == ["vmlinux:cmdline_proc_show"]
    assert [hint["kind"] for hint in done.fix["review"]] == ["lock"]
    probe = tmp_path / "rich"
    probe.write_text(PROBE)
    proof = cli.verb("prove", done.out, "--test", probe, "--json")
    assert proof.code == 0, proof.stdout
    assert (proof.value["outcome"], proof.value["objects"][0]["level"]) == ("proven", "behaviour"), proof.value
