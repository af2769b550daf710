"""A builder with a store of its own, for tests: bases made of busybox, contexts written from mappings, and what came
out."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.build.bases import diff_id_of
from orchestrator.build.builder import Builder
from orchestrator.contracts.images import Image, Progress, Transfer
from orchestrator.errors import OperationError
from orchestrator.images.spec.config import make_config
from orchestrator.images.spec.digest import Digest
from orchestrator.images.spec.platform import host_platform
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.images.unpack.merged import Merged
from orchestrator.model.build import BuildSpec
from orchestrator.runtime.host_check import find_host


class Built:
    """An image, and what was told while it was made."""

    def __init__(self, image: StoredImage, told: list[str | Transfer]) -> None:
        self.image = image
        self.told = told
        self.lowers = tuple(dict.fromkeys(layer.path for layer in reversed(image.layers)))

    @property
    def config(self) -> Mapping[str, Any]:
        return self.image.config.config

    def actions(self) -> list[str]:
        """What became of each step, in the order in which they ended."""
        ends = ("cached", "done", "failed")
        return [each.action for each in self.told if isinstance(each, Transfer) and each.action in ends]

    def ran(self) -> int:
        """How many steps made something."""
        starts = [each for each in self.told if isinstance(each, Transfer) and each.action == "building" and not each.text]
        return len(starts)

    def output(self) -> list[str]:
        return [each.text for each in self.told if isinstance(each, Transfer) and each.action == "building" and each.text]

    def text(self, path: str) -> str:
        with Merged(self.lowers) as view, view.open(path) as file:
            return file.read().decode()

    def stat(self, path: str) -> os.stat_result:
        with Merged(self.lowers) as view:
            found = view.stat(path)
        assert found is not None, f"{path} is not there"
        return found

    def has(self, path: str) -> bool:
        with Merged(self.lowers) as view:
            return view.stat(path) is not None

    def names(self, path: str) -> list[str]:
        with Merged(self.lowers) as view:
            return view.listdir(path)

    def top_layer(self) -> list[str]:
        """Everything that the last layer holds, as paths."""
        root = self.image.layers[-1].path
        found = [os.path.join(at, name) for at, directories, files in os.walk(root) for name in (*directories, *files)]
        return sorted(os.path.relpath(path, root) for path in found)


class Bench:
    def __init__(self, root: Path, busybox: Path) -> None:
        self.root = root
        self.store = Store(str(root / "data" / "images"))
        self.builder = Builder(self.store, find_host(), str(root / "data"), str(root / "run"))
        self.images: dict[str, StoredImage | Image] = {}
        self.asked: list[tuple[str, str]] = []
        self.told: list[str | Transfer] = []
        self.images["busybox"] = self.image_of(busybox, {"Env": ["PATH=/bin"], "Cmd": ["sh"]})

    def image_of(self, tree: Path, config: Mapping[str, Any]) -> StoredImage:
        """An image with one layer: a copy of `tree`."""
        place = self.store.tmp()
        shutil.copytree(tree, f"{place}/fs", symlinks=True)
        diff_id = diff_id_of(f"{place}/fs")
        with self.store.lease() as lease:
            lease.hold(diff_id)
            self.store.adopt(f"{place}/fs", diff_id, ())
            self.store.discard(place)
            return self.store.put(make_config(host_platform(), config, [Digest(diff_id)]))

    async def base(self, reference: str, platform: str, progress: Progress) -> StoredImage | Image:
        self.asked.append((reference, platform))
        if reference not in self.images:
            raise OperationError(f'there is no image "{reference}"')
        return self.images[reference]

    def context(self, files: Mapping[str, str | bytes]) -> Path:
        """A directory with these files; a name that ends in a slash is a directory."""
        directory = Path(tempfile.mkdtemp(dir=self.root))
        for name, content in files.items():
            path = directory / name
            if name.endswith("/"):
                path.mkdir(parents=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return directory

    async def build(
        self, dockerfile: str, files: Mapping[str, str | bytes] | Path | None = None, *, tags: tuple[str, ...] = (),
        **spec: Any,
    ) -> Built:  # fmt: skip
        return await self._build(self.spec(dockerfile, files, **spec), tags)

    async def build_spec(self, context: Path | str, **spec: Any) -> Built:
        """With a Dockerfile of the context's."""
        return await self._build(BuildSpec(str(context), **spec), ())

    def spec(self, dockerfile: str, files: Mapping[str, str | bytes] | Path | None = None, **spec: Any) -> BuildSpec:
        directory = files if isinstance(files, Path) else self.context(files or {})
        return BuildSpec(str(directory), dockerfile_inline=dockerfile, **spec)

    async def _build(self, spec: BuildSpec, tags: tuple[str, ...]) -> Built:
        self.told = []
        image = await self.builder.build(spec, tags, self, self.told.append)
        return Built(image, self.told)


def heirs(root: Path) -> list[str]:
    """Processes that clear away what killed builds left below `root`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(root) in command and "orchestrator.build.leftovers" in command:
                found.append(command)
    return found


@contextlib.asynccontextmanager
async def bench(busybox: Path, root: Path | None = None) -> AsyncGenerator[Bench, None]:
    root = root or Path(tempfile.mkdtemp(prefix="build-"))
    for name in ("data", "run"):
        (root / name).mkdir(mode=0o700, exist_ok=True, parents=True)
    try:
        yield Bench(root, busybox)
        left = [str(path) for place in ("data/images/tmp", "data/projects", "run") for path in (root / place).glob("*")]
        assert not left, f"left behind: {left}"
    finally:
        shutil.rmtree(root)
