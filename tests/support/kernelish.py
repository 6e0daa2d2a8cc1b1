# SPDX-License-Identifier: GPL-2.0-or-later
"""C fragments that leave the same table entries behind as the kernel's own macros."""

#: WARN_ON: an entry of 12 bytes in __bug_table (arch/x86/include/asm/bug.h, with DEBUG_BUGVERBOSE).
BUG = """
#define BUG_ENTRY(line) asm volatile("1: ud2\\n.pushsection __bug_table, \\"aw\\"\\n" \\
    "2: .long 1b - .\\n .long %c0 - .\\n .word %c1\\n .word 1\\n .popsection" \\
    : : "i" ("unit.c"), "i" (line))
"""

#: static_branch_unlikely: 16 bytes in __jump_table (arch/x86/include/asm/jump_label.h).
JUMP_LABEL = """
struct static_key { int enabled; void *entries; };
static inline __attribute__((__always_inline__)) int static_branch(struct static_key *const key)
{
    asm goto("1: .byte 0x0f, 0x1f, 0x44, 0x00, 0x00\\n.pushsection __jump_table, \\"aw\\"\\n.balign 8\\n"
             ".long 1b - ., %l[yes] - .\\n.quad %c0 - .\\n.popsection" : : "i" (key) : : yes);
    return 0;
yes:
    return 1;
}
"""

#: alternative: 12 bytes in .altinstructions, the replacement in .altinstr_replacement (up to Linux 6.2).
ALTERNATIVE = """
#define ALTERNATIVE(old, new, feature) asm volatile("661: " old "\\n662:\\n" \\
    ".pushsection .altinstructions, \\"a\\"\\n.long 661b - .\\n.long 663f - .\\n.word " #feature "\\n" \\
    ".byte 662b - 661b\\n.byte 664f - 663f\\n.popsection\\n" \\
    ".pushsection .altinstr_replacement, \\"ax\\"\\n663: " new "\\n664:\\n.popsection")
"""

#: A user access: 12 bytes in __ex_table (arch/x86/include/asm/asm.h).
EX_TABLE = """
static inline __attribute__((__always_inline__)) int fault_read(const int *from, int *to)
{
    int error = 0;
    asm volatile("1: mov %2, %1\\n2:\\n.pushsection __ex_table, \\"a\\"\\n.balign 4\\n"
                 ".long 1b - ., 2b - .\\n.long 3\\n.popsection" : "+r" (error), "=r" (*to) : "m" (*from));
    return error;
}
"""

#: A static call: the call to its trampoline is listed in .static_call_sites (include/linux/static_call.h).
STATIC_CALL = """
struct static_call_key { void *func; };
#define STATIC_CALL(name) asm volatile("1: call __SCT__" #name "\\n.pushsection .static_call_sites, \\"aw\\"\\n" \\
    ".long 1b - ., __SCK__" #name " - .\\n.popsection" : : : "memory")
"""

#: static_branch_*() as Linux 6.1 has it: the jump stands in the code until objtool or the kernel makes it a no-op.
STATIC_BRANCH = """
struct static_key { int enabled; void *entries; };
#define always_inline static inline __attribute__((__always_inline__))
#define SITE(flags, comment) asm goto("1:jmp %l[yes] " comment "\\n\\t.pushsection __jump_table,  \\"aw\\" \\n\\t" \\
    " .balign 8 \\n\\t.long 1b - . \\n\\t.long %l[yes] - . \\n\\t .quad %c0 + %c1 - .\\n\\t.popsection \\n\\t" \\
    : : "i" (key), "i" (flags) : : yes); return 0; yes: return 1
always_inline int nop_first(struct static_key *const key, const int branch) { SITE(2 | branch, "# objtool NOPs this"); }
always_inline int jump_first(struct static_key *const key, const int branch) { SITE(branch, ""); }
#define unlikely_false(key) nop_first(key, 0)
#define unlikely_true(key) jump_first(key, 0)
#define likely_true(key) (!nop_first(key, 1))
#define likely_false(key) (!jump_first(key, 1))
"""
