# SPDX-License-Identifier: GPL-2.0-or-later
"""tests/kernels.py: the first pair that is wholly there."""

import pytest

from kernels import KernelPair, NamedKernel, NoKernels, choose

A, B, C = (NamedKernel(f"6.1.0-{n}-cloud-amd64", f"6.1.{n}-1") for n in (1, 2, 3))
PAIRS = [KernelPair(A, B), KernelPair(B, C)]


def test_the_first_pair_that_is_wholly_offered() -> None:
    everything = {*A.packages, *B.packages, *C.packages}
    assert choose(PAIRS, everything) == PAIRS[0]
    assert choose(PAIRS, everything - {("linux-source-6.1", A.version)}) == PAIRS[1]


def test_none_names_what_is_missing() -> None:
    with pytest.raises(NoKernels, match=r"linux-image-6\.1\.0-3-cloud-amd64 6\.1\.3-1.*add a newer pair"):
        choose(PAIRS, {*A.packages[1:], *B.packages})
