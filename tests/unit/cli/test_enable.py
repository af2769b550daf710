"""`enable` and `disable`: files below another root, which systemd and a shell understand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.boot import Boot, script, unit
from orchestrator.cli.commands.enable import disable, enable
from orchestrator.cli.settings import Settings
from orchestrator.errors import InputError

STACK = "name: shop\nservices: {web: {image: w}}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "etc/systemd/system").mkdir(parents=True)
    return made


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    folder = tmp_path / 'my $tack 100% "x"'
    folder.mkdir()
    (folder / "shop.yaml").write_text(STACK)
    (folder / "prod.env").write_text("A=1\n")
    monkeypatch.chdir(folder)
    environment = {"PYSTACK_RUN_DIR": str(tmp_path / "run"), "SECRET": "not for a unit", "COMPOSE_PROFILES": "a,b"}
    return Settings(
        files=("shop.yaml",), profiles=("p",), env_files=("prod.env",), data_root="../data", environment=environment
    )


def lines(text: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def test_the_unit_has_everything_that_this_command_was_given(settings: Settings, root: Path, tmp_path: Path) -> None:
    enable(settings, False, str(root))
    text = (root / "etc/systemd/system/pystack-shop.service").read_text()
    (start,), (stop,), (reload_,) = (lines(text, f"Exec{name}") for name in ("Start", "Stop", "Reload"))
    front = f"{sys.executable} -P -m orchestrator.cli --data-dir {tmp_path}/data --project-name shop"
    assert start == f"{front} start --resume"
    assert stop == f"{front} stop --halt"
    folder = f'{tmp_path}/my $$tack 100%% \\"x\\"'
    assert reload_ == f'{front} --file "{folder}/shop.yaml" --env-file "{folder}/prod.env" --profile p up --detach'
    assert lines(text, "WorkingDirectory") == [f'-{tmp_path}/my $tack 100%% "x"']
    assert lines(text, "Environment") == [f"PYSTACK_RUN_DIR={tmp_path}/run", "COMPOSE_PROFILES=a,b"]
    assert "not for a unit" not in text


def test_it_is_wanted_by_the_boot_and_systemd_finds_nothing_wrong(settings: Settings, root: Path) -> None:
    enable(settings, False, str(root))
    enable(settings, False, str(root))
    path = root / "etc/systemd/system/pystack-shop.service"
    assert os.readlink(path.parent / "multi-user.target.wants" / path.name) == "../pystack-shop.service"
    assert (path.parent / "multi-user.target.wants" / path.name).resolve() == path
    assert path.stat().st_mode & 0o777 == 0o644
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("needs systemd-analyze")
    checked = subprocess.run([analyze, "verify", str(path)], capture_output=True, text=True, timeout=60)
    assert "pystack-shop" not in checked.stderr, checked.stderr
    assert checked.returncode == 0, checked.stderr


def test_disable_leaves_nothing_and_may_be_given_again(
    settings: Settings, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enable(settings, False, str(root))
    enable(settings, True, str(root))
    disable(settings, str(root))
    assert [path for path in root.rglob("*") if not path.is_dir() or path.is_symlink()] == []
    capsys.readouterr()
    disable(settings, str(root))
    assert capsys.readouterr().out == "project shop does not come up with the machine: nothing to remove\n"


def test_the_init_script_calls_the_same_and_has_the_header_that_the_lsb_wants(settings: Settings, root: Path) -> None:
    enable(settings, True, str(root))
    path = root / "etc/init.d/pystack-shop"
    assert path.stat().st_mode & 0o777 == 0o755
    text = path.read_text()
    for key in ("Provides", "Required-Start", "Required-Stop", "Default-Start", "Default-Stop", "Short-Description"):
        assert f"# {key}:" in text
    assert os.readlink(root / "etc/rc3.d/S99pystack-shop") == "../init.d/pystack-shop"
    assert os.readlink(root / "etc/rc6.d/K01pystack-shop") == "../init.d/pystack-shop"
    assert subprocess.run(["sh", "-n", path], timeout=10).returncode == 0
    assert subprocess.run([path, "rubbish"], capture_output=True, timeout=10).returncode == 2


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "reload", "status"])
def test_each_verb_of_the_script_runs_what_it_should_in_the_projects_folder(tmp_path: Path, verb: str) -> None:
    program = tmp_path / "py thon"
    program.write_text('#!/bin/sh\necho "$RUN|$PWD|$*"\n')
    program.chmod(0o755)
    boot = Boot("shop", (str(program), "-p", "shop"), ("--file", "a b.yaml"), (("RUN", "r'r"),), str(tmp_path), ())
    path = tmp_path / "script"
    path.write_text(script(boot))
    ran = subprocess.run(["sh", path, verb], capture_output=True, text=True, timeout=10, check=True)
    said = {
        "start": ["start --resume"],
        "stop": ["stop --halt"],
        "restart": ["stop --halt", "start --resume"],
        "reload": ["--file a b.yaml up --detach"],
        "status": ["ps"],
    }[verb]
    assert ran.stdout.splitlines() == [f"r'r|{tmp_path}|-p shop {words}" for words in said]


def test_what_came_through_a_pipe_cannot_be_read_again(settings: Settings, root: Path) -> None:
    piped = Settings(files=("/dev/fd/63",), project_name="shop", data_root="/data", environment={})
    enable(piped, False, str(root))
    assert "ExecReload" not in (root / "etc/systemd/system/pystack-shop.service").read_text()


def test_a_machine_without_systemd_is_told_what_it_can_have(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not run systemd") as caught:
        enable(settings, False, str(tmp_path / "elsewhere"))
    assert caught.value.hint == "`pystack enable --init` writes an init script"


def test_no_line_of_a_unit_can_be_smuggled_in() -> None:
    with pytest.raises(InputError, match="characters that no unit file can hold"):
        unit(Boot("shop", ("python",), (), (), "/srv/a\nExecStart=/bin/evil", ()))
