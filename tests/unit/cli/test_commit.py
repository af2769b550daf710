"""`pystack commit` and `export`: which container is meant, and where an archive goes. No container runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from orchestrator.contracts.runtime import OciConfig, SandboxSpec
from orchestrator.model.names import ContainerId
from orchestrator.runtime.bundle import bundle_path, prepare_site
from tests.machine import eventually
from tests.unit.cli.conftest import Bench
from tests.unit.cli.logwriter import recorded


@pytest.fixture
def made(bench: Bench) -> Path:
    """The writable layer of the container demo-app-1, on one layer."""
    recorded(bench.site, demo_app_1="app", demo_db_1="db")
    prepare_site(bench.site)
    lower = bench.root / "lower"
    lower.mkdir()
    (lower / "below").write_text("below")
    container = ContainerId("demo-app-1")
    path = Path(bundle_path(bench.site, container))
    (path / "upper").mkdir(parents=True)
    (path / "upper" / "new").write_text("new")
    spec = SandboxSpec(container, (str(lower),), OciConfig({}))
    text = {"container": spec.container, "lowers": spec.lowers, "config": {}, "version": 2}
    (path / "spec.json").write_text(json.dumps(text))
    return path / "upper"


@pytest.mark.parametrize("verb", ["commit", "export"])
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("ap",), 2, 'no such service: ap (did you mean "app"?)'),
        (("--index", "2", "app"), 2, 'project demo has no container 2 of service "app"'),
        (("db",), 1, "container demo-db-1 does not exist"),
    ],
)
def test_a_container_that_is_not_there(
    bench: Bench, made: Path, verb: str, words: tuple[str, ...], code: int, message: str
) -> None:
    output = ("-o", str(bench.root / "x.tar")) if verb == "export" else ()
    ran = bench.run(verb, *output, *words)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith(f"error: {message}\n")
    assert not list(bench.root.glob("*x.tar*"))


@pytest.mark.parametrize("verb", ["commit", "export"])
def test_a_project_without_records(bench: Bench, verb: str) -> None:
    ran = bench.run(verb, *(("-o", "x.tar") if verb == "export" else ()), "app")
    assert (ran.code, ran.err.splitlines()[0]) == (1, "error: project demo has no containers")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("app", "Not A Name"), "Not A Name"),
        (("app", f"x@sha256:{'0' * 64}"), "has a digest"),
        (("-c", "RUN x", "app"), '--change "RUN x" does more'),
        (("-c", "ENV", "app"), "ENV"),
    ],
)
def test_what_no_image_can_be(bench: Bench, made: Path, words: tuple[str, ...], part: str) -> None:
    ran = bench.run("commit", *words)
    assert (ran.code, ran.out, ran.err.count("error:")) == (2, "", 1)
    assert part in ran.err
    assert not (bench.root / "data" / "images").exists()


def test_an_export_takes_the_place_of_a_file_when_it_is_whole(bench: Bench, made: Path) -> None:
    target = bench.root / "out" / "x.tar"
    target.parent.mkdir()
    target.write_text("old")
    link = target.with_name("link.tar")
    link.symlink_to("x.tar")
    assert bench.run("export", "-o", str(link), "app").code == 0
    with tarfile.open(target) as archive:
        assert archive.getnames() == [".", "below", "new"]
    assert sorted(os.listdir(target.parent)) == ["link.tar", "x.tar"]


def test_an_export_that_fails_leaves_the_old_file_and_nothing_else(bench: Bench, made: Path) -> None:
    target = bench.root / "out" / "x.tar"
    target.parent.mkdir()
    target.write_text("old")
    made.rename(made.with_name("away"))
    ran = bench.run("export", "-o", str(target), "app")
    assert (ran.code, ran.err.count("error:")) == (1, 1)
    assert (target.read_text(), os.listdir(target.parent)) == ("old", ["x.tar"])


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [
        ("/nope/x.tar", 2, "cannot write /nope/x.tar: No such file or directory"),
        ("/", 2, "/ is a directory"),
        ("/dev/full", 125, "No space left on device"),
    ],
)
def test_an_output_that_cannot_be_written(bench: Bench, made: Path, output: str, code: int, message: str) -> None:
    ran = bench.run("export", "-o", output, "app")
    assert (ran.code, ran.err.count("error:")) == (code, 1)
    assert message in ran.err
    assert os.path.exists("/dev/full")


def test_an_export_whose_output_cannot_be_written_has_no_empty_name_in_its_error(bench: Bench, made: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            bench.command("export", "app"), cwd=bench.directory, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 125
    assert "-app-1: No space left on device" in done.stderr


def test_an_export_goes_to_a_pipe_and_ends_with_it(bench: Bench, made: Path) -> None:
    with bench.spawn("export", "app") as child:
        assert child.stdout is not None
        with tarfile.open(fileobj=child.stdout, mode="r|") as archive:
            assert [item.name for item in archive] == [".", "below", "new"]
    assert child.returncode == 0
    (made / "large").write_bytes(bytes(1 << 20))
    with bench.spawn("export", "app") as child:
        assert child.stdout is not None
        child.stdout.read(1)
        child.stdout.close()
    assert child.returncode == 141


def test_an_export_that_is_terminated_leaves_nothing(bench: Bench, made: Path) -> None:
    target = bench.root / "out"
    target.mkdir()
    with open(made / "large", "wb") as file:
        file.truncate(1 << 40)
    with bench.spawn("export", "-o", str(target / "x.tar"), "app") as child:
        eventually(lambda: any(path.stat().st_size for path in target.iterdir()))
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 130
    assert os.listdir(target) == []
