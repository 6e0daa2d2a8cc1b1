# SPDX-License-Identifier: GPL-2.0-or-later
"""A build tree in which single objects compile as they did for the shipped kernel: `make O=` up to modules_prepare."""

import dataclasses
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from kmend_builder.errors import BuildError
from kmend_builder.kernel.failures import CompilerMissing, ConfigDiffers
from kmend_builder.kernel.tool import environment, last_words, run
from kmend_builder.kernel.toolchain import HOST, inside
from kmend_builder.progress import Progress

_COMPILER = re.compile(r'^CONFIG_CC_VERSION_TEXT="(.*)"$', re.MULTILINE)
_COMMAND = re.compile(r"((?:x86_64-linux-gnu-)?(gcc(?:-\d+)?))\s")
_UTS_RELEASE = re.compile(r'^#define UTS_RELEASE "(.*)"$', re.MULTILINE)
_OPTION = re.compile(r"^(?:# )?(CONFIG_\w+)(?:=(.*)| is not set)$", re.MULTILINE)

# Nothing that is compiled depends on these. Debian takes the first four out of the configuration it ships; the
# others are versions of tools that a security update of the build machine may raise.
_HARMLESS = {
    "CONFIG_BUILD_SALT": "a note in vmlinux",
    "CONFIG_MODULE_SIG_ALL": "make modules_install",
    "CONFIG_MODULE_SIG_KEY": "make modules_install",
    "CONFIG_SYSTEM_TRUSTED_KEYS": "certificates in the image",
    "CONFIG_AS_VERSION": "probe",
    "CONFIG_LD_VERSION": "probe",
    "CONFIG_PAHOLE_VERSION": "probe",
}
_TOOLS = "apt-get install make flex bison bc libelf-dev libssl-dev dwarves xz-utils"


class Compiler(NamedTuple):
    """A kernel's compiler: the `command` ("gcc-12", "x86_64-linux-gnu-gcc-12"), its `package`, its whole `version`."""

    command: str
    package: str
    version: str


def compiler_of(config: str) -> Compiler:
    """The compiler a configuration was made with.

    Raises:
        CompilerMissing: it was not a gcc.
    """
    wanted = _COMPILER.search(config)
    command = _COMMAND.match(wanted.group(1)) if wanted else None
    if wanted is None or command is None:
        raise CompilerMissing(
            "the kernel's compiler is not supported",
            why=f"its configuration says {wanted.group(1) if wanted else 'nothing'}",
            hint="only kernels compiled by gcc can be built for",
        )
    return Compiler(command.group(1), command.group(2), wanted.group(1))


def must_be_installed(compiler: Compiler, root: Path = HOST) -> None:
    """The compiler has to be the very version, in the toolchain of `root`.

    Raises:
        CompilerMissing: it is another version, or not there.
    """
    command, package, wanted = compiler
    version = _package_version(wanted)
    hint = f"apt-get install {package}={version}" if version else f"apt-get install {package}"
    hint = hint if root == HOST else f"remove {root} to have it made from what the mirror has now"
    if package == "gcc":  # as other distributions than Debian call theirs
        hint = "build on the kernel's own distribution and release, or name a root directory of it: --kernel-tools DIR"
    argv = inside(root, [command, "--version"])
    try:
        done = subprocess.run(argv, capture_output=True, text=True, env=environment(), check=False)
    except FileNotFoundError as error:
        raise CompilerMissing(
            f"{command} is not installed", why=f"the kernel was built by {wanted}", hint=hint
        ) from error
    found = done.stdout.partition("\n")[0]
    if _identity(found) != _identity(wanted):
        why = f"{found or last_words(done.stderr)}; the kernel: {wanted}"
        raise CompilerMissing(f"{command} is another version", why=why, hint=hint)


def _identity(text: str) -> str:
    """What of a version line identifies the compiler: not the name by which it was called."""
    return text.partition(" ")[2]


def _package_version(text: str) -> str:
    match = re.search(r"\(Debian ([^)\s]+)\)", text)
    return match.group(1) if match else ""


@dataclasses.dataclass(frozen=True)
class Tree:
    """What a build tree is made from: a source, for a release, with the compiler of a toolchain."""

    source: Path
    build: Path
    release: str
    compiler: str
    toolchain: Path = HOST


def prepare(tree: Tree, config: Path, progress: Progress) -> None:
    """Configure the build tree as the shipped kernel was and build what compiling single objects needs.

    Args:
        tree: its source is not written to; its build directory exists, remembers its absolute path and can't be moved.
        config: the shipped configuration.

    Raises:
        ConfigDiffers: an option has another value after olddefconfig.
        BuildError: make failed, or the tree is of another release.
    """
    made = tree.build / ".config"
    made.write_bytes(config.read_bytes())
    with progress.step("configure"):
        _make(tree, "olddefconfig")
        must_agree(config.read_text(), made.read_text())
    with progress.step("prepare the build tree"):
        _make(tree, "prepare", "modules_prepare")
        _must_be_release(tree.build, tree.release)


def _make(tree: Tree, *targets: str) -> None:
    # Debian too passes the release to make; scripts/setlocalversion could not make it up.
    argv = ["make", "-C", str(tree.source), f"O={tree.build}", f"CC={tree.compiler}", f"KERNELRELEASE={tree.release}"]
    argv = inside(tree.toolchain, [*argv, "-j2", *targets])
    try:
        run(argv, what=f"make {' '.join(targets)} failed", writes=tree.build)
    except BuildError as error:
        if type(error) is BuildError:
            error.hint = f"is all there? {_TOOLS}; {error.hint}"
        raise


def must_agree(shipped: str, made: str) -> None:
    """Compare two configurations, but for options nothing that is compiled depends on.

    Raises:
        ConfigDiffers: some option differs.
    """
    before, after = _options(shipped), _options(made)
    names = sorted(name for name in {*before, *after} - set(_HARMLESS) if not _rust_probe(name, before))
    odd = [
        f"{name}={before.get(name)} became {after.get(name)}" for name in names if before.get(name) != after.get(name)
    ]
    if odd:
        raise ConfigDiffers(
            "the kernel's configuration does not hold on this machine",
            why=f"{len(odd)} options differ: {'; '.join(odd[:5])}",
            hint=f"a tool the configuration probes for is missing or too old: {_TOOLS}",
        )


def _rust_probe(name: str, shipped: dict[str, str]) -> bool:
    """What a Rust compiler can do (init/Kconfig) matters only to a kernel that holds Rust code."""
    return name.startswith(("CONFIG_RUSTC_", "CONFIG_RUST_IS_", "CONFIG_BINDGEN_")) and "CONFIG_RUST" not in shipped


def _options(config: str) -> dict[str, str]:
    """Options that are set. "Not set" and not visible are the same thing to the code."""
    return {name: value for name, value in _OPTION.findall(config) if value not in ("", "n")}


def _must_be_release(build: Path, release: str) -> None:
    found = _UTS_RELEASE.search((build / "include/generated/utsrelease.h").read_text())
    if found is None or found.group(1) != release:
        raise BuildError(
            f"the build tree is not of {release}", why=f"it calls itself {found.group(1) if found else 'nothing'}"
        )
