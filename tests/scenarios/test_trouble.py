"""Bad input and trouble: one clear error with a hint, the documented exit code, and nothing left behind."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orchestrator.kernel import process
from orchestrator.kernel.seccomp import compile_filter
from tests.leaks import files
from tests.machine import Pystack, Result, Stack, eventually
from tests.scenarios.talk import running

pytestmark = pytest.mark.kernel

SERVICE = """
services:
  web:
    image: host
    command: [sleep, "3600"]
    stop_grace_period: 1s
"""


def check_error(result: Result, code: int, *words: str) -> None:
    """One error (not a traceback), with `words` in what was said, and the exit code."""
    assert result.code == code, str(result)
    assert "Traceback" not in result.stderr, str(result)
    assert result.stderr.count("error: ") == 1, str(result)
    for word in words:
        assert word in result.stderr, str(result)


def check_that_nothing_was_begun(stack: Stack) -> None:
    """Input errors are found before anything is made. A supervisor that was started early, and its monitor, end when they
    see that their command has gone."""
    eventually(lambda: stack.pystack.processes() == {})
    assert files(stack.pystack.data_dir) == []
    assert files(stack.pystack.run_dir) == []


BOMB = "x-a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"x-{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n" for before, after in zip("abcdefgh", "bcdefghi")
)

INPUTS = {
    "not yaml": ("services: [", 2, "compose.yaml:"),
    "a tab": ("services:\n\tweb: {}\n", 2, "compose.yaml:2:"),
    "an alias bomb": (BOMB + "services:\n  web:\n    image: host\n    labels: *i\n", 2, "compose.yaml:"),
    "a hundred thousand levels": ("x-deep: " + "[" * 100_000, 2, "compose.yaml:"),
    "bytes that are no text": ("services:\n  web:\n    image: \x00\n", 2, "compose.yaml"),
    "a duplicate key": ("services:\n  web:\n    image: host\n    image: host\n", 2, "compose.yaml:4:5"),
    "an unknown key": ("services:\n  web:\n    image: host\n    comand: [ls]\n", 2, 'did you mean "command"?'),
    "an unknown dependency": (
        "services:\n  web:\n    image: host\n    depends_on: [dbb]\n  db:\n    image: host\n",
        2,
        'did you mean "db"?',
    ),
    "a cycle": (
        "services:\n  b: {image: host, depends_on: [a]}\n  a: {image: host, depends_on: [b]}\n",
        2,
        "a -> b -> a",
    ),
    "an attribute of later": (
        "services:\n  web:\n    image: host\n    use_api_socket: true\n",
        2,
        "not supported yet",
    ),
    "a malformed image": ("services:\n  web:\n    image: Nginx:1.27\n", 2, "capital letters"),
    "no services": ("services: {}\n", 2, "compose.yaml"),
}


@pytest.mark.parametrize("text_code_words", INPUTS.values(), ids=INPUTS.keys())
def test_bad_input_is_refused_with_its_place_before_anything_is_made(
    pystack: Pystack, text_code_words: tuple[str, int, str]
) -> None:
    text, code, words = text_code_words
    stack = pystack.stack(text)
    check_error(stack.run("up", "-d", timeout_s=30), code, words)
    check_that_nothing_was_begun(stack)


def test_a_directory_without_a_compose_file_is_refused(pystack: Pystack) -> None:
    stack = pystack.stack(SERVICE)
    (stack.directory / "compose.yaml").unlink()
    check_error(stack.run("up", "-d"), 2, "compose.yaml", "hint: ")


def test_a_fifo_as_compose_file_is_refused_and_not_waited_for(pystack: Pystack) -> None:
    stack = pystack.stack(SERVICE)
    (stack.directory / "compose.yaml").unlink()
    os.mkfifo(stack.directory / "compose.yaml")
    check_error(stack.run("up", "-d", timeout_s=30), 2, "compose.yaml")


def test_a_missing_image_is_named(pystack: Pystack) -> None:
    stack = pystack.stack("services:\n  web:\n    image: rootfs:/nowhere/at/all\n")
    check_error(stack.run("up", "-d"), 1, "/nowhere/at/all")


def test_a_port_in_use_points_into_the_file(pystack: Pystack) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        stack = pystack.stack(SERVICE + f'    ports:\n      - "127.0.0.1:{port}:80"\n')
        check_error(stack.run("up", "-d"), 1, str(port), "in use", "compose.yaml:8:")


@pytest.mark.parametrize(("command", "code"), [("/no/such/program", 127), ("/etc/services", 126)])
def test_a_command_that_cannot_be_executed_has_the_shell_s_exit_code(pystack: Pystack, command: str, code: int) -> None:
    stack = pystack.stack(f"services:\n  web:\n    image: host\n    command: [{command}]\n")
    check_error(stack.run("up", "-d"), code, command)


def test_a_health_check_that_never_passes_shows_its_last_output(pystack: Pystack) -> None:
    stack = pystack.stack(
        SERVICE
        + "    x-pystack: {on_unhealthy: ignore}\n"
        + "    healthcheck: {test: echo not in the mood; exit 1, interval: 100ms, timeout: 5s, retries: 2}\n"
    )
    check_error(stack.run("up", "-d", "--wait", timeout_s=60), 1, "web", "not in the mood")


def test_a_dependency_that_fails_says_whom_it_blocks(pystack: Pystack) -> None:
    stack = pystack.stack(
        """
services:
  web:
    image: host
    command: [sleep, "3600"]
    depends_on:
      migrate:
        condition: service_completed_successfully
  migrate:
    image: host
    command: [/bin/sh, -c, "echo the schema is from the future; exit 4"]
"""
    )
    result = stack.run("up", "-d", timeout_s=60)
    check_error(result, 1, "migrate", "code 4", "the schema is from the future", "web")
    assert stack.ps()["web"]["Pid"] is None


def test_without_root_it_says_what_is_missing(pystack: Pystack) -> None:
    stack = pystack.stack(SERVICE)
    nobody = 65534
    os.chown(pystack.root, nobody, nobody)
    # CAP_DAC_READ_SEARCH and nothing else: nobody could not read a checkout or an interpreter below /root.
    only = "-all,+dac_read_search"
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"--inh-caps={only}", f"--ambient-caps={only}"]
    result = pystack.run("-p", stack.name, "up", "-d", cwd=stack.directory, prefix=prefix)
    os.chown(pystack.root, 0, 0)
    for path in pystack.root.rglob("*"):
        os.chown(path, 0, 0, follow_symlinks=False)
    check_error(result, 125, "root", "hint: ")


def test_a_full_disk_is_an_error_and_leaves_nothing(pystack: Pystack, busybox_rootfs: Path) -> None:
    small = Path(tempfile.mkdtemp(prefix="pst-small-", dir="/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "pystack-test", small], check=True)
    try:
        pystack.environment["PYSTACK_DATA_DIR"] = str(small)
        stack = pystack.stack(
            f"services:\n  web:\n    image: rootfs:{busybox_rootfs}\n    command: [sleep, '9']\n    stop_grace_period: 1s\n"
        )
        (small / "filler").write_bytes(bytes(60 * 1024))
        result = stack.run("up", "-d", timeout_s=60)
        check_error(result, 125, "No space left on device", "hint: ")
        (small / "filler").unlink()
        assert pystack.close() == []
    finally:
        subprocess.run(["umount", "-l", small], check=True)
        shutil.rmtree(small)
        del pystack.environment["PYSTACK_DATA_DIR"]
        pystack.projects.clear()


def test_a_data_directory_that_overlayfs_refuses_is_an_error_and_leaves_nothing(
    pystack: Pystack, busybox_rootfs: Path
) -> None:
    """An overlay cannot be the upper layer of another one."""
    base = Path(tempfile.mkdtemp(prefix="pst-overlay-", dir="/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "pystack-test", base], check=True)
    try:
        for name in ("lower", "upper", "work", "data"):
            (base / name).mkdir(mode=0o700)
        options = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "pystack-test", base / "data"], check=True)
        pystack.environment["PYSTACK_DATA_DIR"] = f"{base}/data"
        stack = pystack.stack(f"services:\n  web:\n    image: rootfs:{busybox_rootfs}\n    command: [sleep, '9']\n")
        check_error(stack.run("up", "-d", timeout_s=60), 125, "root file system", "hint: ", "--data-dir", "pystack doctor")
        doctor = stack.run("doctor")
        assert doctor.code == 125
        assert any(line.startswith("MISSING") and "overlayfs" in line for line in doctor.stdout.splitlines())
        assert pystack.close() == []
        pystack.projects.clear()
    finally:
        subprocess.run(["umount", "-l", base / "data"], check=False)
        subprocess.run(["umount", "-l", base], check=True)
        shutil.rmtree(base)
        pystack.environment.pop("PYSTACK_DATA_DIR", None)


def test_a_kernel_without_overlayfs_is_told_before_anything_is_made(pystack: Pystack) -> None:
    """A seccomp filter that refuses fsopen(2) stands in for such a kernel."""
    stack = pystack.stack(SERVICE)
    program = "import sys\nfrom tests.scenarios.test_trouble import run_without_fsopen\nrun_without_fsopen(sys.argv[1:])"
    result = pystack.run(
        "-p", stack.name, "up", "-d", cwd=stack.directory, prefix=[sys.executable, "-c", program]
    )
    check_error(result, 125, "overlayfs", "hint: modprobe overlay")
    check_that_nothing_was_begun(stack)


def run_without_fsopen(argv: list[str]) -> None:
    refuse = {"names": ["fsopen"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENODEV}
    process.set_no_new_privileges()
    process.install_seccomp(compile_filter({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refuse]}, os.uname().machine))
    os.execv(argv[0], argv)


WAITING = (
    SERVICE
    + "    healthcheck: {test: test -e /tmp/go, interval: 100ms, timeout: 5s, retries: 10000}\n"
    + """
  late:
    image: host
    command: [sleep, "3600"]
    stop_grace_period: 0s
    depends_on: {web: {condition: service_healthy}}
  other:
    image: host
    command: [sleep, "3600"]
    stop_grace_period: 0s
"""
)


def waits(stack: Stack) -> bool:
    return "waiting" in stack.run("ps", "--format", "json").stdout


def test_beside_an_up_that_waits_other_verbs_work_at_once(pystack: Pystack) -> None:
    stack = pystack.stack(WAITING)
    with running(stack, "up", "-d") as first:
        eventually(lambda: waits(stack))
        assert stack.must("logs", "other").stdout == ""
        stack.must("restart", "other")
        stack.must("up", "-d", "other")
        stack.must("kill", "other")
        assert stack.ps()["other"]["State"] == "exited"
        stack.must("exec", "web", "touch", "/tmp/go")
        assert first.wait(timeout=60) == 0
    assert stack.ps()["late"]["State"] == "running"


def test_down_beside_an_up_that_waits_takes_it_over_and_leaves_nothing(pystack: Pystack) -> None:
    stack = pystack.stack(WAITING)
    with running(stack, "up", "-d") as first:
        eventually(lambda: waits(stack))
        stack.must("down", "-t", "0")
        assert first.wait(timeout=60) == 1
        assert first.stderr is not None
        assert 'taken over by "down"' in first.stderr.read()
    assert stack.run("ps", "-a", "--format", "json").stdout == ""


def test_text_from_a_container_cannot_reach_the_terminal_s_controls(pystack: Pystack) -> None:
    stack = pystack.stack(
        """
services:
  web:
    image: host
    command: [sleep, "3600"]
    depends_on: {loud: {condition: service_completed_successfully}}
  loud:
    image: host
    command: [/bin/sh, -c, "printf 'a\\\\033]0;owned\\\\007b\\\\n'; exit 5"]
"""
    )
    result = stack.run("up", "-d", "--wait", timeout_s=60)
    assert result.code == 1, str(result)
    assert "\x1b]" not in result.stderr + result.stdout
    assert "owned" in result.stderr
