"""Images from nothing to a container and away again: made, built, pulled, kept while they are used."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.registry_lab import docker_registry
from tests.machine import BUSYBOX, Pystack, Stack, eventually
from tests.scenarios.talk import kill_hard, supervisor_pid

pytestmark = pytest.mark.kernel

BUILT = """
services:
  web: {build: ., command: [sleep, "3600"], stop_grace_period: 0s}
  twin: {image: busybox, command: [sleep, "3600"], stop_grace_period: 0s}
  other: {image: busybox, command: [sleep, "3600"], stop_grace_period: 0s}
"""
DOCKERFILE = """FROM busybox
RUN echo built > /made
RUN true
RUN true
COPY Dockerfile /srv/
"""


@pytest.fixture
def busybox(pystack: Pystack) -> Pystack:
    if not BUSYBOX.exists():
        pytest.skip("no static busybox (.ci/servers installs it)")
    made = pystack.run("image", "make", "busybox", "-t", "busybox")
    assert (made.code, made.stdout) == (0, "busybox:latest\n"), str(made)
    return pystack


def names(pystack: Pystack) -> list[str]:
    return sorted(pystack.run("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout.split())


def image_of(stack: Stack, service: str) -> str:
    rows = json.loads(stack.must("images", "--format", "json").stdout)
    return next(str(row["ID"]) for row in rows if row["ContainerName"] == f"{stack.name}-{service}-1")


def test_several_bases_are_made_by_one_command(busybox: Pystack) -> None:
    made = busybox.run("image", "make", "busybox:1.36", "busybox:1.37")
    assert (made.code, sorted(made.stdout.split())) == (0, ["busybox:1.36", "busybox:1.37", "busybox:latest"]), str(made)
    refused = busybox.run("image", "make", "busybox", "alpine", "-t", "x")
    assert (refused.code, "--include and --tag are of one image" in refused.stderr) == (2, True)


def test_up_builds_what_is_missing_and_down_takes_away_what_nobody_named(busybox: Pystack) -> None:
    stack = busybox.stack(BUILT, files={"Dockerfile": DOCKERFILE})
    up = stack.must("up", "-d")
    assert f"{stack.name}-web: 2/5: RUN echo built > /made" in up.stderr
    assert stack.must("exec", "web", "cat", "/made").stdout == "built\n"
    assert image_of(stack, "twin") == image_of(stack, "other")

    assert "nothing had to change" in stack.must("up", "-d", "--build").stderr
    (stack.directory / "Dockerfile").write_text(DOCKERFILE.replace("built", "again"))
    assert "nothing had to change" in stack.must("up", "-d").stderr
    stack.must("up", "-d", "--build")
    assert stack.must("exec", "web", "cat", "/made").stdout == "again\n"

    refused = busybox.run("image", "rm", "busybox")
    assert (refused.code, f"is used by {stack.name}-other-1, {stack.name}-twin-1" in refused.stderr) == (1, True)
    busybox.run("image", "prune", "--all", "--force")
    assert names(busybox) == ["busybox:latest", f"{stack.name}-web:latest"]

    stack.must("down", "--rmi", "local")
    assert names(busybox) == ["busybox:latest"]
    busybox.run("image", "prune", "--all", "--force", "--build-cache")
    assert names(busybox) == []
    left = [path for path in (busybox.data_dir / "images").rglob("*") if path.is_file() and path.parent.name != "locks"]
    assert left == []


def test_an_archive_is_an_image_and_gives_a_container(busybox: Pystack) -> None:
    stack = busybox.stack("services: {a: {image: 'oci-archive:bb.tar', command: [sleep, '3600'], stop_grace_period: 0s}}")
    saved = busybox.run("image", "save", "--format", "oci-archive", "-o", str(stack.directory / "bb.tar"), "busybox")
    assert saved.code == 0, str(saved)
    assert busybox.run("image", "rm", "busybox").code == 0
    stack.must("up", "-d")
    assert stack.must("exec", "a", "echo", "there").stdout == "there\n"
    stack.must("down", "--rmi", "all")
    assert "oci-archive" not in busybox.run("image", "ls").stdout


def test_a_mistake_has_its_place_in_the_stack_or_in_the_dockerfile(busybox: Pystack) -> None:
    stack = busybox.stack(
        "services:\n  a: {image: nowhere, pull_policy: never}\n  b: {build: {dockerfile: none}}\n  c: {build: .}\n",
        files={"Dockerfile": "FROM busybox\nRUN exit 7\n"},
    )
    missing, none, failing = (stack.run("up", "-d", name) for name in "abc")
    assert (missing.code, none.code, failing.code) == (1, 2, 1)
    assert 'error: compose.yaml:2:14: services.a.image: image "nowhere:latest" is not here' in missing.stderr
    assert "error: compose.yaml:3:14: services.b.build: there is no Dockerfile " in none.stderr
    assert "Dockerfile:2: RUN exit 7 ended with exit code 7\n" in failing.stderr
    assert "services.b.build: there is no Dockerfile " in stack.run("build", "b").stderr


def test_builds_that_take_from_each_other_are_refused(busybox: Pystack) -> None:
    part = "{build: {context: ., dockerfile_inline: FROM x, additional_contexts: {x: 'service:%s'}}}"
    stack = busybox.stack(f"services:\n  a: {part % 'b'}\n  b: {part % 'a'}\n")
    for verb in (["build"], ["up", "-d"]):
        refused = stack.run(*verb)
        assert refused.code == 2
        assert "these builds take from each other: a -> b -> a" in refused.stderr


@contextlib.contextmanager
def building(busybox: Pystack) -> Iterator[subprocess.Popen[str]]:
    """A build that would take long, once its RUN has begun."""
    stack = busybox.stack("services: {a: {build: .}}", files={"Dockerfile": "FROM busybox\nRUN echo begun; sleep 1000\n"})
    argv = busybox.command("-p", stack.name, "build")
    environment = busybox.child_environment()
    with subprocess.Popen(argv, cwd=stack.directory, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any(line == "a: 2/2: begun\n" for line in iter(process.stderr.readline, ""))
        yield process


def test_ctrl_c_in_a_build_leaves_nothing_of_it(busybox: Pystack) -> None:
    with building(busybox) as process:
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130
    assert names(busybox) == ["busybox:latest"]
    assert list((busybox.data_dir / "images" / "tmp").iterdir()) == []


@pytest.fixture
def registry(busybox: Pystack) -> Iterator[str]:
    with docker_registry(busybox.root) as host:
        yield host


@pytest.mark.servers
def test_a_newer_image_in_the_registry_replaces_what_asks_for_it_always(busybox: Pystack, registry: str) -> None:
    name = f"{registry}/bb:1"
    service = f"{{image: '{name}', command: [sleep, '3600'], stop_grace_period: 0s"
    stack = busybox.stack(f"services:\n  eager: {service}, pull_policy: always}}\n  lazy: {service}}}\n")
    maker = busybox.stack(f"services: {{x: {{build: ., image: '{name}'}}}}", files={"Dockerfile": "FROM busybox\n"})
    maker.must("build", "--push")
    assert busybox.run("image", "rm", name).code == 0
    stack.must("up", "-d")
    first = image_of(stack, "eager")
    assert "nothing had to change" in stack.must("up", "-d").stderr

    (maker.directory / "Dockerfile").write_text("FROM busybox\nLABEL newer=1\n")
    maker.must("build", "--push")
    assert busybox.run("image", "tag", first.removeprefix("sha256:"), name).code == 0  # As a machine that built nothing.
    assert "nothing had to change" in stack.must("up", "-d", "lazy").stderr
    stack.must("up", "-d", "eager")
    assert image_of(stack, "eager") != first
    assert image_of(stack, "lazy") == first

    # The name has moved on; a new supervisor takes over what was made from the old image.
    kill_hard(supervisor_pid(stack))
    stack.must("up", "-d", "eager")
    assert image_of(stack, "lazy") == first
    stack.must("up", "-d", "lazy")
    assert image_of(stack, "lazy") == image_of(stack, "eager")


@pytest.mark.servers
def test_pull_and_push_take_what_has_a_registry(busybox: Pystack, registry: str) -> None:
    stack = busybox.stack(
        f"services:\n  a: {{image: '{registry}/a:1', build: .}}\n  b: {{build: .}}\n  c: {{image: '{registry}/none:1'}}\n",
        files={"Dockerfile": "FROM busybox\n"},
    )
    built = stack.must("build").stderr.splitlines()
    assert {f"Image {registry}/a:1 Building", f"Image {registry}/a:1 Built", f"Image {stack.name}-b Built"} <= set(built)
    pushed = stack.must("push")
    assert "b is not pushed" in pushed.stderr
    assert "1 image pushed in " in pushed.stderr
    failed = stack.run("pull")
    assert failed.code == 1
    assert f"error: compose.yaml:4:14: services.c.image: cannot pull {registry}/none:1: " in failed.stderr
    pulled = stack.must("pull", "--ignore-pull-failures").stderr
    assert "1 image pulled in " in pulled
    told = [line for line in pulled.splitlines() if line.startswith("Image ")]
    assert sorted(told) == [
        f"Image {registry}/a:1 Pulled", f"Image {registry}/a:1 Pulling", f"Image {registry}/none:1 Pulling"
    ]  # fmt: skip
    assert "0 images pulled in " in stack.must("pull", "--policy", "missing", "a").stderr


def test_a_build_whose_monitor_does_not_stay_ends(busybox: Pystack) -> None:
    with building(busybox) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

        def ended() -> bool:
            with contextlib.suppress(OSError):
                for pid in map(int, children.read_text().split()):
                    if b"/monitor/" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        os.kill(pid, signal.SIGKILL)
            return process.poll() is not None

        eventually(ended)
        _, told = process.communicate()
    assert process.returncode == 125, told
    # Or both the one that was begun ahead and the next were killed in their cradle.
    assert "the monitor ended 8 times within 10 seconds" in told or "cannot start the monitor: " in told
    assert "Traceback" not in told
