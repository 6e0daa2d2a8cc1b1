# SPDX-License-Identifier: GPL-2.0-or-later
"""The package in real apt, dpkg and unattended-upgrades: what the hooks see, do, and leave alone."""

import json
import os
import time
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

from integration.aptroot import REPO, SUITE, AptRoot, index, make_deb, run

pytestmark = pytest.mark.network

OLD, NEW = "6.1.0-98-test-amd64", "6.1.0-99-test-amd64"
NEWER = "forky"
META = "linux-image-test-amd64"
CALLS = "var/log/kmend-calls"
# What a kernel's maintainer script does, as far as it concerns us: run the hooks in /etc/kernel.
KERNEL_POSTINST = """
export DEB_MAINT_PARAMS="$*"
run-parts --report --exit-on-error --arg={release} --arg=/boot/vmlinuz-{release} /etc/kernel/postinst.d
"""
# Stands in for the agent: notes that it was called, and does to the flag what the agent does when all is covered.
AGENT = f"""#!/bin/sh
echo "$*" >>/{CALLS}
[ ! -e /covered ] || /usr/bin/python3 -I -c 'from kmend import flags; flags.suppress_kernel_entries()'
"""
# Stands in for systemd: notes its arguments; a blocking start runs the service as the unit says.
SYSTEMCTL = """#!/bin/sh
echo "$*" >>/var/log/systemctl
case "$*" in
"start kmend-reconcile.service") find /run/kmend/queue -mindepth 1 -delete; /usr/bin/kmend reconcile ;;
esac
"""


def kernel_deb(folder: Path, release: str, version: str) -> Path:
    files = {f"boot/vmlinuz-{release}": version, f"lib/modules/{release}/modules.order": version}
    return make_deb(
        folder, f"linux-image-{release}", version, files=files, postinst=KERNEL_POSTINST.format(release=release)
    )


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kernels and a metapackage that moves from one to the other, and a package nobody cares about."""
    folder = tmp_path_factory.mktemp("archive")
    for release, version in ((OLD, "6.1.1-1"), (NEW, "6.1.2-1")):
        kernel_deb(folder, release, version)
        make_deb(folder, META, version, fields=f"Depends: linux-image-{release} (= {version})\n")
    for version in ("1.0", "2.0"):
        make_deb(folder, "bystander", version, files={"usr/share/bystander/file": version})
    index(folder, "Testing")
    return folder


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client as a package."""
    out = tmp_path_factory.mktemp("dist")
    run([str(REPO / "packaging/debian/build"), "--out", str(out)], {"SOURCE_DATE_EPOCH": "1790000000"})
    [deb] = out.glob("*.deb")
    return deb


def prepare(path: Path, archive: Path, client: Path, suite: str = SUITE) -> AptRoot:
    """A machine with kmend and the old kernel, and an archive that has the new one."""
    root = AptRoot.unpack(path, suite)
    run(["cp", "-a", str(archive), str(root.path / "srv/archive")])
    root.write("etc/apt/sources.list", "deb [trusted=yes] file:/srv/archive ./\n")
    root.write("etc/apt/apt.conf.d/99test", 'Unattended-Upgrade::Origins-Pattern:: "origin=Testing";\n')
    root.chroot("apt-get", "update", "-q=2")
    root.chroot("apt-get", "install", "-y", "-q=2", f"{META}=6.1.1-1", "bystander=1.0")
    run(["cp", str(client), str(root.path / "srv/kmend.deb")])
    root.chroot("dpkg", "-i", "/srv/kmend.deb")
    root.write("usr/bin/kmend", AGENT, 0o755)
    for name in ("reboot-required", "reboot-required.pkgs"):
        (root.path / "run" / name).unlink(missing_ok=True)
    return root


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, archive: Path, client: Path) -> Iterator[AptRoot]:
    root = prepare(tmp_path_factory.mktemp("apt") / "prepared", archive, client)
    yield root
    root.remove()


@pytest.fixture(scope="module")
def prepared_newer(tmp_path_factory: pytest.TempPathFactory, archive: Path, client: Path) -> Iterator[AptRoot]:
    """The same of a release whose unattended-upgrades (2.11 and newer) takes plugins."""
    root = prepare(tmp_path_factory.mktemp("apt") / "newer", archive, client, NEWER)
    yield root
    root.remove()


@pytest.fixture()
def root(prepared: AptRoot, tmp_path: Path) -> Iterator[AptRoot]:
    """A copy of it for one test."""
    yield from copied(prepared, tmp_path / "root")


def copied(prepared: AptRoot, path: Path) -> Iterator[AptRoot]:
    """A copy with the hooks' stamp set: nothing has changed so far."""
    copy = prepared.clone(path)
    copy.write("run/kmend/stamp", "")
    yield copy
    copy.remove()


@pytest.fixture()
def systemd(root: AptRoot) -> AptRoot:
    """The copy, with something that looks like systemd."""
    return with_systemd(root)


def with_systemd(root: AptRoot) -> AptRoot:
    (root.path / "run/systemd/system").mkdir(parents=True)
    root.write("usr/bin/systemctl", SYSTEMCTL, 0o755)
    return root


def upgrade(root: AptRoot, how: str = "machine", **env: str) -> str:
    argv = ["apt-get", "-y", "-q=2", "dist-upgrade"]
    done = root.machine(*argv, env=env) if how == "machine" else root.chroot(*argv, env=env)
    assert f"linux-image-{NEW}" in done.stdout
    return done.stdout + done.stderr


def records(root: AptRoot) -> List[Dict[str, str]]:
    return [json.loads(line) for line in root.read("run/kmend/txn.jsonl").splitlines()]


def queue(root: AptRoot) -> List[str]:
    folder = root.path / "run/kmend/queue"
    return sorted(os.listdir(folder)) if folder.exists() else []


def starts(root: AptRoot) -> List[str]:
    return [line for line in root.read("var/log/systemctl").splitlines() if "kmend-reconcile" in line]


def test_upgrade_is_recorded_and_queued_once(systemd: AptRoot) -> None:
    upgrade(systemd)
    (kernel,) = [entry for entry in records(systemd) if entry["package"] == f"linux-image-{NEW}"]
    assert (kernel["old"], kernel["new"]) == ("-", "6.1.2-1")
    assert kernel["action"].endswith(".deb")
    assert queue(systemd) == ["apt"]
    assert starts(systemd) == ["start --no-block kmend-reconcile.service"]


def test_other_packages_leave_no_trace_and_cost_little(systemd: AptRoot) -> None:
    systemd.machine("apt-get", "-y", "-q=2", "install", "bystander=2.0")
    assert records(systemd) == [] and queue(systemd) == [] and starts(systemd) == []
    hook = "i=0; while [ $i -lt 20 ]; do /usr/lib/kmend/apt-hook apt; i=$((i+1)); done"
    begin = time.monotonic()
    systemd.machine("sh", "-c", hook)
    twenty = time.monotonic() - begin
    systemd.machine("touch", "/lib/modules")
    begin = time.monotonic()
    systemd.machine("true")
    # The namespaces and the shell are not the hook's; 60 ms each is what we promise.
    assert (twenty - (time.monotonic() - begin)) / 20 < 0.06


def test_waits_for_the_agent_when_told_to(systemd: AptRoot) -> None:
    upgrade(systemd, KMEND_SYNC="1")
    assert systemd.read(CALLS).splitlines() == ["reconcile"]
    # The second run is for what needs apt's lock.
    assert starts(systemd) == ["start kmend-reconcile.service", "start --no-block kmend-reconcile.service"]
    assert not systemd.exists("run/kmend/sync")


def test_without_systemd_the_agent_runs_detached(root: AptRoot) -> None:
    # The agent must not start before apt is done: then it would find dpkg's lock taken.
    script = f"""
    apt-get -y -q=2 dist-upgrade
    echo apt done >>/{CALLS}
    timeout 60 sh -c 'until grep -q reconcile /{CALLS}; do sleep 0.1; done'
    """
    root.machine("sh", "-c", script)
    assert root.read(CALLS).splitlines() == ["apt done", "reconcile"]
    assert queue(root) == []


def test_chroot_is_left_alone(root: AptRoot) -> None:
    (root.path / "run/kmend/stamp").unlink()
    (root.path / "run/kmend").rmdir()
    upgrade(root, "chroot")
    assert not root.exists("run/kmend") and not root.exists(CALLS)


def test_container_is_left_alone(systemd: AptRoot) -> None:
    systemd.write("run/.containerenv", "")
    upgrade(systemd)
    assert records(systemd) == [] and queue(systemd) == [] and starts(systemd) == []


def test_plain_dpkg_triggers(systemd: AptRoot) -> None:
    (deb,) = (systemd.path / "srv/archive").glob(f"linux-image-{NEW}_*.deb")
    systemd.machine("dpkg", "-i", f"/srv/archive/{deb.name}")
    assert records(systemd) == []  # apt alone tells what it is about to do
    assert queue(systemd) == ["dpkg"]
    assert starts(systemd) == ["start --no-block kmend-reconcile.service"]


def test_new_update_triggers_and_a_rebuilt_kernel_too(systemd: AptRoot) -> None:
    folder = systemd.path / "srv"
    files = {"usr/lib/kmend/patches/0123/manifest.json": "{}"}
    for version in ("6.1.2-1+1", "6.1.2-1+2"):
        deb = make_deb(folder, f"kmend-patch-{OLD}", version, files=files)
        systemd.machine("dpkg", "-i", f"/srv/{deb.name}")
        assert queue(systemd) == ["dpkg"], version
        (systemd.path / "run/kmend/queue/dpkg").unlink()
    rebuilt = kernel_deb(folder, OLD, "6.1.1-2")
    systemd.machine("apt-get", "-y", "-q=2", "install", f"/srv/{rebuilt.name}")
    assert queue(systemd) == ["apt"]
    assert ("6.1.1-1", "6.1.1-2") in [(entry["old"], entry["new"]) for entry in records(systemd)]


@pytest.mark.parametrize("broken", ["usr/bin/python3", "usr/lib/kmend/hook-lib.sh", "run/kmend"])
def test_broken_hooks_do_not_break_apt(systemd: AptRoot, broken: str) -> None:
    if broken == "run/kmend":
        (systemd.path / "run/kmend/stamp").unlink()
        (systemd.path / "run/kmend").rmdir()
        systemd.write(broken, "a file where a directory should be")
    else:
        systemd.write(broken, "#!/bin/sh\nexit 3\n", 0o755)
    upgrade(systemd)
    assert systemd.chroot("dpkg-query", "-W", "-f", "${Status}", f"linux-image-{NEW}").stdout == "install ok installed"


def test_removed_but_not_purged_does_not_break_apt(systemd: AptRoot) -> None:
    systemd.machine("dpkg", "-r", "kmend")
    assert systemd.exists("etc/apt/apt.conf.d/60kmend")
    assert "kmend" not in upgrade(systemd)


def named_kmend(root: AptRoot) -> List[str]:
    argv = ["find", str(root.path), "-xdev", "-path", "*/srv", "-prune", "-o", "-name", "*kmend*", "-print"]
    return sorted(os.path.relpath(line, root.path) for line in run(argv).stdout.splitlines())


def test_purge_leaves_nothing(systemd: AptRoot) -> None:
    upgrade(systemd)
    systemd.write("var/lib/kmend/seen.json", "{}")
    assert len(named_kmend(systemd)) > 20
    systemd.machine("dpkg", "--purge", "kmend")
    assert named_kmend(systemd) == []


def test_removal_puts_the_flag_back(systemd: AptRoot) -> None:
    systemd.write("covered", "")
    upgrade(systemd, KMEND_SYNC="1")
    assert not systemd.exists("run/reboot-required")
    systemd.machine("dpkg", "-r", "kmend")
    assert systemd.read("run/reboot-required.pkgs").split() == [f"linux-image-{NEW}"]
    assert systemd.exists("run/reboot-required")


def test_needrestart_understands_the_snippet(systemd: AptRoot) -> None:
    show = ["perl", "-e", "our %nrconf = (kernelhints => 1); do $ARGV[0] or die $@; print $nrconf{kernelhints}"]
    snippet = "/etc/needrestart/conf.d/50-kmend.conf"
    assert systemd.machine(*show, snippet).stdout == "1"
    systemd.write("run/kmend/reboot-advised", "covered\n")
    assert systemd.machine(*show, snippet).stdout == "-1"
    # The program itself reads it without complaint.
    assert "kmend" not in systemd.machine("needrestart", "-b", "-k", check=False).stderr
    systemd.write("run/kmend/reboot-debt", "reboot debt: 1 CVE\n")
    done = systemd.machine("needrestart", "-b", "-k", check=False)
    assert "kmend: reboot debt: 1 CVE\n" in done.stderr and "kmend" not in done.stdout


def test_login_message(systemd: AptRoot) -> None:
    assert systemd.machine("/etc/update-motd.d/97-kmend").stdout == ""
    systemd.write("run/kmend/reboot-advised", "may wait\n")
    assert systemd.machine("/etc/update-motd.d/97-kmend").stdout == "kmend: may wait\n"
    systemd.write("run/kmend/reboot-debt", "reboot debt: 1 CVE\n")
    systemd.write("run/kmend/update-waiting", "update 2 is available\n")
    lines = systemd.machine("/etc/update-motd.d/97-kmend").stdout.splitlines()
    assert lines == ["kmend: may wait", "kmend: reboot debt: 1 CVE", "kmend: update 2 is available"]


def test_unattended_upgrades_may_bring_updates(systemd: AptRoot) -> None:
    code = (
        "import apt_pkg; apt_pkg.init()\n"
        "print(*apt_pkg.config.value_list('Unattended-Upgrade::Origins-Pattern'), sep='\\n')"
    )
    patterns = systemd.machine("/usr/bin/python3", "-c", code).stdout.splitlines()
    assert "origin=kmend,label=kmend" in patterns and "origin=Testing" in patterns


class TestUnattendedUpgrades:
    """The same under unattended-upgrades, which reads apt's configuration twice and reboots by the flag."""

    CONFIG = 'Unattended-Upgrade::Automatic-Reboot "true";\nUnattended-Upgrade::Automatic-Reboot-Time "02:00";\n'
    SHUTDOWN = '#!/bin/sh\necho "$*" >>/var/log/shutdown-calls\n'

    RUNS: Tuple[str, ...] = ("reconcile",)

    def go(self, root: AptRoot, *options: str) -> None:
        root.write("etc/apt/apt.conf.d/99reboot", self.CONFIG)
        root.write("sbin/shutdown", self.SHUTDOWN, 0o755)
        root.machine("unattended-upgrade", *options)

    def installed(self, root: AptRoot) -> bool:
        return root.exists(f"boot/vmlinuz-{NEW}")

    def test_recorded_and_queued_once(self, systemd: AptRoot) -> None:
        self.go(systemd)
        assert self.installed(systemd)
        assert len([entry for entry in records(systemd) if entry["package"] == f"linux-image-{NEW}"]) == 1
        assert tuple(systemd.read(CALLS).splitlines()) == self.RUNS

    def test_reboots_when_not_covered(self, systemd: AptRoot) -> None:
        self.go(systemd)
        assert systemd.read("var/log/shutdown-calls").splitlines() == ["-r 02:00"]

    def test_does_not_reboot_when_covered(self, systemd: AptRoot) -> None:
        systemd.write("covered", "")
        self.go(systemd)
        assert self.installed(systemd)
        assert systemd.read("var/log/shutdown-calls") == ""

    def test_dry_run_queues_nothing(self, systemd: AptRoot) -> None:
        self.go(systemd, "--dry-run")
        assert not self.installed(systemd)
        assert queue(systemd) == [] and starts(systemd) == []


@pytest.mark.slow
class TestNewerUnattendedUpgrades(TestUnattendedUpgrades):
    """All of it with one that takes plugins: ours is found and run."""

    # The hook can't know that a plugin follows. The second run is the one for what the first had no lock for.
    RUNS = ("reconcile", "reconcile")
    LOG = "var/log/unattended-upgrades/unattended-upgrades.log"

    @pytest.fixture()
    def systemd(self, prepared_newer: AptRoot, tmp_path: Path) -> Iterator[AptRoot]:
        for copy in copied(prepared_newer, tmp_path / "root"):
            yield with_systemd(copy)

    def test_the_log_has_our_line(self, systemd: AptRoot) -> None:
        systemd.write("usr/lib/python3/dist-packages/kmend/forecast.py", FORECAST)
        self.go(systemd)
        assert "INFO kmend: 2 kernel CVEs will be fixed live" in systemd.read(self.LOG)

    def test_the_log_is_silent_when_nothing_concerns_us(self, systemd: AptRoot) -> None:
        systemd.write("usr/lib/python3/dist-packages/kmend/forecast.py", FORECAST)
        systemd.write("etc/apt/preferences.d/held", f"Package: {META}\nPin: version *\nPin-Priority: -1\n")
        self.go(systemd)
        assert not self.installed(systemd) and "kmend:" not in systemd.read(self.LOG)


# Stands in for the agent's answer; the real one is tested where the machine can be simulated.
FORECAST = 'print("kmend: 2 kernel CVEs will be fixed live")\n'


def apt(root: AptRoot, *argv: str) -> str:
    done = root.machine("apt", "-y", *argv)
    # It misses /dev/pts for its log; of hooks it has nothing to say.
    assert [line for line in done.stderr.splitlines() if line[:3] in ("W: ", "E: ") and "/dev/pts" not in line] == []
    return done.stdout


def test_apt_tells_what_becomes_of_the_fixes(systemd: AptRoot) -> None:
    systemd.write("usr/lib/python3/dist-packages/kmend/forecast.py", FORECAST)
    assert apt(systemd, "install", "bystander=2.0").count("kmend:") == 0
    out = apt(systemd, "full-upgrade")
    assert out.rstrip().endswith("kmend: 2 kernel CVEs will be fixed live") and out.count("kmend:") == 1
    assert not systemd.exists("run/kmend/tell")
    assert apt(systemd, "full-upgrade").count("kmend:") == 0


@pytest.mark.parametrize("forecast", ["raise SystemExit(3)\n", "import time; time.sleep(60)\n", "print(1/0)\n", None])
def test_a_line_that_fails_does_not_break_apt(systemd: AptRoot, forecast: str) -> None:
    if forecast is None:
        systemd.write("usr/bin/python3", "#!/bin/sh\nexit 3\n", 0o755)
    else:
        systemd.write("usr/lib/python3/dist-packages/kmend/forecast.py", forecast)
    begin = time.monotonic()
    apt(systemd, "full-upgrade")
    assert time.monotonic() - begin < 30
    assert systemd.chroot("dpkg-query", "-W", "-f", "${Status}", f"linux-image-{NEW}").stdout == "install ok installed"


def test_apt_get_says_nothing_and_a_removed_package_neither(systemd: AptRoot) -> None:
    systemd.write("usr/lib/python3/dist-packages/kmend/forecast.py", FORECAST)
    systemd.write("run/kmend/tell", "")
    assert "kmend:" not in systemd.machine("apt-get", "-y", "install", "bystander=2.0").stdout
    systemd.machine("dpkg", "-r", "kmend")
    assert systemd.exists("etc/apt/apt.conf.d/60kmend")
    assert "kmend:" not in apt(systemd, "full-upgrade")
