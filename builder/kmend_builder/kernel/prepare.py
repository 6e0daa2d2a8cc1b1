# SPDX-License-Identifier: GPL-2.0-or-later
"""A build tree in which single objects compile as they did for the shipped kernel: `make O=` up to modules_prepare."""

import re
import subprocess
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel.failures import CompilerMissing, ConfigDiffers
from kmend_builder.kernel.tool import environment, run
from kmend_builder.progress import Progress

_COMPILER = re.compile(r'^CONFIG_CC_VERSION_TEXT="(.*)"$', re.MULTILINE)
_COMMAND = re.compile(r"(?:x86_64-linux-gnu-)?(gcc-\d+)\s")
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
    "CONFIG_RUSTC_VERSION": "probe",
    "CONFIG_RUSTC_LLVM_VERSION": "probe",
    "CONFIG_RUST_IS_AVAILABLE": "probe",
    "CONFIG_BINDGEN_VERSION_TEXT": "probe",
    "CONFIG_RUSTC_VERSION_TEXT": "probe",
}
_TOOLS = "apt-get install make flex bison bc libelf-dev libssl-dev dwarves xz-utils"


def compiler_of(config: str) -> str:
    """The command of the compiler a configuration was made with, e.g. "gcc-12".

    Raises:
        CompilerMissing: it was not a gcc, or another version than the installed one, or none is installed.
    """
    wanted = _COMPILER.search(config)
    command = _COMMAND.match(wanted.group(1)) if wanted else None
    if wanted is None or command is None:
        raise CompilerMissing(
            "the kernel's compiler is not supported",
            why=f"its configuration says {wanted.group(1) if wanted else 'nothing'}",
            hint="only kernels compiled by a gcc-N package can be built for",
        )
    _must_be_installed(command.group(1), wanted.group(1))
    return command.group(1)


def _must_be_installed(command: str, wanted: str) -> None:
    package = f"{command}={_package_version(wanted)}" if _package_version(wanted) else command
    try:
        done = subprocess.run([command, "--version"], capture_output=True, text=True, env=environment(), check=False)
    except FileNotFoundError as error:
        raise CompilerMissing(
            f"{command} is not installed", why=f"the kernel was built by {wanted}", hint=f"apt-get install {package}"
        ) from error
    found = done.stdout.partition("\n")[0]
    if _identity(found) != _identity(wanted):
        raise CompilerMissing(
            f"{command} is another version", why=f"{found}; the kernel: {wanted}", hint=f"apt-get install {package}"
        )


def _identity(text: str) -> str:
    """What of a version line identifies the compiler: not the name by which it was called."""
    return text.partition(" ")[2]


def _package_version(text: str) -> str:
    match = re.search(r"\(Debian ([^)\s]+)\)", text)
    return match.group(1) if match else ""


def prepare(source: Path, build: Path, *, config: Path, release: str, compiler: str, progress: Progress) -> None:
    """Configure `build` as the shipped kernel was and build what compiling single objects needs.

    Args:
        source: pristine source tree, not written to.
        build: existing directory; remembers its absolute path, so it can't be moved afterwards.
        config: the shipped configuration.

    Raises:
        ConfigDiffers: an option has another value after olddefconfig.
        BuildError: make failed, or the tree is of another release.
    """
    (build / ".config").write_bytes(config.read_bytes())
    with progress.step("configure"):
        _make(source, build, release, compiler, "olddefconfig")
        must_agree(config.read_text(), (build / ".config").read_text())
    with progress.step("prepare the build tree"):
        _make(source, build, release, compiler, "prepare", "modules_prepare")
        _must_be_release(build, release)


def _make(source: Path, build: Path, release: str, compiler: str, *targets: str) -> None:
    # Debian too passes the release to make; scripts/setlocalversion could not make it up.
    argv = ["make", "-C", str(source), f"O={build}", f"CC={compiler}", f"KERNELRELEASE={release}", "-j2", *targets]
    try:
        run(argv, what=f"make {' '.join(targets)} failed")
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
    names = sorted((set(before) | set(after)) - set(_HARMLESS))
    odd = [
        f"{name}={before.get(name)} became {after.get(name)}" for name in names if before.get(name) != after.get(name)
    ]
    if odd:
        raise ConfigDiffers(
            "the kernel's configuration does not hold on this machine",
            why=f"{len(odd)} options differ: {'; '.join(odd[:5])}",
            hint=f"a tool the configuration probes for is missing or too old: {_TOOLS}",
        )


def _options(config: str) -> dict[str, str]:
    """Options that are set. "Not set" and not visible are the same thing to the code."""
    return {name: value for name, value in _OPTION.findall(config) if value not in ("", "n")}


def _must_be_release(build: Path, release: str) -> None:
    found = _UTS_RELEASE.search((build / "include/generated/utsrelease.h").read_text())
    if found is None or found.group(1) != release:
        raise BuildError(
            f"the build tree is not of {release}", why=f"it calls itself {found.group(1) if found else 'nothing'}"
        )
