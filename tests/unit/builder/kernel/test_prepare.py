# SPDX-License-Identifier: GPL-2.0-or-later
"""The compiler must be the kernel's, and the configuration must hold."""

import pytest

from kmend_builder.kernel.failures import CompilerMissing, ConfigDiffers
from kmend_builder.kernel.prepare import Compiler, compiler_of, must_agree, must_be_installed

from .fakes import FakeApt

VERSION = "(Debian 77.2.0-14) 77.2.0"
CONFIG = f'CONFIG_X=y\nCONFIG_CC_VERSION_TEXT="gcc-77 {VERSION}"\n'


COMPILER = Compiler("gcc-77", "gcc-77", f"gcc-77 {VERSION}")
PREFIXED = Compiler("x86_64-linux-gnu-gcc-77", "gcc-77", f"x86_64-linux-gnu-gcc-77 {VERSION}")


def test_the_compiler_of_a_configuration() -> None:
    assert compiler_of(CONFIG) == COMPILER
    assert compiler_of(CONFIG.replace('"gcc-77', '"x86_64-linux-gnu-gcc-77')) == PREFIXED


def test_the_installed_compiler_of_that_version(apt: FakeApt) -> None:
    apt.program("gcc-77", f"echo 'gcc-77 {VERSION}'; echo 'more text'")
    must_be_installed(COMPILER)
    apt.program("x86_64-linux-gnu-gcc-77", f"echo 'x86_64-linux-gnu-gcc-77 {VERSION}'")
    must_be_installed(PREFIXED)


def test_another_version_is_refused(apt: FakeApt) -> None:
    apt.program("gcc-77", "echo 'gcc-77 (Debian 77.2.0-15) 77.2.0'")
    with pytest.raises(CompilerMissing, match=r"gcc-77 is another version: .*77\.2\.0-15") as caught:
        must_be_installed(COMPILER)
    assert caught.value.hint == "apt-get install gcc-77=77.2.0-14"


def test_a_missing_compiler_is_refused_with_what_to_install() -> None:
    with pytest.raises(CompilerMissing, match="gcc-77 is not installed") as caught:
        must_be_installed(COMPILER)
    assert caught.value.hint == "apt-get install gcc-77=77.2.0-14"


@pytest.mark.parametrize("text", ['"Debian clang version 19.1.7"', '"gccgo-14 (GCC) 14.1"'])
def test_other_compilers_are_refused(text: str) -> None:
    with pytest.raises(CompilerMissing, match="not supported"):
        compiler_of(f"CONFIG_CC_VERSION_TEXT={text}\n")
    with pytest.raises(CompilerMissing, match="says nothing"):
        compiler_of("CONFIG_X=y\n")


SHIPPED = "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_LD_VERSION=24000\n"


@pytest.mark.parametrize(
    "made",
    [
        SHIPPED,
        SHIPPED.replace("24000", "24500"),
        SHIPPED + 'CONFIG_BUILD_SALT=""\nCONFIG_MODULE_SIG_KEY="certs/signing_key.pem"\n',
        SHIPPED + "# CONFIG_D is not set\n",
        SHIPPED.replace("# CONFIG_C is not set\n", ""),
        SHIPPED + "CONFIG_RUSTC_HAS_THIS=y\nCONFIG_BINDGEN_VERSION_TEXT=7\n",
    ],
)
def test_harmless_differences(made: str) -> None:
    must_agree(SHIPPED, made)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (SHIPPED.replace("A=y", "A=m"), "CONFIG_A=y became m"),
        (SHIPPED.replace("CONFIG_B=m\n", ""), "CONFIG_B=m became None"),
        (SHIPPED + "CONFIG_NEW=y\n", "CONFIG_NEW=None became y"),
        (SHIPPED.replace("# CONFIG_C is not set", "CONFIG_C=y"), "CONFIG_C=None became y"),
    ],
)
def test_other_differences_are_refused(made: str, message: str) -> None:
    with pytest.raises(ConfigDiffers, match=message):
        must_agree(SHIPPED, made)


def test_what_rustc_can_do_matters_to_a_kernel_with_rust() -> None:
    with_rust = SHIPPED + "CONFIG_RUST=y\n"
    must_agree(with_rust, with_rust)
    with pytest.raises(ConfigDiffers, match="CONFIG_RUSTC_HAS_THIS=None became y"):
        must_agree(with_rust, with_rust + "CONFIG_RUSTC_HAS_THIS=y\n")
