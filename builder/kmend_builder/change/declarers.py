# SPDX-License-Identifier: GPL-2.0-or-later
"""Macros of the kernel that declare things at top level, and the names by which code then uses these. Pure.

Only macros whose users are known: all others leave it open what they declare.
"""

import re
from collections.abc import Sequence

_WORD = re.compile(r"[A-Za-z_]\w*\Z")
# include/linux/export.h: a table entry for the linker, nothing that C could name.
_NAMELESS = re.compile(r"EXPORT_(STATIC_CALL|SYMBOL|TRACEPOINT_SYMBOL|PER_CPU_SYMBOL)\w*\Z")
# Argument that is the name: include/linux/percpu-defs.h, jump_label.h, static_call.h. Whatever these macros paste
# is reached through macros of theirs that get the plain name.
_PLAIN = {
    "DECLARE_PER_CPU": 1,
    "DECLARE_PER_CPU_ALIGNED": 1,
    "DECLARE_PER_CPU_FIRST": 1,
    "DECLARE_PER_CPU_PAGE_ALIGNED": 1,
    "DECLARE_PER_CPU_READ_MOSTLY": 1,
    "DECLARE_PER_CPU_SHARED_ALIGNED": 1,
    "DECLARE_STATIC_KEY_FALSE": 0,
    "DECLARE_STATIC_KEY_MAYBE": 1,
    "DECLARE_STATIC_KEY_TRUE": 0,
    "DECLARE_STATIC_CALL": 0,
}
# include/linux/indirect_call_wrapper.h: the argument is a whole prototype.
_PROTOTYPE = "INDIRECT_CALLABLE_DECLARE"
# include/linux/tracepoint.h, include/trace/define_trace.h: argument that is the event's name.
_EVENTS = {
    "TRACE_EVENT": 0,
    "TRACE_EVENT_CONDITION": 0,
    "TRACE_EVENT_FN": 0,
    "TRACE_EVENT_FN_COND": 0,
    "DECLARE_TRACE": 0,
    "DEFINE_EVENT": 1,
    "DEFINE_EVENT_CONDITION": 1,
    "DEFINE_EVENT_FN": 1,
    "DEFINE_EVENT_PRINT": 1,
}
_ENUMS = ("TRACE_DEFINE_ENUM", "TRACE_DEFINE_SIZEOF")
_EVENT_CLASS = "DECLARE_EVENT_CLASS"
_EVENT_NAMES = (
    *("trace_{}", "trace_{}_enabled", "trace_{}_rcuidle", "__tracepoint_{}", "__traceiter_{}", "__SCT__tp_func_{}"),
    *("register_trace_{}", "register_trace_prio_{}", "unregister_trace_{}", "check_trace_callback_type_{}"),
    *("trace_event_raw_{}", "trace_event_raw_event_{}", "event_{}", "trace_raw_output_{}", "perf_trace_{}"),
)


def declared(words: Sequence[str]) -> frozenset[str] | None:
    """The names that one top-level call of a macro declares, without an INDIRECT_CALLABLE_DECLARE's.

    None for an unknown macro, or for several calls in a row without a semicolon.
    """
    arguments = _arguments(words)
    if arguments is None:
        return None
    macro = words[0]
    if _NAMELESS.match(macro) or macro in _ENUMS:
        return frozenset()
    if macro == _EVENT_CLASS:
        return _named(arguments, 0, ("{}", *_EVENT_NAMES))
    if macro in _EVENTS:
        return _named(arguments, _EVENTS[macro], _EVENT_NAMES)
    return _named(arguments, _PLAIN[macro], ("{}",)) if macro in _PLAIN else None


def traces(words: Sequence[str]) -> bool:
    """Whether these words declare trace events: their code is in the unit that defines CREATE_TRACE_POINTS."""
    return bool(words) and (words[0] in _EVENTS or words[0] in (_EVENT_CLASS, *_ENUMS))


def prototype(words: Sequence[str]) -> tuple[str, ...] | None:
    """The declaration that is the argument of such a macro, with its semicolon."""
    plain = words[0] == _PROTOTYPE and _arguments(words) is not None
    return (*words[2:-2], ";") if plain else None


def _arguments(words: Sequence[str]) -> list[list[str]] | None:
    """The arguments of `MACRO(...);`; None if the words are anything else."""
    if len(words) < 4 or tuple(words[-2:]) != (")", ";"):
        return None
    arguments: list[list[str]] = [[]]
    depth = 1
    for index, word in enumerate(words[2:-2], 2):
        depth += (word in "([{") - (word in ")]}")
        if depth == 0 or word == "#":
            return None
        if word == "," and depth == 1:
            arguments.append([])
        else:
            arguments[-1].append(words[index])
    return arguments


def _named(arguments: list[list[str]], index: int, forms: Sequence[str]) -> frozenset[str] | None:
    if index >= len(arguments) or len(arguments[index]) != 1 or not _WORD.match(arguments[index][0]):
        return None
    return frozenset(form.format(arguments[index][0]) for form in forms)
