"""What hooks find where they run, and what their failing ends."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.oci_lab import Config, Lab, lab

pytestmark = pytest.mark.kernel


@pytest.fixture
def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> Iterator[Lab]:
    with tempfile.TemporaryDirectory() as top, lab(Path(top), busybox_rootfs) as opened:
        yield opened


def shell(script: str) -> Config:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}


def test_start_destroys_the_container_whose_poststart_hook_fails(here: Lab) -> None:
    mark = here.top / "poststop"
    config = here.config("sleep", "1000")
    config["hooks"] = {"poststart": [{"path": "/bin/false"}], "poststop": [shell(f"cat > {mark}")]}
    box = here.create(config)
    code, _, err = here.ran("start", box)
    assert code == 1
    assert "the poststart hook /bin/false failed" in err
    assert here.oci("list", "-q") == ""
    assert '"stopped"' in mark.read_text()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "poststart", "poststop"])
def test_hooks_run_in_the_bundle(here: Lab, kind: str) -> None:
    mark = here.top / "where"
    config = here.config("true")
    config["hooks"] = {kind: [shell(f"pwd > {mark}")]}
    here.write(config)
    assert here.ran("run", "--bundle", str(here.bundle), "box", cwd=here.top) == (0, "", "")
    assert mark.read_text() == f"{here.bundle}\n"


def test_hooks_see_the_root_with_its_mounts_and_what_they_mount_is_in_the_container(here: Lab) -> None:
    (here.top / "given").mkdir()
    (here.top / "given" / "file").write_text("given")
    config = here.config("sh", "-c", "cat /mnt/file")
    (here.bundle / "rootfs" / "mnt").mkdir(exist_ok=True)
    mount = shell(f"test -e rootfs/proc/self && mount --bind {here.top}/given rootfs/mnt")
    enters = "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); nsenter -m -t $pid test -e $PWD/rootfs/proc/1"
    config["hooks"] = {"createRuntime": [shell(enters)], "createContainer": [mount]}
    assert here.run(config) == (0, "given", "")
