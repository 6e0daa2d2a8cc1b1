# SPDX-License-Identifier: GPL-2.0-or-later
"""What the compiler's and the kernel's symbol names mean. One judgement per predicate."""

import re

_NUMBERED = re.compile(r"\.\d+$")
_UNIQUE = re.compile(r"^(__UNIQUE_ID_.*?|__pad_\w*?|__compound_literal)(\.|_)?\d+$")
_COLD = re.compile(r"\.cold(\.\d+)?$")
_CLONE = re.compile(r"\.(cold|part|isra|constprop)(\.\d+)?")

# Static variables that exist once per place in the source and whose identity means nothing across versions of a
# function: a new copy only resets a "warn once" or a rate limit, or registers another lock class.
_PER_PLACE = (
    "__key",
    "__already_done",
    "__warned",
    "__print_once",
    "__func__",
    "__FUNCTION__",
    "__PRETTY_FUNCTION__",
    "_rs",
    "_entry",
    "_entry_ptr",
    "__msg",
    "CSWTCH",
)
# Any function may have a variable of this name; in this section it is dynamic debug's (include/linux/dynamic_debug.h).
_DYNDBG = ("__dyndbg", "descriptor")


def base(name: str) -> str:
    """The name as written in the source: without the number gcc appends to static locals and unique ids."""
    plain = _NUMBERED.sub("", name)
    unique = _UNIQUE.match(plain)
    return unique.group(1) if unique else plain


def numbered(name: str) -> bool:
    """Whether the name carries a number that another compilation may choose differently."""
    return bool(_NUMBERED.search(name) or _UNIQUE.match(name))


def per_place(name: str, section: str = "") -> bool:
    """Whether this is a static of one place in the source (`__func__.12`, `_rs.3`, a dyndbg descriptor).

    gcc numbers static locals. A variable without a number belongs to the whole file and is state like any other.
    """
    if not numbered(name):
        return False
    plain = base(name)
    return plain in _PER_PLACE or plain.startswith("__UNIQUE_ID_ddebug") or (section, plain) == _DYNDBG


def cold_parent(name: str) -> str | None:
    """`foo` for `foo.cold`, the part gcc moves to .text.unlikely; None for anything else."""
    stripped = _COLD.sub("", name)
    return stripped if stripped != name else None


def source_function(name: str) -> str:
    """`foo` for `foo.isra.0`, `foo.part.1.cold`: the function as the source has it, of a clone or part gcc made."""
    return _CLONE.sub("", name)


def prefix_of(name: str) -> str | None:
    """`foo` for `__pfx_foo`, objtool's name for the padding before a function (CONFIG_PREFIX_SYMBOLS)."""
    return name.removeprefix("__pfx_") if name.startswith("__pfx_") else None


def init_section(name: str) -> bool:
    """Code and data the kernel frees after boot or module load (include/linux/init.h).

    .meminit is not among them: with CONFIG_MEMORY_HOTPLUG, which distributions set, it stays (MEM_KEEP of
    include/asm-generic/vmlinux.lds.h). Without it its functions can't be redirected either: __meminit is notrace.
    """
    return name.startswith((".init.", ".initcall", ".devinit.", ".con_initcall", ".init_array"))


def exit_section(name: str) -> bool:
    """Module exit code and data; discarded in built-in objects."""
    return name.startswith(".exit")


def metadata_section(name: str) -> bool:
    """Sections that describe the object to the linker, modpost or the loader and hold no live data."""
    return name in (".BTF", ".BTF.ext") or name.startswith(
        (
            ".modinfo",
            "__ksymtab",
            "___ksymtab",
            "__kcrctab",
            "___kcrctab",
            ".discard",
            ".export_symbol",
            ".note",
            ".comment",
            "__tracepoints_ptrs",
            ".printk_index",
            ".altinstr_",
            "__versions",
            "__patchable_function_entries",
            ".static_call_tramp_key",
            ".gnu.linkonce.this_module",
        )
    )
