# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches of a Debian featureset, which linux-source-* packages do not hold.

The rt flavours are built from the same source with `debian/patches-rt/series` on top, in the order of that file and
without fuzz (debian/rules.real of the source package). The series is in the small packaging archive of the source
package, which apt fetches and verifies alone (`--diff-only`).
"""

import tempfile
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel.aptconf import Apt
from kmend_builder.kernel.failures import VersionGone
from kmend_builder.kernel.tool import run


def apply(tree: Path, featureset: str, package: str, version: str, apt: Apt) -> None:
    """Patch an unpacked source.

    Args:
        package: a binary package of the source, e.g. "linux-source-6.1".
        version: of the source package.

    Raises:
        VersionGone: the archive has no packaging of that version any more.
        BuildError: a patch does not apply.
    """
    with tempfile.TemporaryDirectory(dir=tree.parent) as scratch:
        patches = _fetch(Path(scratch), package, version, apt) / "debian" / f"patches-{featureset}"
        for name in series((patches / "series").read_text() if patches.is_dir() else ""):
            argv = ["patch", "--batch", "--forward", "--quiet", "--fuzz=0", "--strip=1", "--directory", str(tree)]
            argv += ["--reject-file=-", "--input", str(patches / name)]
            run(argv, what=f"{featureset} patch {name} does not apply to {package} {version}")


def series(text: str) -> list[str]:
    """The patches a quilt series names, in its order (quilt(1)); comments are left out."""
    lines = (line.partition(" #")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _fetch(scratch: Path, package: str, version: str, apt: Apt) -> Path:
    argv = ["apt-get", "--quiet", *apt.options, "source", "--download-only", "--diff-only", f"{package}={version}"]
    try:
        run(argv, cwd=scratch, what=f"can't fetch the packaging of {package} {version}")
    except BuildError as error:
        if type(error) is not BuildError:
            raise
        hint = "only the plain flavours of that version can be built for, or a version that is there"
        raise VersionGone(error.what, why=error.why, hint=hint) from error
    archives = sorted(scratch.glob("*.debian.tar.*"))
    if len(archives) != 1:
        raise BuildError(f"the packaging of {package} {version} is {len(archives)} archives, not one")
    run(["tar", "--extract", "--file", str(archives[0]), "--directory", str(scratch)], what="can't unpack it")
    return scratch
