# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that fails: no space, read-only, a kernel that refuses, other tools, two at once, damaged records. The
kernel is never left changed and unrecorded, and the next run makes up for it."""

import errno
import json
import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Callable

import pytest

from kmend import lock, report
from kmend.apply import apply
from kmend.catalogue import Update, open_update
from kmend.errors import KernelError, KmendError, StoreError
from kmend.kernel import running
from kmend.livepatch import LoadError
from kmend.reconcile import reconcile
from unit.client import updates
from unit.client.conftest import World
from unit.client.simulator import BUILD_ID


def opened(world: World) -> Update:
    agent = world.agent()
    seen = agent.store.seen().get(BUILD_ID)
    floor = seen.serial if seen else None
    return open_update(agent.system, agent.verifier, running(agent.system), world.directory, floor, "package")


def accepted(world: World) -> None:
    """The twin: nothing is wrong, so it goes live."""
    reconcile(world.agent())
    assert len(world.live()) == 1


# A machine that fails.


def _failing(number: int) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(("number", "hint"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "read-only")])
def test_var_full_or_read_only(world: World, monkeypatch: pytest.MonkeyPatch, number: int, hint: str) -> None:
    world.publish()
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", _failing(number))
        with pytest.raises(StoreError) as caught:
            reconcile(world.agent())
    assert hint in caught.value.hint
    assert world.machine.kernel.images == []
    accepted(world)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_var_full_when_the_write_ahead_record_is_due(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    world.publish()
    really = os.open

    def fail(path: Any, *rest: Any, **options: Any) -> int:
        if str(path).endswith("/.attempt.json.new"):
            raise OSError(number, os.strerror(number))
        return really(path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(StoreError, match="attempt.json"):
            reconcile(world.agent())
    assert world.machine.kernel.images == []
    accepted(world)


def test_what_a_power_cut_left_behind_is_overwritten(world: World) -> None:
    world.publish()
    directory = world.agent().store.directory
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / ".applied.json.new").write_bytes(b"half a rec" * 1000)
    accepted(world)
    assert world.agent().store.applied() is not None
    assert [path.name for path in directory.iterdir() if path.name.startswith(".")] == []


def test_var_full_after_the_load_is_made_up_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish()
    agent = world.agent()
    with monkeypatch.context() as patch:
        patch.setattr(agent.store, "set_applied", _failing_store)
        with pytest.raises(StoreError):
            reconcile(agent)
    assert len(world.live()) == 1 and world.agent().store.attempt() is not None
    reconcile(world.agent())
    applied = world.agent().store.applied()
    assert applied is not None and len(world.machine.kernel.images) == 1


def _failing_store(value: object) -> None:
    raise StoreError("can't write applied.json", why="No space left on device")


@pytest.mark.parametrize("number", [errno.EKEYREJECTED, errno.EPERM, errno.ENOEXEC, errno.EINVAL, errno.ENOMEM])
def test_kernel_refuses_the_module(world: World, number: int) -> None:
    world.publish()
    world.machine.kernel.refuse = number
    result = reconcile(world.agent())
    assert report.exit_code(result) == report.FAILED
    assert world.events() == ["verified", "failed"]
    assert world.agent().store.attempt() is None
    with pytest.raises(LoadError) as caught:
        apply(world.agent(), opened(world))
    assert caught.value.number == number and caught.value.hint
    world.machine.kernel.refuse = None
    apply(world.agent(), opened(world))
    assert len(world.live()) == 1


def test_failure_of_an_update_that_was_removed_is_history(world: World) -> None:
    world.publish()
    world.machine.kernel.refuse = errno.ENOEXEC
    assert report.exit_code(reconcile(world.agent())) == report.FAILED
    shutil.rmtree(world.directory)
    found = reconcile(world.agent())
    assert found.state.failure is not None
    assert report.standing_failure(found) is None
    assert report.exit_code(found) != report.FAILED


def test_the_function_that_was_changed_is_named(world: World) -> None:
    """kmod/kmend_check.h refused: what it said ends in the error and in the history."""
    world.publish()
    kernel = world.machine.kernel
    kernel.refuse = errno.EILSEQ
    found = "vmlinux:f is not the code that was shipped: cc instead of 48 at +0x5"
    kernel.refusal = [f"kmend_6_1_190_1_1: refused: {found}", "livepatch: failed to enable patch 'kmend_6_1_190_1_1'"]
    result = reconcile(world.agent())
    assert report.exit_code(result) == report.FAILED
    assert any(found in event.why for event in world.agent().store.history() if event.event == "failed")
    with pytest.raises(LoadError) as caught:
        apply(world.agent(), opened(world))
    assert caught.value.why == found and "reboot" in caught.value.hint
    kernel.refusal = []
    with pytest.raises(LoadError) as caught:
        apply(world.agent(), opened(world))
    assert caught.value.why == "code of the running kernel is not the code that was shipped"
    kernel.refuse = None
    apply(world.agent(), opened(world))
    assert len(world.live()) == 1


def test_live_patch_of_another_tool_is_not_replaced(world: World) -> None:
    world.publish()
    world.machine.kernel.load(updates.image("kpatch_foo", "vmlinux"))
    world.machine.sleep(1)
    with pytest.raises(KernelError, match="another tool"):
        apply(world.agent(), opened(world))
    assert world.live() == ["kpatch_foo"]


def test_transition_of_another_tool_is_waited_for(world: World) -> None:
    """EBUSY: the kernel does one transition at a time. Once the other tool has left, ours goes live."""
    world.publish()
    kernel = world.machine.kernel
    kernel.load(updates.image("kpatch_foo", "vmlinux"))
    world.machine.sleep(1)
    kernel.set_enabled("kpatch_foo", False)
    apply(world.agent(), opened(world))
    assert world.live() == ["kmend_6_1_190_1_1"]


def test_transition_of_another_tool_that_never_ends(world: World) -> None:
    world.publish()
    kernel = world.machine.kernel
    kernel.load(updates.image("kpatch_foo", "vmlinux"))
    world.machine.sleep(1)
    kernel.stuck[False].add(1)
    kernel.set_enabled("kpatch_foo", False)
    with pytest.raises(KernelError, match="another live patch is in transition"):
        apply(world.agent(), opened(world))


# Two at once.


def _hold(root: str, ready: Any, done: Any) -> None:
    from kmend.system import System

    with lock.held(System(Path(root)), 0):
        ready.set()
        done.wait(30)


def test_two_reconciles_at_once(world: World) -> None:
    from kmend.cli.main import main

    world.publish()
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(world.machine.root), ready, done))
    other.start()
    try:
        assert ready.wait(60)
        assert main(["reconcile"], world.agent) == 0
        assert world.machine.kernel.images == []
        assert world.machine.path("run/kmend/queue/busy").exists()
        with pytest.raises(lock.BusyError), lock.held(world.machine, 1):
            pass
    finally:
        done.set()
        other.join(30)
    assert main(["reconcile"], world.agent) == 0
    assert len(world.live()) == 1


def test_lock_of_a_killed_holder_is_free(world: World) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(world.machine.root), ready, done))
    other.start()
    assert ready.wait(60)
    other.kill()
    other.join(30)
    with lock.held(world.machine, 0):
        pass


# Damaged records.


@pytest.mark.parametrize("name", ["applied.json", "seen.json", "choices.json", "quarantine.json", "attempt.json"])
@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'{"a": 1}', b"\xff"])
def test_damaged_record_is_moved_aside(world: World, name: str, data: bytes) -> None:
    world.publish()
    store = world.agent().store
    store.prepare()
    store.directory.joinpath(name).write_bytes(data)
    with pytest.raises(StoreError, match="damaged") as caught:
        reconcile(world.agent())
    aside = [path.name for path in store.directory.iterdir() if ".damaged-" in path.name]
    assert len(aside) == 1 and aside[0].startswith(name) and aside[0] in caught.value.hint
    assert store.directory.joinpath(aside[0]).read_bytes() == data
    accepted(world)


def test_torn_line_in_the_history(world: World) -> None:
    world.publish()
    reconcile(world.agent())
    path = world.agent().store.directory / "history.jsonl"
    with open(path, "ab") as file:
        file.write(b'{"event": "appl')
    world.agent().record("held")
    assert world.events() == ["verified", "applied", "held"]
    assert json.loads(path.read_bytes().splitlines()[-1])["event"] == "held"


def test_errors_have_a_hint(world: World) -> None:
    world.publish(key=world.stranger)
    with pytest.raises(KmendError) as caught:
        opened(world)
    assert caught.value.why and caught.value.hint
