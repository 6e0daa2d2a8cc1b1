# SPDX-License-Identifier: GPL-2.0-or-later
"""What real kernels say of the places they rewrite in their own code. That it is true, tests/vm/test_running_code.py
sees in memory."""

import dataclasses
import hashlib
import struct

import pytest

from kmend_builder.elf.read import read_object
from kmend_builder.errors import BuildError
from kmend_builder.kernel.image import Image
from kmend_builder.kernel.kallsyms import KernelSymbol, decode, kernel_symbols
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.modules import module_bytes, module_files
from kmend_builder.livepatch.assemble import Redirect
from kmend_builder.livepatch.resolve import VMLINUX, read_symvers
from kmend_builder.match.match import Matched
from kmend_builder.match.space import module_space
from kmend_builder.running.expected import ANCHOR, expected
from kmend_builder.running.image import image_sites
from kmend_builder.running.sites import How, Site
from kmend_builder.spaces import Spaces

from .test_kernel import kernel, other_image

pytestmark = pytest.mark.network
__all__ = ["kernel", "other_image"]
MODULE, IN_MODULE = "tcp_hybla", "hybla_init"
FUNCTION = "cmdline_proc_show"


def _places(symbols: list[KernelSymbol]) -> dict[str, int]:
    return {symbol.name: symbol.address for symbol in symbols}


@pytest.mark.parametrize("which", ["kernel", "other_image"])
def test_every_traceable_function_begins_with_the_call_of_ftrace(which: str, request: pytest.FixtureRequest) -> None:
    given = request.getfixturevalue(which)
    image = given if isinstance(given, Image) else Image.open(given.image)
    symbols = decode(image)
    places, sites = _places(symbols), image_sites(image, symbols)
    start, stop = places["__start_mcount_loc"], places["__stop_mcount_loc"]
    calls = [address for (address,) in struct.iter_unpack("<Q", image.read(start, stop - start))]
    assert len(calls) > 30_000
    assert all(Site(0, 5) in sites.within(address, 16) for address in calls[:: len(calls) // 500])


def _redirect(kernel: Kernel, name: str, address: int, data: bytes, owner: str = VMLINUX) -> Redirect:
    matched = Matched(name, address, len(data), 0, hashlib.sha256(data).hexdigest())
    return Redirect(owner, name, 0, f"new_{name}", matched)


def test_the_expected_code_of_a_function_in_vmlinux(kernel: Kernel) -> None:
    places = _places(kernel_symbols(kernel))
    address = places[FUNCTION]
    data = Image.open(kernel.image).read(address, 40)
    found = expected(Spaces(kernel), [_redirect(kernel, FUNCTION, address, data)], {})
    assert found.anchor == places[ANCHOR]
    code = found.code[f"new_{FUNCTION}"]
    assert (code.address, code.data) == (address, data)
    assert code.sites[0] == Site(0, 5)
    assert sum(site.size for site in code.sites if site.how is How.SKIP) < len(data) / 2


def test_the_expected_code_of_a_function_in_a_module(kernel: Kernel) -> None:
    path = module_files(kernel)[MODULE]
    module = read_object(module_bytes(path), path.name)
    symbol = module.symbol(IN_MODULE)
    assert symbol is not None and symbol.section is not None
    space = module_space(module, MODULE)
    [shipped] = space.named(IN_MODULE)
    data = space.read(shipped.address, symbol.size)
    assert data is not None
    redirect = _redirect(kernel, IN_MODULE, shipped.address, data, MODULE)
    exports = read_symvers(kernel.symvers.read_text())
    code = expected(Spaces(kernel), [redirect], exports).code[redirect.label]
    assert code.address == 0 and code.sites[0] == Site(0, 5)
    covered = {at for site in code.sites for at in range(site.start, site.start + site.size)}
    assert all(code.data[at] == data[at] for at in range(len(data)) if at not in covered)
    assert len(covered) < len(data) / 2


def test_other_bytes_than_those_that_matched_are_no_expectation(kernel: Kernel) -> None:
    address = _places(kernel_symbols(kernel))[FUNCTION]
    good = _redirect(kernel, FUNCTION, address, Image.open(kernel.image).read(address, 40))
    bad = dataclasses.replace(good, shipped=dataclasses.replace(good.shipped, sha256="00" * 32))
    with pytest.raises(BuildError, match="is not what was matched"):
        expected(Spaces(kernel), [bad], {})
    assert expected(Spaces(kernel), [good], {}).code
