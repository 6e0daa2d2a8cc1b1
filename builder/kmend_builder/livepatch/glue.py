# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes kmend_tables.h, which kmod/kmend_patch.c includes: klp_object and klp_func tables, and what the code of each
function looks like as it was shipped (kmod/kmend_check.h)."""

from collections import defaultdict
from collections.abc import Sequence

from kmend_builder.livepatch.assemble import Redirect
from kmend_builder.livepatch.resolve import VMLINUX
from kmend_builder.running.expected import Code, Expected

_PER_LINE = 16


def tables(redirects: Sequence[Redirect], shipped: Expected, build_id: str, pinned: bool) -> str:
    """The header's text. Objects and functions keep the order of `redirects`, vmlinux first.

    Args:
        shipped: has the code of every redirect.
    """
    objects: dict[str, list[Redirect]] = defaultdict(list)
    for redirect in redirects:
        objects[redirect.object].append(redirect)
    names = sorted(objects, key=lambda name: (name != VMLINUX, name))
    lines = ["/* SPDX-License-Identifier: GPL-2.0-or-later */", "/* written by kmend-build */"]
    lines.append(f'#define KMEND_BUILD_ID "{build_id}"')
    lines.append(f"#define KMEND_ANCHOR {shipped.anchor:#x}UL")
    if pinned:
        lines.append("#define KMEND_PINNED 1")
    lines += [f"extern void {redirect.label}(void);" for redirect in redirects]
    for number, name in enumerate(names):
        lines.append(f"static struct klp_func kmend_funcs_{number}[] = {{")
        lines += [_function(redirect) for redirect in objects[name]]
        lines.append("\t{ }\n};")
        lines += _codes(number, [shipped.code[redirect.label] for redirect in objects[name]])
    lines.append("static struct klp_object kmend_objects[] = {")
    for number, name in enumerate(names):
        module = "" if name == VMLINUX else f'.name = "{name}", '
        lines.append(f"\t{{ {module}.funcs = kmend_funcs_{number}, .callbacks.pre_patch = kmend_pre_patch }},")
    lines.append("\t{ }\n};")
    lines.append("static const struct kmend_code *const kmend_codes[] = {")
    lines += [f"\tkmend_codes_{number}," for number in range(len(names))]
    lines.append("};")
    return "\n".join(lines) + "\n"


def _function(redirect: Redirect) -> str:
    position = f", .old_sympos = {redirect.sympos}" if redirect.sympos else ""
    return f'\t{{ .old_name = "{redirect.name}", .new_func = {redirect.label}{position} }},'


def _codes(number: int, codes: Sequence[Code]) -> list[str]:
    """The shipped code of one object's functions, in their order."""
    lines = []
    for index, code in enumerate(codes):
        lines.append(f"static const u8 kmend_bytes_{number}_{index}[] = {{")
        lines += [f"\t{_bytes(code.data[at : at + _PER_LINE])}" for at in range(0, len(code.data), _PER_LINE)]
        lines.append("};")
        lines.append(f"static const struct kmend_site kmend_sites_{number}_{index}[] = {{")
        lines += [f"\t{{ {site.start}, {site.size}, KMEND_{site.how.name} }}," for site in code.sites]
        lines.append("};")
    lines.append(f"static const struct kmend_code kmend_codes_{number}[] = {{")
    lines += [_code(f"{number}_{index}", code) for index, code in enumerate(codes)]
    lines.append("};")
    return lines


def _bytes(data: bytes) -> str:
    return " ".join(f"0x{byte:02x}," for byte in data)


def _code(name: str, code: Code) -> str:
    fields = f".address = {code.address:#x}UL, .bytes = kmend_bytes_{name}, .sites = kmend_sites_{name}"
    return f"\t{{ {fields}, .size = {len(code.data)}, .count = {len(code.sites)} }},"
