"""stacks/vote: real nginx, Redis and PostgreSQL, and what happens when the worst happens to them and to us. The same holds
whether its files are mounted or built into images."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.machine import ROOT, Pystack, Stack, eventually
from tests.scenarios.talk import free_port, http, kill_hard, monitor_pid, supervisor_pid

pytestmark = [pytest.mark.kernel, pytest.mark.servers]

SERVICES = {"front", "api", "worker", "queue", "db"}


@pytest.fixture(params=["compose.yaml", pytest.param("compose.build.yaml", marks=pytest.mark.soak)])
def vote(pystack: Pystack, request: pytest.FixtureRequest) -> Stack:
    pystack.environment |= {"VOTE_PORT": str(free_port()), "COMPOSE_FILE": request.param}
    stack = pystack.stack_in(ROOT / "stacks" / "vote", f"vote{free_port()}")
    stack.must("up", "-d", "--wait")
    return stack


def cast(stack: Stack, choice: str) -> None:
    """A vote through nginx; accepted when the answer is 202."""
    port = stack.pystack.environment["VOTE_PORT"]
    eventually(lambda: http(f"http://127.0.0.1:{port}/api/vote/{choice}", post=True)[0] == 202)


def results(stack: Stack) -> dict[str, int]:
    """As PostgreSQL has them, through nginx."""
    status, body = http(f"http://127.0.0.1:{stack.pystack.environment['VOTE_PORT']}/api/results")
    counted: dict[str, int] = json.loads(body) if status == 200 else {}
    return counted


def state(stack: Stack, *fields: str) -> dict[str, tuple[Any, ...]]:
    return {name: tuple(row[field] for field in fields) for name, row in stack.ps().items()}


def test_a_vote_goes_through_nginx_and_redis_to_postgresql(vote: Stack) -> None:
    assert state(vote, "State", "Health") == dict.fromkeys(SERVICES, ("running", "healthy"))
    cast(vote, "tabs")
    cast(vote, "spaces")
    cast(vote, "spaces")
    eventually(lambda: results(vote) == {"spaces": 2, "tabs": 1})


def test_a_killed_redis_comes_back_with_its_address_and_harms_nobody(vote: Stack) -> None:
    cast(vote, "tabs")
    before = state(vote, "Pid", "Restarts", "Addresses")
    kill_hard(vote.ps()["queue"]["Pid"])
    eventually(lambda: (vote.ps()["queue"]["Restarts"], vote.ps()["queue"]["Health"]) == (1, "healthy"))
    after = state(vote, "Pid", "Restarts", "Addresses")
    assert after["queue"][2] == before["queue"][2]
    assert {name: row for name, row in after.items() if name != "queue"} == {
        name: row for name, row in before.items() if name != "queue"
    }
    cast(vote, "spaces")
    eventually(lambda: results(vote) == {"tabs": 1, "spaces": 1})


def test_a_killed_supervisor_and_a_killed_monitor_cost_no_container_and_no_vote(vote: Stack) -> None:
    before = state(vote, "Pid", "Addresses", "Health")
    cast(vote, "tabs")
    kill_hard(supervisor_pid(vote))
    cast(vote, "tabs")
    eventually(lambda: state(vote, "Pid", "Addresses", "Health") == before)
    kill_hard(monitor_pid(vote))
    cast(vote, "tabs")
    eventually(lambda: state(vote, "Pid", "Addresses", "Health") == before)
    eventually(lambda: results(vote) == {"tabs": 3})
    # Every answered request has its line: nginx writes it, after its answer, to a pipe that has always had a reader.
    eventually(lambda: len([line for line in vote.log_file("front").read_text().splitlines() if counted(line)]) == 3)


def counted(line: str) -> bool:
    return "POST /api/vote/tabs" in line and " 202 " in line


def test_votes_outlive_down_and_up_in_the_named_volume(vote: Stack) -> None:
    cast(vote, "tabs")
    eventually(lambda: results(vote) == {"tabs": 1})
    vote.must("down")
    assert vote.pystack.processes() == {}
    vote.must("up", "-d", "--wait")
    assert results(vote) == {"tabs": 1}
