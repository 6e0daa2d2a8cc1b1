#!/usr/bin/python3 -IS
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in a guest: livepatch operations. Prints one JSON object.

klp.py apply FILE NAME SECONDS    load the module, wait for the transition, then as `state`
klp.py state NAME                 enabled, transition, and each object's functions, `patched`, and whether it is live
klp.py revert NAME SECONDS [pinned]   disable, wait until the patch is gone, unload the module (try once if pinned)
klp.py disable NAME               only ask for it

One process does a whole operation: starting Python takes half a second under emulation.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any, Optional

ROOT = "/sys/kernel/livepatch"
POLL = 0.01
ENODEV = 19
REMOVE_SECONDS = 20.0
PINNED_SECONDS = 1.0


def read(path: str) -> Optional[str]:
    """A sysfs file, or None. A directory on its way out gives ENODEV from an open file and ENOENT otherwise."""
    try:
        with open(path) as file:
            return file.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as error:
        if error.errno == ENODEV:
            return None
        raise


def wait(name: str, seconds: float, gone: bool) -> dict[str, Any]:
    """Until the transition is over (`gone`: and the patch has left), or the time is up."""
    start = time.monotonic()
    while True:
        transition = read(f"{ROOT}/{name}/transition")
        passed = time.monotonic() - start
        if transition is None:
            return {"state": "gone", "seconds": passed}
        if transition == "0" and not gone:
            return {"state": "settled", "seconds": passed}
        if passed > seconds:
            return {"state": "stalled", "seconds": passed, "blockers": blockers(name)}
        time.sleep(POLL)


def blockers(name: str) -> list[dict[str, Any]]:
    """The tasks that have not moved: patch_state is 1 for patched, 0 for unpatched (-1 out of transition)."""
    target = read(f"{ROOT}/{name}/enabled")
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        for task in directories(f"/proc/{process}/task"):
            place = f"/proc/{process}/task/{task}"
            state = read(f"{place}/patch_state")
            if state is not None and state not in ("-1", target):
                stack = (read(f"{place}/stack") or "").splitlines()
                found.append({"pid": int(task), "comm": read(f"{place}/comm"), "stack": stack})
    return found


def directories(path: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    except OSError:
        return []


def state(name: str) -> dict[str, Any]:
    objects = {}
    for item in directories(f"{ROOT}/{name}"):
        objects[item] = {
            "patched": read(f"{ROOT}/{name}/{item}/patched"),
            "functions": directories(f"{ROOT}/{name}/{item}"),
            "live": item == "vmlinux" or read(f"/sys/module/{item}/initstate") == "live",
        }
    values = {key: read(f"{ROOT}/{name}/{key}") for key in ("enabled", "transition")}
    return {**values, "objects": objects}


def apply(path: str, name: str, seconds: float) -> dict[str, Any]:
    loaded = subprocess.run(["insmod", path], stderr=subprocess.PIPE, text=True)
    if loaded.returncode:
        return {"state": "refused", "why": loaded.stderr.strip()}
    answer = wait(name, seconds, gone=False)
    return {**answer, **state(name)}


def disable(name: str) -> dict[str, Any]:
    with open(f"{ROOT}/{name}/enabled", "w") as file:
        file.write("0")
    return {"state": "disabling"}


def revert(name: str, seconds: float, pinned: bool) -> dict[str, Any]:
    disable(name)
    answer = wait(name, seconds, gone=True)
    if answer["state"] == "stalled":
        return answer
    return {**answer, **remove(name, PINNED_SECONDS if pinned else REMOVE_SECONDS)}


def remove(name: str, seconds: float) -> dict[str, Any]:
    """The last reference goes a moment after the directory: EAGAIN means try again."""
    deadline = time.monotonic() + seconds
    while True:
        done = subprocess.run(["rmmod", name], stderr=subprocess.PIPE, text=True)
        if not os.path.isdir(f"/sys/module/{name}"):
            return {"state": "removed"}
        if time.monotonic() > deadline:
            return {"state": "pinned", "why": done.stderr.strip()}
        time.sleep(POLL)


def main(arguments: list[str]) -> None:
    verb, *rest = arguments
    if verb == "apply":
        answer = apply(rest[0], rest[1], float(rest[2]))
    elif verb == "revert":
        answer = revert(rest[0], float(rest[1]), "pinned" in rest[2:])
    else:
        answer = {"state": state, "disable": disable}[verb](rest[0])
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
