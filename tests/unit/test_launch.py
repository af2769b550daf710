"""A supervisor that is started early: until the word it has touched nothing, and without it it leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import launch
from orchestrator.client import Client, ensure_supervisor
from orchestrator.contracts.site import Site
from orchestrator.model.names import ProjectName
from orchestrator.state.directory import site_of
from orchestrator.supervisor.options import Options, parse
from tests.machine import eventually

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="psl-", dir="/tmp") as root:
        yield site_of(f"{root}/data", f"{root}/run", ProjectName("demo"))


def root_of(site: Site) -> Path:
    return Path(site.data_dir).parents[2]


def processes(site: Site) -> list[str]:
    """Command lines that name this site's directories: its supervisor's, and its monitor's."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(root_of(site)) in words and int(entry.name) != os.getpid():
                found.append(words.replace(b"\0", b" ").decode())
    return found


def waits(site: Site) -> bool:
    """Both have been started."""
    return len(processes(site)) == 2


def listens_for_the_word(pid: int) -> bool:
    """It has imported everything and is in read(2) of its pipe (proc(5))."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    if b"--go-fd" not in words:
        return False
    call = Path(f"/proc/{pid}/syscall").read_text().split()
    return call[0] in ("0", "63") and int(call[1], 16) == int(words[words.index(b"--go-fd") + 1])


def test_a_supervisor_that_is_abandoned_and_its_monitor_leave_nothing(site: Site) -> None:
    begun = launch.begin(site)
    eventually(lambda: waits(site))
    begun.abandon()
    eventually(lambda: not processes(site))
    assert list(root_of(site).iterdir()) == []


def test_until_the_word_nothing_is_on_disk(site: Site) -> None:
    begun = launch.begin(site)
    try:
        eventually(lambda: listens_for_the_word(begun.pid))
        assert list(root_of(site).iterdir()) == []
    finally:
        begun.abandon()
    eventually(lambda: not processes(site))


def test_a_starter_that_is_killed_takes_them_along(site: Site) -> None:
    text = (
        "import sys, time\n"
        "from orchestrator import launch\n"
        "from orchestrator.state.directory import site_of\n"
        "launch.begin(site_of(sys.argv[1], sys.argv[2], 'demo'))\n"
        "print('begun', flush=True)\n"
        "time.sleep(1000)\n"
    )
    argv = [sys.executable, "-c", text, f"{root_of(site)}/data", f"{root_of(site)}/run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    starter = subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment)
    assert starter.stdout is not None
    with starter.stdout:
        assert starter.stdout.readline() == b"begun\n"
        eventually(lambda: len(processes(site)) == 3)
        starter.kill()
        starter.wait()
    eventually(lambda: not processes(site))
    assert list(root_of(site).iterdir()) == []


def test_one_for_another_project_is_ended_and_a_new_one_started(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    program = root_of(site) / "says.py"
    answer = b'{"error": {"message": "no", "exit_code": 1}}\n'
    program.write_text(f"import os, sys\nos.write(int(sys.argv[-1]), {answer!r})\n")
    other = site_of(str(root_of(site) / "data"), str(root_of(site) / "run"), ProjectName("other"))
    begun = launch.begin(other)
    monkeypatch.setattr(launch, "PROGRAM", str(program))
    with pytest.raises(Exception, match="no"):
        ensure_supervisor(site, begun, timeout_s=20)
    eventually(lambda: not processes(site))


def test_an_installation_that_is_broken_is_told_with_what_python_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    program = root_of(site) / "broken.py"
    program.write_text("import nothing_of_this_name\n")
    monkeypatch.setattr(launch, "PROGRAM", str(program))
    with pytest.raises(Exception, match="ended with code 1 before it was ready") as caught:
        ensure_supervisor(site, timeout_s=20)
    assert "No module named 'nothing_of_this_name'" in str(getattr(caught.value, "hint", ""))
    assert Client.connect(site) is None


def test_the_command_line_is_read_as_it_is_written() -> None:
    argv = launch.supervisor_argv("/d", "/r", "demo")
    own = argv[argv.index(launch.PROGRAM) + 1 :]
    assert parse(own) == Options("/d", "/r", "demo")
    assert parse((*own, "--go-fd", "5", "--ready-fd", "7")) == Options("/d", "/r", "demo", 5, 7)
    assert parse(own).argv == argv
    for wrong in (own[:-2], own[:-1], (*own, "--nosuch", "x")):
        with pytest.raises(ValueError, match=r"missing|argument|--nosuch"):
            parse(wrong)


def pystack(site: Site, *words: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYSTACK_RUN_DIR": f"{root_of(site)}/run"}
    argv = [sys.executable, "-m", "orchestrator.cli", "--data-dir", f"{root_of(site)}/data", "-p", "demo", *words]
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def only(site: Site, *names: str) -> bool:
    """Nothing else is in the directory, and nothing runs."""
    return {path.name for path in root_of(site).iterdir()} == set(names) and not processes(site)


def test_a_file_that_does_not_load_leaves_nothing(site: Site) -> None:
    (root_of(site) / "compose.yaml").write_text("services: {db: {image: host, nosuch: 1}}\n")
    for verb in ("up", "plan"):
        with pystack(site, "-f", str(root_of(site) / "compose.yaml"), verb) as command:
            assert b"nosuch" in command.communicate(timeout=60)[1]
        assert command.returncode == 2
        eventually(lambda: only(site, "compose.yaml"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_ends_while_it_loads_leaves_nothing(site: Site, number: signal.Signals) -> None:
    file = root_of(site) / "compose.yaml"
    file.write_text("services: {}\nx-much:\n" + "".join(f"  - {number}\n" for number in range(50_000)))  # Takes seconds.
    with pystack(site, "-f", str(file), "up", "-d") as command:
        eventually(lambda: len(processes(site)) == 3)
        command.send_signal(number)
        command.communicate(timeout=60)
    assert command.returncode == (130 if number == signal.SIGINT else -number)
    eventually(lambda: only(site, "compose.yaml"))
