"""``pystack doctor``'s checks on this machine, and what they say to a user who is not root."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from orchestrator.cli.main import main
from orchestrator.errors import HostError
from orchestrator.runtime import host_check
from orchestrator.runtime.host_check import check_host, require_host
from orchestrator.runtime.host_probes import Bench

pytestmark = pytest.mark.kernel


def as_nobody(question: Callable[[], object]) -> object:
    """The answer of `question`, asked in a child that is not root."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(writer, json.dumps(question()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = file.read()
    os.waitpid(pid, 0)
    assert answer
    return json.loads(answer)


def test_a_machine_that_runs_these_tests_has_all_that_is_needed() -> None:
    require_host()
    checks = check_host("/var/lib/pystack")
    assert [check for check in checks if check.needed and not check.ok] == []
    assert all(check.detail for check in checks)
    assert len({check.name for check in checks}) == len(checks)


def test_the_data_directory_is_not_made_by_looking(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = Path("/tmp") if not os.environ.get("TMPDIR") else Path(os.environ["TMPDIR"])
    before = sorted(os.listdir(root))
    check_host(str(root / "not/there/yet"))
    assert sorted(os.listdir(root)) == before


def test_a_user_who_is_not_root_is_told_so_at_once() -> None:
    def ask() -> list[str | None]:
        try:
            require_host()
        except HostError as exc:
            return [exc.message, exc.hint, str(exc.exit_code)]
        return []

    assert as_nobody(ask) == [
        "pystack needs root, and this is user 65534",
        "run it as root (sudo pystack ...); rootless operation is not supported yet",
        "125",
    ]


def test_without_root_every_check_still_has_an_answer() -> None:
    def ask() -> list[list[object]]:
        return [[check.name, check.ok, check.detail] for check in check_host("/var/lib/pystack")]

    answers = as_nobody(ask)
    assert isinstance(answers, list)
    by_name = {name: (ok, detail) for name, ok, detail in answers}
    assert by_name["root"] == (False, "pystack needs root, and this is user 65534")
    assert by_name["kernel"][0]
    assert not by_name["overlayfs"][0]
    assert not by_name["cgroups"][0]
    assert all(detail for _, _, detail in answers)


def probe(run: Callable[[object], str]) -> host_check.Check:
    bench = Bench("/var/lib/pystack", None, None, "")
    return host_check._checked(host_check._Probe("probe", True, run, "a hint", forked=True), bench)


def test_a_probe_that_dies_is_a_failed_check_and_not_a_failed_doctor() -> None:
    def dies(_: object) -> str:
        os._exit(3)

    assert probe(dies) == host_check.Check("probe", False, True, "the probe crashed", "a hint")


def test_a_probe_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_check, "PROBE_TIMEOUT_S", 0.05)

    def hangs(_: object) -> str:
        reader, _writer = os.pipe()
        os.read(reader, 1)
        return ""

    assert "no answer within" in probe(hangs).detail


def test_an_old_kernel_and_a_foreign_machine_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.uname()

    def uname() -> os.uname_result:
        return os.uname_result((real.sysname, real.nodename, "5.10.0-8-amd64", real.version, "riscv64"))

    monkeypatch.setattr(os, "uname", uname)
    with pytest.raises(HostError, match=r"Linux 5\.10\.0-8-amd64 is older than 5\.19"):
        require_host()
    failed = {check.name: check.detail for check in check_host("/var/lib/pystack") if not check.ok}
    assert failed["machine"] == "the machine type riscv64 is not supported"


def test_whatever_a_user_who_is_not_root_asks_of_a_project_the_answer_is_that_it_needs_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root").mkdir(mode=0o700)
    monkeypatch.setenv("PYSTACK_RUN_DIR", str(tmp_path / "root/run"))
    monkeypatch.chdir("/")
    verbs = ("ps", "ls", "down", "logs", "timeline", "image ls", "volume ls", "network ls", "exec web sh")

    def ask() -> dict[str, tuple[int, str]]:
        answers = {}
        for verb in verbs:
            with redirect_stderr(StringIO()) as said, redirect_stdout(StringIO()):
                code = main(["--data-dir", str(tmp_path / "root/data"), "-p", "demo", *verb.split()])
            answers[verb] = (code, said.getvalue())
        return answers

    here = ask()  # By root, of whom there is nothing; it also imports what the child may not be allowed to read.
    assert "needs root" not in str(here)
    answers = as_nobody(ask)
    assert isinstance(answers, dict)
    assert [verb for verb in verbs if answers[verb][0] != 125 or "pystack needs root" not in answers[verb][1]] == []
