# SPDX-License-Identifier: GPL-2.0-or-later
"""The client's RPM package under the real rpm: what it holds, and what its triggers do where.

rpm runs in a copy-on-write view of this machine's root with a /run and a process 1 of its own, so that nothing of this
machine is touched. The view counts as a machine; a mark of a container, of an offline update, and so on are put into it
one at a time.
"""

import os
import subprocess
from pathlib import Path

import pytest

from kmend_builder.publish.repofile import render_repo_file

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "packaging/rpm/build"
EPOCH = "1700000000"
PATHS = {
    "kernel": "/usr/lib/modules/6.9.0-test/vmlinuz",
    "update": "/usr/lib/kmend/patches/00ff/x.ko",
    "else": "/opt/x",
}

VIEW = """set -e
mount -t tmpfs tmpfs "$1"; mkdir "$1/up" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root"
mount -t tmpfs tmpfs "$1/root/run"; mount -t tmpfs tmpfs "$1/root/tmp"
rm -rf "$1/root/.dockerenv" "$1/root/system-update" "$1/root/var/lib/kmend"; mkdir -p "$1/root/run/systemd/system"
mkdir "$1/root/packages"; cp "$2"/*.rpm "$1/root/packages"
exec unshare --pid --fork --root="$1/root" sh -c "$3"
"""
START = "mount -t proc proc /proc; mkdir /db; r='rpm --dbpath /db --nodeps'; cd /packages\n"


def in_view(tmp_path: Path, packages: Path, script: str, **environ: str) -> str:
    """Standard output of a shell script in the view; it has to end well."""
    view = tmp_path / "view"
    view.mkdir(exist_ok=True)
    argv = ["unshare", "--mount", "sh", "-c", VIEW, "sh", str(view), str(packages), START + script]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **environ}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, and a package with one file for each of PATHS."""
    out = tmp_path_factory.mktemp("packages")
    build_client(out)
    for name, path in PATHS.items():
        spec = out / f"{name}.spec"
        spec.write_text(
            f"Name: {name}\nVersion: 1\nRelease: 1\nBuildArch: noarch\nSummary: s\nLicense: GPL\n%description\nd\n"
            f"%install\nmkdir -p %{{buildroot}}{os.path.dirname(path)}\necho x >%{{buildroot}}{path}\n%files\n{path}\n"
        )
        top = [
            "--define",
            f"_topdir {out}/top",
            "--define",
            f"_rpmdir {out}",
            "--define",
            "_build_name_fmt %%{NAME}.rpm",
        ]
        subprocess.run(["rpmbuild", "-bb", "--quiet", *top, str(spec)], check=True, capture_output=True)
    return out


def build_client(out: Path, *words: str) -> Path:
    env = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
    argv = [str(BUILD), "--out", str(out), *words]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env=env)
    return Path(done.stdout.strip())


def listing(rpm: Path) -> list[str]:
    argv = ["rpm", "--query", "--package", "--nosignature", "--list", str(rpm)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()


def test_two_builds_are_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    again = build_client(tmp_path / "deeper/out")
    assert again.read_bytes() == (packages / again.name).read_bytes()


def test_files_are_where_the_architecture_says(packages: Path) -> None:
    found = set(listing(packages / "kmend-0.1.0-1.noarch.rpm"))
    for name in (
        "bin/kmend",
        "lib/systemd/system/kmend-reconcile.path",
        "lib/tmpfiles.d/kmend.conf",
        "lib/kmend/patches",
    ):
        assert f"/usr/{name}" in found
    assert {"/etc/kmend/kmend.conf", "/etc/kmend/conf.d", "/etc/kmend/trusted.d"} <= found
    sources = {f"/kmend/{path.relative_to(ROOT / 'client/kmend')}" for path in (ROOT / "client/kmend").rglob("*.py")}
    assert all(any(name.endswith(source) for name in found) for source in sources)
    assert not any(name.startswith("/etc/apt") for name in found)


def test_every_file_for_dnf_is_in_it(packages: Path) -> None:
    present = {path.name for path in (ROOT / "dnf-plugin").glob("*") if path.is_file() and path.suffix != ".md"}
    found = {Path(name).name for name in listing(packages / "kmend-0.1.0-1.noarch.rpm") if "dnf" in name}
    assert found - {"dnf-plugins", "actions.d"} >= present - {"README"}


def test_python_goes_where_it_is_told(tmp_path: Path) -> None:
    rpm = build_client(tmp_path, "--python", "/usr/lib/python3.12/site-packages")
    assert "/usr/lib/python3.12/site-packages/kmend/manifest.py" in listing(rpm)


def test_publisher_is_configured(tmp_path: Path) -> None:
    home = tmp_path / "g"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--passphrase", "", "--quick-gen-key"]
    subprocess.run([*gpg, "p@example.org", "rsa2048", "sign", "30d"], check=True, capture_output=True)
    export = subprocess.run(["gpg", "--homedir", str(home), "--export"], check=True, capture_output=True).stdout
    (tmp_path / "k.gpg").write_bytes(export)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"], check=False)
    uri = "https://kmend.example.org/rpm/"
    rpm = build_client(tmp_path / "out", "--keyring", str(tmp_path / "k.gpg"), "--uri", uri)
    tree = tmp_path / "tree"
    tree.mkdir()
    archive = subprocess.run(["rpm2cpio", str(rpm)], check=True, capture_output=True).stdout
    subprocess.run(["cpio", "-id", "--quiet"], input=archive, cwd=tree, check=True)
    assert (tree / "usr/share/keyrings/kmend-archive-keyring.gpg").read_bytes() == export
    assert (tree / "etc/yum.repos.d/kmend.repo").read_bytes() == render_repo_file(uri)
    key = tree / "etc/pki/rpm-gpg/RPM-GPG-KEY-kmend"
    subprocess.run(["rpmkeys", "--dbpath", str(tmp_path / "db"), "--import", str(key)], check=True)
    shown = subprocess.run(["gpg", "--dearmor"], input=key.read_bytes(), check=True, capture_output=True).stdout
    assert shown == export


@pytest.mark.parametrize("words", [("--uri", "https://a/"), ("--keyring", "/dev/null")])
def test_half_a_publisher_is_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = subprocess.run([str(BUILD), "--out", str(tmp_path), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "belong together" in done.stderr
    assert not list(tmp_path.iterdir())


# What the triggers do

NOTES = "ls /run/kmend/queue 2>/dev/null || true"


def test_client_installs_runs_and_goes(packages: Path, tmp_path: Path) -> None:
    script = "set -e; $r -i kmend-*.rpm; kmend --version; $r -e kmend; test ! -e /usr/bin/kmend; test ! -e /run/kmend"
    assert (
        in_view(tmp_path, packages, script + "; ls -d /usr/lib/python3/dist-packages/kmend || true") == "kmend 0.1.0\n"
    )


@pytest.mark.parametrize(("name", "note"), [("kernel", "rpm\n"), ("update", "rpm\n"), ("else", "")])
def test_note_is_left_for_kernels_and_updates(packages: Path, tmp_path: Path, name: str, note: str) -> None:
    script = f"set -e; $r -i kmend-*.rpm; rm -rf /run/kmend/queue/*; $r -i {name}.rpm; {NOTES}"
    assert in_view(tmp_path, packages, script) == note


def test_note_is_left_when_an_update_goes_and_when_the_client_comes_last(packages: Path, tmp_path: Path) -> None:
    script = f"set -e; $r -i update.rpm; $r -i kmend-*.rpm; {NOTES}; rm -rf /run/kmend/queue/*; $r -e update; {NOTES}"
    assert in_view(tmp_path, packages, script) == "rpm\nrpm\n"


@pytest.mark.parametrize(
    "mark",
    [
        "touch /.dockerenv",
        "touch /run/.containerenv",
        "mkdir -p /run/systemd; echo lxc >/run/systemd/container",
        "ln -s /var/lib/system-update /system-update",
        "rmdir /run/systemd/system",
        "umount /proc",
        "export KMEND_AGENT=1",
    ],
)
def test_nothing_is_left_elsewhere(packages: Path, tmp_path: Path, mark: str) -> None:
    script = f"set -e; $r -i kmend-*.rpm; rm -rf /run/kmend/queue/*; {mark}; $r -i kernel.rpm; {NOTES}"
    assert in_view(tmp_path, packages, script) == ""


def test_nothing_is_left_in_a_container_that_only_its_first_process_knows(packages: Path, tmp_path: Path) -> None:
    script = f"set -e; $r -i kmend-*.rpm; rm -rf /run/kmend/queue/*; $r -i kernel.rpm; {NOTES}"
    assert in_view(tmp_path, packages, script, container="podman") == ""
    assert in_view(tmp_path, packages, script) == "rpm\n"


def test_nothing_is_left_in_an_install_root(packages: Path, tmp_path: Path) -> None:
    """An empty root without /bin/sh or /proc, as images are made: the triggers run there, and rpm ends well."""
    script = "set -e; mkdir -p /img/run/systemd/system; $r --root /img --noscripts -i kmend-*.rpm kernel.rpm"
    assert in_view(tmp_path, packages, f"{script}; ls /img/run") == "systemd\n"
    loud = "set -e; mkdir -p /img/run/systemd/system; $r --root /img --nopost --nopreun -i kmend-*.rpm kernel.rpm"
    assert in_view(tmp_path, packages, f"{loud}; ls /img/run") == "systemd\n"


def test_failing_trigger_does_not_fail_rpm(packages: Path, tmp_path: Path) -> None:
    script = (
        "set -e; $r -i kmend-*.rpm; rm -rf /run/kmend; touch /run/kmend; $r -i update.rpm; ls /usr/lib/kmend/patches"
    )
    assert in_view(tmp_path, packages, script) == "00ff\n"
