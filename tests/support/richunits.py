# SPDX-License-Identifier: GPL-2.0-or-later
"""Small units that have between them every structure stages 4 to 7 read, each with a change that can be live."""

import functools

from kmend_builder.elf.constants import STT_FUNC
from kmend_builder.elf.write import write_object
from kmend_builder.livepatch.resolve import VMLINUX, Export
from support.cc import compile_bytes, compile_c
from support.gauntlet import Pair
from support.image import kernel_image
from support.kernelish import ALTERNATIVE, BUG, EX_TABLE, JUMP_LABEL, STATIC_CALL
from support.objects import add_orc

#: Tables of all kinds, and a replacement that refers to something.
TABLES = (
    BUG
    + JUMP_LABEL
    + ALTERNATIVE
    + EX_TABLE
    + STATIC_CALL
    + """
struct static_key __attribute__((weak)) key, other;
extern int trace(int);
int before(int a) { BUG_ENTRY(1); ALTERNATIVE("nop", "pause", 4); return static_branch(&other) + a; }
int f(int a, int *p)
{
    if (a > 4)
        BUG_ENTRY(12);
    ALTERNATIVE("nop; nop", "call trace", 3);
    STATIC_CALL(foo);
    if (static_branch(&key))
        trace(a);
    asm volatile("1: lock; incl %0\\n.pushsection .smp_locks, \\"a\\"\\n.balign 4\\n.long 1b - .\\n.popsection\\n"
                 ".pushsection .return_sites, \\"a\\"\\n.long 1b - .\\n.popsection" : "+m" (*p));
    return fault_read(p, p + 1) * 2;
}
int behind(int a) { BUG_ENTRY(2); ALTERNATIVE("nop", "pause", 5); return a; }
"""
)
#: Static locals, literals, tables of pointers, constants known by content, parts out of line, uninitialised data.
DATA = """
extern cold void complain(int, const char *);
extern int hidden(int), sscanf(const char *, const char *, ...);
struct item { const char *name; int (*call)(int); struct item *next; };
static int state; static u64 large[300];
static noinline int helper(int a) { static int count = 4; count += hidden(a); return count + state++; }
static struct item second = { "second", helper, NULL };
static struct item first = { "first", helper, &second };
const struct item *items[] = { &first, &second, NULL };
static const char *const names[] = { "zero", "one", "two", "three" };
int pick(unsigned int a) { static const int values[] = { 9, 1, 7, 3, 8, 2 }; return values[a % 6] + items[0]->call(a); }
int f(unsigned int a)
{
    static int count;
    switch (a % 7) {
    case 0: return hidden(3);
    case 1: complain(a + 100, names[a % 4]); return 1;
    case 2: return sscanf("text", "%d", &count);
    case 3: return pick(a) + (int)large[a];
    }
    count += helper(a);
    return count * 2 + first.call(a);
}
section(".init.text") notrace int setup(void) { return hidden(1); }
"""
#: Functions that share a section, so that branches between them have no relocation; and unwind data.
SHARED = """
struct pair { int a, b; union { struct { short x, y; }; long z; }; enum { ONE, TWO } kind : 3; };
section(".sched.text") noinline int first(struct pair *p) { return p->a * 7 + p->x; }
section(".sched.text") noinline int second(struct pair *p) { return first(p) * 3 + p->b; }
section(".sched.text") noinline int third(struct pair *p) { p->z = second(p); return p->kind; }
"""
#: Code out of line that is copied piece by piece.
SLOW = """
int f(int a)
{
    asm goto("1: jmp 6f\\n2:\\n.pushsection .altinstr_aux, \\"ax\\"\\n6: testb $4, flags+3(%%rip)\\n"
             "jnz %l[yes]\\njmp %l[no]\\n.popsection" : : : "memory" : yes, no);
yes:
    return a * 3;
no:
    return a;
}
"""
_UNITS = {
    "tables": (TABLES, "* 2", "* 5"),
    "data": (DATA, "count * 2", "count * 5"),
    "shared": (SHARED, "* 3 + p->b", "* 5 + p->b"),
    "slow path": (SLOW, "a * 3", "a * 5"),
}
NAMES = tuple(_UNITS)


@functools.cache
def rich_pair(name: str) -> Pair:
    """The objects of one of NAMES, and a kernel that holds it."""
    return unit_pair(*_UNITS[name], unwind=name == "shared")


def unit_pair(source: str, old: str, new: str, *, unwind: bool = False) -> Pair:
    """The objects of a unit in which `old` becomes `new`, and a kernel that holds the unit."""
    assert old in source
    objects = [_object(text, unwind) for text in (source, source.replace(old, new))]
    exports = {name: Export(VMLINUX, "") for name in ("__fentry__", "trace", "sscanf")}
    return Pair(objects[0], objects[1], kernel_image(source).space(), exports)


def _object(source: str, unwind: bool) -> bytes:
    if not unwind:
        return compile_bytes(source)
    obj = compile_c(source)
    # A row at the start of each function, and one at its second instruction.
    places = sorted(at for symbol in obj.symbols if symbol.type == STT_FUNC for at in (symbol.value, symbol.value + 5))
    add_orc(obj, {"first": [(at, bytes((8 + at % 64, 0, 0, 0, 5, 0))) for at in places]})
    return write_object(obj)
