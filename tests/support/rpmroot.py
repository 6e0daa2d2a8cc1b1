# SPDX-License-Identifier: GPL-2.0-or-later
"""A root directory with real rpm and dnf (4 of Debian 12, or 5 of a release in development), rpms, signed repositories.

There is no RPM distribution here: rpms are made by rpmbuild. `kernel_core` has the shape of that package in Fedora and
its relatives: files, provides, %ghost image in /boot. What is made (`Workshop.out`) can be copied into a guest as well.
"""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from integration.aptroot import REPO, AptRoot, run

DNF4, DNF5 = "bookworm", "forky"
PACKAGES = {
    DNF4: ("python3", "python3-dnf", "dnf", "dnf-plugins-core", "rpm", "createrepo-c", "gpgv", "gnupg", "kmod"),
    DNF5: ("python3", "dnf5", "rpm", "createrepo-c", "gpgv", "gnupg", "kmod"),
}
# Debian's rpm keeps its database in the caller's home directory, and looks for gpg under another name.
MACROS = "%_dbpath /var/lib/rpm\n%__gpg /usr/bin/gpg\n"
# Debian's default skips a repository whose signature is bad, and ends with 0.
DNF_CONF = "[main]\ngpgcheck=True\ninstallonly_limit=3\nskip_if_unavailable=False\nbest=False\n"
OS_RELEASE = 'ID=testing\nID_LIKE="rhel fedora"\nVERSION_ID="10"\nPRETTY_NAME="Testing 10"\n'
DATE = "1790000000"
EMAIL = "rpm@example.org"


class RpmRoot(AptRoot):
    """An unpacked root directory whose packages are rpm's; `program` is its dnf."""

    program = "dnf"

    @classmethod
    def make(cls, path: Path, suite: str = DNF4, packages: Sequence[str] = ()) -> "RpmRoot":
        """A fresh one: rpm's database empty, no repository. `packages` are Debian's, by default those for its dnf."""
        root = cls.unpack(path, suite, packages or PACKAGES[suite])
        run(["mknod", "-m", "666", str(path / "dev/urandom"), "c", "1", "9"])
        root.write("etc/rpm/macros", MACROS)
        root.write("etc/dnf/dnf.conf", DNF_CONF)
        root.write("etc/os-release", OS_RELEASE)
        # A plugin that keeps what was installed in a repository of its own, which is unsigned.
        root.write("etc/dnf/plugins/local.conf", "[main]\nenabled=false\n")
        root.machine("rpm", "--initdb")
        return root

    def repository(self, name: str, place: str = "", options: str = "") -> None:
        """Configure the signed repository `name`, below /srv unless a URL is given."""
        place = place or f"file:///srv/{name}"
        text = f"[{name}]\nname={name}\nbaseurl={place}\ngpgcheck=1\nrepo_gpgcheck=1\ngpgkey=file:///srv/key.asc\n"
        self.write(f"etc/yum.repos.d/{name}.repo", text + options)

    def take(self, workshop: "Workshop", *names: str) -> None:
        """Copy repositories of the workshop, configure them, and trust its key."""
        for name in names:
            target = self.path / "srv" / name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(workshop.out / name, target)
            self.repository(name)
        shutil.copy(workshop.out / "key.asc", self.path / "srv/key.asc")
        self.machine("rpm", "--import", "/srv/key.asc")

    def installed(self, *names: str) -> list[str]:
        """The installed packages (of these names), as NAME-VERSION-RELEASE, sorted."""
        qf = ["--qf", "%{NAME}-%{VERSION}-%{RELEASE}\\n"]
        done = self.machine("rpm", "-q", *qf, *(names or ["-a"]), check=False)
        return sorted(line for line in done.stdout.splitlines() if not line.startswith(("package ", "gpg-pubkey")))

    def put_client(self) -> None:
        """The client, its hooks and its plugins, where the kmend rpm puts them."""
        site = self.path / "usr/lib/python3/dist-packages"
        site.mkdir(parents=True, exist_ok=True)
        shutil.copytree(REPO / "client/kmend", site / "kmend", ignore=shutil.ignore_patterns("__pycache__"))
        for name, place, mode in PLUGIN_FILES:
            self.write(place, (REPO / name).read_text(), mode)


# Source, place, mode; the kmend rpm's %files say the same.
PLUGIN_FILES = (
    ("packaging/debian/kmend", "usr/bin/kmend", 0o755),
    ("apt-hook/hook-lib.sh", "usr/lib/kmend/hook-lib.sh", 0o644),
    ("dnf-plugin/dnf5-hook", "usr/lib/kmend/dnf5-hook", 0o755),
    ("dnf-plugin/kmend.py", "usr/lib/python3/dist-packages/dnf-plugins/kmend.py", 0o644),
    ("dnf-plugin/kmend.conf", "etc/dnf/plugins/kmend.conf", 0o644),
    ("dnf-plugin/kmend.actions", "etc/dnf/libdnf5-plugins/actions.d/kmend.actions", 0o644),
)


@dataclasses.dataclass(frozen=True)
class Rpm:
    """What goes into a package. `files` are absolute paths and their content; `extra` is text for the spec."""

    name: str
    version: str
    release: str
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    provides: Sequence[str] = ()
    requires: Sequence[str] = ()
    ghosts: Sequence[str] = ()
    extra: str = ""
    arch: str = "x86_64"

    @property
    def nevra(self) -> str:
        """NAME-VERSION-RELEASE.ARCH."""
        return f"{self.name}-{self.version}-{self.release}.{self.arch}"

    def spec(self, sources: str) -> str:
        """The spec; the content of the files is below the directory `sources`."""
        tags = [f"Name: {self.name}", f"Version: {self.version}", f"Release: {self.release}"]
        tags += ["Summary: made by a test", "License: GPL-2.0-or-later"]
        tags += [f"Provides: {item}" for item in self.provides] + [f"Requires: {item}" for item in self.requires]
        files = [*self.files, *(f"%ghost {name}" for name in self.ghosts)]
        ghosts = "".join(f"mkdir -p %{{buildroot}}$(dirname {name}); : >%{{buildroot}}{name}\n" for name in self.ghosts)
        install = f"mkdir -p %{{buildroot}}\ncp -a {sources}/. %{{buildroot}}/\n{ghosts}"
        head = "%define debug_package %{nil}\n%define __os_install_post %{nil}\nAutoReqProv: no\n"
        body = f"%description\nMade by a test.\n%install\n{install}%files\n" + "\n".join(files)
        return f"{head}" + "\n".join(tags) + f"\n{body}\n{self.extra}\n"


def boot_image(line: str) -> bytes:
    """The head of an x86 boot image with this version line in it."""
    head = bytearray(0x400)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (0x100).to_bytes(2, "little")
    head[0x300 : 0x300 + len(line) + 1] = line.encode() + b"\0"
    return bytes(head)


def kernel_core(
    version: str, release: str, image: bytes = b"", build: str = "#1 SMP test", name: str = "kernel", uname: str = ""
) -> Rpm:
    """A kernel-core package: `image` is the content of vmlinuz, by default only its head.

    `uname` is for a kernel that runs here, which is not named as an RPM distribution names its own.
    """
    uname = uname or f"{version}-{release}.x86_64"
    vmlinuz = image or boot_image(f"{uname} (builder@example.org) {build}")
    provides = [
        f"{name} = {version}-{release}",
        f"kernel-uname-r = {version}-{release}.x86_64",
        "installonlypkg(kernel)",
    ]
    files = {f"/lib/modules/{uname}/vmlinuz": vmlinuz, f"/lib/modules/{uname}/modules.order": b"\n"}
    return Rpm(f"{name}-core", version, release, files, provides, ghosts=[f"/boot/vmlinuz-{uname}"])


def update(uname: str, version: str, release: str, files: Mapping[str, bytes], build_id: str) -> Rpm:
    """An update package; `files` are the names and contents below its directory."""
    name = f"kmend-patch-{uname.replace('-', '_')}"
    content = {f"/usr/lib/kmend/patches/{build_id}/{place}": data for place, data in files.items()}
    return Rpm(name, version, release, content, arch="noarch")


@dataclasses.dataclass(frozen=True)
class Advisory:
    """One entry of updateinfo.xml."""

    id: str
    package: Rpm
    cves: Sequence[str] = ()
    kind: str = "security"
    severity: str = "Important"
    reboot: bool = True

    def xml(self) -> str:
        """The entry."""
        rows = [f"<reference href={quoteattr(f'https://example.org/{cve}')} id={quoteattr(cve)} type='cve'/>"
                for cve in self.cves]  # fmt: skip
        rpm, suggested = self.package, "<reboot_suggested>True</reboot_suggested>" if self.reboot else ""
        names = f"name={quoteattr(rpm.name)} version={quoteattr(rpm.version)} release={quoteattr(rpm.release)}"
        package = f"<package {names} epoch='0' arch={quoteattr(rpm.arch)}><filename>{rpm.nevra}.rpm</filename>"
        return (
            f"<update from='test' status='final' type={quoteattr(self.kind)} version='1'><id>{escape(self.id)}</id>"
            f"<title>{escape(self.id)} {rpm.name}</title><issued date='2026-11-01'/>"
            f"<severity>{self.severity}</severity><references>{''.join(rows)}</references>"
            f"<description>made by a test</description><pkglist><collection short='x'><name>x</name>"
            f"{package}{suggested}</package></collection></pkglist></update>"
        )


class Workshop:
    """Makes and signs rpms and repositories, in a root directory of its own; `out` holds the repositories."""

    def __init__(self, root: RpmRoot) -> None:
        self.root = root
        self.out = root.path / "srv/out"
        self.out.mkdir(parents=True)
        argv = ["gpg", "--batch", "--passphrase", "", "--quick-gen-key", f"Tests <{EMAIL}>", "rsa3072", "sign", "never"]
        root.machine(*argv)
        exported = root.machine("gpg", "--armor", "--export", EMAIL).stdout
        (self.out / "key.asc").write_text(exported)

    def build(self, *rpms: Rpm) -> list[Path]:
        """Build and sign packages; gives their files, in the order given."""
        specs = []
        for rpm in rpms:
            sources = f"srv/build/{rpm.nevra}"
            (self.root.path / sources).mkdir(parents=True, exist_ok=True)
            for name, content in rpm.files.items():
                target = self.root.path / sources / name.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            self.root.write(f"srv/build/{rpm.nevra}.spec", rpm.spec(f"/{sources}"))
            specs.append(["--target", rpm.arch, f"/srv/build/{rpm.nevra}.spec"])
        for spec in specs:
            options = ["--define", "_topdir /srv/top", "--define", "_build_id_links none", "--quiet"]
            self.root.machine("rpmbuild", "-bb", *options, *spec, env={"HOME": "/root", "SOURCE_DATE_EPOCH": DATE})
        places = [f"srv/top/RPMS/{rpm.arch}/{rpm.nevra}.rpm" for rpm in rpms]
        self.sign_packages(*(f"/{place}" for place in places))
        return [self.root.path / place for place in places]

    def sign_packages(self, *places: str) -> None:
        """Sign packages of the workshop's root, and see that they are."""
        self.root.machine("rpmsign", "--addsign", "--define", f"_gpg_name {EMAIL}", *places, env={"HOME": "/root"})
        for place in places:
            found = self.root.machine("rpm", "-qp", "--qf", "%{RSAHEADER:pgpsig}", place).stdout
            assert "RSA/SHA" in found, f"{place} is not signed: {found}"

    def publish(self, name: str, files: Sequence[Path], advisories: Sequence[Advisory] = ()) -> Path:
        """Make a signed repository of packages, or make it anew."""
        folder = self.out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
        inside = f"/srv/out/{name}"
        self.root.machine("createrepo_c", "--quiet", inside)
        if advisories:
            text = "".join(item.xml() for item in advisories)
            (folder / "updateinfo.xml").write_text(f"<?xml version='1.0' encoding='UTF-8'?>\n<updates>{text}</updates>")
            argv = ["modifyrepo_c", "--mdtype=updateinfo", f"{inside}/updateinfo.xml", f"{inside}/repodata"]
            self.root.machine(*argv)
            (folder / "updateinfo.xml").unlink()
        self.sign(name)
        return folder

    def sign(self, name: str) -> None:
        """Sign the index of a repository."""
        repomd = f"/srv/out/{name}/repodata/repomd.xml"
        (self.root.path / f"{repomd[1:]}.asc").unlink(missing_ok=True)
        self.root.machine("gpg", "--batch", "--detach-sign", "--armor", repomd, env={"HOME": "/root"})
