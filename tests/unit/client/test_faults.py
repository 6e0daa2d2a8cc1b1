# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile and damaged input: a typed error, a record, an untouched kernel. Each refusal has a twin that passes with the
one thing changed back. What the machine itself can do wrong is in test_failures.py."""

import datetime
import os
from pathlib import Path

import pytest

from kmend import catalogue, report
from kmend.apply import apply
from kmend.catalogue import Update, open_update
from kmend.errors import ManifestError, TrustError
from kmend.kernel import running
from kmend.manifest import FILE_NAME, SIGNATURE_NAME, KernelId, serialise
from kmend.reconcile import reconcile
from unit.client import updates
from unit.client.conftest import World
from unit.client.simulator import BUILD_ID, OTHER_BUILD_ID, RELEASE, START, VERSION


def opened(world: World) -> Update:
    agent = world.agent()
    seen = agent.store.seen().get(BUILD_ID)
    floor = seen.serial if seen else None
    return open_update(agent.system, agent.verifier, running(agent.system), world.directory, floor, "package")


def refused(world: World, kind: type, text: str) -> None:
    """reconcile must leave the kernel alone, record why, end with 6 and plan a reboot; opening must raise `kind`."""
    with pytest.raises(kind, match=text):
        opened(world).image()
    result = reconcile(world.agent())
    assert (world.live(), world.machine.kernel.images) == ([], [])
    assert "refused" in world.events()
    assert report.exit_code(result) == report.FAILED
    assert world.reboots.planned is not None
    before = world.events()
    reconcile(world.agent())
    assert [e for e in world.events() if e == "refused"] == [e for e in before if e == "refused"]


def accepted(world: World) -> None:
    """The twin: nothing is wrong, so it goes live."""
    reconcile(world.agent())
    assert len(world.live()) == 1


def test_signed_by_another_key(world: World) -> None:
    world.publish(key=world.stranger)
    refused(world, TrustError, "not trusted")


def test_signed_by_our_key(world: World) -> None:
    world.publish(key=world.key)
    accepted(world)


def test_key_the_administrator_trusts(world: World) -> None:
    world.machine.put("etc/kmend/trusted.d/own.gpg", world.stranger.public())
    world.publish(key=world.stranger)
    accepted(world)


def test_no_key_at_all(world: World) -> None:
    world.machine.path("usr/share/keyrings/kmend-archive-keyring.gpg").unlink()
    world.publish()
    refused(world, TrustError, "no key is trusted")


def test_keyring_others_can_write(world: World) -> None:
    os.chmod(world.machine.path("usr/share/keyrings/kmend-archive-keyring.gpg"), 0o666)
    world.publish()
    refused(world, TrustError, "not safe")


def test_unsigned(world: World) -> None:
    world.publish()
    (world.directory / SIGNATURE_NAME).unlink()
    refused(world, TrustError, "missing")
    world.publish()
    accepted(world)


def test_empty_signature(world: World) -> None:
    world.publish()
    (world.directory / SIGNATURE_NAME).write_bytes(b"")
    refused(world, TrustError, "no valid signature")


def test_weak_hash(world: World) -> None:
    found = world.publish()
    signature = world.key.sign(serialise(found), "--digest-algo", "SHA1")
    (world.directory / SIGNATURE_NAME).write_bytes(signature)
    refused(world, TrustError, "no valid signature")


def test_manifest_altered(world: World) -> None:
    world.publish()
    path = world.directory / FILE_NAME
    good = path.read_bytes()
    path.write_bytes(good.replace(b"nfs: bounds", b"nfs: bogus!"))
    refused(world, TrustError, "does not match")
    path.write_bytes(good)
    accepted(world)


def test_schema_unknown(world: World) -> None:
    found = world.publish()
    data = serialise(found).replace(b'"schema": 1', b'"schema": 9')
    (world.directory / FILE_NAME).write_bytes(data)
    (world.directory / SIGNATURE_NAME).write_bytes(world.key.sign(data))
    refused(world, ManifestError, "unknown schema")


def test_expired(world: World) -> None:
    world.publish(expires=START)
    refused(world, TrustError, "expired")


def test_not_yet_expired(world: World) -> None:
    world.publish(expires=START + datetime.timedelta(minutes=5))
    accepted(world)


def test_older_than_last_seen(world: World) -> None:
    world.publish(2)
    reconcile(world.agent())
    world.machine.boot(2)
    world.publish(1)
    with pytest.raises(TrustError, match="older than one seen"):
        opened(world)
    reconcile(world.agent())
    assert world.live() == []


def test_same_as_last_seen(world: World) -> None:
    world.publish(2)
    reconcile(world.agent())
    world.machine.boot(2)
    accepted(world)


def test_older_than_last_seen_after_losing_the_record(world: World) -> None:
    world.publish(2)
    reconcile(world.agent())
    world.agent().store.directory.joinpath("seen.json").unlink()
    world.publish(1)
    with pytest.raises(TrustError, match="older than one seen"):
        opened(world)


def test_other_build_of_the_same_release(world: World) -> None:
    world.publish(kernel=KernelId(RELEASE, VERSION, "amd64", OTHER_BUILD_ID))
    refused(world, TrustError, "another kernel build")
    world.publish()
    accepted(world)


def _alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_module_altered(world: World) -> None:
    found = world.publish()
    _alter(world.directory / found.module.file)
    result = reconcile(world.agent())
    assert (world.live(), world.machine.kernel.images) == ([], [])
    assert "refused" in world.events() and any("altered" in note for note in result.notes)
    with pytest.raises(TrustError, match="SHA-256"):
        opened(world).image()
    world.publish()
    assert opened(world).image() == updates.image(found.module.name, "vmlinux", "nfs")


@pytest.mark.parametrize("data", [b"", b"short", b"x" * 4096])
def test_module_of_another_size(world: World, data: bytes) -> None:
    found = world.publish()
    (world.directory / found.module.file).write_bytes(data)
    with pytest.raises(TrustError, match="altered"):
        opened(world).image()


def test_module_is_a_link_or_a_pipe(world: World, tmp_path: Path) -> None:
    found = world.publish()
    path = world.directory / found.module.file
    outside = tmp_path / "outside.ko"
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.raises(TrustError, match="can't read"):
        opened(world).image()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(TrustError, match="not a file"):
        opened(world).image()


def test_module_swapped_between_check_and_load(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was hashed is what is loaded: the file is exchanged right after it was read."""
    found = world.publish()
    good = updates.image(found.module.name, "vmlinux", "nfs")
    path = world.directory / found.module.file
    real = catalogue.read_file

    def read_and_swap(name: Path, limit: int) -> bytes:
        data = real(name, limit)
        if name == path:
            path.write_bytes(good.replace(b"nfs", b"bad"))
        return data

    update = opened(world)
    monkeypatch.setattr(catalogue, "read_file", read_and_swap)
    apply(world.agent(), update)
    assert path.read_bytes() != good
    assert world.machine.kernel.images == [good]


def test_module_swapped_before_the_check(world: World) -> None:
    """The twin: swapped a moment earlier it is noticed."""
    found = world.publish()
    path = world.directory / found.module.file
    update = opened(world)
    path.write_bytes(path.read_bytes().replace(b"nfs", b"bad"))
    with pytest.raises(TrustError):
        apply(world.agent(), update)
    assert world.machine.kernel.images == []


# A patched module of another build.


def test_loaded_module_of_another_build(world: World) -> None:
    world.publish()
    world.machine.add_module("nfs", "bb" * 20)
    result = reconcile(world.agent())
    assert (world.live(), world.machine.kernel.images) == ([], [])
    assert any("module nfs is not the one" in note for note in result.notes)
    assert report.exit_code(result) == report.FAILED


def test_loaded_module_of_the_right_build(world: World) -> None:
    world.publish()
    world.machine.add_module("nfs", updates.NFS.build_id, updates.NFS.srcversion)
    accepted(world)
    assert updates.MODULE_CVE in {item.cve for item in reconcile(world.agent()).coverage.of("live")}
