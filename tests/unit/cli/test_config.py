"""`pystack config` and `pystack lint` on real files, through the whole command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cli import planfile
from orchestrator.cli.main import main
from orchestrator.errors import PystackError

STACK = """\
services:
  web:
    image: nginx:${TAG:-1}
    profiles: [late]
  db:
    image: postgres
    command: serve && migrate
    environment: {PASSWORD: hunter2, USER: "${USER_NAME?}"}
    volumes: [data:/data]
volumes: {data: {}}
"""


VARIABLES = """\
NAME        REQUIRED   DEFAULT VALUE   ALTERNATE VALUE
TAG         false      1
USER_NAME   true
"""


@pytest.fixture(autouse=True)
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "compose.yaml").write_text(STACK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USER_NAME", "ada")
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "shop")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        (["--services"], "db\n"),
        (["--images"], "postgres\n"),
        (["--profiles"], "late\n"),
        (["--volumes"], "data\n"),
        (["--networks"], "default\n"),
        (["--variables"], VARIABLES),
        (["-q"], ""),
    ],
)
def test_a_part_of_the_model_is_printed_alone(
    options: list[str], printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", *options]) == 0
    assert capsys.readouterr().out == printed


def test_variables_stay_as_written_without_interpolation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--profile", "late", "config", "--no-interpolate", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["services"]["web"]["image"] == "nginx:${TAG:-1}"


def test_the_environment_of_interpolation_has_the_projects_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--environment"]) == 0
    assert {"USER_NAME=ada", "COMPOSE_PROJECT_NAME=shop"} <= set(capsys.readouterr().out.splitlines())


def test_a_hash_is_given_by_service_and_an_unknown_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--hash", "*"]) == 0
    name, digest = capsys.readouterr().out.split()
    assert (name, len(digest)) == ("db", 64)
    assert main(["config", "--hash", "dbb"]) == 2
    assert 'did you mean "db"' in capsys.readouterr().err


def test_the_model_goes_to_a_file_and_reads_back_as_itself(stack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "-o", "out.yaml"]) == 0
    assert main(["config", "--format", "json"]) == 0
    first = capsys.readouterr().out
    assert main(["-f", "out.yaml", "config", "--format", "json"]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [
        ("/nope/x", 2, "cannot write /nope/x: No such file or directory"),
        ("compose.yaml/x", 2, "cannot write compose.yaml/x: Not a directory"),
        (".", 2, ". is a directory"),
        ("/dev/full", 125, "cannot write /dev/full: No space left on device"),
    ],
)
def test_a_file_that_cannot_be_is_the_users_mistake_and_one_that_cannot_be_written_the_machines(
    output: str, code: int, message: str, stack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "-o", output]) == code
    assert f"error: {message}\n" in capsys.readouterr().err
    with pytest.raises(PystackError) as caught:
        planfile.write(output, planfile.PlanFile("demo", planfile.Asked(), "", {}))
    assert (caught.value.exit_code, caught.value.message) == (code, message)


def test_lint_points_at_what_is_likely_wrong_and_says_so_by_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "--format", "json"]) == 1
    findings = {(item["code"], item["line"]) for item in json.loads(capsys.readouterr().out)}
    assert {("PS101", 7), ("PS102", 6), ("PS107", 8)} <= findings


def test_lint_of_a_stack_that_does_not_load_reports_its_errors(stack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (stack / "compose.yaml").write_text("services: {web: {imagee: x}}\n")
    assert main(["lint"]) == 2
    assert capsys.readouterr().out.startswith('error: compose.yaml:1:18: services.web: "imagee" is not')


def test_sarif_is_made_for_code_scanners(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "--format", "sarif"]) == 1
    log = json.loads(capsys.readouterr().out)
    known = {rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in log["runs"][0]["results"]} <= known


def test_a_stack_without_flaws_is_told_so(stack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (stack / "compose.yaml").write_text("services: {web: {image: 'nginx:1.27'}}\n")
    assert main(["lint"]) == 0
    assert capsys.readouterr().out == "no advice: the files are fine\n"
