# SPDX-License-Identifier: GPL-2.0-or-later
"""tests/kernels.py: the first pair, and the first kernel of a line, that is there."""

import pytest

from kernels import KernelLine, KernelPair, NamedKernel, NoKernels, choose, first_there, kernel_lines
from kmend_builder.kernel.failures import VersionGone
from kmend_builder.kernel.model import Kernel

from .test_model import kernel

A, B, C = (NamedKernel(f"6.1.0-{n}-cloud-amd64", f"6.1.{n}-1") for n in (1, 2, 3))
PAIRS = [KernelPair(A, B), KernelPair(B, C)]


def test_the_first_pair_that_is_wholly_offered() -> None:
    everything = {*A.packages, *B.packages, *C.packages}
    assert choose(PAIRS, everything) == PAIRS[0]
    assert choose(PAIRS, everything - {("linux-source-6.1", A.version)}) == PAIRS[1]


def test_none_names_what_is_missing() -> None:
    with pytest.raises(NoKernels, match=r"linux-image-6\.1\.0-3-cloud-amd64 6\.1\.3-1.*add a newer pair"):
        choose(PAIRS, {*A.packages[1:], *B.packages})


def test_the_first_kernel_of_a_line_that_is_there() -> None:
    def get(release: str) -> Kernel:
        if release != "two":
            raise VersionGone(f"no package {release}")
        return kernel()

    assert first_there(KernelLine("line", ("one", "two", "three")), get) == kernel()
    with pytest.raises(NoKernels, match=r"line 'line' is left: no package one; no package three; name newer ones"):
        first_there(KernelLine("line", ("one", "three")), get)


def test_every_line_is_named_once_and_has_kernels() -> None:
    lines = kernel_lines()
    assert len({line.name for line in lines}) == len(lines) > 0
    assert all(line.releases for line in lines)
