# SPDX-License-Identifier: GPL-2.0-or-later
"""Small edits of the real kernel source, and the patches made from them.

The files are ones that hardly ever change: an edit that no longer fits fails loudly, it is never skipped.
"""

import dataclasses
import difflib
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Edit:
    """Replaces `old`, which must occur once in the file, by `new`."""

    path: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        assert text.count(self.old) == 1, f"{self.path}: {self.old!r} occurs {text.count(self.old)} times"
        return text.replace(self.old, self.new)


_PROC = "fs/proc/cmdline.c"
_HYBLA = "net/ipv4/tcp_hybla.c"
_VEGAS = "net/ipv4/tcp_vegas.c"

#: Built into vmlinux; the function has nothing special about it.
CMDLINE = Edit(_PROC, "seq_putc(m, '\\n');", 'seq_puts(m, " kmend\\n");')
#: Runs once, at boot.
CMDLINE_INIT = Edit(_PROC, 'proc_create_single("cmdline", 0,', 'proc_create_single("cmdline", 0400,')
#: Calls what nobody declares; the second edit is what it takes to compile.
UNDECLARED = Edit(_PROC, "seq_putc(m, '\\n');", "kmend_newline(m);")
DECLARED = Edit(
    _PROC,
    "static int cmdline_proc_show(",
    'static noinline void kmend_newline(struct seq_file *m)\n{\n\tseq_puts(m, " kmend\\n");\n}\n\n'
    "static int cmdline_proc_show(",
)
#: Nothing but a comment.
COMMENT = Edit("fs/proc/version.c", "#include <linux/fs.h>\n", "/* kmend: a comment */\n#include <linux/fs.h>\n")
#: Code that compiles to the same bytes.
SAME_CODE = Edit(_HYBLA, "ca->rho2 = 0;", "ca->rho2 = 1 - 1;")
#: Of another architecture, and of a driver that a kernel for virtual machines leaves out.
NOT_BUILT = (
    Edit("arch/arm64/kernel/io.c", "#include <linux/export.h>\n", "#include <linux/export.h>\nint kmend_extra;\n"),
    Edit(
        "drivers/gpu/drm/i915/i915_irq.c",
        "#include <linux/circ_buf.h>\n",
        "#include <linux/circ_buf.h>\nint kmend_x;\n",
    ),
)
#: In a module.
HYBLA = Edit(_HYBLA, "tp->snd_cwnd_clamp = 65535;", "tp->snd_cwnd_clamp = 32767;")
#: A structure that is allocated by old code and read by new code; and one that is new.
LAYOUT = Edit(_HYBLA, "\tu32   minrtt_us; ", "\tu32   kmend_extra;\n\tu32   minrtt_us; ")
NEW_STRUCT = (
    Edit(_HYBLA, "struct hybla {\n", "struct kmend_window {\n\tu32 size;\n};\n\nstruct hybla {\n"),
    Edit(
        _HYBLA, "tcp_snd_cwnd_set(tp, 2);", "struct kmend_window w = { tp->srtt_us };\n\ttcp_snd_cwnd_set(tp, w.size);"
    ),
)
#: The start value of a variable that the running module has long been using; and a new variable with a value.
VALUE = Edit(_HYBLA, "static int rtt0 = 25;", "static int rtt0 = 30;")
NEW_VALUE = (
    Edit(_HYBLA, "static int rtt0 = 25;", "static int rtt0 = 25;\nstatic int kmend_start = 3;"),
    Edit(_HYBLA, "tcp_snd_cwnd_set(tp, 2);", "tcp_snd_cwnd_set(tp, kmend_start++);"),
)
#: A constant that a registered family points to; and one that a function hands to the parser itself.
REGISTERED_POLICY = Edit("net/ipv6/seg6.c", "[SEG6_ATTR_ALGID]\t\t\t= { .type = NLA_U8, }", "[SEG6_ATTR_ALGID] = {}")
POLICY = Edit(
    "drivers/net/vxlan/vxlan_vnifilter.c",
    "[VXLAN_VNIFILTER_ENTRY_START] = { .type = NLA_U32 }",
    "[VXLAN_VNIFILTER_ENTRY_START] = { .type = NLA_U16 }",
)
#: Functions without an fentry call: by attribute, by section, by language; and one with it in the second's file.
NOTRACE = Edit("kernel/trace/trace_clock.c", "\tclock = sched_clock();\n", "\tclock = sched_clock() + 1;\n")
NOINSTR = Edit("arch/x86/entry/common.c", "&& nr != -1) {", "&& nr != -2) {")
ASSEMBLY = Edit("arch/x86/lib/iomap_copy_64.S", "\trep movsl\n", "\tnop\n\trep movsl\n")
ENTRY = Edit("fs/proc/version.c", "utsname()->release,", "utsname()->nodename,")
#: Without one, too, as most of lib/, but what calls it is known: irq_affinity_list_proc_write(), and no module.
LIBRARY = Edit(
    "lib/bitmap.c",
    "\tret = bitmap_parselist(buf, maskp, nmaskbits);\n",
    "\tret = ulen > 20 ? -EDOM : bitmap_parselist(buf, maskp, nmaskbits);\n",
)
VDSO = Edit(
    "arch/x86/entry/vdso/vclock_gettime.c",
    "return __cvdso_gettimeofday(tv, tz);",
    "return __cvdso_gettimeofday(tv, tz) * 2;",
)
#: Inlines a test of kvm_has_noapic_vcpu and two tracepoints, static keys of the module itself.
KEYS = Edit("arch/x86/kvm/hyperv.c", "if (time_now >= exp_time)", "if (time_now > exp_time)")
#: Init code that nothing else goes with: a function that stays.
LEAVES_INIT = Edit(_PROC, "static int __init proc_cmdline_init(void)", "static int proc_cmdline_init(void)")
#: For runs that are to find nothing of theirs in the cache.
VEGAS = Edit(_VEGAS, "static int alpha = 2;", "static int alpha = 2;\nstatic int kmend_alpha = 3;")
VEGAS_USE = Edit(_VEGAS, "vegas->minRTT = 0x7fffffff;\n}", "vegas->minRTT = 0x7fffffff - kmend_alpha++;\n}")


def library(source: Path) -> Edit:
    """LIBRARY where this source has it: 6.12 has that half of the file in one of its own."""
    later = source / "lib/bitmap-str.c"
    return dataclasses.replace(LIBRARY, path="lib/bitmap-str.c") if later.exists() else LIBRARY


def edited(source: Path, *edits: Edit) -> dict[str, str]:
    """The edited files, by path."""
    texts: dict[str, str] = {}
    for edit in edits:
        before = texts[edit.path] if edit.path in texts else (source / edit.path).read_text()
        texts[edit.path] = edit.apply(before)
    return texts


def patch_text(source: Path, *edits: Edit, subject: str = "") -> str:
    """A -p1 patch of the edits, made by the standard library and not by what is tested."""
    head = f"From: A Developer <dev@example.org>\nSubject: [PATCH] {subject}\n\n---\n" if subject else ""
    return head + "".join(
        line
        for path, text in edited(source, *edits).items()
        for line in difflib.unified_diff(
            (source / path).read_text().splitlines(keepends=True),
            text.splitlines(keepends=True),
            f"a/{path}",
            f"b/{path}",
        )
    )
