# SPDX-License-Identifier: GPL-2.0-or-later
"""The helper that runs in guests, on a fake /sys/kernel/livepatch."""

import errno
import importlib.util
import threading
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest


@pytest.fixture
def klp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = Path(str(resources.files("kmend_builder.prove"))) / "guest_files/klp.py"
    spec = importlib.util.spec_from_file_location("guest_klp", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    return module


@pytest.fixture
def patch(tmp_path: Path) -> Path:
    directory = tmp_path / "kmend_1"
    (directory / "vmlinux/f,1").mkdir(parents=True)
    (directory / "no_such_module/g,1").mkdir(parents=True)
    for name, text in {
        "enabled": "1",
        "transition": "1",
        "vmlinux/patched": "1",
        "no_such_module/patched": "0",
    }.items():
        (directory / name).write_text(f"{text}\n")
    return directory


def test_a_settled_transition_ends_the_wait(klp: ModuleType, patch: Path) -> None:
    threading.Timer(0.05, (patch / "transition").write_text, ["0\n"]).start()
    answer = klp.wait("kmend_1", 10, gone=False)
    assert answer["state"] == "settled" and 0.03 < answer["seconds"] < 5


def test_a_transition_that_goes_on_is_stalled(klp: ModuleType, patch: Path) -> None:
    answer = klp.wait("kmend_1", 0.05, gone=False)
    assert answer["state"] == "stalled" and isinstance(answer["blockers"], list)


def test_a_revert_waits_until_the_directory_is_gone(klp: ModuleType, patch: Path) -> None:
    (patch / "transition").write_text("0\n")
    assert klp.wait("kmend_1", 0.05, gone=True)["state"] == "stalled"
    (patch / "transition").unlink()
    assert klp.wait("kmend_1", 10, gone=True)["state"] == "gone"


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV])
def test_both_ways_of_vanishing_are_gone(klp: ModuleType, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def vanish(_path: str) -> NoReturn:
        raise OSError(number, "going")

    monkeypatch.setattr(klp, "open", vanish, raising=False)
    assert klp.wait("kmend_1", 10, gone=True)["state"] == "gone"


def test_other_errors_are_not_taken_for_gone(klp: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: str) -> NoReturn:
        raise OSError(errno.EACCES, "no")

    monkeypatch.setattr(klp, "open", refuse, raising=False)
    with pytest.raises(PermissionError):
        klp.wait("kmend_1", 10, gone=True)


def test_the_state_lists_objects_and_functions(klp: ModuleType, patch: Path) -> None:
    state = klp.state("kmend_1")
    assert (state["enabled"], state["transition"]) == ("1", "1")
    assert state["objects"]["vmlinux"] == {"patched": "1", "functions": ["f,1"], "live": True}
    assert state["objects"]["no_such_module"] == {"patched": "0", "functions": ["g,1"], "live": False}


def test_disabling_writes_a_zero(klp: ModuleType, patch: Path) -> None:
    klp.disable("kmend_1")
    assert (patch / "enabled").read_text() == "0"


@pytest.mark.parametrize(("pinned", "seconds"), [(True, 1.0), (False, 20.0)])
def test_a_pinned_module_is_not_waited_for(
    klp: ModuleType, patch: Path, monkeypatch: pytest.MonkeyPatch, pinned: bool, seconds: float
) -> None:
    waited: list[float] = []

    def remove(_name: str, limit: float) -> dict[str, str]:
        waited.append(limit)
        return {"state": "pinned"}

    monkeypatch.setattr(klp, "remove", remove)
    monkeypatch.setattr(klp, "wait", lambda _name, _seconds, gone: {"state": "gone", "seconds": 0.1})
    klp.main(["revert", "kmend_1", "5", *(["pinned"] if pinned else [])])
    assert waited == [seconds]
