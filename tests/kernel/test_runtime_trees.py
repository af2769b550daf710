"""Containers that make trees which no recursive walk survives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.contracts.runtime import VolumeFill
from orchestrator.values import replace
from tests.kernel.place import place

pytestmark = pytest.mark.kernel
DEPTH = 5_000
_HUNDRED = "/".join(["d"] * 100)
DIG = (
    f"cd /top; i=0; while [ $i -lt {DEPTH // 100} ]; do mkdir -p {_HUNDRED} && cd -P {_HUNDRED} || exit 1; i=$((i+1)); done"
    "; touch file"
)


async def test_a_container_with_thousands_of_nested_directories_can_be_removed(
    leaves_nothing_behind: None, busybox_rootfs: Path
) -> None:
    async with place(busybox_rootfs) as here:
        exit_, log = await here.shell(f"mkdir /top; {DIG}; chmod 0 /top/d/d/d /top")
        assert (exit_.code, log) == (0, "")
        bundle = Path(here.site.data_dir, "containers", "rt-a-1")
        assert (bundle / "upper" / "top" / "d").is_dir()
        await here.runtime.remove((await here.runtime.containers())[0].container)
        assert not bundle.exists()


async def test_a_volume_is_filled_from_thousands_of_nested_directories(
    leaves_nothing_behind: None, busybox_rootfs: Path, tmp_path: Path
) -> None:
    """The image's part is what another container left behind."""
    async with place(busybox_rootfs) as here:
        assert (await here.shell(f"mkdir /top; {DIG}"))[0].code == 0
        layer = Path(here.site.data_dir, "containers", "rt-a-1", "upper")
        volume = tmp_path / "volume"
        volume.mkdir()
        spec = here.spec(["true"], "rt-b-1", lowers=(str(layer), str(busybox_rootfs)))
        await here.runtime.create(replace(spec, fills=(VolumeFill("/top", str(volume)),)))
        at, depth = os.open(volume, os.O_RDONLY), 0
        while "d" in os.listdir(at):
            below = os.open("d", os.O_RDONLY, dir_fd=at)
            os.close(at)
            at, depth = below, depth + 1
        assert os.listdir(at) == ["file"]
        os.close(at)
        assert depth == DEPTH
