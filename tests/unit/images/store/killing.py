"""Kills a process at each of its steps on the disk. Run as a program, since it forks: ``killing ROOT WORK EVERY [FIRST]``.

A step is what changes the disk or takes a lock, as the interpreter's audit events show it (PEP 578). For the first step,
the second and so on a child does `WORK` on a store of its own and is killed there; after that the store is looked at, the
work is done again, and everything is collected. One line is printed for each step at which something was wrong.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from orchestrator.errors import PystackError
from orchestrator.images.store.store import Store
from tests.unit.images import made

STEPS = frozenset({"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "fcntl.flock"})
BASE = {"etc/": None, "etc/passwd": b"root:x:0:0::/:/bin/sh\n"}
FIRST, SECOND = made.image(BASE, {"app/": None, "app/run": b"run"}), made.image(BASE, {"etc/other": b"x"})
KNOWN = {one.id: one for one in (FIRST, SECOND)}
TREES = {
    FIRST.diff_ids[0]: ["etc", "etc/passwd"],
    FIRST.diff_ids[1]: ["app", "app/run"],
    SECOND.diff_ids[1]: ["etc", "etc/other"],
}


def pull(store: Store) -> None:
    """One image beside another with the same base."""
    made.put(store, FIRST, "docker.io/library/first:1")


def prune(store: Store) -> None:
    store.collect(in_use=(), unnamed=True, unused=True)


def both(store: Store) -> None:
    pull(store)
    store.cache("step", b"value", FIRST.diff_ids)
    store.unname("docker.io/library/second:1")
    store.collect(in_use=(), unnamed=True, unused=False)


WORKS: dict[str, Callable[[Store], None]] = {"pull": pull, "prune": prune, "both": both}


def kill_at(step: int) -> None:
    """From now on: the process ends before its step number `step`."""
    ahead = step

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal ahead
        flags = args[2] if event == "open" else 0
        if event in STEPS or (isinstance(flags, int) and flags & (os.O_CREAT | os.O_WRONLY)):
            ahead -= 1
            if ahead < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def complaints(root: Path) -> list[str]:
    """What is there under its final name and is not whole."""
    store, found = Store(str(root)), []
    for image in store.images():
        expected = KNOWN[image.id]
        if [layer.diff_id for layer in image.layers] != list(expected.diff_ids):
            found.append(f"{image.id} has other layers")
        if image.passwd != BASE["etc/passwd"]:
            found.append(f"{image.id} has no passwd")
    for image_id in store._records.ids():
        if store.get(image_id) is None:
            found.append(f"the record of {image_id} is there, and it is not whole")
    for made_one in KNOWN.values():
        for number, diff_id in enumerate(made_one.diff_ids):
            layer = store.layer(diff_id, made_one.diff_ids[:number])
            if layer is not None and made.files_below(layer.path) != TREES[diff_id]:
                found.append(f"{layer.path} is not whole")
        for of, data in made_one.documents().items():
            if store.blob(of) is not None and store.read_blob(of, 1 << 20) != data:
                found.append(f"blob {of} is something else")
    found += [str(finding) for finding in store.findings()]
    return found


def run(work: Callable[[Store], None], root: Path, step: int) -> tuple[bool, list[str]]:
    """Whether the work ended before that step, and what was wrong."""
    made.put(Store(str(root)), SECOND, "docker.io/library/second:1")
    pid = os.fork()
    if pid == 0:
        kill_at(step)
        work(Store(str(root)))
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    found = complaints(root)
    store = Store(str(root))
    try:
        work(store)
        pull(store)
        found += complaints(root)
        if store.find("first:1") is None:
            found.append("the image cannot be pulled again")
        store.collect(in_use=(), unnamed=True, unused=True, cache=True)
    except PystackError as exc:
        found.append(f"the next one fails: {exc}")
    left = made.kept(root) + [f"{part}/{name}" for part in ("tmp", "trash", "leases") for name in listed(root / part)]
    found += [f"left behind: {name}" for name in left if not name.startswith("names/")]
    return status == 0, found


def listed(directory: Path) -> list[str]:
    return os.listdir(directory) if directory.is_dir() else []


def main(root: str, work: str, every: str, first: str = "0") -> None:
    step = int(first)
    while True:
        own = Path(root, f"{work}-{step}")
        ended, found = run(WORKS[work], own, step)
        shutil.rmtree(own)
        for one in found:
            print(f"{work}, step {step}: {one}")
        if ended:
            print(f"{work}: {step} steps")
            return
        step += int(every)


if __name__ == "__main__":
    main(*sys.argv[1:])
