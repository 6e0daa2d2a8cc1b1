# SPDX-License-Identifier: GPL-2.0-or-later
"""Has the kernel's own Kbuild link a module, and from then on runs the commands it used.

Starting Kbuild takes longer than what it then does for two objects: it tries some thirty compiler options first. What
it would run is the same for every live patch of a kernel but for the name of the module and the directory, so that the
commands it keeps beside its results are kept with the kernel and run again. Kbuild is asked where they are not all
there, don't fit or fail: it is what says what is wrong.
"""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel import objtool, store, tool, toolchain
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.savedcmd import saved_command

KEPT = "module-commands.json"
_BUILD, _NAME = "@BUILD@", "@NAME@"
_OURS, _SHIPPED = "glue.o", "pieces.o"
# What Kbuild makes of `obj-m`, in its order; scripts/module-common.c is compiled for each module since 6.13 and in
# backports. Anything else beside these, and the commands are not kept.
_TARGETS = (
    f"{_NAME}.mod",
    _OURS,
    f"{_NAME}.o",
    "modules.order",
    "Module.symvers",
    f"{_NAME}.mod.o",
    ".module-common.o",
    f"{_NAME}.ko",
)
_OPTIONAL = frozenset({".module-common.o"})
# The commands are text for a shell: no directory may mean anything to it, or to awk and sed inside.
_PLAIN = re.compile(r"[A-Za-z0-9/._+,:~-]+")


def link_module(kernel: Kernel, build: Path, name: str) -> None:
    """Make `<build>/<name>.ko` of `glue.c` and `pieces.o_shipped` there.

    Undefined livepatch symbols are expected, so modpost only warns; the caller checks what is left.

    Raises:
        DiskFull: there was no room for it.
        BuildError: it does not link.
    """
    # modpost looks for the versions of exported symbols in each object's command file; a shipped object has none
    (build / f".{_SHIPPED}.cmd").touch()
    (build / "Kbuild").write_text(f"obj-m := {name}.o\n{name}-y := {_OURS} {_SHIPPED}\n")
    argv = _make_command(kernel, build)
    if not _run_kept(kernel, argv, build, name):
        _run_make(kernel, argv, build)
        _keep(kernel, argv, build, name)


def _make_command(kernel: Kernel, build: Path) -> list[str]:
    argv = ["make", "-C", str(kernel.build), f"M={build}", f"CC={kernel.compiler}", f"KERNELRELEASE={kernel.release}"]
    argv += ["KBUILD_MODPOST_WARN=1", "DEBUG_CFLAGS=", "CONFIG_DEBUG_INFO_BTF_MODULES="]
    return [*argv, *objtool.for_module(kernel.config.read_text()), "modules"]


def _run_kept(kernel: Kernel, argv: Sequence[str], build: Path, name: str) -> bool:
    """Whether the commands of an earlier module, made by the same call of make, were there and linked this one."""
    commands = _kept(kernel, argv, build, name)
    if not commands or not _PLAIN.fullmatch(str(build)):
        return False
    shutil.copyfile(build / f"{_SHIPPED}_shipped", build / _SHIPPED)
    (build / f".{_OURS}.cmd").touch()  # for modpost; it exports nothing
    script = "\n".join(command.replace(_BUILD, str(build)).replace(_NAME, name) for command in commands)
    done = _run(kernel, ["sh", "-ec", script], kernel.build)
    _must_have_room(done, build)
    return done.returncode == 0 and (build / f"{name}.ko").is_file()


def _kept(kernel: Kernel, argv: Sequence[str], build: Path, name: str) -> list[str]:
    try:
        value = json.loads((kernel.cache_dir / KEPT).read_bytes())
        if value["make"] == _general(argv, build, name):
            return [str(command) for command in value["commands"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or damaged: Kbuild makes them again
    return []


def _keep(kernel: Kernel, argv: Sequence[str], build: Path, name: str) -> None:
    targets = [target.replace(_NAME, name) for target in _TARGETS]
    made = {path.name.removesuffix(".cmd")[1:] for path in build.glob(".*.cmd")} - {_SHIPPED}
    if made | _OPTIONAL != set(targets):
        return
    commands = [saved_command((build / f".{target}.cmd").read_text()) or "" for target in targets if target in made]
    if all(str(build) in command for command in commands):
        value = {"make": _general(argv, build, name), "commands": _general(commands, build, name)}
        store.write_through(kernel.cache_dir / KEPT, json.dumps(value, indent=1).encode())


def _general(words: Sequence[str], build: Path, name: str) -> list[str]:
    return [word.replace(str(build), _BUILD).replace(name, _NAME) for word in words]


def _run_make(kernel: Kernel, argv: Sequence[str], build: Path) -> None:
    done = _run(kernel, argv, build)
    _must_have_room(done, build)
    if done.returncode:
        raise BuildError(
            "the live patch does not link", why=done.stderr.strip()[-1500:], hint=f"run it yourself: {shlex.join(argv)}"
        )


def _must_have_room(done: "subprocess.CompletedProcess[str]", build: Path) -> None:
    """A link is not to be trusted on a full disk even if all went well: ld may leave half a module and be content.

    Raises:
        DiskFull: there was no room, or so little is left that there may have been none.
    """
    if tool.is_full(build) or (done.returncode and tool.NO_SPACE in done.stdout + done.stderr):
        raise tool.disk_full("can't link the live patch")


def _run(kernel: Kernel, argv: Sequence[str], cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        toolchain.inside(kernel.toolchain, argv, cwd),
        cwd=cwd,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        env={**tool.environment(), "KBUILD_BUILD_TIMESTAMP": "1970-01-01"},
    )
