# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend doctor on both families: what is configured, what is not, and how to set it right."""

import dataclasses
import hashlib
from typing import Callable, Tuple

import pytest

from kmend import setup
from kmend.agent import Agent
from kmend.distro import automatic
from kmend.reconcile import reconcile
from kmend.setup import Finding
from unit.client import updates
from unit.client.conftest import World

REPO = "[kmend]\nbaseurl=https://x.example/\nenabled=1\ngpgcheck=1\nrepo_gpgcheck=1\n"
SOURCES = "Types: deb\nURIs: https://x.example/\nSigned-By: /usr/share/keyrings/kmend-archive-keyring.gpg\n"
PLUGINS = "usr/lib/python3.9/site-packages/dnf-plugins/kmend.py"
ACTIONS = "etc/dnf/libdnf5-plugins/actions.d/kmend.actions"
HOOK = "usr/lib/kmend/dnf5-hook"


@pytest.fixture()
def dnf(world: World) -> World:
    """The machine, with dnf's packages."""
    world.distro.family = "dnf"
    return world


def put(world: World, *names: str, text: str = "") -> None:
    for name in names:
        world.machine.put(name, text.encode())


def check(world: World, which: Callable[[Agent], Finding]) -> Tuple[object, str, str]:
    found = which(world.agent())
    return found.good, found.text, found.hint


def test_package_manager(world: World) -> None:
    assert check(world, setup.packages)[:2] == (True, "apt with a dpkg database")
    world.distro.family = "dnf"
    put(world, "usr/bin/dnf5")
    assert check(world, setup.packages)[:2] == (True, "dnf5 with an rpm database")
    put(world, "run/ostree-booted")
    good, text, hint = check(world, setup.packages)
    assert good is None and "image" in text and "kmend apply PATH" in hint


def test_repository_of_apt(world: World) -> None:
    good, _, hint = check(world, setup.source)
    assert good is None and "kmend.sources" in hint
    put(world, "etc/apt/sources.list.d/kmend.sources", text=SOURCES)
    assert check(world, setup.source)[0] is True
    put(world, "etc/apt/sources.list.d/kmend.sources", text=SOURCES.replace("Signed-By", "X-By"))
    good, text, _ = check(world, setup.source)
    assert good is False and "Signed-By" in text


def test_repository_of_dnf(dnf: World) -> None:
    assert check(dnf, setup.source)[0] is None
    put(dnf, "etc/yum.repos.d/kmend.repo", text=REPO)
    assert check(dnf, setup.source)[0] is True
    put(dnf, "etc/yum.repos.d/kmend.repo", text=REPO.replace("repo_gpgcheck=1", "repo_gpgcheck=0"))
    good, text, _ = check(dnf, setup.source)
    assert good is False and text.endswith("does not set repo_gpgcheck")
    put(dnf, "etc/yum.repos.d/kmend.repo", text=REPO.replace("enabled=1", "enabled = 0"))
    assert check(dnf, setup.source)[0] is None


def test_hooks_of_apt(world: World) -> None:
    put(world, "etc/apt/apt.conf.d/60kmend")
    good, text, hint = check(world, setup.hooks)
    assert good is False and "apt-hook is missing" in text and hint == "reinstall kmend"
    put(world, "usr/lib/kmend/apt-hook")
    assert check(world, setup.hooks)[:2] == (True, "apt and dpkg")


def test_hooks_of_dnf4(dnf: World) -> None:
    assert check(dnf, setup.hooks)[0] is False  # neither dnf is there
    put(dnf, "usr/lib/python3.9/site-packages/dnf/__init__.py")
    assert check(dnf, setup.hooks)[1] == "dnf 4: its plugin is missing"
    put(dnf, PLUGINS)
    assert check(dnf, setup.hooks)[:2] == (True, "dnf 4")
    put(dnf, "etc/dnf/plugins/kmend.conf", text="[main]\nenabled=0\n")
    assert "switched off in /etc/dnf/plugins/kmend.conf" in check(dnf, setup.hooks)[1]
    put(dnf, "etc/dnf/plugins/kmend.conf", text="[main]\nenabled=1\n")
    put(dnf, "etc/dnf/dnf.conf", text="[main]\nplugins = False\n")
    assert "switched off in /etc/dnf/dnf.conf" in check(dnf, setup.hooks)[1]


def test_hooks_of_dnf5(dnf: World) -> None:
    put(dnf, "usr/bin/dnf5")
    good, _, hint = check(dnf, setup.hooks)
    assert good is False and hint == "install libdnf5-plugin-actions"
    put(dnf, "usr/lib64/libdnf5/plugins/actions.so")
    assert check(dnf, setup.hooks)[1] == "dnf 5: its action is missing"
    put(dnf, ACTIONS, HOOK)
    assert check(dnf, setup.hooks)[:2] == (True, "dnf 5")


def test_units(world: World) -> None:
    assert check(world, setup.units)[0] is None
    world.machine.path("run/systemd/system").mkdir(parents=True)
    put(world, "etc/systemd/system/timers.target.wants/kmend.timer")
    good, text, hint = check(world, setup.units)
    assert good is False and "kmend-boot.service" in text and "kmend.timer" not in text
    assert hint == "systemctl enable --now kmend-reconcile.path kmend-boot.service"
    wants = "etc/systemd/system/multi-user.target.wants"
    put(world, f"{wants}/kmend-reconcile.path", f"{wants}/kmend-boot.service")
    assert check(world, setup.units)[0] is True


def test_automatic_upgrades(dnf: World) -> None:
    assert check(dnf, setup.upgrades)[0] is True
    put(dnf, automatic.CONFIG, text="[commands]\nreboot = when-needed\n# reboot_command = x\n")
    good, _, hint = check(dnf, setup.upgrades)
    assert good is False and "kmend mode auto" in hint
    automatic.connect(dnf.machine.root)
    assert check(dnf, setup.upgrades)[0] is True


def test_advisories(dnf: World) -> None:
    assert check(dnf, setup.advisories)[0] is None
    put(dnf, "var/cache/dnf/base-0/repodata/x-updateinfo.xml.gz")
    assert check(dnf, setup.advisories)[0] is True
    put(dnf, "var/cache/dnf/base-1/repodata/x-updateinfo.xml.odd")
    assert check(dnf, setup.advisories)[0] is False


# Secure Boot

EFI = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


@pytest.fixture()
def locked(world: World) -> World:
    """Secure Boot is on, and the kernel is locked down."""
    world.machine.put(EFI, b"\6\0\0\0\1")
    put(world, "sys/kernel/security/lockdown", text="none [integrity] confidentiality\n")
    return world


def publish(world: World, signed: bool) -> None:
    """An update whose module ends as a signed one does, or not."""
    found = updates.manifest()
    image = updates.image(found.module.name, "vmlinux", "nfs") + (b"~Module signature appended~\n" if signed else b"")
    module = dataclasses.replace(found.module, size=len(image), sha256=hashlib.sha256(image).hexdigest())
    changed = world.publish(module=module)
    (world.directory / changed.module.file).write_bytes(image)


def test_no_secure_boot(world: World) -> None:
    assert check(world, setup.secure_boot)[:2] == (True, "Secure Boot not there; modules need no signature")
    world.machine.put(EFI, b"\6\0\0\0\0")
    put(world, "sys/kernel/security/lockdown", text="[none] integrity confidentiality\n")
    assert "Secure Boot off" in check(world, setup.secure_boot)[1]


def test_secure_boot_explains_enrolment(locked: World) -> None:
    good, text, hint = check(locked, setup.secure_boot)
    assert good is None and "Secure Boot on" in text and "mokutil --import" in hint


def test_secure_boot_with_an_update_that_is_not_signed(locked: World) -> None:
    publish(locked, signed=False)
    good, text, hint = check(locked, setup.secure_boot)
    assert good is False and "6.1.190-1+1 has no such signature" in text and "--module-key" in hint
    publish(locked, signed=True)
    assert check(locked, setup.secure_boot)[0] is None


def test_secure_boot_when_the_kernel_took_one(locked: World) -> None:
    publish(locked, signed=True)
    reconcile(locked.agent())
    assert check(locked, setup.secure_boot)[0] is True


def test_signatures_by_parameter_alone(world: World) -> None:
    put(world, "sys/module/module/parameters/sig_enforce", text="Y\n")
    assert check(world, setup.secure_boot)[0] is None
