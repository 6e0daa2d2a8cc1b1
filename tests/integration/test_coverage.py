# SPDX-License-Identifier: GPL-2.0-or-later
"""The coverage of a directory of patches, by the real command on the real kernel."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from kmend_builder.kernel.model import Kernel
from support import fixes
from support.buildcli import SECONDS, BuildCli, Done, must_fail
from support.fixes import Edit, patch_text

pytestmark = pytest.mark.network
SERIES: dict[str, tuple[Edit, ...]] = {
    "CVE-2026-10001": (fixes.CMDLINE,),
    "absent": fixes.NOT_BUILT,
    "conflict": (fixes.UNDECLARED,),
    "module": (fixes.HYBLA,),
    "refused": (fixes.VALUE,),
}


@pytest.fixture(scope="module")
def patches(build_kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of five patches, and one that is none."""
    folder = tmp_path_factory.mktemp("patches")
    for name, edits in SERIES.items():
        (folder / f"{name}.patch").write_text(patch_text(build_kernel.source, *edits, subject=f"about {name}"))
    (folder / "words.patch").write_text("Subject: only words\n")
    return folder


def cover(cli: BuildCli, patches: Path, out: Path, *arguments: str) -> Done:
    options = ("--kernel", cli.release, "--out", out, "--jobs", "2", "--json")
    done = cli.verb("coverage", patches, *options, *arguments, seconds=len(SERIES) * SECONDS)
    return Done(done.code, done.stdout, done.stderr, out)


def by_id(done: Done) -> dict[str, Any]:
    return {fix["id"]: fix for fix in done.value["fixes"]}


def judged(done: Done) -> int:
    return int(done.value["summary"]["judged"])


@pytest.fixture(scope="module")
def covered(cli: BuildCli, patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return cover(cli, patches, tmp_path_factory.mktemp("coverage") / "out")


def test_each_fix_has_the_verdict_it_has_alone(covered: Done) -> None:
    assert covered.code == 1, covered.stderr  # for words.patch
    found = by_id(covered)
    assert {name: (fix["verdict"], fix["reason"]) for name, fix in found.items()} == {
        "CVE-2026-10001": ("live", None),
        "absent": ("absent", None),
        "conflict": ("reboot", "conflict"),
        "module": ("live", None),
        "refused": ("reboot", "data-value"),
        "words": ("unknown", None),
    }
    assert found["CVE-2026-10001"]["functions"] == ["vmlinux:cmdline_proc_show"]
    assert found["CVE-2026-10001"]["cves"] == ["CVE-2026-10001"]
    assert found["CVE-2026-10001"]["title"] == "about CVE-2026-10001"
    assert found["module"]["objects"] == ["net/ipv4/tcp_hybla.o"]
    assert "does not compile" in found["conflict"]["refusal"]["why"]
    assert "patch is empty" in found["words"]["error"]
    assert {"2-change", "3-compile", "7-module"} <= set(found["module"]["seconds"])


def test_results_are_on_disk_as_printed(covered: Done) -> None:
    assert covered.read("results.json") == covered.value
    lines = (covered.out / "results.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["id", *sorted(by_id(covered))]
    assert covered.value["summary"]["verdicts"] == {"live": 2, "absent": 1, "reboot": 2, "unknown": 1}


@pytest.mark.slow
def test_the_live_patch_is_the_one_that_run_makes(cli: BuildCli, covered: Done, patches: Path, tmp_path: Path) -> None:
    argv = cli.argv(tmp_path / "out", "--until", "7-module", patches / "module.patch")
    done = cli.verb(*argv[1:], seconds=len(SERIES) * SECONDS)  # it may have to wait for other builds' patched trees
    assert done.code == 0, done.stderr
    alone = json.loads((tmp_path / "out/7-module/module.json").read_text())
    here = covered.read("fixes/module/7-module/module.json")
    assert (here["functions"], here["objects"]) == (alone["functions"], alone["objects"])
    assert (covered.out / "fixes/module/7-module" / here["file"]).is_file()
    assert [path.name for path in (covered.out / "fixes/module").iterdir()].count("3-compile") == 0


def test_a_refusal_can_be_explained(cli: BuildCli, covered: Done) -> None:
    done = cli.verb("explain", covered.out, "--fix", "refused")
    assert done.code == 0, done.stderr
    assert "refused, data-value: net/ipv4/tcp_hybla.c: rtt0" in done.stdout


@pytest.mark.slow
def test_a_second_run_judges_what_got_no_verdict_and_no_more(cli: BuildCli, covered: Done, patches: Path) -> None:
    again = cover(cli, patches, covered.out)
    assert judged(covered) == 6
    assert judged(again) == 1
    kept = {name: fix for name, fix in by_id(covered).items() if name != "words"}
    assert {name: fix for name, fix in by_id(again).items() if name != "words"} == kept


@pytest.mark.slow
def test_without_the_one_that_is_none_all_have_a_verdict(cli: BuildCli, patches: Path, tmp_path: Path) -> None:
    only = tmp_path / "only"
    only.mkdir()
    (only / "absent.patch").write_text((patches / "absent.patch").read_text())
    assert cover(cli, only, tmp_path / "out").code == 0


def test_a_directory_without_patches_is_a_usage_error(cli: BuildCli, tmp_path: Path) -> None:
    must_fail(cover(cli, tmp_path, tmp_path / "out"), 2, "no *.patch")


@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_was(cli: BuildCli, patches: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    argv = [cli.argv(out)[0], "coverage", str(patches), "--kernel", cli.release, "--out", str(out), "--jobs", "1"]
    process = cli.spawn(argv)
    deadline = time.monotonic() + len(SERIES) * SECONDS
    while not list(out.glob("fixes/*/result.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, ""), stderr
    assert "interrupted" in stderr
    before = Done(130, (out / "results.json").read_text(), stderr, out)
    assert 1 <= judged(before) < 6
    assert set(by_id(before)) == {path.parent.name for path in out.glob("fixes/*/result.json")}
    rest = cover(cli, patches, out)
    assert judged(rest) >= 6 - judged(before)
    assert len(by_id(rest)) == 6
    assert all(rest_fix == by_id(rest)[name] for name, rest_fix in by_id(before).items() if name != "words")
