# SPDX-License-Identifier: GPL-2.0-or-later
"""dnf 4 plugin: the update of the running kernel comes in the transaction that brings a new kernel.

It runs inside the package manager, so it does little, and whatever goes wrong in it is a line in dnf's log. It picks
packages and leaves notes; what is applied, and whether a reboot is needed, `kmend reconcile` decides afterwards.
"""

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from typing import Any, Callable, Dict, List, Optional, Set

import dnf
import dnf.cli
import dnf.exceptions
import dnf.transaction

KMEND = "/usr/bin/kmend"
HOOK = "/usr/lib/kmend/dnf5-hook"
PREFIX = "kmend-patch-"
_IMAGE = re.compile(r"(?:/usr)?/lib/modules/([^/]+)/vmlinuz\Z|/boot/vmlinuz-([^/]+)\Z")
_IMAGE_GLOBS = ["/lib/modules/*/vmlinuz", "/usr/lib/modules/*/vmlinuz", "/boot/vmlinuz-*"]
_NEEDS_RESTARTING = "dnf.plugin.dynamic.needs_restarting"
_AUTOMATIC = "dnf.automatic.main"
_TIMEOUT = 60
_Hook = Callable[["KmendPlugin"], None]


def harmless(hook: _Hook) -> _Hook:
    """A hook whose failure is a line in the log, and nothing in a chroot or in the agent's own dnf."""

    @functools.wraps(hook)
    def wrapped(self: "KmendPlugin") -> None:
        if os.environ.get("KMEND_AGENT") == "1" or self.base.conf.installroot != "/" or _elsewhere():
            return
        try:
            hook(self)
        except Exception as error:
            dnf.util.logger.warning("kmend: %s: %s", hook.__name__, error or type(error).__name__)

    return wrapped


def _elsewhere() -> bool:
    """Whether the running kernel is not this root directory's: a chroot or a container, as where images are made."""
    if any(os.path.exists(mark) for mark in ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")):
        return True
    try:
        return not os.path.samestat(os.stat("/proc/1/root/."), os.stat("/"))
    except OSError:
        return True


class KmendPlugin(dnf.Plugin):  # type: ignore[misc] # dnf has no types
    """See the module."""

    name = "kmend"

    def __init__(self, base: Any, cli: Any) -> None:
        super().__init__(base, cli)
        self.base = base
        self.cli = cli
        self._again = False
        self._add = True
        self._records: List[Dict[str, Any]] = []
        if cli is not None:
            cli.register_command(KmendCommand)

    @harmless
    def config(self) -> None:
        """Read our settings; answer `needs-restarting -r` truly."""
        parser = self.read_config(self.base.conf)
        if parser.has_section("main") and parser.has_option("main", "add_updates"):
            self._add = parser.getboolean("main", "add_updates")
        if _asks_for_reboot(self.cli):
            _answer_for_kernels()

    @harmless
    def resolved(self) -> None:
        """Add the updates of the kernels that stay, when a kernel comes."""
        if self._again or not self._add or not self.base.transaction or not _kernels_coming(self.base):
            return
        if not _subscribed():
            return
        wanted = _updates(self.base)
        if wanted:
            self._again = True
            _add(self.base, self.cli, wanted)

    @harmless
    def pre_transaction(self) -> None:
        """Note what is about to be done to kernels and updates; what is removed can't be asked afterwards."""
        items = [(item, _package(self.base, item)) for item in self.base.transaction or ()]
        self._records = [_record(item, package) for item, package in items if _is_ours(item.name, package)]

    @harmless
    def transaction(self) -> None:
        """Hand the note over."""
        # Not through a pipe: a hook that ends without reading it would raise SIGPIPE, which ends the process while
        # rpm's handler for it is in place (rpm, rpmio/rpmsq.c).
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(self._records).encode())
            file.seek(0)
            subprocess.run([HOOK, "dnf4"], stdin=file, timeout=_TIMEOUT, check=False)


def _subscribed() -> bool:
    """kmend's own policy; where dnf's Python has no kmend, the default."""
    try:
        from kmend import policy
        from kmend.system import System
    except ImportError:
        return True
    return policy.load(System())[0].subscribe


def _package(base: Any, item: Any) -> Any:
    """The package of an item of the transaction; dnf itself does not know it when it replays an old one (undo)."""
    try:
        return item.pkg
    except KeyError:
        return next(iter(base.sack.query().filter(nevra=item.nevra)), None)


def _leaving(base: Any) -> List[Any]:
    gone = (item for item in base.transaction if item.action not in dnf.transaction.FORWARD_ACTIONS)
    return [package for package in (_package(base, item) for item in gone) if package is not None]


def _provides_kernel(package: Any) -> bool:
    return package is not None and any(str(item).startswith("installonlypkg(kernel") for item in package.provides)


def _is_ours(name: str, package: Any) -> bool:
    return name.startswith(PREFIX) or name == "kernel" or _provides_kernel(package)


def _kernels_coming(base: Any) -> bool:
    coming = (item for item in base.transaction if item.action in dnf.transaction.FORWARD_ACTIONS)
    return any(_provides_kernel(_package(base, item)) for item in coming)


def update_name(release: str) -> str:
    """The update package of a kernel release."""
    return PREFIX + re.sub(r"[-~]", "_", release)


def _releases(base: Any) -> Set[str]:
    """The running kernel's release, and those of the kernels that are installed and stay."""
    leaving = set(_leaving(base))
    found = {os.uname().release}
    for package in base.sack.query().installed().filter(file__glob=_IMAGE_GLOBS):
        if package not in leaving:
            matches = (_IMAGE.match(path) for path in package.files)
            found |= {match.group(1) or match.group(2) for match in matches if match}
    return found


def _updates(base: Any) -> List[Any]:
    """The newest update of each kernel, unless it is there, or the transaction is about that update anyway."""
    spoken_of = {item.name for item in base.transaction}
    found = []
    for name in sorted(update_name(release) for release in _releases(base)):
        offered = base.sack.query().available().filter(name=name).latest().run()
        installed = base.sack.query().installed().filter(name=name).run()
        newest = offered[0] if offered else None
        if name not in spoken_of and newest is not None and not any(newest.evr_cmp(item) <= 0 for item in installed):
            found.append(newest)
    return found


def _only_itself(base: Any, package: Any) -> bool:
    """Whether a package can come without changing another one: all it needs is there and stays."""
    staying = base.sack.query().installed().filter(pkg__neq=_leaving(base))
    needs = [item for item in package.requires if not str(item).startswith("rpmlib(")]
    return not package.obsoletes and not package.conflicts and all(staying.filter(provides=item) for item in needs)


def _key_known(base: Any, package: Any) -> bool:
    """Whether rpm has the keys of the package's repository; dnf-automatic asks nobody, and ends with an error."""
    repo = base.repos[package.repoid]
    wanted = _keys(repo) if repo.gpgcheck else set()
    return not repo.gpgcheck or (bool(wanted) and wanted == _keyring(wanted))


def _keys(repo: Any) -> Set[str]:
    """The ids of the keys that a repository's file names, eight hexadecimal digits each."""
    import dnf.crypto

    return {key.short_id.lower() for url in repo.gpgkey for key in dnf.crypto.retrieve(url, repo)}


def _keyring(wanted: Set[str]) -> Set[str]:
    """Those of them that rpm knows. The version of its entries is these digits, or the whole fingerprint."""
    import rpm

    versions = [item["version"] for item in rpm.TransactionSet().dbMatch("name", "gpg-pubkey")]
    texts = [version.decode() if isinstance(version, bytes) else version for version in versions]
    return {key for key in wanted if any(text.lower().endswith(key) for text in texts)}


def _add(base: Any, cli: Any, packages: List[Any]) -> None:
    """Resolve again with these packages; if that fails, dnf goes on with what it had."""
    for package in packages:
        if not _only_itself(base, package):
            raise dnf.exceptions.Error(f"{package} is left out: it would change more than itself")
        if _AUTOMATIC in sys.modules and not _key_known(base, package):
            raise dnf.exceptions.Error(f"{package} is left out: rpm does not know the key of its repository yet")
        if base.sack.query().installed().filter(name=package.name):
            base.package_upgrade(package)
        else:
            base.package_install(package, strict=False)
    base.resolve(bool(cli is not None and cli.demands.allow_erasing))


def _record(item: Any, package: Any) -> Dict[str, Any]:
    forward = item.action in dnf.transaction.FORWARD_ACTIONS
    old, new = ("-", _evr(item)) if forward else (_evr(item), "-")
    record = {"package": item.name, "old": old, "new": new, "action": item.action_name}
    return {**record, "advisories": _advisories(package)} if forward and package is not None else record


def _evr(item: Any) -> str:
    return f"{item.epoch}:{item.version}-{item.release}" if int(item.epoch or 0) else f"{item.version}-{item.release}"


def _advisories(package: Any) -> List[Dict[str, Any]]:
    """What the repository says a package fixes; the agent itself reads all advisories between two kernels."""
    import hawkey

    return [
        {
            "id": advisory.id,
            "severity": advisory.severity,
            "cves": sorted(ref.id for ref in advisory.references if ref.type == hawkey.REFERENCE_CVE),
        }
        for advisory in package.get_advisories(hawkey.EQ)
    ]


def _asks_for_reboot(cli: Any) -> bool:
    command = getattr(cli, "command", None)
    asked = "needs-restarting" in getattr(command, "aliases", ())
    return asked and bool(getattr(getattr(command, "opts", None), "reboothint", False))


def _answer_for_kernels() -> None:
    """While every fix of the pending kernel is live, a kernel is no reason to reboot; everything else stays one."""
    reasons = getattr(sys.modules.get(_NEEDS_RESTARTING), "NEED_REBOOT", None)
    if not isinstance(reasons, list) or not _covered():
        return
    reasons[:] = [name for name in reasons if not (isinstance(name, str) and name.startswith("kernel"))]
    print("kmend: all fixes of the pending kernel are live; a reboot for it may wait")


def _covered() -> bool:
    argv = [KMEND, "status", "--json"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False)
    found = json.loads(done.stdout)
    return found.get("pending") is not None and found.get("level") == "covered" and found.get("exit_code") == 0


class KmendCommand(dnf.cli.Command):  # type: ignore[misc] # dnf has no types
    """`dnf kmend`: kmend's verbs, for those who look for them here."""

    aliases = ("kmend",)
    summary = "keep the running kernel patched"
    _VERBS: Dict[str, List[str]] = {
        "status": ["status"], "list": ["list"], "auto": ["mode", "auto"], "manual": ["mode", "manual"],
        "notify": ["mode", "notify"],
    }  # fmt: skip

    @staticmethod
    def set_argparser(parser: Any) -> None:
        parser.add_argument("action", nargs="?", default="status", choices=list(KmendCommand._VERBS))

    def configure(self) -> None:
        self.cli.demands.root_user = self._VERBS[self.opts.action][0] == "mode"

    def run(self) -> None:
        code: Optional[int] = None
        try:
            code = subprocess.run([KMEND, *self._VERBS[self.opts.action]], check=False).returncode
        except OSError as error:
            raise dnf.exceptions.Error(f"can't run {KMEND}: {error.strerror}") from error
        self.cli.demands.success_exit_status = code
