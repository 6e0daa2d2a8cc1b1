# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend show: an update, a fix or a CVE in full."""

import argparse
import collections
import json
from typing import List, Optional

from kmend.agent import Agent
from kmend.cli import messages
from kmend.cli.result import Result
from kmend.errors import UsageError
from kmend.manifest import Fix, Manifest, serialise
from kmend.survey import live_manifest, look, offers


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    state = look(agent)
    catalogue = offers(agent, state)
    live = live_manifest(agent, state, catalogue)
    known = [live] if live else []
    known += [update.manifest for update in catalogue.updates if update.manifest not in known]
    if not known:
        raise UsageError(messages.NOTHING_TO_APPLY, hint=messages.NO_UPDATE_HINT)
    if not args.what:
        return _update(known[0])
    chosen = next((item for item in known if item.version == args.what), None)
    if chosen is not None:
        return _update(chosen)
    return _fixes(_matching(known, args.what), args.what)


def _matching(known: List[Manifest], what: str) -> List[Fix]:
    """The fixes of the first manifest that speaks of it."""
    for item in known:
        found = [fix for fix in item.fixes if what in (fix.id, *fix.cves)]
        if found:
            return found
    raise UsageError(messages.NOT_CVE.format(what), why="no update for this kernel names it", hint="see `kmend cves`")


def _update(found: Manifest) -> Result:
    verdicts = collections.Counter(fix.verdict.value for fix in found.fixes)
    objects = sorted({function.object for function in found.functions})
    lines = [
        f"update     {found.version} for {found.kernel.release} ({found.kernel.version})",
        f"build-id   {found.kernel.build_id}",
        f"module     {found.module.name}, {found.module.size} bytes, sha256 {found.module.sha256}",
        f"patches    {len(found.functions)} functions in {', '.join(objects)}",
        "fixes      " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())),
        f"created    {found.created:%Y-%m-%d %H:%M} UTC, valid until {found.expires:%Y-%m-%d %H:%M} UTC",
        f"evidence   {json.dumps(found.evidence, sort_keys=True)}",
    ]
    return Result(0, json.loads(serialise(found)), lines)


def _fixes(found: List[Fix], what: str) -> Result:
    lines: List[str] = []
    for fix in found:
        lines += [line for line in _describe(fix) if line is not None]
    data = [
        {
            "id": fix.id, "cves": list(fix.cves), "title": fix.title, "verdict": fix.verdict.value,
            "reason": fix.reason.value if fix.reason else None, "detail": fix.detail, "objects": list(fix.objects),
        }
        for fix in found
    ]  # fmt: skip
    return Result(0, data, lines)


def _describe(fix: Fix) -> List[Optional[str]]:
    return [
        f"fix        {fix.id}  {fix.title}",
        f"cves       {', '.join(fix.cves) or 'none'}",
        f"verdict    {fix.verdict.value}" + (f" ({fix.reason.value}: {fix.reason.explanation})" if fix.reason else ""),
        f"objects    {', '.join(fix.objects)}" if fix.objects else None,
        f"detail     {fix.detail}" if fix.detail else None,
    ]
