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
