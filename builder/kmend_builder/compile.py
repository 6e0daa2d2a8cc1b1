# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage 3: orig and patched objects of single translation units, never more of the kernel.

The orig object comes out of the kernel's own Kbuild, once per kernel, and is kept beside it. Its saved command line
is then run on the patched tree directly: the same compiler, flags and objtool, without make's start-up time.

-ffunction-sections and -fdata-sections give every function and variable a section of its own. -gbtf replaces the
kernel's debug information by BTF, which is all the data-layout guard reads; neither changes the code, which
stage 5 proves against
what was shipped.
"""

import concurrent.futures
import contextlib
import os
import re
import resource
import shlex
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from kmend.reasons import Reason
from kmend_builder.change import constants
from kmend_builder.errors import BuildError, Refused
from kmend_builder.kernel import objtool, store, tool, toolchain
from kmend_builder.kernel.kbuild import KbuildMap
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.savedcmd import saved_command

CFLAGS = "-ffunction-sections -fdata-sections"
DEBUG_CFLAGS = "-gbtf"
# gcc's driver says so of a cc1 that the kernel killed, for want of memory for instance.
_CRASHED = re.compile(r"internal compiler error|signal terminated program")
_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")


class Compiler:
    """Compiles units for one kernel. `seconds` adds up the processor time of the compiler itself."""

    def __init__(self, kernel: Kernel, kbuild: KbuildMap, jobs: int) -> None:
        self.kernel = kernel
        self.kbuild = kbuild
        self.jobs = jobs
        self.units = kernel.build.parent / "units"
        self.seconds = 0.0

    def orig(self, objects: Mapping[str, str], out: Path) -> dict[str, Path]:
        """Orig objects (object path -> file below `out`), built where the cache has none yet.

        Raises:
            BuildError: the unchanged source does not compile here.
        """
        result = {}
        for name, kept in self.keep(objects).items():
            result[name] = out / name
            result[name].parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept, result[name])
        return result

    def keep(self, names: Collection[str]) -> dict[str, Path]:
        """Orig objects in the cache (object path -> file, not to be written to); those that it lacks are made first.

        All in one call of make, whose start takes as long as compiling.

        Raises:
            BuildError: one of them does not compile here.
        """
        if not all(self._kept(name) for name in names):  # what is kept is whole, and nobody waits for it
            with store.locked(self.units):
                missing = sorted(name for name in names if not self._kept(name))
                if missing:
                    self._make(missing)
        return {name: self.units / name for name in names}

    def patched(self, objects: Mapping[str, str], tree: Path, out: Path) -> dict[str, Path]:
        """Patched objects compiled from `tree` with the orig's command lines.

        Raises:
            Refused: conflict, when the patched source does not compile.
        """
        with self._timed(), concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            jobs = {name: pool.submit(self._recompile, name, tree, out / name) for name in objects}
            return {name: job.result() for name, job in jobs.items()}

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        try:
            yield
        finally:
            self.seconds += resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before

    def _kept(self, name: str) -> bool:
        text = _text(self.units / f"{name}.cmd")
        if not _whole(self.units / name) or not saved_command(text):
            return False
        target = self._target(name)  # an older builder made it under another name, and so with other options
        return target == name or f"cmd_{target} :=" in text

    def _target(self, name: str) -> str:
        return self.kbuild.target(name)

    def _make(self, names: list[str]) -> None:
        # the tree was prepared when it was made; looking through that again takes longer than compiling
        argv = ["make", "-C", str(self.kernel.build), f"-j{self.jobs}", "-o", "prepare", f"CC={self.kernel.compiler}"]
        argv += [f"KERNELRELEASE={self.kernel.release}", f"KCFLAGS={CFLAGS}", f"DEBUG_CFLAGS={DEBUG_CFLAGS}"]
        argv += [*objtool.for_objects(self.kernel.config.read_text()), *map(self._target, names)]
        argv = toolchain.inside(self.kernel.toolchain, argv, self.kernel.build)
        with self._timed():
            tool.run(argv, what="the unchanged kernel source does not compile", writes=self.kernel.build)
        for name in names:
            self._keep(name)

    def _keep(self, name: str) -> None:
        """Move into the cache only what make has finished; a killed make leaves no half object there."""
        built = self.kernel.build / name
        saved = built.with_name(f".{built.name}.cmd")
        target = self.units / name
        target.parent.mkdir(parents=True, exist_ok=True)
        for source, dest in ((saved, target.with_name(target.name + ".cmd")), (built, target)):
            partial = dest.with_name(dest.name + ".new")
            shutil.copyfile(source, partial)
            partial.replace(dest)

    def command(self, name: str, tree: Path, target: Path) -> list[list[str]]:
        """The commands that compile `name` from `tree` into `target`, to be run in the build tree."""
        return self._commands(self.units / f"{name}.cmd", name, tree, target)

    def constants(self, source: str, tree: Path) -> dict[str, str]:
        """The constants the build computes with a source (constants.SOURCES), from that tree.

        Raises:
            Refused: CONFLICT; it does not compile.
        """
        name = constants.SOURCES[source]
        saved = self.kernel.build / name
        with tempfile.TemporaryDirectory(prefix="kmend-") as directory:
            target = Path(directory, saved.name)
            self._run(self._commands(saved.with_name(f".{saved.name}.cmd"), name, tree, target), source, tree)
            return constants.values(target.read_text())

    def _commands(self, kept: Path, name: str, tree: Path, target: Path) -> list[list[str]]:
        saved = saved_command(_text(kept))
        if saved is None:
            raise BuildError(
                f"no command line kept for {name}", hint="remove the kernel from the cache and build again"
            )
        line = self._moved(saved, name, tree)
        words = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        words.whitespace_split = True
        commands: list[list[str]] = [[]]
        try:
            parsed = list(words)
        except ValueError as error:
            raise BuildError(
                f"the command line kept for {name} is damaged", why=str(error), hint=f"remove {self.units / name}"
            ) from error
        for word in parsed:
            if word in (";", "&&"):
                commands.append([])
            else:
                commands[-1].append(self._word(word, name, target))
        return [command for command in commands if command]

    def _moved(self, line: str, name: str, tree: Path) -> str:
        """The command with `tree` for the source. Make resolves links, so the path it wrote may be another one.

        A command that still read the unchanged source would make every fix look as if it changed nothing.
        """
        for source in (str(self.kernel.source), str(self.kernel.source.resolve())):
            if source in line:
                return line.replace(source, str(tree))
        raise BuildError(
            f"the command line kept for {name} reads another source tree",
            why=f"it does not name {self.kernel.source}",
            hint="remove the kernel from the cache and build again",
        )

    def _word(self, word: str, name: str, target: Path) -> str:
        if word == self._target(name):
            return str(target)
        if word.startswith("-Wp,-MMD,"):
            return f"-Wp,-MMD,{target}.d"
        return word

    def rewritten(self, name: str, tree: Path, target: Path, edit: Callable[[str], str]) -> Path:
        """A patched object whose assembly goes through `edit` between compiler and assembler.

        Raises:
            Refused: conflict, when the patched source does not compile.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        compiler, *others = self.command(name, tree, target)
        assembly, source = target.with_suffix(".s"), name.removesuffix(".o") + ".c"
        to_assembly = {"-c": "-S", str(target): str(assembly)}
        with self._timed():
            self._run([[to_assembly.get(word, word) for word in compiler]], source, tree)
            assembly.write_text(edit(assembly.read_text()))
            machine = [word for word in compiler[1:] if word.startswith(("-m", "-Wa,"))]
            self._run([[compiler[0], *machine, "-c", "-o", str(target), str(assembly)], *others], source, tree)
        return target

    def _recompile(self, name: str, tree: Path, target: Path) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._run(self.command(name, tree, target), name.removesuffix(".o") + ".c", tree)
        return target

    def _run(self, commands: list[list[str]], source: str, tree: Path) -> None:
        for command in commands:
            done = subprocess.run(
                toolchain.inside(self.kernel.toolchain, command, self.kernel.build),
                cwd=self.kernel.build,
                env=tool.environment(),
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
            )
            if done.returncode:
                _blame_the_machine(done.stderr, source)
                raise Refused(
                    Reason.CONFLICT,
                    source,
                    why=f"the patched source does not compile: {_last_lines(_relative(done.stderr, tree))}",
                    advice="correct the patch; it must compile for this kernel's configuration",
                )


def _text(path: Path) -> str:
    """A file of the cache; what is damaged in it is not UTF-8 or missing."""
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _whole(path: Path) -> bool:
    """Whether an object reaches up to the end of its section headers, which assemblers write last.

    One that was cut off when the machine went down would be an error in every run to come.
    """
    try:
        with path.open("rb") as stream:
            header = stream.read(_EHDR.size)
            size = os.fstat(stream.fileno()).st_size
    except OSError:
        return False
    if len(header) < _EHDR.size:
        return False
    *_, offset, _flags, _ehsize, _phentsize, _phnum, entsize, count, _names = _EHDR.unpack(header)
    return bool(offset) and size >= offset + max(count, 1) * entsize


def _blame_the_machine(output: str, name: str) -> None:
    """Raises:
    BuildError: the compiler failed for a reason that says nothing about the patch.
    """
    if tool.NO_SPACE in output:
        raise tool.disk_full(f"can't compile {name}")
    if _CRASHED.search(output):
        raise BuildError(
            f"can't compile {name}", why=_last_lines(output), hint="try again with fewer --jobs or more memory"
        )


def _relative(text: str, tree: Path) -> str:
    return text.replace(f"{tree}/", "")


def _last_lines(text: str) -> str:
    errors = [line for line in text.splitlines() if "error" in line.lower()] or text.splitlines()
    return "; ".join(line.strip() for line in errors[:5])
