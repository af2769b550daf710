"""Real registries, real tools, real processes: what one sends the other has, to the last byte."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.contracts.images import Transfer
from orchestrator.errors import InputError, OperationError
from orchestrator.images.reference import Named
from orchestrator.images.registry import upload
from orchestrator.images.registry.client import Client
from orchestrator.images.registry.credentials import Credential, Credentials
from orchestrator.images.registry.login import login, logout
from orchestrator.images.registry.pull import pull
from orchestrator.images.registry.push import push
from orchestrator.images.registry.settings import RegistrySettings, Settings
from orchestrator.images.registry.wire import Wire
from orchestrator.images.spec.config import make_config
from orchestrator.images.spec.digest import digest, digest_of
from orchestrator.images.spec.platform import host_platform
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.images.unpack.packing import write_tree
from tests.kernel.registry_lab import docker_registry, guarded, pulling, skopeo, umoci
from tests.unit.images.registry.images import publish
from tests.unit.images.registry.server import FakeRegistry, Seen, Trouble, answers, stalls_after

pytestmark = [pytest.mark.kernel, pytest.mark.servers]

SETTINGS = Settings(certificates=())
NOBODY = Credentials({})
BIG = os.urandom(5 << 20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="module")
def guard(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(host, directory with ca.crt) of the registry behind nginx."""
    directory = tmp_path_factory.mktemp("nginx")
    with guarded(directory, server) as host:
        yield host, directory


@pytest.fixture
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout with an image of two layers, made by umoci: owners, modes, links, an extended attribute, a big file."""
    where = tmp_path_factory.mktemp("umoci")
    tree = where / "tree"
    tree.mkdir()
    (tree / "big").write_bytes(BIG)
    os.link(tree / "big", tree / "hard")
    (tree / "soft").symlink_to("../big")
    (tree / "setuid").touch()
    os.chown(tree / "setuid", 1234, 70000)
    (tree / "setuid").chmod(0o4755)
    os.setxattr(tree / "setuid", "user.note", b"\0x")
    os.mkfifo(tree / "pipe", 0o600)
    (tree / "später").write_bytes(b"\n" * 512)  # `umoci insert` pads no last entry, and this one needs no padding.
    image = f"{where}/oci:app"
    umoci("init", "--layout", f"{where}/oci")
    umoci("new", "--image", image)
    umoci("config", "--image", image, "--config.cmd", "/bin/true", "--config.env", "A=b")
    umoci("insert", "--image", image, str(tree), "/data")
    umoci("insert", "--image", image, str(tree / "später"), "/data/setuid")
    return where


def ignored(part: str | Transfer) -> None:
    """Progress that nobody looks at."""


async def get(store: Store, host: str, repository: str, settings: Settings = SETTINGS) -> StoredImage:
    return await pull(store, Named(host, repository, "1"), None, ignored, settings=settings, credentials=NOBODY)


def entries(*trees: str) -> dict[str, tuple[object, ...]]:
    """Every entry of trees laid over each other, lowest first: type and mode, owners, content, attributes, links."""
    found: dict[str, tuple[object, ...]] = {}
    for tree in trees:
        for directory, names, files in os.walk(tree):
            for path in (os.path.join(directory, name) for name in (*names, *files)):
                about = os.lstat(path)
                content: object = None
                if stat.S_ISREG(about.st_mode):
                    content = (digest_of(Path(path).read_bytes()), about.st_nlink)
                elif stat.S_ISLNK(about.st_mode):
                    content = os.readlink(path)
                names_there = os.listxattr(path, follow_symlinks=False)
                attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in names_there}
                time_s = about.st_mtime if not stat.S_ISDIR(about.st_mode) else None
                owners = (about.st_uid, about.st_gid)
                found[os.path.relpath(path, tree)] = (about.st_mode, owners, time_s, content, attributes)
    return found


async def test_what_umoci_made_and_skopeo_pushed_is_pulled_as_it_is(server: str, layout: Path, scratch: Path) -> None:
    skopeo("copy", "-q", "--dest-tls-verify=false", f"oci:{layout}/oci:app", f"docker://{server}/skopeo/app:1")
    store = Store(str(scratch / "images"))
    image = await get(store, server, "skopeo/app")
    umoci("unpack", "--image", f"{layout}/oci:app", str(scratch / "bundle"))
    assert entries(*(layer.path for layer in image.layers)) == entries(str(scratch / "bundle/rootfs"))
    index = json.loads((layout / "oci/index.json").read_text())
    assert store.names()[f"{server}/skopeo/app:1"].digest == index["manifests"][0]["digest"]


async def test_what_we_push_skopeo_has_with_the_same_digest(
    server: str, layout: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHUNK", 1 << 20)
    skopeo("copy", "-q", "--dest-tls-verify=false", f"oci:{layout}/oci:app", f"docker://{server}/theirs/app:1")
    store = Store(str(scratch / "images"))
    image = await get(store, server, "theirs/app")
    with FakeRegistry() as other:
        await push(store, image, Named(other.host, "a", "1"), ignored, settings=SETTINGS, credentials=NOBODY)
        assert len(other.requests("PATCH")) >= 5
        ours = await push(store, image, Named(server, "ours/app", "1"), ignored, settings=SETTINGS, credentials=NOBODY)
        skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{other.host}/a:1", f"dir:{scratch}/dir")
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{server}/ours/app:1").encode()
    assert digest_of(raw) == ours == digest_of((scratch / "dir/manifest.json").read_bytes())
    skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{server}/ours/app:1", f"oci:{scratch}/oci:app")
    umoci("unpack", "--image", f"{scratch}/oci:app", str(scratch / "bundle"))
    assert entries(*(layer.path for layer in image.layers)) == entries(str(scratch / "bundle/rootfs"))


async def test_a_layer_that_was_made_here_is_packed_and_pushed_in_chunks(
    server: str, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHUNK", 1 << 20)
    store = Store(str(scratch / "images"))
    tree = Path(store.tmp(), "tree")
    (tree / "directory").mkdir(parents=True)
    (tree / "directory/big").write_bytes(BIG)
    with open(os.devnull, "wb") as nothing:
        diff_id = digest(write_tree(str(tree), nothing).diff_id)
    store.adopt(str(tree), diff_id, ())
    image = store.put(make_config(host_platform(), {"Cmd": ["sh"]}, [diff_id]))
    await push(store, image, Named(server, "built", "1"), ignored, settings=SETTINGS, credentials=NOBODY)
    again = await get(Store(str(scratch / "again")), server, "built")
    assert again.id == image.id
    assert again.config.diff_ids == image.config.diff_ids
    assert entries(*(layer.path for layer in again.layers)) == entries(*(layer.path for layer in image.layers))


async def test_a_real_registry_mounts_layers_and_lists_tags(server: str, scratch: Path) -> None:
    store, told = Store(str(scratch / "images")), list[str]()
    with FakeRegistry() as source:
        made = publish(source, "app", "1", [{"a": os.urandom(1000)}])
        image = await get(store, source.host, "app")
    for tag in ("1", "2"):
        await push(store, image, Named(server, "first", tag), ignored, settings=SETTINGS, credentials=NOBODY)
    store.name(f"{server}/first:1", image.id)

    def progress(part: str | Transfer) -> None:
        if isinstance(part, Transfer) and made.blobs[0].startswith(f"sha256:{part.part}"):
            told.append(part.action)

    await push(store, image, Named(server, "second", "1"), progress, settings=SETTINGS, credentials=NOBODY)
    assert told == ["waiting", "shared"]
    async with Wire(SETTINGS) as wire:
        assert await Client(wire, SETTINGS.endpoint(server), "first", None).tags() == ["1", "2"]


# TLS and passwords


async def test_a_certificate_that_nobody_trusts_is_told(guard: tuple[str, Path], scratch: Path) -> None:
    with pytest.raises(OperationError, match="its certificate is not trusted") as caught:
        await get(Store(str(scratch / "images")), guard[0], "app")
    assert "/etc/docker/certs.d" in str(caught.value.hint)


@pytest.mark.parametrize("how", ["ca", "certs.d", "insecure"])
async def test_a_login_is_checked_stored_and_used(guard: tuple[str, Path], server: str, scratch: Path, how: str) -> None:
    host, directory = guard
    (scratch / "certs" / host).mkdir(parents=True)
    settings = {
        "ca": Settings(registries={host: RegistrySettings(ca=str(directory / "ca.crt"))}, certificates=()),
        "certs.d": Settings(certificates=(str(scratch / "certs"),)),
        "insecure": Settings(registries={host: RegistrySettings(insecure=True)}, certificates=()),
    }[how]
    (scratch / "certs" / host / "ca.crt").write_bytes((directory / "ca.crt").read_bytes())
    credentials = Credentials({"DOCKER_CONFIG": str(scratch / "docker")})
    store = Store(str(scratch / "images"))
    with FakeRegistry() as source:
        made = publish(source, "app", "1", [{"big": os.urandom(1 << 20)}])
        image = await get(store, source.host, "app")
    named = Named(host, f"guarded-{how}".replace(".", ""), "1")
    with pytest.raises(OperationError, match="it wants a login") as caught:
        await push(store, image, named, ignored, settings=settings, credentials=credentials)
    assert f"pystack login {host}" in str(caught.value.hint)
    with pytest.raises(OperationError, match=r"cannot log in as ann: .*it refuses the login"):
        await login(host, "ann", "wrong", settings=settings, credentials=credentials)
    assert credentials.find(host) is None
    assert "plain text" in await login(f"https://{host}/v2/", "ann", "secret", settings=settings, credentials=credentials)
    assert credentials.find(host) == Credential("ann", "secret")
    assert await push(store, image, named, ignored, settings=settings, credentials=credentials) == made.manifest
    again = Store(str(scratch / "again"))
    assert (await pull(again, named, None, ignored, settings=settings, credentials=credentials)).id == made.config
    assert await logout(host, credentials=credentials)
    assert not await logout(host, credentials=credentials)


@pytest.mark.parametrize(
    ("pattern", "trouble", "says"),
    [
        ("GET /v2/app", answers(302, {"Location": "http://127.0.0.1:1/x"}), "it redirects to where nobody should go"),
        ("GET /v2/$", answers(401, {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:1/"'}), "the password without TLS"),
    ],
)
async def test_nothing_leads_out_of_tls(
    guard: tuple[str, Path], scratch: Path, pattern: str, trouble: Trouble, says: str
) -> None:
    directory = guard[1]
    with FakeRegistry(certificate=(f"{directory}/server.crt", f"{directory}/server.key")) as registry:
        settings = Settings(registries={registry.host: RegistrySettings(ca=f"{directory}/ca.crt")}, certificates=())
        registry.plant(pattern, trouble)
        with pytest.raises(OperationError, match=says):
            await get(Store(str(scratch / "images")), registry.host, "app", settings)


async def test_a_ca_that_is_none_is_told_with_its_file(guard: tuple[str, Path], scratch: Path) -> None:
    for content in (None, "x"):
        if content is not None:
            (scratch / "ca.crt").write_text(content)
        settings = Settings(registries={guard[0]: RegistrySettings(ca=f"{scratch}/ca.crt")}, certificates=())
        with pytest.raises(InputError, match="is no CA certificate") as caught:
            await get(Store(str(scratch / "images")), guard[0], "app", settings)
        assert caught.value.place == f"{scratch}/ca.crt"


def test_ssl_cert_file_and_the_configuration_of_docker_are_looked_at(guard: tuple[str, Path], scratch: Path) -> None:
    host, directory = guard
    skopeo("login", "--tls-verify=false", "--authfile", str(scratch / "auth.json"), "-u", "ann", "-p", "secret", host)
    environment = {"SSL_CERT_FILE": str(directory / "ca.crt"), "REGISTRY_AUTH_FILE": str(scratch / "auth.json")}
    with pulling(scratch / "images", f"{host}/nothing:1", environment) as process:
        _, errors = process.communicate(timeout=60)
    assert "it has no such image" in errors


# Processes


def waits_for(ready: Callable[[], bool]) -> Callable[..., object]:
    """Trouble that answers rightly once `ready`."""

    def trouble(registry: FakeRegistry, connection: object, seen: Seen) -> object:
        while not ready() and not registry.released.wait(0.01):
            pass
        return registry._answer(seen)

    return trouble


def test_two_processes_that_pull_the_same_image_fetch_each_layer_once(scratch: Path) -> None:
    with FakeRegistry() as registry:
        made = publish(registry, "app", "1", [{"big": BIG}, {"a": b"1"}])

        def both_are_there() -> bool:
            return len(registry.requests("GET .*/manifests/1")) == 2

        registry.plant("GET .*/blobs/", waits_for(both_are_there), times=99)  # type: ignore[arg-type]
        name = f"{registry.host}/app:1"
        with pulling(scratch / "images", name, {}) as one, pulling(scratch / "images", name, {}) as two:
            ends = [process.communicate(timeout=60) for process in (one, two)]
        assert [output.split()[-1] for output, _ in ends] == [made.config, made.config], ends
        for blob in made.blobs:
            assert len(registry.requests(f"GET .*{blob}")) == 1


def test_what_a_killed_process_left_is_not_fetched_again(scratch: Path) -> None:
    with FakeRegistry() as registry:
        made = publish(registry, "app", "1", [{"big": BIG}])
        (blob,) = made.blobs
        registry.plant(f"GET .*{blob}", stalls_after(4 << 20))
        name = f"{registry.host}/app:1"
        with pulling(scratch / "images", name, {}) as process:
            assert process.stdout is not None
            while int(process.stdout.readline()) < 3 << 20:
                pass
            process.kill()
        assert Store(str(scratch / "images")).images() == []
        with pulling(scratch / "images", name, {}) as process:
            output, errors = process.communicate(timeout=60)
        assert output.split()[-1] == made.config, errors
        assert registry.sent[f"/v2/app/blobs/{blob}"] <= len(registry.blobs[blob]) + (1 << 20)
        (second,) = registry.requests(f"GET .*{blob}")[1:]
        assert int(second.headers["range"].removeprefix("bytes=").rstrip("-")) >= 3 << 20
