# SPDX-License-Identifier: GPL-2.0-or-later
"""The include graph of small trees."""

from kmend_builder.kernel.includes import include_graph, reaching

FILES = {
    "kernel/a.c": '#include <linux/fs.h>\n#include "local.h"\n',
    "kernel/b.c": '# include "local.h"\n/* #include <linux/commented.h> */\n',
    "kernel/c.c": '#include "parts/piece.c"\n#ifdef CONFIG_NO\n#include <linux/off.h>\n#endif\n',
    "kernel/d.S": "\t#include <asm/bug.h>\n",
    "kernel/e.c": '#include "far.h"\n#include <linux/missing.h>\n',
    "kernel/f.c": '#define MAGIC_FILE "linux/magic_fields.h"\n#define TEXT "not a file"\n#include MAGIC_FILE\n',
    "kernel/g.S": "#include <linux/flags.h>\n",
    "kernel/local.h": "#include <linux/list.h>\n#include <linux/loop.h>\n",
    "kernel/parts/piece.c": '#include "../local.h"\n',
    "include/linux/fs.h": "#include <linux/list.h>\n",
    "include/linux/list.h": "",
    "include/linux/off.h": "",
    "include/linux/flags.h": "#include <uapi/linux/flags.h>\n",
    "include/uapi/linux/flags.h": "#include <linux/only_uapi.h>\n",
    "include/uapi/linux/only_uapi.h": "",
    "include/linux/magic_fields.h": "",
    "include/linux/loop.h": '#include "loop.h"\n#include <linux/loop2.h>\n',
    "include/linux/loop2.h": "#include <linux/loop.h>\n",
    "arch/x86/include/generated/asm/bug.h": "#include <asm-generic/bug.h>\n",
    "include/asm-generic/bug.h": "",
    "include/linux/kconfig.h": "#include <generated/autoconf.h>\n",
    "include/generated/autoconf.h": "",
    "drivers/x/far.h": "",
    "drivers/y/far.h": "",
}
SOURCES = sorted(name for name in FILES if name.startswith("kernel/") and name.count("/") == 1 and name[-1] in "cS")


def who_includes(path: str) -> set[str]:
    def by_suffix(name: str) -> list[str]:
        return [path for path in FILES if path.endswith(f"/{name}")]

    content = {path: text.encode() for path, text in FILES.items()}
    return reaching(include_graph(SOURCES, content.get, by_suffix), path) & set(SOURCES)


def test_direct_and_transitive() -> None:
    assert who_includes("include/linux/fs.h") == {"kernel/a.c"}
    assert who_includes("kernel/local.h") == {"kernel/a.c", "kernel/b.c", "kernel/c.c"}
    assert who_includes("include/linux/list.h") == {"kernel/a.c", "kernel/b.c", "kernel/c.c"}


def test_included_c_files_count() -> None:
    assert who_includes("kernel/parts/piece.c") == {"kernel/c.c"}


def test_conditions_are_taken_as_true() -> None:
    assert who_includes("include/linux/off.h") == {"kernel/c.c"}


def test_generated_wrappers() -> None:
    assert who_includes("include/asm-generic/bug.h") == {"kernel/d.S"}


def test_uapi_headers_by_either_name_and_by_assembly_alone() -> None:
    for path in ("include/linux/flags.h", "include/uapi/linux/flags.h", "include/uapi/linux/only_uapi.h"):
        assert who_includes(path) == {"kernel/g.S"}


def test_forced_headers_reach_everything() -> None:
    assert who_includes("include/linux/kconfig.h") == set(SOURCES)
    assert who_includes("include/generated/autoconf.h") == set(SOURCES)
    assert who_includes("include/linux/compiler_types.h") == set(SOURCES)


def test_names_outside_the_standard_directories_match_all() -> None:
    assert who_includes("drivers/x/far.h") == who_includes("drivers/y/far.h") == {"kernel/e.c"}


def test_headers_named_by_a_macro() -> None:
    assert who_includes("include/linux/magic_fields.h") == {"kernel/f.c"}


def test_loops_end() -> None:
    assert who_includes("include/linux/loop.h") == who_includes("include/linux/loop2.h")


def test_what_nobody_includes() -> None:
    assert who_includes("include/linux/nobody.h") == set()
    assert who_includes("kernel/a.c") == set()
