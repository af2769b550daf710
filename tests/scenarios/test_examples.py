"""Every example and every stack is understood, and the examples do what their README says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.machine import ROOT, Pystack, Stack, eventually
from tests.scenarios.talk import free_port

FILES = sorted([*(ROOT / "examples").glob("*/compose.yaml"), *(ROOT / "stacks").glob("*/compose.yaml")])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_it_is_understood_without_a_warning(file: Path, tmp_path: Path) -> None:
    result = Pystack(tmp_path).run("config", cwd=file.parent)
    assert result.code == 0, str(result)
    assert result.stderr == ""


def example(pystack: Pystack, name: str) -> Stack:
    return pystack.stack_in(ROOT / "examples" / name, f"{name}{free_port()}")


def log_of(stack: Stack, service: str) -> str:
    return stack.must("logs", service).stdout


@pytest.mark.kernel
def test_health_gate_starts_the_client_after_the_server_is_healthy(pystack: Pystack) -> None:
    stack = example(pystack, "health-gate")
    stack.must("up", "-d")
    assert stack.ps()["server"]["Health"] == "healthy"
    eventually(lambda: "the server was ready before I began" in log_of(stack, "client"))


@pytest.mark.kernel
def test_one_shot_runs_the_migration_first_and_once(pystack: Pystack) -> None:
    stack = example(pystack, "one-shot")
    stack.must("up", "-d", "--wait")
    eventually(lambda: "version 3" in log_of(stack, "app"))
    stack.must("up", "-d", "--wait")
    assert log_of(stack, "migrate").count("migrated") == 1


@pytest.mark.kernel
def test_jobs_are_run_by_hand_and_stand_on_a_schedule(pystack: Pystack) -> None:
    stack = example(pystack, "jobs")
    stack.must("up", "-d")
    eventually(lambda: stack.run("run", "--rm", "report").stdout.strip() not in ("", "0"))
    assert "it is due next at " in stack.must("why", "tidy").stdout
    stack.must("down", "-v", "-t", "1")


@pytest.mark.kernel
def test_restart_policy_gives_up_the_reasonable_one_alone(pystack: Pystack) -> None:
    stack = example(pystack, "restart-policy")
    stack.run("up", "-d")
    eventually(lambda: stack.ps()["reasonable"]["Phase"] == "failed")
    assert stack.ps()["reasonable"]["Restarts"] == 3
    eventually(lambda: stack.ps()["stubborn"]["Restarts"] >= 1)
    eventually(lambda: stack.ps()["sick"]["Health"] == "healthy")
    stack.must("exec", "sick", "touch", "/tmp/sick")
    eventually(lambda: stack.ps()["sick"]["Restarts"] >= 1)


@pytest.mark.kernel
def test_volumes_keeps_the_named_one_over_down(pystack: Pystack) -> None:
    stack = example(pystack, "volumes")
    for number in (1, 2):
        stack.must("up", "-d")
        eventually(lambda number=number: f"start number {number}" in log_of(stack, "counter"))  # type: ignore[misc]
        assert stack.must("exec", "counter", "cat", "/settings/app.conf").stdout == "colour = green\n"
        stack.must("down", "-t", "1")
    stack.must("down", "-v")
    assert list((pystack.data_dir / "volumes").iterdir()) == []


@pytest.mark.kernel
def test_networks_answers_names_and_keeps_the_inside_inside(pystack: Pystack) -> None:
    stack = example(pystack, "networks")
    stack.must("up", "-d")
    address = stack.ps()["back"]["Addresses"]["inside"]
    for name in ("back", "database"):
        assert stack.must("exec", "front", "getent", "ahostsv4", name).stdout.split()[0] == address
    assert "00000000" not in [
        line.split()[1] for line in stack.must("exec", "back", "cat", "/proc/net/route").stdout.splitlines()[1:]
    ]


@pytest.mark.kernel
def test_limits_says_that_the_hungry_one_was_out_of_memory(pystack: Pystack) -> None:
    stack = example(pystack, "limits")
    stack.run("up", "-d")
    eventually(lambda: stack.ps()["hungry"]["Phase"] == "failed")
    assert stack.ps()["hungry"]["OOMKilled"]
    assert stack.ps()["careful"]["State"] == "running"


@pytest.mark.kernel
def test_variables_come_from_the_shell_the_env_file_and_the_default(pystack: Pystack) -> None:
    stack = example(pystack, "variables")
    stack.must("up", "-d", env={"GREETING": "hi"})
    eventually(lambda: "hi, this is test mode" in log_of(stack, "app"))
    assert set(stack.ps()) == {"app"}


@pytest.mark.kernel
def test_replicas_share_a_name_and_can_be_scaled(pystack: Pystack) -> None:
    stack = example(pystack, "replicas")
    stack.must("up", "-d", "--wait")
    found = stack.must("run", "--rm", "web", "getent", "ahostsv4", "web").stdout
    assert len({line.split()[0] for line in found.splitlines()}) == 3
    stack.must("scale", "web=1")
    assert len(stack.must("ps", "-q").stdout.split()) == 1


@pytest.mark.kernel
def test_images_builds_again_what_a_changed_file_is_in(pystack: Pystack) -> None:
    directory = pystack.root / "images"
    shutil.copytree(ROOT / "examples" / "images", directory)
    stack = pystack.stack_in(directory, f"images{free_port()}")
    stack.must("up", "-d")
    eventually(lambda: "hello, world" in log_of(stack, "greeter") and "built, not pulled" in log_of(stack, "greeter"))
    eventually(lambda: "3" in log_of(stack, "counter").split())
    assert "1" not in log_of(stack, "counter").split()
    (directory / "words.txt").write_text("changed\n")
    again = stack.must("up", "-d", "--build").stderr
    assert "3/5: cached" in again
    assert "Created" in again
    eventually(lambda: "changed" in log_of(stack, "greeter"))
    stack.must("down", "--rmi", "local", "-t", "1")
    assert pystack.run("image", "ls", "--format", "{{.Repository}}").stdout == "<none>\n"  # What greeter was before.
