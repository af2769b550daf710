"""Who follows a container follows the next one of its name, whatever is seen first: its events or its files."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from orchestrator.cli.logfollower import LogFollower
from orchestrator.cli.render.loglines import LogPrinter
from orchestrator.contracts.events import Event, EventKind
from orchestrator.model.names import ContainerId, ServiceName
from tests.unit.cli.conftest import Bench
from tests.unit.cli.logwriter import LogWriter, recorded

REMOVED, CREATED, STARTED = EventKind.CONTAINER_REMOVED, EventKind.CONTAINER_CREATED, EventKind.CONTAINER_STARTED


@pytest.mark.parametrize(
    "order",
    [
        ["gone", "looks", REMOVED, CREATED, "writes", STARTED],
        ["gone", REMOVED, CREATED, STARTED, "looks", "writes"],
        ["gone", REMOVED, CREATED, "looks", "writes", STARTED],
        ["gone", "looks", "writes", "looks", REMOVED, CREATED, STARTED],
        ["gone", "writes", REMOVED, CREATED, STARTED],
        ["gone", "writes", "looks", REMOVED, CREATED, STARTED],
        ["gone", REMOVED, CREATED, STARTED, "another writes", "looks", "writes"],
        ["gone", CREATED, STARTED, "another writes", "looks", "writes"],
        [REMOVED, "gone", CREATED, STARTED, "writes"],
        ["gone", "looks", "writes"],
    ],
    ids=lambda order: "-".join(step.value if isinstance(step, EventKind) else step for step in order),
)
def test_each_line_of_each_container_is_printed_once(bench: Bench, order: list[str | EventKind]) -> None:
    recorded(bench.site, demo_db_1="db")
    name = ContainerId("demo-db-1")
    LogWriter(bench.site, name).write(b"old\n")

    def gone() -> None:
        for kind in ("log", "idx"):
            os.unlink(os.path.join(bench.site.data_dir, "logs", f"{name}.{kind}"))

    with LogFollower(bench.site, LogPrinter()) as follower:
        steps: dict[str, Callable[[], object]] = {
            "gone": gone,
            "another writes": lambda: LogWriter(bench.site, "demo-web-1").write(b""),
            "looks": follower.pump,
            "writes": lambda: LogWriter(bench.site, name).write(b"new\n"),
        }
        bench.capture.readouterr()
        follower.add_all()
        follower.pump()
        for step in order:
            if isinstance(step, EventKind):
                follower.notice(Event(step, "", 0.0, ServiceName("db"), name))
            else:
                steps[step]()
        follower.pump()
        follower.finish()
    assert bench.capture.readouterr().out == "db-1  | old\ndb-1  | new\n"


def test_one_that_was_removed_is_not_looked_for_any_more(bench: Bench) -> None:
    """A stack's one-offs come and go; who looks on for days costs no more for it."""
    with LogFollower(bench.site, LogPrinter()) as follower:
        for number in range(50):
            name = f"demo-once-{number}"
            recorded(bench.site, **{name.replace("-", "_"): "once"})
            log = LogWriter(bench.site, name)
            follower.notice(Event(CREATED, "", 0.0, ServiceName("once"), ContainerId(name)))
            log.write(b"hello\n")
            follower.pump()
            for kind in ("log", "idx"):
                os.unlink(os.path.join(bench.site.data_dir, "logs", f"{name}.{kind}"))
            follower.notice(Event(REMOVED, "", 0.0, ServiceName("once"), ContainerId(name)))
        assert not follower._followers
    assert bench.capture.readouterr().out.count("hello\n") == 50
