"""``pystack build`` twice: the second time it loads next to nothing, and still sees what changes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.build.basis import Basis
from orchestrator.contracts.images import Image
from orchestrator.images.store.values import StoredImage
from tests.kernel.build_bench import Bench, bench
from tests.machine import ROOT, eventually

pytestmark = pytest.mark.kernel

PROBE = """
import sys
from orchestrator.cli.main import main
code = main(["build"])
print(" ".join(sys.modules))
sys.exit(code)
"""
TOLD = "nothing has changed"


def build(directory: Path, **variables: str) -> tuple[str, set[str]]:
    """What ``pystack build`` says, and the packages and modules that it has imported at its end."""
    places = {"PYSTACK_DATA_DIR": str(directory.parent / "data"), "PYSTACK_RUN_DIR": str(directory.parent / "run")}
    environment = {**os.environ, **places, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", PROBE]
    ran = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr, set(ran.stdout.split())


def stack(directory: Path, dockerfile: str, extra: str = "") -> Path:
    (directory / "stack" / "app").mkdir(parents=True)
    (directory / "stack" / "compose.yaml").write_text(
        f"services:\n  app:\n    build: app\n    image: localhost/app:1\n{extra}"
    )
    (directory / "stack" / "app" / "Dockerfile").write_text(dockerfile)
    (directory / "stack" / "app" / "file").write_text("one")
    return directory / "stack"


def test_a_build_without_any_change_loads_next_to_nothing_and_a_changed_file_is_seen(tmp_path: Path) -> None:
    directory = stack(tmp_path, "FROM scratch\nCOPY file /\nCMD /file\n")
    assert TOLD not in build(directory)[0]

    def told() -> set[str]:
        """Once the files have not been changed for a while."""
        said, modules = build(directory)
        return modules if TOLD in said else set()

    modules = eventually(told)
    assert modules.isdisjoint({"trio", "yaml", "click", "httpx", "rich", "json", "re", "hashlib", "subprocess", "socket"})
    (directory / "app" / "file").write_text("two")
    assert "COPY file /" in build(directory)[0]
    assert TOLD not in build(directory, OTHER="1")[0]


def test_a_dockerfile_and_its_ignore_file_outside_of_the_context_are_seen(tmp_path: Path) -> None:
    directory = stack(tmp_path, "")
    build_ = "build: {context: app, dockerfile: ../other/File}"
    text = (directory / "compose.yaml").read_text().replace("build: app", build_)
    (directory / "compose.yaml").write_text(text)
    (directory / "other").mkdir()
    (directory / "other" / "File").write_text("FROM scratch\nCOPY . /\n")
    eventually(lambda: TOLD in build(directory)[0])
    (directory / "other" / "File.dockerignore").write_text("file\n")
    said = build(directory)[0]
    assert TOLD not in said
    assert "COPY . /" in said


@pytest.fixture
async def at(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncIterator[Bench]:
    async with bench(busybox_rootfs) as opened:
        yield opened


async def basis_of(at: Bench, dockerfile: str) -> Basis:
    basis = Basis()
    await at.builder.build(at.spec(dockerfile, {"file": "one"}), (), at, at.told.append, basis=basis)
    return basis


async def test_a_build_tells_which_images_it_took_from(at: Bench) -> None:
    basis = await basis_of(at, "FROM busybox AS one\nFROM scratch\nCOPY --from=one /etc/passwd /\nCOPY file /\n")
    image = at.images["busybox"]
    assert isinstance(image, StoredImage)
    assert basis.images == {"busybox": image.id}
    assert not basis.elsewhere


async def test_a_build_on_a_directory_may_come_to_something_else_each_time(at: Bench, tmp_path: Path) -> None:
    at.images["dir"] = Image("dir", "dir", (str(tmp_path),))
    assert (await basis_of(at, "FROM dir\nCOPY file /\n")).elsewhere
