# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes what a guest's seed disk holds: keys, updates good and bad, a module that naps, kernels that wait for a reboot.

The good updates come from the builder. Each bad one is a good one with one thing wrong, and signed where signing is
not the point, so that only the check under test can refuse it.
"""

import dataclasses
import datetime
import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from demo.material import FIXES, build_update
from kernels import KernelPair
from kmend.manifest import FILE_NAME, SIGNATURE_NAME, Fix, Function, Manifest, ModuleFile, ObjectId, parse
from kmend.reasons import Verdict
from kmend_builder.errors import BuildError
from kmend_builder.kernel.modules import module_identity
from kmend_builder.publish.deb import write_deb
from kmend_builder.publish.keys import create_key, export_public
from kmend_builder.publish.package import build_package

VMLINUX_CVE = "CVE-2026-89560"
MODULE_CVE = "CVE-2026-98012"
#: A CVE of the made-up changelogs that no update speaks of.
OTHER_CVE = "CVE-2026-10001"
NAP_CVE = "CVE-2026-10002"
NAP_SERIAL = 7
NAPPER = """
#include <linux/module.h>
#include <linux/kthread.h>
#include <linux/wait.h>
static bool awake;
static DECLARE_WAIT_QUEUE_HEAD(bed);
static int set_awake(const char *value, const struct kernel_param *parameter)
{
	int done = param_set_bool(value, parameter);

	wake_up(&bed);
	return done;
}
static const struct kernel_param_ops awake_ops = { .set = set_awake, .get = param_get_bool };
module_param_cb(awake, &awake_ops, &awake, 0644);
static struct task_struct *thread;
/* TASK_IDLE: neither a signal nor livepatch's own wake-up ends this sleep, and nobody reports it as hung. */
static noinline void kmend_test_nap(void)
{
	wait_event_idle(bed, READ_ONCE(awake) || kthread_should_stop());
}
static int nap_loop(void *unused)
{
	while (!kthread_should_stop()) {
		kmend_test_nap();
		schedule_timeout_idle(HZ / 10);
	}
	return 0;
}
static int __init start(void)
{
	thread = kthread_run(nap_loop, NULL, "napper");
	return PTR_ERR_OR_ZERO(thread);
}
static void __exit stop(void) { kthread_stop(thread); }
module_init(start);
module_exit(stop);
MODULE_LICENSE("GPL");
"""
NAP = "kmend_test_nap"
_SIGNATURE_MARK = b"~Module signature appended~\n"


@dataclasses.dataclass(frozen=True)
class Publisher:
    """Somebody with a signing key."""

    home: Path
    fingerprint: str

    @classmethod
    def create(cls, home: Path, name: str) -> "Publisher":
        return cls(home, create_key(name, f"{name}@example.org", home=home, bits=2048))

    def public(self) -> bytes:
        """The keyring for gpgv."""
        return export_public([self.fingerprint], home=self.home)

    def sign(self, out: Path, manifest: Manifest, module: bytes) -> Path:
        """The update with that manifest and module, as files and as a package, in the directory `out`."""
        out.mkdir(parents=True)
        file = out / manifest.module.file
        file.write_bytes(module)
        epoch = int(manifest.created.timestamp())
        build_package(out, manifest, file, fingerprint=self.fingerprint, key_home=self.home, source_date_epoch=epoch)
        return out


@dataclasses.dataclass(frozen=True)
class Built:
    """One update of the builder."""

    directory: Path

    @property
    def manifest(self) -> Manifest:
        return parse((self.directory / FILE_NAME).read_bytes())

    @property
    def module(self) -> bytes:
        return (self.directory / self.manifest.module.file).read_bytes()


def fix_list(out: Path, cves: Sequence[str]) -> Path:
    """The demo's fix list, cut down to the fixes of these CVEs.

    Raises:
        BuildError: the demo has not all of them.
    """
    head, *blocks = FIXES.read_text().split("[[fix]]")
    chosen = [block for block in blocks if any(f'id = "{cve}"' in block for cve in cves)]
    if len(chosen) != len(cves):
        raise BuildError(f"{FIXES.name} has not all of {', '.join(cves)}")
    out.write_text(head + "".join(f"[[fix]]{block}" for block in chosen))
    return out


def run_builder(
    pair: KernelPair, cache: Path, work: Path, publisher: Publisher, cves: Sequence[str], *, serial: int
) -> Built:
    """`kmend-build run` over those fixes of the demo."""
    work.mkdir(parents=True)
    fixes = fix_list(work / "fixes.toml", cves)
    package, _ = build_update(pair, cache, work / "run", publisher.home, serial=serial, fixes=fixes)
    return Built(package.parent)


def copy_update(source: Path, target: Path) -> Path:
    """An update's directory, to spoil."""
    return shutil.copytree(source, target)


def flip(path: Path, offset: int) -> None:
    """Change one bit of a file; its size stays."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def spoil(updates: Path, first: Built, publisher: Publisher, stranger: Publisher) -> None:
    """The updates that must be refused, by name: see BAD in test_agent_refusals.py."""
    good, module = first.manifest, first.module
    stranger.sign(updates / "other-key", good, module)
    unsigned = copy_update(first.directory, updates / "unsigned")
    (unsigned / SIGNATURE_NAME).unlink()
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    week = datetime.timedelta(days=7)
    expired = dataclasses.replace(good, created=now - 2 * week, expires=now - week)
    publisher.sign(updates / "expired", expired, module)
    altered = copy_update(first.directory, updates / "manifest-altered") / FILE_NAME
    altered.write_bytes(altered.read_bytes().replace(b'"title": "', b'"title": "x', 1))
    image = copy_update(first.directory, updates / "module-altered") / good.module.file
    flip(image, image.stat().st_size // 2)
    other = dataclasses.replace(good.kernel, build_id="ab" * 20)
    publisher.sign(updates / "other-kernel", dataclasses.replace(good, kernel=other), module)


def without_signature(module: bytes) -> bytes:
    """A module without the kernel's signature at its end (include/linux/module_signature.h)."""
    if not module.endswith(_SIGNATURE_MARK):
        return module
    end = len(module) - len(_SIGNATURE_MARK)
    size = int.from_bytes(module[end - 4 : end], "big")
    return module[: end - 12 - size]


def rebuilt(module: bytes, build_id: str) -> bytes:
    """The same code under another build-id, as a package upgrade in place or DKMS would leave it.

    Raises:
        BuildError: the module does not carry that build-id.
    """
    bare, old = without_signature(module), bytes.fromhex(build_id)
    if bare.count(old) != 1:
        raise BuildError("a module without its build-id")
    return bare.replace(old, bytes(byte ^ 0xFF for byte in old))


def nap_update(out: Path, like: Manifest, publisher: Publisher, patch: Path, napper: Path) -> Path:
    """A signed update that redirects the napping function of the napper module."""
    data = patch.read_bytes()
    name = patch.stem
    function = Function("napper", NAP, 0, 16, hashlib.sha256(b"").hexdigest())
    created = datetime.datetime.fromtimestamp(int(time.time()), datetime.timezone.utc)
    manifest = dataclasses.replace(
        like,
        version=f"{like.target}+{NAP_SERIAL}",
        serial=NAP_SERIAL,
        module=ModuleFile(name, patch.name, hashlib.sha256(data).hexdigest(), len(data)),
        objects=(ObjectId("napper", *module_identity(napper)),),
        functions=(function,),
        fixes=(Fix(NAP_CVE, (NAP_CVE,), "no more naps", Verdict.LIVE, objects=("napper",)),),
        evidence={},
        created=created,
        expires=created + datetime.timedelta(days=30),
    )
    return publisher.sign(out, manifest, data)


def kernel_deb(directory: Path, pair: KernelPair, cves: Sequence[str]) -> Path:
    """A stand-in for the next kernel's package: name, version, image file, and a changelog of exactly these CVEs."""
    release, version = pair.next.release, pair.next.version
    tail = " -- Debian Kernel Team <kernel@example.org>  Fri, 20 Nov 2026 10:00:00 +0000\n"
    lines = "".join(f"    - something: fix it ({cve})\n" for cve in cves)
    changelog = (
        f"linux ({version}) bookworm-security; urgency=high\n\n  * New upstream stable update:\n{lines}\n{tail}\n"
    )
    changelog += f"linux ({pair.running.version}) bookworm-security; urgency=high\n\n  * Older things.\n\n{tail}"
    package = f"linux-image-{release}"
    control = "\n".join(
        (
            f"Package: {package}",
            f"Version: {version}",
            "Architecture: amd64",
            "Maintainer: kmend tests <tests@example.org>",
            "Description: stand-in for a kernel",
        )
    )
    files = {f"boot/vmlinuz-{release}": b"no kernel\n", f"usr/share/doc/{package}/changelog.Debian": changelog.encode()}
    deb = directory / f"{package}_{version}_amd64.deb"
    directory.mkdir(parents=True, exist_ok=True)
    write_deb(control, files, deb, epoch=0)
    return deb
