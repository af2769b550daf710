"""The fake images and the real ones keep one contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.contracts.images import ImageRequest
from orchestrator.images.machine import MachineImages
from orchestrator.testing import seeds
from orchestrator.testing.conformance_images import IMAGES_CHECKS, ImagesCheck, run_images_check
from orchestrator.testing.fake_images import FakeImages


class FakeImagesLab:
    unmade = ImageRequest("host", "/p")
    ready = ImageRequest("rootfs:app", "/p")
    elsewhere = ImageRequest("rootfs:app", "/q")
    absent = ImageRequest("rootfs:none", "/p")

    def __init__(self) -> None:
        self.images = FakeImages(missing=["rootfs:none"], unmade=["host"])
        self.others = FakeImages(beside=self.images)

    def change(self) -> None:
        self.images.identities["host"] = "id-of-another-host"
        self.images.unmade.add("host")

    def traces(self) -> object:
        return sorted(self.images.unmade), list(self.images.obtained)


class RealImagesLab:
    """`MachineImages` of a small machine in a directory."""

    def __init__(self, root: Path) -> None:
        self._root, self._host, self._store = root, root / "machine", root / "images"
        for name in ("machine/usr/bin", "machine/etc", "p/app", "q/app"):
            (root / name).mkdir(parents=True)
        (self._host / "etc/services").write_text("http 80/tcp\n")
        self.images = MachineImages(str(self._store), host_root=str(self._host))
        self.others = MachineImages(str(self._store), host_root=str(self._host))
        self.unmade = ImageRequest("host", str(root / "p"))
        self.ready = ImageRequest("rootfs:app", str(root / "p"))
        self.elsewhere = ImageRequest("rootfs:app", str(root / "q"))
        self.absent = ImageRequest("rootfs:none", str(root / "p"))

    def change(self) -> None:
        (self._host / "etc/services").write_text("http 8080/tcp\n")

    def traces(self) -> object:
        return {
            str(path): (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
            for path in [self._root, *self._store.rglob("*")]
            for info in [path.lstat()]
        }


@pytest.mark.parametrize("check", IMAGES_CHECKS, ids=lambda check: check.__name__)
def test_the_fake_images(check: ImagesCheck) -> None:
    for seed in range(5):

        async def main() -> None:
            await run_images_check(check, FakeImagesLab())

        seeds.run(main, seed=seed)


@pytest.mark.parametrize("check", IMAGES_CHECKS, ids=lambda check: check.__name__)
async def test_the_real_images(check: ImagesCheck, tmp_path: Path) -> None:
    await run_images_check(check, RealImagesLab(tmp_path))
