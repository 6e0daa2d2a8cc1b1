# SPDX-License-Identifier: GPL-2.0-or-later
"""What the apt hooks cost a package run that does not concern us, beside the start of an empty Python."""

import json
import os
import tempfile
from pathlib import Path

from benchmarks import measure
from kernels import KernelPair

_HOOKS = Path(__file__).resolve().parents[1] / "apt-hook"
_TIMES = 21
_HELLO = '{"jsonrpc":"2.0","method":"org.debian.apt.hooks.hello","id":0,"params":{"versions":["0.1"]}}\n\n'


def main(pair: KernelPair) -> None:
    """Print wall time, memory and the ratio to `python3 -c pass`."""
    python = ["/usr/bin/python3", "-c", "pass"]
    empty = measure.median(_TIMES, lambda: measure.run(python))
    print(f"{'python3 -c pass':24} {empty.wall * 1000:6.1f} ms {measure.peak_memory(python):7} KiB")
    with tempfile.NamedTemporaryFile(prefix="kmend-bench-") as actions:
        actions.write(b"VERSION 3\nAPT::Architecture=amd64\n\n")
        actions.write(b"bash 5.2-1 amd64 none < 5.2-2 amd64 none /var/cache/apt/archives/bash.deb\n" * 50)
        actions.flush()
        said = Path(f"{actions.name}.json")
        said.write_text(_HELLO + _message(50))
        for name, argv in (
            ("apt-hook (Post-Invoke)", [str(_HOOKS / "apt-hook"), "apt"]),
            ("apt-record (Pre-Install)", ["sh", "-c", f"{_HOOKS / 'apt-record'} < {actions.name}"]),
            ("apt-json (a message)", ["sh", "-c", f"APT_HOOK_SOCKET=3 {_HOOKS / 'apt-json'} 3<>{said}"]),
        ):
            cost = measure.median(_TIMES, lambda argv=argv: measure.run(argv, env=_environment()))  # type: ignore[misc]
            memory = measure.peak_memory(argv, env=_environment())
            print(f"{name:24} {cost.wall * 1000:6.1f} ms {memory:7} KiB  x{cost.wall / empty.wall:.2f}")
        said.unlink()


def _message(packages: int) -> str:
    """What apt sends at the end of a run over so many packages; each is described anew."""
    version = {"id": 1, "version": "5.2-1", "architecture": "amd64", "pin": 500, "origins": [{"archive": "stable"}]}
    versions = {"candidate": version, "install": version, "current": version}
    listed = [{"id": number, "name": f"package-{number}", "versions": versions} for number in range(packages)]
    params = {"command": "full-upgrade", "packages": listed}
    call = {"jsonrpc": "2.0", "method": "org.debian.apt.hooks.install.package-list", "params": params}
    return json.dumps(call) + "\n\n"


def _environment() -> dict[str, str]:
    """As in a container: the hooks must not act on this machine."""
    return {**os.environ, "container": "benchmark"}
