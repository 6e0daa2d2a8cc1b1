# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the kernel's own scripts/checkpatch.pl over C files, from the source package the tests use anyway."""

import subprocess
import sys

from kernels import kernel_pair
from kmend_builder.cli.options import default_cache
from kmend_builder.kernel.source import fetch_source
from kmend_builder.progress import make_progress

# FILE_PATH_CHANGES and the like are about patches; kmend_tables.h is written by the builder
_IGNORED = "FILE_PATH_CHANGES,SPDX_LICENSE_TAG"


def main(files: list[str]) -> int:
    source = fetch_source(kernel_pair().running.version, cache=default_cache(), progress=make_progress(quiet=True))
    argv = ["perl", str(source / "scripts" / "checkpatch.pl"), "--no-tree", "--terse", "--strict", "--quiet"]
    done = subprocess.run([*argv, "--ignore", _IGNORED, "--file", *files], cwd=".", check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
