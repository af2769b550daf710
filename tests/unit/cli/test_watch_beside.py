"""A watch beside `up`: what it takes of the machine, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

from orchestrator.cli.operation import wait_any
from orchestrator.cli.render.plain import QuietProgress
from orchestrator.cli.watching.beside import Beside
from orchestrator.cli.watching.preparing import Prepared
from orchestrator.cli.watching.rules import Ground, filter_of
from orchestrator.cli.watching.session import Manner, Watching
from orchestrator.errors import HostError, PystackError
from orchestrator.model.names import ServiceName
from orchestrator.model.watch import WatchAction, WatchRule


def watching_of(root: Path) -> Watching:
    ground, rule = Ground(str(root)), WatchRule(str(root), WatchAction.SYNC, "/srv")
    prepared = Prepared(ServiceName("a"), "a", rule, ground, filter_of(rule, ground))
    nothing = cast(Any, None)
    return Watching(nothing, nothing, [prepared], QuietProgress(), Manner())


def test_nobody_is_woken_by_files_before_the_watch_begins(tmp_path: Path) -> None:
    with watching_of(tmp_path) as watching:
        (tmp_path / "f").write_text("while the services come up")
        assert watching.sources() == []
        watching.begin()
        wait_any(watching.sources(), None)


class Full:
    """A watch at the limit of the user's watches."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def begin(self) -> None: ...

    def pump(self) -> None:
        raise HostError("no more")

    def given_up(self, error: PystackError) -> None:
        self.told.append(str(error))

    def sources(self) -> list[Any]:
        return [self]


def test_what_a_watch_is_beside_goes_on_when_the_kernel_watches_no_more() -> None:
    full = Full()
    with Beside(lambda: nullcontext(cast(Watching, full))) as beside:
        assert beside.toggle()
        assert full.told == ["no more"]
        assert beside.sources() == []
        beside.pump()


def test_a_watch_that_cannot_begin_leaves_nothing_open(tmp_path: Path) -> None:
    script = f"""
import os, pathlib, sys
from orchestrator.errors import HostError
from tests.unit.cli.test_watch_beside import watching_of
before = len(os.listdir("/proc/self/fd"))
try:
    watching_of(pathlib.Path({str(tmp_path)!r}))
except HostError:
    sys.exit(len(os.listdir("/proc/self/fd")) - before)
sys.exit("it has begun")
"""
    limit = 'echo 0 > /proc/sys/user/max_inotify_watches && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh", sys.executable, "-c", script]
    subprocess.run(command, cwd=Path(__file__).parents[3], check=True)
