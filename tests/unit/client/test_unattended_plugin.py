# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin of unattended-upgrades, loaded as that program does: by the beginning of the class's name."""

import importlib.util
import logging
import subprocess
from pathlib import Path
from typing import Any, List

import pytest

FILE = Path(__file__).resolve().parents[3] / "apt-hook/unattended_plugin.py"
RESULT = {"plugin_api": "1.0", "success": True, "packages_upgraded": ["linux-image-amd64"], "reboot_required": True}


class Machine:
    """The plugin on a machine; `calls` is what it starts, `ends` how the agent's run ends."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        spec = importlib.util.spec_from_file_location("uu_plugin", FILE)
        assert spec and spec.loader
        self.module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.root, self.calls, self.ends = root, [], None  # type: Path, List[List[str]], Any
        for name in ("QUEUE", "MARK", "SYNC", "SYSTEMD"):
            setattr(self.module, name, f"{root}{getattr(self.module, name)}")
        (root / "run/systemd/system").mkdir(parents=True)
        (root / "run/kmend/queue").mkdir(parents=True)
        monkeypatch.setattr(self.module.subprocess, "run", self.run)

    def run(self, argv: List[str], **options: Any) -> Any:
        assert options["timeout"] == self.module.PATIENCE
        self.calls.append(argv)
        if argv[0] == "systemctl":
            assert (self.root / "run/kmend/sync").read_text().strip().isdigit()
        if isinstance(self.ends, Exception):
            raise self.ends
        return subprocess.CompletedProcess(argv, 0, "kmend: 2 kernel CVEs are fixed live\n", "")

    def postrun(self) -> None:
        names = [name for name in vars(self.module) if name.startswith("UnattendedUpgradesPlugin")]
        assert len(names) == 1
        getattr(self.module, names[0])().postrun(dict(RESULT))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.mark.parametrize("trace", ["run/kmend/queue/apt", "run/kmend/tell"])
def test_waits_for_the_agent_and_logs_its_line(machine: Machine, caplog: pytest.LogCaptureFixture, trace: str) -> None:
    (machine.root / trace).touch()
    with caplog.at_level(logging.INFO):
        machine.postrun()
    assert machine.calls[0] == ["systemctl", "start", "kmend-reconcile.service"] and len(machine.calls) == 2
    assert "2 kernel CVEs are fixed live" in caplog.text and not (machine.root / "run/kmend/tell").exists()
    # A second run, for what needs the lock; kmend-reconcile.path starts it.
    assert (machine.root / "run/kmend/queue/after").exists() and not (machine.root / "run/kmend/sync").exists()


def test_other_packages_cost_nothing(machine: Machine) -> None:
    machine.postrun()
    assert machine.calls == []


def test_without_systemd_nothing_is_started(machine: Machine) -> None:
    (machine.root / "run/kmend/tell").touch()
    (machine.root / "run/systemd/system").rmdir()
    machine.postrun()
    assert machine.calls == []


@pytest.mark.parametrize("error", [subprocess.TimeoutExpired("x", 60), FileNotFoundError("systemctl")])
def test_an_agent_that_hangs_or_is_gone_is_a_warning(
    machine: Machine, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    (machine.root / "run/kmend/tell").touch()
    machine.ends = error
    machine.postrun()
    assert "could not be waited for" in caplog.text and not (machine.root / "run/kmend/sync").exists()


def test_the_package_has_it_where_the_program_looks() -> None:
    text = (FILE.parents[1] / "packaging/debian/build").read_text()
    assert '"apt-hook/unattended_plugin.py": ("usr/share/unattended-upgrades/plugins/kmend.py", 0o644)' in text
