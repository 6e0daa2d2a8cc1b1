# SPDX-License-Identifier: GPL-2.0-or-later
"""Ten thousand damaged inputs: manifests, configurations, records, packages. Each ends in a typed error or in sense;
never in a traceback, never in a changed kernel, and no damaged record is lost.

Everything follows from a seed, so that a failure can be repeated from its number alone.
"""

import copy
import dataclasses
import io
import json
import random
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest

from kmend import manifest as manifest_format
from kmend import policy, reboot, store, trust
from kmend.agent import Agent
from kmend.cli import messages
from kmend.cli.main import main
from kmend.debt import Debt
from kmend.errors import ManifestError, TrustError
from kmend.gpg import Verifier
from kmend.hold import Hold
from kmend.manifest import FILE_NAME, SIGNATURE_NAME, Manifest, serialise
from kmend.policy import ConfigError, Policy
from kmend.reboot_systemd import Systemd
from kmend.reconcile import reconcile
from kmend.records import Quarantined, Seen, Shutdown
from kmend.trust import Signer
from support.figures import Figure
from unit.client import updates
from unit.client.conftest import World
from unit.client.simulator import BUILD_ID, START

MANIFESTS, CONFIGS, RECORDS, PLANS, PACKAGES = 5300, 2500, 1500, 400, 300
#: Values that are wrong nearly everywhere, or right and extreme.
VALUES: Tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        -2,
        1 << 31,
        1 << 63,
        10**400,
        0.5,
        float("nan"),
        float("inf"),
        "",
        " ",
        "\0",
        "a\nb",
    ),
    *(
        "\ud800",
        "../../etc/passwd",
        "/",
        "%s",
        "x" * 5000,
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
        "ÿ",
        "kmend_x",
    ),
    *([], [[]], {}, {"": 0}, [None], ["a", 1], {"at": 1}),
)


def test_the_numbers_add_up() -> None:
    assert MANIFESTS + CONFIGS + RECORDS + PLANS + PACKAGES == 10_000


# What is done to an input.


def damaged_bytes(rng: random.Random, data: bytes) -> bytes:
    """One to three places changed, cut, doubled or overwritten."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 1, 2, 8, 64)))
        piece = rng.choice(
            (b"", data[at:end] * 2, bytes([rng.randrange(256)]), rng.randbytes(4), b"[" * 3000, b"\xff\xfe")
        )
        data = rng.choice((data[:at] + piece + data[end:], data[:at], data[at:], data[:at] + piece + data[at:]))
    return data


def damaged_value(rng: random.Random, value: Any) -> Any:
    """A JSON value with one of its parts replaced, removed, doubled or renamed."""
    result = copy.deepcopy(value)
    path = rng.choice(list(_paths(result)))
    if not path:
        return rng.choice(VALUES)
    parent = result
    for step in path[:-1]:
        parent = parent[step]
    what = rng.random()
    if what < 0.15:
        del parent[path[-1]]
    elif what < 0.25 and isinstance(parent, dict):
        parent[rng.choice(("extra", "", "at", path[-1] + "x"))] = parent.pop(path[-1])
    elif what < 0.35 and isinstance(parent, list):
        parent.append(copy.deepcopy(rng.choice(parent)))
    else:
        parent[path[-1]] = _other(rng, parent[path[-1]])
    return result


def _paths(value: Any, path: Tuple[Any, ...] = ()) -> Any:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, (*path, key))


def _other(rng: random.Random, old: Any) -> Any:
    """Something near the old value, or far from it."""
    if isinstance(old, str) and old and rng.random() < 0.5:
        at = rng.randrange(len(old))
        return old[:at] + rng.choice(("", "0", "f", "-", ".", "\0", "\u2028", "é", old)) + old[at + 1 :]
    if isinstance(old, int) and rng.random() < 0.5:
        return old + rng.choice((-1, 1, 1 << 20, -(1 << 62)))
    return rng.choice(VALUES)


def encoded(value: Any) -> bytes:
    """JSON as kmend writes it."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True) + "\n").encode("ascii")


def tally(outcomes: List[str]) -> str:
    return ", ".join(f"{name} {outcomes.count(name)}" for name in sorted(set(outcomes)))


# Manifests.


def test_manifests(figure: Figure) -> None:
    whole = updates.manifest()
    value = json.loads(serialise(whole))
    outcomes = [_read_manifest(random.Random(seed), value, whole) for seed in range(MANIFESTS)]
    assert {"ManifestError", "TrustError", "accepted"} <= set(outcomes)
    figure(f"{MANIFESTS} manifests: {tally(outcomes)}")


def _read_manifest(rng: random.Random, value: Any, whole: Manifest) -> str:
    data = encoded(damaged_value(rng, value)) if rng.random() < 0.7 else damaged_bytes(rng, encoded(value))
    try:
        found = trust.read_manifest(data, whole.kernel, START, whole.serial)
    except (ManifestError, TrustError) as error:
        assert error.what
        return type(error).__name__
    # What is accepted is for this kernel, and says the same when it is written again.
    assert found.kernel.build_id == BUILD_ID and serialise(found) == data == serialise(manifest_format.parse(data))
    return "accepted"


# Configurations.

CONFIG = (
    "# policy\nmode = auto\ntransition_timeout = 60\nhealth.looks = 1min 5min\n[reboot]\nwindow = Sun 03:00-04:00\n"
)
WORDS = (
    *(
        "=",
        "[",
        "]",
        "[reboot]",
        "[kmend]",
        "[\0]",
        "mode",
        "mode = manual",
        "%(mode)s",
        "\t",
        "\n",
        "\r",
        "\x0c",
        ";",
        "#",
    ),
    *(
        "999999999999",
        "-1",
        "1h",
        "Sun 25:00-26:00",
        "any",
        "\u2028",
        "\ud800",
        "é",
        ":",
        "DEFAULT",
        "health.command = 'x",
    ),
    *(
        "reboot.method = command",
        "reboot.deadline = 0",
        "hazards.reload = refuse",
        "subscribe",
        "= =",
        "\\",
        " continued",
    ),
)


def test_configurations(tmp_path: Path, figure: Figure) -> None:
    outcomes = [_read_config(random.Random(seed)) for seed in range(CONFIGS)]
    assert {"ConfigError", "understood"} <= set(outcomes)
    figure(f"{CONFIGS} configurations: {tally(outcomes)}")


def _read_config(rng: random.Random) -> str:
    text = CONFIG
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, end = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        end = end if rng.random() < 0.2 else at + rng.choice((0, 0, 1, 3))
        text = text[:at] + rng.choice((*WORDS, chr(rng.randrange(0x300)), "")) + text[end:]
    try:
        values, _ = policy.parse(text, "/etc/kmend/kmend.conf")
        assert isinstance(policy.build(values), Policy)
    except ConfigError as error:
        assert error.what and error.why
        return "ConfigError"
    return "understood"


# Records.


class Trusting:
    """Every signature holds: gpgv has tests of its own, and would be started thousands of times here."""

    def verify(self, data: bytes, signature: bytes) -> Signer:
        return Signer("F" * 40)


def quick_agent(world: World) -> Agent:
    verifier: Verifier = Trusting()
    return dataclasses.replace(world.agent(), verifier=verifier)


@pytest.fixture
def lived(world: World) -> World:
    """A machine with every record there is: an update live, one reverted, one in quarantine, an attempt."""
    world.publish(2)
    reconcile(world.agent())
    records = world.agent().store
    applied = records.applied()
    assert applied is not None
    world.machine.kill_at = ""
    records.set_quarantine([Quarantined("6.1.190-1+9", 9, BUILD_ID, "bad", "2026-11-20T10:00:00Z")])
    records.set_seen({BUILD_ID: Seen("6.1.190-1+2", 2, (1,))})
    records.set_choices(dataclasses.replace(records.choices(), reverted={BUILD_ID: 1}))
    records.set_holds([Hold("CVE-2026-1001", "2026-12-01", "2026-11-20T10:00:00Z")])
    records.set_debt(Debt(BUILD_ID, "6.1.190-1", {"CVE-2026-1002": "2026-11-20T10:00:00Z"}, "high"))
    records.add_shutdown(Shutdown("00000000-0000-0000-0000-000000000009", "2026-11-20T10:00:00Z"))
    record = {name: value for name, value in dataclasses.asdict(applied).items() if name in ATTEMPT}
    records.directory.joinpath("attempt.json").write_bytes(encoded(record))
    return world


ATTEMPT = ("version", "serial", "build_id", "module", "boot_id", "at", "log", "taint")
FILES = (
    *("applied.json", "attempt.json", "choices.json", "debt.json", "holds.json", "quarantine.json", "seen.json"),
    "shutdowns.json",
)
LINES, KEPT = "history.jsonl", "live-manifest.json"


def test_records(lived: World, capsys: pytest.CaptureFixture[str], figure: Figure) -> None:
    directory = lived.agent().store.directory
    whole = {name: (directory / name).read_bytes() for name in (*FILES, LINES, KEPT)}
    outcomes = []
    for seed in range(RECORDS):
        rng = random.Random(seed)
        name = rng.choice(list(whole))
        data = _damaged_record(rng, name, whole[name])
        for path in directory.iterdir():
            if path.is_file():
                path.unlink()
        for other, content in whole.items():
            (directory / other).write_bytes(data if other == name else content)
        outcomes.append(_run_twice(lived, name, data, capsys, f"seed {seed}: {name}"))
    assert {"moved aside", "went on"} == set(outcomes)
    figure(f"{RECORDS} records: {tally(outcomes)}")


def _damaged_record(rng: random.Random, name: str, data: bytes) -> bytes:
    if name == LINES or rng.random() < 0.4:
        return damaged_bytes(rng, data)
    return encoded(damaged_value(rng, json.loads(data)))


def _run_twice(world: World, name: str, data: bytes, capsys: pytest.CaptureFixture[str], what: str) -> str:
    """A damaged record is told once and moved aside; without it the next run works. What is whole changes nothing."""
    codes = [main(["status", "--json"], lambda: quick_agent(world)) for _ in range(2)]
    said = capsys.readouterr()
    assert messages.UNHANDLED.split("{")[0] not in said.err, f"{what}\n{said.err}\n{data!r}"
    directory = world.agent().store.directory
    kept = [path for path in directory.iterdir() if path.name.startswith(f"{name}.damaged-")]
    assert len(kept) <= 1 and all(path.read_bytes() == data for path in kept), what
    assert kept or (directory / name).read_bytes() == data, f"{what}: lost"
    assert (codes[0] == 1) == bool(kept) and codes[1] != 1, f"{what}: {codes} {said.err}"
    return "moved aside" if kept else "went on"


def test_reconcile_with_damaged_records(lived: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Some of them again, for what a run that may act makes of them: the kernel has the update, or none."""
    directory = lived.agent().store.directory
    whole = {name: (directory / name).read_bytes() for name in (*FILES, LINES, KEPT)}
    for seed in range(60):
        rng = random.Random(seed)
        name = rng.choice(FILES)
        for other, content in whole.items():
            (directory / other).write_bytes(_damaged_record(rng, name, content) if other == name else content)
        main(["reconcile"], lambda: quick_agent(lived))
        said = capsys.readouterr()
        assert messages.UNHANDLED.split("{")[0] not in said.err, f"seed {seed}: {name}\n{said.err}"
        assert lived.live() in ([], ["kmend_6_1_190_1_2"])


def test_planned_reboots(tmp_path: Path, figure: Figure) -> None:
    """/run/kmend/reboot.json; a damaged one counts as none, and the next reconcile plans anew."""
    init = Systemd(tmp_path, lambda argv: (1, "", ""))
    planned = reboot.schedule(Policy().reboot, "why", START, tmp_path, init)
    assert reboot.status(tmp_path, init) is not None
    path = tmp_path / "run/kmend/reboot.json"
    whole = path.read_bytes()
    outcomes = []
    for seed in range(PLANS):
        rng = random.Random(seed)
        value = damaged_value(rng, json.loads(whole))
        path.write_bytes(encoded(value) if rng.random() < 0.6 else damaged_bytes(rng, whole))
        found = reboot.status(tmp_path, init)
        again = reboot.schedule(Policy().reboot, "why", START, tmp_path, init)
        assert again.reason == planned.reason
        outcomes.append("read" if found else "none")
    figure(f"{PLANS} planned reboots: {tally(outcomes)}")


# Packages for kmend apply.


def test_packages(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], figure: Figure) -> None:
    members, whole = _package_parts(world, tmp_path)
    outcomes = []
    for seed in range(PACKAGES):
        rng = random.Random(seed)
        path = tmp_path / "update.deb"
        path.write_bytes(damaged_bytes(rng, whole) if rng.random() < 0.5 else deb(_damaged_members(rng, members)))
        code = main(["apply", str(path), "--json"], lambda: quick_agent(world))
        said = capsys.readouterr()
        what = f"seed {seed}: {code}\n{said.err}"
        assert messages.UNHANDLED.split("{")[0] not in said.err, what
        outcomes.append(_package_outcome(world, code, what))
    assert {"refused", "live"} == set(outcomes)
    figure(f"{PACKAGES} packages: {tally(outcomes)}")


def _package_outcome(world: World, code: int, what: str) -> str:
    """Refused with the kernel untouched, or live with the very bytes the manifest speaks of."""
    images = world.machine.kernel.images
    if code == 0:
        good = updates.image("kmend_6_1_190_1_1", "vmlinux", "nfs")
        assert images == [good] or not images, what
        world.machine.boot(world.machine.log.count("") + 2)
        world.agent().store.set_attempt(None)
        world.agent().store.set_applied(None)
        images.clear()
        return "live"
    assert code in (1, 2) and images == [] and world.live() == [], what
    return "refused"


Members = Dict[str, Tuple[bytes, Optional[str]]]


def _package_parts(world: World, tmp_path: Path) -> Tuple[Members, bytes]:
    """The files of an update's package, each with the target of its link if it is one; and the package."""
    found = updates.manifest()
    top = f"usr/lib/kmend/patches/{BUILD_ID}"
    files = {FILE_NAME: serialise(found), SIGNATURE_NAME: b"signature", found.module.file: updates.image(
        found.module.name, "vmlinux", "nfs")}  # fmt: skip
    members: Members = {f"{top}/{name}": (content, None) for name, content in files.items()}
    return members, deb(members)


def _damaged_members(rng: random.Random, members: Members) -> Members:
    result = dict(members)
    name = rng.choice(list(result))
    content, _ = result[name]
    directory, _, file = name.rpartition("/")
    steps: Tuple[Callable[[], object], ...] = (
        lambda: result.update({name: (damaged_bytes(rng, content), None)}),
        lambda: result.update({name: (b"", "/etc/passwd")}),
        lambda: result.update({name: (b"", "../" * 20 + "etc/shadow")}),
        lambda: result.pop(name),
        lambda: result.update({f"{directory}x/{file}": result.pop(name)}),
        lambda: result.update({f"../../../../tmp/{file}": (content, None)}),
        lambda: result.update({f"{directory}/{rng.choice(('a', 'b.ko', '.', 'x' * 200))}": (b"y" * 4096, None)}),
        lambda: result.update({directory: (b"", "/")}),
        lambda: result.update({f"{directory}/{FILE_NAME}": (encoded(damaged_value(
            rng, json.loads(members[f"{directory}/{FILE_NAME}"][0]))), None)}),
    )  # fmt: skip
    rng.choice(steps)()
    return result


def deb(members: Members) -> bytes:
    """A Debian package, uncompressed: deb(5), ar(5)."""
    control = _tar(
        {"control": (b"Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@y>\nDescription: x\n", None)}
    )
    parts = (("debian-binary", b"2.0\n"), ("control.tar", control), ("data.tar", _tar(members)))
    result = b"!<arch>\n"
    for name, data in parts:
        result += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        )
    return result


def _tar(members: Members) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, (content, link) in members.items():
            item = tarfile.TarInfo(f"./{name}")
            item.size = len(content)
            if link is not None:
                item.type, item.linkname, item.size = tarfile.SYMTYPE, link, 0
            archive.addfile(item, io.BytesIO(content))
    return out.getvalue()


def test_the_package_made_here_is_one(tmp_path: Path, world: World) -> None:
    _, whole = _package_parts(world, tmp_path)
    (tmp_path / "x.deb").write_bytes(whole)
    listed = subprocess.run(["dpkg-deb", "-c", str(tmp_path / "x.deb")], capture_output=True, text=True, check=True)
    assert FILE_NAME in listed.stdout


def test_every_record_file_is_among_them() -> None:
    """A new file of the store has to be damaged here as well."""
    named = re.findall(r'"([a-z-]+\.jsonl?)"', Path(store.__file__).read_text())
    assert set(named) == {*FILES, LINES, KEPT}
