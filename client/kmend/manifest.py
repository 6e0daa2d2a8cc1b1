# SPDX-License-Identifier: GPL-2.0-or-later
"""The manifest: what an update is, for which build, and what it fixes. Pure: bytes in, values out.

The JSON form is canonical (sorted keys, two-space indent, ASCII, one newline at the end), so that equal
manifests are equal bytes and a detached signature covers all of it. docs/manifest.md is the field list.
"""

import dataclasses
import datetime
import json
import re
from typing import Any, Dict, List, Optional, Tuple

from kmend.errors import ManifestError
from kmend.reasons import Reason, Verdict

SCHEMA = 1
MAX_BYTES = 16 << 20
FILE_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.json.asc"

_HEX = re.compile(r"[0-9a-f]+\Z")
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,63}\Z")
# RPM releases hold underscores: 6.12.0-124.8.1.el10_1.
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~:_-]{0,127}\Z")
_UPDATE_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~:_-]{0,127}\+[1-9][0-9]{0,8}\Z")
# MODULE_NAME_LEN is 56 with the terminating NUL; a dot would end the object name in a klp symbol.
_MODULE = re.compile(r"[A-Za-z0-9_]{1,55}\Z")
_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,}\Z")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclasses.dataclass(frozen=True)
class KernelId:
    """One kernel build. `build_id` is the vmlinux GNU build-id in lower-case hex."""

    release: str
    version: str
    arch: str
    build_id: str


@dataclasses.dataclass(frozen=True)
class ObjectId:
    """A patched object other than vmlinux: a module by name, bound to its build by build-id and srcversion."""

    name: str
    build_id: str
    srcversion: str


@dataclasses.dataclass(frozen=True)
class ModuleFile:
    """The live patch itself. `name` is the kernel's name of it, `file` the name beside the manifest."""

    name: str
    file: str
    sha256: str
    size: int


@dataclasses.dataclass(frozen=True)
class Function:
    """One redirected function; `sha256` is of its shipped bytes, `sympos` as the kernel counts (0: unique)."""

    object: str
    name: str
    sympos: int
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Fix:
    """One fix and what becomes of it. `objects` are the patched objects it lives in ("vmlinux" or modules)."""

    id: str
    cves: Tuple[str, ...]
    title: str
    verdict: Verdict
    reason: Optional[Reason] = None
    detail: str = ""
    objects: Tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A whole, valid manifest. `version` is `<target version>+<serial>`.

    `serial` grows with every update for the same kernel build, also when the target changes: it is what the agent
    compares to refuse replayed updates.
    """

    version: str
    serial: int
    kernel: KernelId
    target: str
    module: ModuleFile
    objects: Tuple[ObjectId, ...]
    functions: Tuple[Function, ...]
    fixes: Tuple[Fix, ...]
    evidence: Dict[str, Any]
    created: datetime.datetime
    expires: datetime.datetime

    def cves(self, verdict: Verdict) -> Tuple[str, ...]:
        """The CVE ids of all fixes with that verdict, sorted."""
        return tuple(sorted({cve for fix in self.fixes if fix.verdict is verdict for cve in fix.cves}))


def serialise(manifest: Manifest) -> bytes:
    """The canonical bytes of a manifest."""
    value = dataclasses.asdict(manifest)
    value["schema"] = SCHEMA
    value["created"] = manifest.created.strftime(_TIME)
    value["expires"] = manifest.expires.strftime(_TIME)
    for fix in value["fixes"]:
        fix["verdict"] = fix["verdict"].value
        fix["reason"] = fix["reason"].value if fix["reason"] else None
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True) + "\n").encode("ascii")


def parse(data: bytes) -> Manifest:
    """Read canonical manifest bytes.

    Raises:
        ManifestError: not JSON, not canonical, an unknown schema, a missing, extra or impossible field.
    """
    if len(data) > MAX_BYTES:
        raise ManifestError("manifest refused", why=f"larger than {MAX_BYTES} bytes")
    try:
        value = json.loads(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise ManifestError("manifest is not JSON", why=str(error)[:200]) from error
    if not isinstance(value, dict):
        raise ManifestError("manifest is not a JSON object")
    if value.get("schema") != SCHEMA:
        raise ManifestError(
            "manifest has an unknown schema", why=repr(value.get("schema"))[:40], hint="upgrade kmend, then try again"
        )
    manifest = _Reader().manifest(value)
    if serialise(manifest) != data:
        raise ManifestError("manifest is not in canonical form", why="it was altered or made by another tool")
    return manifest


class _Reader:
    """Turns decoded JSON into the dataclasses above; every field is checked, none may be left over."""

    def manifest(self, value: Dict[str, Any]) -> Manifest:
        v = self._fields(value, Manifest, "manifest", extra=("schema",))
        result = Manifest(
            version=self._text(v, "version", _UPDATE_VERSION),
            serial=self._number(v, "serial", low=1),
            kernel=self._kernel(v["kernel"]),
            target=self._text(v, "target", _VERSION),
            module=self._module(v["module"]),
            objects=tuple(self._object(item) for item in self._list(v, "objects")),
            functions=tuple(self._function(item) for item in self._list(v, "functions")),
            fixes=tuple(self._fix(item) for item in self._list(v, "fixes")),
            evidence=self._dict(v, "evidence"),
            created=self._time(v, "created"),
            expires=self._time(v, "expires"),
        )
        self._consistent(result)
        return result

    def _consistent(self, manifest: Manifest) -> None:
        if manifest.version != f"{manifest.target}+{manifest.serial}":
            raise ManifestError("manifest contradicts itself", why="version is not <target>+<serial>")
        if manifest.expires <= manifest.created:
            raise ManifestError("manifest contradicts itself", why="it expires before it was created")
        known = {"vmlinux"} | {item.name for item in manifest.objects}
        for function in manifest.functions:
            if function.object not in known:
                raise ManifestError("manifest contradicts itself", why=f"function in unknown object {function.object}")
        if not manifest.functions:
            raise ManifestError("manifest contradicts itself", why="an update that patches no function")

    def _kernel(self, value: Any) -> KernelId:
        v = self._fields(value, KernelId, "kernel")
        return KernelId(
            self._text(v, "release", _RELEASE),
            self._text(v, "version", _VERSION),
            self._text(v, "arch", _RELEASE),
            self._build_id(v),
        )

    def _object(self, value: Any) -> ObjectId:
        v = self._fields(value, ObjectId, "object")
        return ObjectId(self._text(v, "name", _MODULE), self._build_id(v), self._line(v, "srcversion", 64))

    def _module(self, value: Any) -> ModuleFile:
        v = self._fields(value, ModuleFile, "module")
        name = self._text(v, "name", _MODULE)
        if v["file"] != f"{name}.ko":
            raise ManifestError("manifest refused", why="module file is not named after the module")
        return ModuleFile(name, v["file"], self._sha256(v), self._number(v, "size", low=1, high=1 << 30))

    def _function(self, value: Any) -> Function:
        v = self._fields(value, Function, "function")
        return Function(
            self._text(v, "object", _MODULE),
            self._line(v, "name", 511, empty=False),
            self._number(v, "sympos", low=0),
            self._number(v, "size", low=1),
            self._sha256(v),
        )

    def _fix(self, value: Any) -> Fix:
        v = self._fields(value, Fix, "fix")
        try:
            verdict = Verdict(v["verdict"])
            reason = None if v["reason"] is None else Reason(v["reason"])
        except ValueError as error:
            raise ManifestError("manifest refused", why=str(error)[:200]) from error
        if (verdict is Verdict.REBOOT) != (reason is not None):
            raise ManifestError("manifest refused", why="a reason belongs to the verdict reboot and only to it")
        return Fix(
            id=self._line(v, "id", 200, empty=False),
            cves=tuple(self._cve(item) for item in self._list(v, "cves")),
            title=self._line(v, "title", 500),
            verdict=verdict,
            reason=reason,
            detail=self._line(v, "detail", 2000),
            objects=tuple(self._pattern(item, _MODULE, "objects") for item in self._list(v, "objects")),
        )

    def _fields(self, value: Any, cls: type, name: str, extra: Tuple[str, ...] = ()) -> Dict[str, Any]:
        if not isinstance(value, dict):
            raise ManifestError("manifest refused", why=f"{name} is not an object")
        wanted = {field.name for field in dataclasses.fields(cls)} | set(extra)
        if set(value) != wanted:
            odd = sorted(set(value) ^ wanted)
            raise ManifestError("manifest refused", why=f"{name}: missing or unknown field {odd[0][:60]!r}")
        return value

    def _pattern(self, value: Any, pattern: "re.Pattern[str]", name: str) -> str:
        if not isinstance(value, str) or not pattern.match(value):
            raise ManifestError("manifest refused", why=f"bad value for {name}: {value!r:.80}")
        return value

    def _text(self, value: Dict[str, Any], name: str, pattern: "re.Pattern[str]") -> str:
        return self._pattern(value[name], pattern, name)

    def _line(self, value: Dict[str, Any], name: str, limit: int, empty: bool = True) -> str:
        text = value[name]
        if not isinstance(text, str) or len(text) > limit or not (text or empty) or not text.isprintable():
            raise ManifestError("manifest refused", why=f"bad value for {name}: {text!r:.80}")
        return text

    def _number(self, value: Dict[str, Any], name: str, low: int, high: int = 1 << 62) -> int:
        number = value[name]
        if type(number) is not int or not low <= number <= high:
            raise ManifestError("manifest refused", why=f"bad value for {name}: {number!r:.80}")
        return number

    def _list(self, value: Dict[str, Any], name: str) -> List[Any]:
        items = value[name]
        if not isinstance(items, list):
            raise ManifestError("manifest refused", why=f"{name} is not a list")
        return items

    def _dict(self, value: Dict[str, Any], name: str) -> Dict[str, Any]:
        mapping = value[name]
        if not isinstance(mapping, dict):
            raise ManifestError("manifest refused", why=f"{name} is not an object")
        return mapping

    def _cve(self, value: Any) -> str:
        return self._pattern(value, _CVE, "cves")

    def _sha256(self, value: Dict[str, Any]) -> str:
        text = self._text(value, "sha256", _HEX)
        if len(text) != 64:
            raise ManifestError("manifest refused", why="sha256 is not 64 hex digits")
        return text

    def _build_id(self, value: Dict[str, Any]) -> str:
        text = self._text(value, "build_id", _HEX)
        if not 32 <= len(text) <= 64:
            raise ManifestError("manifest refused", why="build_id is not 16 to 32 bytes of hex")
        return text

    def _time(self, value: Dict[str, Any], name: str) -> datetime.datetime:
        try:
            return datetime.datetime.strptime(str(value[name]), _TIME).replace(tzinfo=datetime.timezone.utc)
        except ValueError as error:
            raise ManifestError("manifest refused", why=f"bad time in {name}") from error
