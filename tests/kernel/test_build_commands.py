"""`pystack build` that is interrupted or killed: nothing is left, and the next one works."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.kernel.build_bench import heirs
from tests.leaks import files
from tests.machine import Pystack, Stack, eventually

pytestmark = pytest.mark.kernel

COMPOSE = """
services:
  app:
    image: built
    build:
      context: app
      additional_contexts: {{base: "{base}"}}
"""
FIRST = """FROM base
COPY file /file
RUN --mount=type=cache,target=/c (setsid sleep 1000 &); trap '' INT TERM; echo started; \
  touch /half; while :; do sleep 1; done
"""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    text = COMPOSE.format(base=busybox_rootfs)
    return pystack.stack(text, files={"app/Dockerfile": FIRST, "app/file": "content"})


def begun(stack: Stack) -> subprocess.Popen[str]:
    """A build whose RUN runs."""
    process = subprocess.Popen(
        stack.pystack.command("-p", stack.name, "--progress", "json", "build"), cwd=stack.directory, text=True,
        env=stack.pystack.child_environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if json.loads(line).get("text") == "started":
            return process
    raise AssertionError(f"it has not begun: {seen}")


def left(stack: Stack) -> list[str]:
    """Files of builds, other than what the store and the caches keep."""
    data = stack.pystack.data_dir
    places = (stack.pystack.run_dir, data / "projects", data / "images" / "tmp", data / "images" / "trash")
    return [path for place in places for path in files(place)]


def the_next_one_works(stack: Stack) -> None:
    (stack.directory / "app" / "Dockerfile").write_text("FROM base\nCOPY file /file\nRUN [ ! -e /half ] && cat /file\n")
    assert "app: 3/3: content" in stack.must("--progress", "plain", "build").stderr
    assert left(stack) == []


def test_an_interrupted_build_leaves_nothing_and_the_next_one_works(stack: Stack) -> None:
    with begun(stack) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert left(stack) == []
    the_next_one_works(stack)


def test_a_killed_build_is_cleared_away_at_once_and_the_next_one_works(stack: Stack) -> None:
    with begun(stack) as process:
        process.kill()
    root = stack.pystack.root
    eventually(lambda: not left(stack) and not stack.pystack.processes() and not heirs(root))
    the_next_one_works(stack)


def test_a_killed_build_that_nobody_cleared_away_does_not_stop_the_next_one(stack: Stack) -> None:
    with begun(stack) as process:
        for pid, command in stack.pystack.processes().items():
            if "monitor" in command:
                process.send_signal(signal.SIGSTOP)
                subprocess.run(["kill", "-KILL", str(pid)], check=True)
        process.kill()
    assert left(stack)
    assert not heirs(stack.pystack.root)
    the_next_one_works(stack)


def test_the_environments_epoch_makes_builds_that_are_the_same(stack: Stack, busybox_rootfs: Path) -> None:
    (stack.directory / "app" / "Dockerfile").write_text("FROM scratch\nCOPY file /d/file\nWORKDIR /w\n")

    def built() -> str:
        stack.must("build", "--no-cache", env={"SOURCE_DATE_EPOCH": "1000000000"})
        about = json.loads(stack.must("image", "inspect", "built").stdout)[0]
        assert about["Created"].startswith("2001-09-09T01:46:40")
        return str(about["Id"])

    first = built()
    (stack.directory / "app" / "file").touch()
    assert built() == first


def test_errors_and_warnings_point_at_the_file_as_the_user_sees_it(stack: Stack) -> None:
    (stack.directory / "app" / "Dockerfile").write_text("FROM base\nWORKDIR w\nCOPY flie /x\n")
    checked = stack.run("build", "--check")
    assert checked.code == 1
    assert checked.stdout.startswith("app/Dockerfile:2: WORKDIR w is relative")
    done = stack.run("--progress", "plain", "build")
    assert done.code == 1
    lines = done.stderr.splitlines()
    assert "app/Dockerfile:2: WORKDIR w is relative to whatever the base image has (WorkdirRelativePath)" in lines
    assert lines[-3:] == [
        'error: app/Dockerfile:3: "flie" does not exist in the build context (did you mean "file"?)',
        "    2 | WORKDIR w",
        "  > 3 | COPY flie /x",
    ]
    excerpt = lines[-3:]
    up = stack.run("--progress", "plain", "up", "-d", "--build").stderr.splitlines()
    assert up[-3:] == excerpt
    assert f"app failed: {excerpt[0].removeprefix('error: ')}" in up


INLINE = """
services:
  app:
    image: built
    build:
      context: app
      dockerfile_inline: |
        FROM scratch
        WORKDIR w
        COPY flie /x
"""


def test_errors_of_an_inline_dockerfile_name_the_service_and_the_file(pystack: Pystack) -> None:
    stack = pystack.stack(INLINE, files={"app/file": "content"})
    place = "compose.yaml:7:26: services.app.build.dockerfile_inline"
    checked = stack.run("build", "--check")
    assert (checked.code, checked.stdout.partition(" WORKDIR")[0]) == (1, f"{place}:2:")
    for verb in (("build",), ("up", "-d")):
        said = stack.run("--progress", "plain", *verb).stderr.splitlines()
        assert f'error: {place}:3: "flie" does not exist in the build context (did you mean "file"?)' in said
        assert any("services.app.build.dockerfile_inline:2: WORKDIR w" in line for line in said)
    text = INLINE.replace("context: app\n", "context: app\n      privileged: true\n")
    (stack.directory / "compose.yaml").write_text(text)
    refused = stack.run("build")
    assert refused.code == 2
    assert "\nerror: compose.yaml:7:19: services.app.build.privileged: a build" in refused.stderr
