# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run leaves behind, that equal runs leave equal bytes, and the verbs that look at it."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from kmend.manifest import parse
from kmend.reasons import Reason, Verdict
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.modules import module_files, module_identity
from kmend_builder.rpm.payload import open_payload
from support.buildcli import BuildCli, Done, must_fail

pytestmark = pytest.mark.network
UNIT = "fs/proc/cmdline.o"
PACKAGED = ("manifest.json", "manifest.json.asc", "kmend_*.ko", "kmend-patch-*.deb")


def test_the_stages_are_left_for_people(live_run: Done) -> None:
    complete = sorted(mark.parent.name for mark in live_run.out.glob("*/.complete"))
    assert complete == ["1-kernel", "2-change", "3-compile", "4-diff", "5-match", "6-guard", "7-module"]
    assert set(live_run.value["seconds"]) == set(complete)
    assert live_run.value["module"] == str(next((live_run.out / "7-module").glob("*.ko")))


def test_without_a_key_there_is_no_package(live_run: Done) -> None:
    assert live_run.value["package"] is None
    assert "kmend-build key create" in live_run.value["unpackaged"]
    assert not (live_run.out / "9-package").exists()


def test_the_manifest_says_what_was_built(signed_run: Done, build_kernel: Kernel) -> None:
    manifest = parse((signed_run.out / "9-package/manifest.json").read_bytes())
    assert (manifest.kernel.release, manifest.kernel.build_id) == (build_kernel.release, build_kernel.build_id)
    assert manifest.version == signed_run.value["version"] == f"{build_kernel.version}+1"
    module = (signed_run.out / "9-package" / manifest.module.file).read_bytes()
    assert (manifest.module.sha256, manifest.module.size) == (hashlib.sha256(module).hexdigest(), len(module))
    assert [(item.object, item.name) for item in manifest.functions] == [
        ("vmlinux", "cmdline_proc_show"),
        ("tcp_hybla", "hybla_init"),
    ]
    (found,) = manifest.objects
    assert (found.build_id, found.srcversion) == module_identity(module_files(build_kernel)["tcp_hybla"])
    assert manifest.cves(Verdict.LIVE) == ("CVE-2026-10001", "CVE-2026-10004", "CVE-2026-10005")
    assert manifest.cves(Verdict.ABSENT) == ("CVE-2026-10003",)
    assert {fix.id: fix.reason for fix in manifest.fixes if fix.reason} == {"refused": Reason.DATA_VALUE}
    assert manifest.evidence["match"]["mismatched"] == 0


def test_the_package_holds_what_was_signed(signed_run: Done, signing_home: Path, tmp_path: Path) -> None:
    package = Path(signed_run.value["package"])
    subprocess.run(["dpkg-deb", "-x", str(package), str(tmp_path)], check=True)
    (folder,) = (tmp_path / "usr/lib/kmend/patches").iterdir()
    assert folder.name == signed_run.value["kernel"]["build_id"]
    for path in folder.iterdir():
        assert path.read_bytes() == (signed_run.out / "9-package" / path.name).read_bytes()
    assert {path.suffix for path in folder.iterdir()} == {".json", ".asc", ".ko"}
    verify = ["gpg", "--homedir", str(signing_home / "gnupg"), "--verify"]
    subprocess.run([*verify, str(folder / "manifest.json.asc"), str(folder / "manifest.json")], check=True)


def test_one_run_makes_both_kinds_of_packages(
    cli: BuildCli, signing_home: Path, live_run: Done, epoch: str, tmp_path: Path
) -> None:
    patch = live_run.out.parent / "CVE-2026-10001.patch"
    words = ("--format", "rpm", "--format", "deb", "--home", signing_home)
    done = cli.run(tmp_path / "out", patch, *words, env={"SOURCE_DATE_EPOCH": epoch})
    assert done.code == 0, done.stderr
    rpm, deb = map(Path, done.value["packages"])
    assert (rpm.suffix, deb.suffix, done.value["package"]) == (".rpm", ".deb", str(rpm))
    with open_payload(rpm) as archive:
        found = {Path(item.name).name: archive.extractfile(item).read() for item in archive if item.isfile()}  # type: ignore[union-attr]
    assert set(found) == {"manifest.json", "manifest.json.asc", Path(done.value["module"]).name}
    for name, content in found.items():
        assert content == (done.out / "9-package" / name).read_bytes()


def digests(out: Path) -> dict[str, str]:
    files = [path for pattern in PACKAGED for path in (out / "9-package").glob(pattern)]
    assert len(files) == len(PACKAGED)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_equal_runs_leave_equal_bytes(
    cli: BuildCli, signed_run: Done, signing_home: Path, fix_list: Path, epoch: str, tmp_path: Path
) -> None:
    out = tmp_path / "somewhere/else"
    signed = ("--fixes", fix_list, "--home", signing_home)
    done = cli.run(out, *signed, env={"SOURCE_DATE_EPOCH": epoch, "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8"})
    assert done.code == 0, done.stderr
    assert digests(out) == digests(signed_run.out)
    later = cli.run(out, *signed, "--serial", "2", env={"SOURCE_DATE_EPOCH": epoch})
    assert later.code == 0, later.stderr
    assert not set(digests(out).values()) & set(digests(signed_run.out).values())


def test_a_bad_epoch_is_an_error(cli: BuildCli, signing_home: Path, live_run: Done, tmp_path: Path) -> None:
    patch = live_run.out.parent / "CVE-2026-10001.patch"
    done = cli.run(tmp_path / "out", patch, "--home", signing_home, env={"SOURCE_DATE_EPOCH": "yesterday"})
    must_fail(done, 1, "SOURCE_DATE_EPOCH", "'yesterday'")


# --- verbs that look at it


def test_match_knows_the_shipped_code_from_other_code(cli: BuildCli, live_run: Done) -> None:
    objects = live_run.out / "3-compile"
    kernel = ("--kernel", cli.release, "--json")
    orig = cli.verb("match", objects / "orig" / UNIT, *kernel)
    assert orig.code == 0, orig.stderr
    names = {function["name"] for function in orig.value["matched"]}
    assert (orig.value["object"], orig.value["mismatched"]) == ("vmlinux", {})
    assert "cmdline_proc_show" in names
    patched = cli.verb("match", objects / "patched" / UNIT, *kernel)
    assert patched.code == 3
    assert set(patched.value["mismatched"]) == {"cmdline_proc_show"}
    must_fail(cli.verb("match", live_run.out / "result.json", *kernel), 1, "result.json")


def test_diff_shows_what_differs(cli: BuildCli, live_run: Done) -> None:
    orig, patched = (live_run.out / "3-compile" / side / UNIT for side in ("orig", "patched"))
    changed = cli.verb("diff", orig, patched, "--json")
    assert changed.code == 0
    assert [item["name"] for item in changed.value["functions"]] == ["cmdline_proc_show"]
    assert changed.value == live_run.read("4-diff/diff.json")[UNIT]
    same = cli.verb("diff", orig, orig, "--json")
    assert (same.code, same.value) == (0, {"functions": [], "data": [], "init": [], "exports": []})
    must_fail(cli.verb("diff", orig, live_run.out / "gone.o", "--json"), 1, "can't read", "gone.o")


def test_inspect_reads_the_module(cli: BuildCli, signed_run: Done, build_kernel: Kernel, tmp_path: Path) -> None:
    module = next((signed_run.out / "9-package").glob("*.ko"))
    done = cli.verb("inspect", module, "--json")
    assert done.code == 0, done.stderr
    assert done.value["functions"] == ["cmdline_proc_show", "hybla_init"]
    info = done.value["modinfo"]
    assert (info["livepatch"], info["kmend_build_id"]) == ("Y", build_kernel.build_id)
    assert info["vermagic"].startswith(f"{build_kernel.release} ")
    assert "vmlinux.saved_command_line,0" in done.value["symbols"]
    short = tmp_path / "short.ko"
    short.write_bytes(module.read_bytes()[:1000])
    must_fail(cli.verb("inspect", short, "--json"), 1, "short.ko")


def test_explain_tells_which_hunk_did_what(cli: BuildCli, live_run: Done, tmp_path: Path) -> None:
    done = cli.verb("explain", live_run.out, "--json")
    assert done.code == 0, done.stderr
    (hunk,) = done.value["hunks"]
    assert (hunk["file"], hunk["function"], hunk["lines"]) == ("fs/proc/cmdline.c", "cmdline_proc_show", [10, 10])
    assert done.value["guard"]["redirected"] == {UNIT: ["cmdline_proc_show"]}
    (change,) = done.value["diff"][UNIT]["functions"]
    assert change["instruction"]["orig"] != change["instruction"]["patched"]
    must_fail(cli.verb("explain", tmp_path, "--json"), 2, "not the work directory of a run", "hint: ")


def test_explain_tells_of_each_of_several_fixes(cli: BuildCli, signed_run: Done) -> None:
    refused = cli.verb("explain", signed_run.out, "--fix", "refused", "--json")
    assert refused.code == 0, refused.stderr
    assert (refused.value["guard"]["verdict"], refused.value["guard"]["reason"]) == ("reboot", "data-value")
    absent = cli.verb("explain", signed_run.out, "--fix", "elsewhere", "--json")
    assert absent.value["guard"] is None
    assert set(absent.value["units"]["absent"].values()) == {"not built in this kernel"}
    told = cli.verb("explain", signed_run.out, "--fix", "elsewhere")
    assert "i915_irq.c: not built in this kernel" in told.stdout
    text = cli.verb("explain", signed_run.out, "--fix", "module")
    assert "taken: net/ipv4/tcp_hybla.o: hybla_init" in text.stdout
    must_fail(cli.verb("explain", signed_run.out, "--fix", "nobody", "--json"), 2, "nobody")
