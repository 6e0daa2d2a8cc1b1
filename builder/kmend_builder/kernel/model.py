# SPDX-License-Identifier: GPL-2.0-or-later
"""What stage 1 hands to all later stages: one kernel build and where its parts are cached."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from kmend_builder.errors import BuildError


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel build. All paths are absolute; everything but `build` is read-only for later stages.

    Attributes:
        release: `uname -r`.
        version: version of the image package.
        source_version: version of the source package the image was built from.
        arch: the package architecture, e.g. "amd64".
        build_id: GNU build-id of vmlinux, lower-case hex.
        compiler: the command that is CC, e.g. "gcc-12".
        source: pristine source tree of the distribution, shared between kernels.
        build: prepared output tree (`make O=`), with the shipped .config and Module.symvers.
        config: the shipped configuration.
        symvers: the shipped Module.symvers.
        vmlinuz: the shipped boot image.
        image: the vmlinux ELF file that was in it (no symbol table).
        modules: `lib/modules/<release>`, with `kernel/…/*.ko`.
        image_deb: the package file the image comes from, a .deb or .rpm.
        toolchain: root of the tree whose programs compile for it, "/" for this machine (toolchain.py).
    """

    release: str
    version: str
    source_version: str
    arch: str
    build_id: str
    compiler: str
    source: Path
    build: Path
    config: Path
    symvers: Path
    vmlinuz: Path
    image: Path
    modules: Path
    image_deb: Path
    toolchain: Path = Path("/")

    @property
    def packaging(self) -> str:
        """How the distribution packages it: "deb" or "rpm"."""
        return self.image_deb.suffix.removeprefix(".")

    @property
    def cache_dir(self) -> Path:
        """The directory of this kernel in the cache, where things derived from it are kept."""
        return self.build.parent

    def to_json(self) -> str:
        """The kernel as indented JSON, one newline at the end."""
        value = {name: str(item) for name, item in dataclasses.asdict(self).items()}
        return json.dumps(value, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Kernel":
        """Read what to_json() wrote.

        Raises:
            BuildError: not JSON, or fields missing, unknown or not text.
        """
        value = {"toolchain": "/"} | _json_object(text)  # entries made before there was another have none
        fields = {field.name: field.type for field in dataclasses.fields(cls)}
        odd = sorted(set(fields) ^ set(value)) or [key for key in fields if not isinstance(value[key], str)]
        if odd:
            raise _damaged(f"missing, unknown or unusable field {odd[0]!r}")
        typed: dict[str, Any] = {key: Path(item) if fields[key] is Path else item for key, item in value.items()}
        return cls(**typed)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(str(error)) from error
    if not isinstance(value, dict):
        raise _damaged("not a JSON object")
    return value


def _damaged(why: str) -> BuildError:
    return BuildError("kernel.json is damaged", why=why, hint="run the stage again with --from 1-kernel")
