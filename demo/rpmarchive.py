# SPDX-License-Identifier: GPL-2.0-or-later
"""A stand-in for an RPM distribution: Debian's stock kernels as kernel-core packages, in a signed repository for dnf.

No RPM distribution's mirror is needed. The kernel, its modules and its version are Debian's own; the package around
them has the shape of Fedora's and Red Hat's kernel-core: installed beside the old one, with advisories that name CVEs.
"""

import dataclasses
import gzip
import platform
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree

from kmend.distro import changelog, changelog_files
from kmend_builder.errors import BuildError
from kmend_builder.prove.images import run_tool
from kmend_builder.publish.keys import find_key, sign_detached
from kmend_builder.publish.rpm import sign_rpm

# Written fast, not small; nothing is added to the files, and nothing is looked for in them.
_SPEC = """\
%global debug_package %{{nil}}
%global __os_install_post %{{nil}}
%global _build_id_links none
Name: kernel-core
Version: {version}
Release: {release}
Summary: the Linux kernel
License: GPL-2.0-only
AutoReqProv: no
Provides: kernel = {version}-{release}
Provides: kernel-uname-r = {version}-{release}.x86_64
Provides: installonlypkg(kernel)
%description
Debian's linux-image-{uname}.
%install
mkdir -p %{{buildroot}}
cp -a "{tree}/." "%{{buildroot}}/"
%files
/lib/modules/{uname}
/boot/vmlinuz-{uname}
/boot/config-{uname}
/boot/System.map-{uname}
"""


# The guest's programs are Debian's; rpm has to be told that they are there.
_USERLAND = """\
Name: userland
Version: 12
Release: 1
Summary: what the guest has without rpm
License: GPL-2.0-or-later
BuildArch: noarch
Provides: system-release = 12
Provides: python3 = {python}
Provides: kmod
Provides: /usr/bin/gpgv
Provides: /bin/sh
%description
Names only.
%files
"""


@dataclasses.dataclass(frozen=True)
class Advisory:
    """What the distribution says of one kernel: its version, and CVE id -> title of what it fixes."""

    version: str
    cves: Mapping[str, str]


def kernel_rpm(deb: Path, uname: str, version: str, work: Path) -> Path:
    """A kernel image package as a kernel-core package of the same version, not signed."""
    top = work / f"kernel-{version}"
    tree = top / "tree"
    tree.mkdir(parents=True)
    run_tool(["dpkg-deb", "--extract", str(deb), str(tree)], "can't unpack the kernel")
    shutil.rmtree(tree / "usr")
    shutil.copyfile(tree / f"boot/vmlinuz-{uname}", tree / f"lib/modules/{uname}/vmlinuz")
    run_tool(["depmod", "--basedir", str(tree), uname], "can't index the modules")
    upstream, _, release = version.rpartition("-")
    made = _rpmbuild(top, _SPEC.format(version=upstream, release=release, uname=uname, tree=tree))
    shutil.rmtree(tree)
    return made


def userland_rpm(work: Path) -> Path:
    """A package without files that provides what the client's package needs."""
    return _rpmbuild(work / "userland", _USERLAND.format(python=platform.python_version()))


def _rpmbuild(top: Path, spec: str) -> Path:
    top.mkdir(exist_ok=True)
    (top / "package.spec").write_text(spec)
    defines = {"_topdir": top, "_rpmdir": top, "_build_name_fmt": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"}
    words = [word for name, value in defines.items() for word in ("--define", f"{name} {value}")]
    argv = ["rpmbuild", "-bb", "--quiet", *words, "--define", "_binary_payload w1.gzdio"]
    run_tool([*argv, str(top / "package.spec")], "can't build a package")
    return next(top.glob("*.rpm"))


def advisories(deb: Path, older: str, newer: str) -> list[Advisory]:
    """The advisories of two kernels: the newer one's fixes are those that its changelog names since the older one.

    Raises:
        BuildError: the package has no changelog that goes back so far.
    """
    data = changelog_files.from_deb(deb)
    text = gzip.decompress(data).decode("utf-8", "replace") if data else ""
    cves = changelog.cves_between(text, older, newer)
    if cves is None:
        raise BuildError(f"{deb.name} has no changelog from {newer} down to {older}")
    return [Advisory(older, {}), Advisory(newer, cves)]


def updateinfo(found: Iterable[Advisory]) -> bytes:
    """The advisories as dnf reads them."""
    root = ElementTree.Element("updates")
    for advisory in found:
        upstream, _, release = advisory.version.rpartition("-")
        update = ElementTree.SubElement(root, "update", {"type": "security", "status": "final", "version": "1"})
        ElementTree.SubElement(update, "id").text = f"KERNEL-{advisory.version}"
        ElementTree.SubElement(update, "title").text = f"kernel {advisory.version}"
        ElementTree.SubElement(update, "severity").text = "Important"
        references = ElementTree.SubElement(update, "references")
        for cve, title in advisory.cves.items():
            ElementTree.SubElement(references, "reference", {"type": "cve", "id": cve, "title": title, "href": ""})
        collection = ElementTree.SubElement(ElementTree.SubElement(update, "pkglist"), "collection", {"short": "k"})
        fields = {"name": "kernel-core", "version": upstream, "release": release, "epoch": "0", "arch": "x86_64"}
        package = ElementTree.SubElement(collection, "package", fields)
        ElementTree.SubElement(package, "filename").text = f"kernel-core-{advisory.version}.x86_64.rpm"
        ElementTree.SubElement(package, "reboot_suggested").text = "True"
    text: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return text


def make_rpm_archive(
    root: Path, packages: Iterable[Path], found: Iterable[Advisory], *, fingerprint: str, home: Path
) -> None:
    """A repository of those packages, each signed, and its index."""
    root.mkdir(parents=True)
    key = find_key(fingerprint, home=home)
    for package in packages:
        target = root / package.name
        shutil.copyfile(package, target)
        sign_rpm(target, key, home=home, when=int(target.stat().st_mtime))
    run_tool(["createrepo_c", "--quiet", str(root)], "can't index the demo archive")
    (root / "updateinfo.xml").write_bytes(updateinfo(found))
    argv = ["modifyrepo_c", "--mdtype=updateinfo", str(root / "updateinfo.xml"), str(root / "repodata")]
    run_tool(argv, "can't add the advisories")
    (root / "updateinfo.xml").unlink()
    sign_detached(root / "repodata/repomd.xml", fingerprint, home=home)
