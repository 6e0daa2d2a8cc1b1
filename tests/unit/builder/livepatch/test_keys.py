# SPDX-License-Identifier: GPL-2.0-or-later
"""Jump labels on keys of modules: found, turned into tests of the key, and proven to be nothing else."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from kmend_builder.elf.diff import ObjectDiff, diff_objects
from kmend_builder.elf.read import read_object
from kmend_builder.errors import ElfError
from kmend_builder.livepatch.keyproof import prove
from kmend_builder.livepatch.keys import Site, module_sites
from kmend_builder.livepatch.keytests import add_tests
from kmend_builder.livepatch.resolve import VMLINUX, Export, Resolver
from kmend_builder.livepatch.select import select
from support.cc import KERNEL, PRELUDE, SPLIT
from support.kernelish import STATIC_BRANCH
from support.units import make_unit

SOURCE = (
    STATIC_BRANCH
    + """
extern struct static_key shared;
struct static_key own;
struct tracepoint { const char *name; struct static_key key; } __tracepoint_own;
extern int trace(int);
extern cold void complain(int);
static noinline int near(int a) { return unlikely_false(&own) ? a : a * 3; }
int f(int a, int *p)
{
    if (unlikely_false(&own)) { complain(a); a += trace(a + 1); }
    if (likely_true(&own)) a += trace(a + 2);
    if (unlikely_true(&own)) a += trace(a + 3);
    if (likely_false(&own)) a += trace(a + 4);
    if (unlikely_false(&shared)) a += trace(a + 5);
    if (unlikely_false(&__tracepoint_own.key)) trace(a + 6);
    while (trace(a)) { if (unlikely_false(&own)) p[a++] = trace(near(a)); else a += p[a]; }
    return a;
}
int main(void) { return 0; }
"""
)
OWN = Counter(
    {
        Site("f", "own", 0, False): 3,
        Site("f", "own", 0, True): 2,
        Site("f", "__tracepoint_own", 8, False): 1,
    }
)


def _gcc(*argv: str, source: str) -> str:
    done = subprocess.run(["gcc", *argv], input=source, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _assembly(source: str) -> str:
    return _gcc(*KERNEL, *SPLIT, "-S", "-x", "c", "-o", "-", "-", source=PRELUDE + source)


def _diff(tmp_path: Path, before: str, after: str) -> ObjectDiff:
    target = tmp_path / "unit.o"
    objects = []
    for text in (before, after):
        _gcc("-x", "assembler", "-c", "-o", str(target), "-", source=text)
        objects.append(read_object(target.read_bytes(), target.name))
    return diff_objects(objects[0], objects[1])


def test_the_jump_labels_on_keys_of_the_module_are_found() -> None:
    unit = make_unit(SOURCE, SOURCE.replace("a + 2", "a + 9"), module="mod")
    kernel = make_unit("struct static_key { int e; } shared; int trace(int a) { return a; }", "").match.space
    spaces = {"mod": unit.match.space, VMLINUX: kernel}
    assert module_sites(select(unit), Resolver({"shared": Export(VMLINUX, "")}, spaces.__getitem__)) == OWN


def test_they_become_tests_and_nothing_else_changes(tmp_path: Path) -> None:
    plain = _assembly(SOURCE)
    tested = add_tests(plain, OWN)
    diff = _diff(tmp_path, plain, tested)
    assert {change.name.partition(".")[0] for change in diff.functions} == {"f"}
    prove(diff, OWN)
    assert tested.count("cmpl $0, own+0(%rip)") == 5
    assert tested.count("cmpl $0, __tracepoint_own+8(%rip)") == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("jne", "je"),
        ("cmpl $0, own+0(%rip)", "cmpl $1, own+0(%rip)"),
        ("cmpl $0, own+0(%rip)", "cmpl $0, own+4(%rip)"),
        ("cmpl $0, own+0(%rip)", "cmpl $0, shared(%rip)"),
        ("cmpl $0, own+0(%rip)", "cmpl $0, own+0(%rip)\n\tnop"),
        ("call\ttrace", "call\tcomplain"),
        (", %edi", ", %esi"),
    ],
)
def test_anything_else_is_not_proven(tmp_path: Path, old: str, new: str) -> None:
    plain = _assembly(SOURCE)
    tested = add_tests(plain, OWN)
    start = tested.index("\nf:")
    place = tested.index(old, start)
    wrong = tested[:place] + new + tested[place + len(old) :]
    with pytest.raises(ElfError, match="can't make f read the static keys"):
        prove(_diff(tmp_path, plain, wrong), OWN)


def test_a_test_that_leads_elsewhere_is_not_proven(tmp_path: Path) -> None:
    plain = _assembly(SOURCE)
    tested = add_tests(plain, OWN)
    targets = [line.split()[1] for line in tested.splitlines() if line.startswith("\tjne .L")]
    assert len(set(targets)) > 1
    first, other = targets[0], next(target for target in targets if target != targets[0])
    wrong = tested.replace(f"\tjne {first}", f"\tjne {other}", 1)
    assert wrong != tested
    with pytest.raises(ElfError, match="can't make f read"):
        prove(_diff(tmp_path, plain, wrong), OWN)


def test_all_places_must_be_there() -> None:
    more = OWN + Counter({Site("f", "own", 0, False): 1})
    with pytest.raises(ElfError, match="has not the same places"):
        add_tests(_assembly(SOURCE), more)


def test_a_place_that_was_left_out_is_not_proven(tmp_path: Path) -> None:
    plain = _assembly(SOURCE)
    fewer = OWN - Counter({Site("f", "__tracepoint_own", 8, False): 1})
    diff = _diff(tmp_path, plain, add_tests(plain, fewer))
    prove(diff, fewer)
    with pytest.raises(ElfError, match="other places"):
        prove(diff, OWN)


BEHAVIOUR = (
    STATIC_BRANCH
    + """
struct static_key key;
noinline int first(void) { return unlikely_false(&key); }
noinline int second(void) { return unlikely_true(&key); }
noinline int third(void) { return likely_true(&key); }
noinline int fourth(void) { return likely_false(&key); }
int main(void)
{
    int wrong = 0;
    for (int n = -1; n < 3; n++) {
        key.enabled = n;
        wrong |= first() != !!n || second() != !!n || third() != !!n || fourth() != !!n;
    }
    return wrong;
}
"""
)


@pytest.mark.parametrize("inverted", [False, True])
def test_all_types_answer_whether_the_key_is_enabled(tmp_path: Path, inverted: bool) -> None:
    """Run as an ordinary program: what is tested has nothing of the kernel in it."""
    flags = [flag for flag in KERNEL if flag not in ("-pg", "-mfentry", "-mrecord-mcount", "-mcmodel=kernel", "-gbtf")]
    plain = _gcc(*flags, *SPLIT, "-S", "-x", "c", "-o", "-", "-", source=PRELUDE + BEHAVIOUR)
    names = {"first": False, "second": False, "third": True, "fourth": True}
    tested = add_tests(plain, Counter({Site(name, "key", 0, branch): 1 for name, branch in names.items()}))
    if inverted:
        tested = tested.replace("\tjne ", "\tje ", 1)
    program = tmp_path / "program"
    _gcc("-no-pie", "-x", "assembler", "-o", str(program), "-", source=tested)
    assert subprocess.run([str(program)]).returncode == int(inverted)
