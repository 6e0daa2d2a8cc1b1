# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes kmend_tables.h, the klp_object and klp_func tables that kmod/kmend_patch.c includes."""

from collections import defaultdict
from collections.abc import Sequence

from kmend_builder.livepatch.assemble import Redirect
from kmend_builder.livepatch.resolve import VMLINUX


def tables(redirects: Sequence[Redirect], build_id: str, pinned: bool) -> str:
    """The header's text. Objects and functions keep the order of `redirects`, vmlinux first."""
    objects: dict[str, list[Redirect]] = defaultdict(list)
    for redirect in redirects:
        objects[redirect.object].append(redirect)
    names = sorted(objects, key=lambda name: (name != VMLINUX, name))
    lines = ["/* SPDX-License-Identifier: GPL-2.0-or-later */", "/* written by kmend-build */"]
    lines.append(f'#define KMEND_BUILD_ID "{build_id}"')
    if pinned:
        lines.append("#define KMEND_PINNED 1")
    lines += [f"extern void {redirect.label}(void);" for redirect in redirects]
    for number, name in enumerate(names):
        lines.append(f"static struct klp_func kmend_funcs_{number}[] = {{")
        lines += [_function(redirect) for redirect in objects[name]]
        lines.append("\t{ }\n};")
    lines.append("static struct klp_object kmend_objects[] = {")
    for number, name in enumerate(names):
        module = "" if name == VMLINUX else f'.name = "{name}", '
        lines.append(f"\t{{ {module}.funcs = kmend_funcs_{number} }},")
    lines.append("\t{ }\n};")
    return "\n".join(lines) + "\n"


def _function(redirect: Redirect) -> str:
    position = f", .old_sympos = {redirect.sympos}" if redirect.sympos else ""
    return f'\t{{ .old_name = "{redirect.name}", .new_func = {redirect.label}{position} }},'
