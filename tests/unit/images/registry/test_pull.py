"""A name becomes an image of the store, or one clear error."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.images import Transfer
from orchestrator.errors import OperationError
from orchestrator.images.reference import Named
from orchestrator.images.registry.credentials import Credentials
from orchestrator.images.registry.pull import pull
from orchestrator.images.registry.push import push
from orchestrator.images.registry.settings import RegistrySettings, Settings
from orchestrator.images.spec.digest import Digest, digest_of, short
from orchestrator.images.spec.media_types import OCI_LAYER_GZIP, OCI_MANIFEST
from orchestrator.images.spec.platform import Platform, host_platform
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.values import replace
from tests.unit.images.registry.images import Made, publish, publish_index
from tests.unit.images.registry.server import (
    FakeRegistry,
    Trouble,
    answers,
    cuts,
    cuts_after,
    patience,
    stalls_after,
)
from tests.unit.images.registry.test_client import BASIC

NOBODY = Credentials({})
BIG = os.urandom(3 << 20)
FOREIGN = "s390x"


class Told:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.transfers: list[Transfer] = []

    def __call__(self, part: str | Transfer) -> None:
        if isinstance(part, str):
            self.sentences.append(part)
        else:
            self.transfers.append(part)

    def actions(self, blob: Digest) -> list[str]:
        """What became of a blob, each action once."""
        return list(dict.fromkeys(each.action for each in self.transfers if each.part == short(blob)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "images"))


async def get(
    store: Store,
    registry: FakeRegistry,
    settings: Settings,
    *,
    told: Told | None = None,
    platform: Platform | None = None,
    digest: Digest | None = None,
) -> StoredImage:
    """Pull ``app:1``."""
    named = Named(registry.host, "app", "" if digest is not None else "1", digest)
    return await pull(store, named, platform, told or Told(), settings=settings, credentials=NOBODY)


async def error_in(
    store: Store, registry: FakeRegistry, settings: Settings, platform: Platform | None = None
) -> OperationError:
    """What pulling ``app:1`` ends with. Nothing of it can be seen afterwards."""
    with pytest.raises(OperationError) as caught:
        await get(store, registry, settings, platform=platform)
    assert store.images() == []
    assert dict(store.names()) == {}
    assert f"{registry.host}/app:1" in caught.value.message
    return caught.value


def tree(image: StoredImage) -> dict[str, bytes]:
    """The files of all layers; of two with the same name the upper one's."""
    return {
        path.name: path.read_bytes() for layer in image.layers for path in Path(layer.path).rglob("*") if path.is_file()
    }


# What goes well


async def test_an_image_is_pulled_named_and_told(store: Store, registry: FakeRegistry, settings: Settings) -> None:
    made = publish(registry, "app", "1", [{"a": b"1", "b": b"1"}, {"b": b"2"}])
    told = Told()
    image = await get(store, registry, settings, told=told)
    assert (image.id, tree(image)) == (made.config, {"a": b"1", "b": b"2"})
    assert image.names == (f"{registry.host}/app:1",)
    assert store.names()[f"{registry.host}/app:1"].digest == made.manifest
    assert [told.actions(blob) for blob in made.blobs] == [["waiting", "pulling", "unpacking", "done"]] * 2
    assert told.transfers[-1].done_bytes == told.transfers[-1].total_bytes


async def test_layers_that_are_there_are_not_fetched(store: Store, registry: FakeRegistry, settings: Settings) -> None:
    base = publish(registry, "app", "1", [{"a": b"1"}])
    await get(store, registry, settings)
    made = publish(registry, "app", "1", [{"a": b"1"}, {"b": b"2"}])
    told = Told()
    image = await get(store, registry, settings, told=told)
    assert image.id == made.config
    assert told.actions(base.blobs[0]) == ["shared"]
    assert len(registry.requests(f"GET .*{base.blobs[0]}")) == 1


async def test_a_name_that_still_means_the_same_costs_no_download(
    store: Store, registry: FakeRegistry, settings: Settings
) -> None:
    publish_index(registry, "app", "1", {host_platform().architecture: publish(registry, "app", "x", [{"a": b"1"}])})
    first = await get(store, registry, settings)
    registry.seen.clear()
    assert await get(store, registry, settings) == first
    assert [seen.method for seen in registry.seen if seen.path != "/v2/"] == ["HEAD"]


async def test_a_digest_that_is_there_costs_no_request(store: Store, registry: FakeRegistry, settings: Settings) -> None:
    made = publish(registry, "app", "1", [{"a": b"1"}])
    image = await get(store, registry, settings, digest=made.manifest)
    assert image.names == (f"{registry.host}/app@{made.manifest}",)
    registry.seen.clear()
    assert await get(store, registry, settings, digest=made.manifest) == image
    assert registry.seen == []


async def test_of_an_index_the_platform_is_taken(store: Store, registry: FakeRegistry, settings: Settings) -> None:
    own = publish(registry, "app", "x", [{"a": b"1"}])
    other = publish(registry, "app", "y", [{"a": b"2"}], architecture=FOREIGN)
    index = publish_index(registry, "app", "1", {FOREIGN: other, host_platform().architecture: own})
    assert (await get(store, registry, settings)).id == own.config
    told = Told()
    assert (await get(store, registry, settings, platform=Platform("linux", FOREIGN), told=told)).id == other.config
    assert "binfmt_misc" in told.sentences[0]
    assert store.names()[f"{registry.host}/app:1"].digest == index


async def test_a_layer_that_occurs_twice_comes_once(store: Store, registry: FakeRegistry, settings: Settings) -> None:
    made = publish(registry, "app", "1", [{"a": b"1"}, {"b": b"2"}, {"a": b"1"}])
    assert len((await get(store, registry, settings)).layers) == 3
    assert len(registry.requests(f"GET .*{made.blobs[0]}")) == 1


async def test_no_more_layers_come_at_a_time_than_the_bound(
    store: Store, registry: FakeRegistry, settings: Settings
) -> None:
    made = publish(registry, "app", "1", [{str(number): os.urandom(1000)} for number in range(8)])
    told = Told()
    await get(store, registry, replace(settings, bounds=replace(settings.bounds, downloads=2)), told=told)
    running: set[str] = set()
    for transfer in told.transfers:
        if transfer.action == "pulling":
            change = running.discard if transfer.done_bytes == transfer.total_bytes else running.add
            change(transfer.part)
        assert len(running) <= 2
    assert all(told.actions(blob)[-1] == "done" for blob in made.blobs)


# Mirrors


@pytest.mark.parametrize("trouble", [answers(404), answers(500), cuts, answers(200, {}, b"<html>")])
async def test_a_mirror_in_trouble_is_passed_over(
    store: Store, registry: FakeRegistry, settings: Settings, trouble: Trouble
) -> None:
    publish(registry, "app", "1", [{"a": b"1"}])
    with FakeRegistry() as mirror:
        mirror.plant("GET /v2/.", trouble, times=99)
        mirrored = replace(settings, registries={registry.host: RegistrySettings(mirrors=(mirror.host,))})
        told = Told()
        await get(store, registry, mirrored, told=told)
        assert mirror.host in told.sentences[0]
        assert f"going on with {registry.host}" in told.sentences[0]


async def test_what_a_mirror_has_is_not_asked_of_the_registry(
    store: Store, registry: FakeRegistry, settings: Settings
) -> None:
    with FakeRegistry() as mirror:
        publish(mirror, "hub/app", "1", [{"a": b"1"}])
        mirrored = replace(settings, registries={registry.host: RegistrySettings(mirrors=(f"{mirror.host}/hub",))})
        image = await get(store, registry, mirrored)
    assert image.names == (f"{registry.host}/app:1",)
    assert registry.seen == []


async def test_a_blob_that_a_mirror_lost_comes_from_the_registry(
    store: Store, registry: FakeRegistry, settings: Settings
) -> None:
    made = publish(registry, "app", "1", [{"a": b"1"}])
    with FakeRegistry() as mirror:
        publish(mirror, "app", "1", [{"a": b"1"}])
        del mirror.blobs[made.blobs[0]]
        mirrored = replace(settings, registries={registry.host: RegistrySettings(mirrors=(mirror.host,))})
        assert (await get(store, registry, mirrored)).id == made.config


async def test_a_mirror_gets_its_own_credentials_and_no_others(
    store: Store, registry: FakeRegistry, settings: Settings, tmp_path: Path
) -> None:
    made = publish(registry, "app", "1", [{"a": b"1"}])
    registry.challenge, registry.accepted = 'Basic realm="r"', frozenset({BASIC})
    config = {"auths": {registry.host: {"username": "ann", "password": "secret"}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with FakeRegistry() as mirror:
        mirror.challenge = 'Basic realm="r"'
        mirrored = replace(settings, registries={registry.host: RegistrySettings(mirrors=(mirror.host,))})
        credentials, named = Credentials({"DOCKER_CONFIG": str(tmp_path)}), Named(registry.host, "app", "1")
        image = await pull(store, named, None, Told(), settings=mirrored, credentials=credentials)
        assert mirror.seen
        assert all("authorization" not in seen.headers for seen in mirror.seen)
    assert image.id == made.config


async def test_other_addresses_of_a_layer_are_never_asked(
    store: Store, registry: FakeRegistry, settings: Settings
) -> None:
    made = publish(registry, "app", "1", [{"a": b"1"}])
    document = json.loads(registry.manifests["app", "1"][0])
    with FakeRegistry() as other:
        document["layers"][0]["urls"] = [f"http://{other.host}/layer"]
        registry.add_manifest("app", "1", document)
        assert (await get(store, registry, settings)).id == made.config
        assert other.seen == []


# Trouble that passes


@pytest.mark.parametrize("trouble", [cuts, cuts_after(2 << 20), stalls_after(2 << 20), answers(503)])
async def test_a_layer_that_is_cut_goes_on_where_it_was(
    store: Store, registry: FakeRegistry, settings: Settings, trouble: Trouble
) -> None:
    made = publish(registry, "app", "1", [{"big": BIG}])
    (blob,) = made.blobs
    registry.plant(f"GET .*{blob}", trouble, times=2)
    image = await get(store, registry, patience(settings, trouble))
    assert tree(image) == {"big": BIG}
    sent = registry.sent[f"/v2/app/blobs/{blob}"]
    assert sent < len(registry.blobs[blob]) * 1.5


async def test_a_server_without_ranges_sends_everything_again(
    store: Store, registry: FakeRegistry, settings: Settings
) -> None:
    made = publish(registry, "app", "1", [{"big": BIG}])
    registry.ranges = False
    registry.plant(f"GET .*{made.blobs[0]}", cuts_after(2 << 20))
    assert tree(await get(store, registry, settings)) == {"big": BIG}


async def test_what_an_earlier_process_left_is_used(store: Store, registry: FakeRegistry, settings: Settings) -> None:
    made = publish(registry, "app", "1", [{"big": BIG}])
    (blob,) = made.blobs
    with store.ingest(blob, len(registry.blobs[blob])) as ingest:
        ingest.write(registry.blobs[blob][: 2 << 20])
    assert tree(await get(store, registry, settings)) == {"big": BIG}
    assert registry.sent[f"/v2/app/blobs/{blob}"] == len(registry.blobs[blob]) - (2 << 20)


async def test_wrong_bytes_of_an_earlier_process_are_fetched_again(
    store: Store, registry: FakeRegistry, settings: Settings
) -> None:
    made = publish(registry, "app", "1", [{"big": BIG}])
    with store.ingest(made.blobs[0], len(registry.blobs[made.blobs[0]])) as ingest:
        ingest.write(b"\0" * (1 << 20))
    assert tree(await get(store, registry, settings)) == {"big": BIG}


async def test_a_cancelled_pull_leaves_what_came_and_nothing_else(
    store: Store, registry: FakeRegistry, settings: Settings
) -> None:
    made = publish(registry, "app", "1", [{"big": BIG}])
    (blob,) = made.blobs
    registry.plant(f"GET .*{blob}", stalls_after(2 << 20))
    came = trio.Event()

    def told(part: str | Transfer) -> None:
        if isinstance(part, Transfer) and part.done_bytes >= 1 << 20:
            came.set()

    async with trio.open_nursery() as nursery:
        named = Named(registry.host, "app", "1")
        nursery.start_soon(functools.partial(pull, store, named, None, told, settings=settings, credentials=NOBODY))
        await came.wait()
        nursery.cancel_scope.cancel()
    assert (store.images(), dict(store.names()), store.blob(blob)) == ([], {}, None)
    assert tree(await get(store, registry, settings)) == {"big": BIG}
    assert registry.sent[f"/v2/app/blobs/{blob}"] < len(registry.blobs[blob]) * 1.5


async def test_a_pull_that_is_cancelled_while_it_unpacks_leaves_no_layer(
    store: Store, registry: FakeRegistry, settings: Settings, tmp_path: Path
) -> None:
    publish(registry, "app", "1", [{"big": BIG}])
    with trio.CancelScope() as scope:

        def told(part: str | Transfer) -> None:
            if isinstance(part, Transfer) and part.action == "unpacking" and part.done_bytes:
                scope.cancel()

        named = Named(registry.host, "app", "1")
        await pull(store, named, None, told, settings=settings, credentials=NOBODY)
    assert scope.cancelled_caught
    left = [path for name in ("layers", "tmp", "leases") for path in (tmp_path / "images" / name).glob("*")]
    assert left == []


# Trouble that does not pass


async def test_an_image_that_is_not_there(store: Store, registry: FakeRegistry, settings: Settings) -> None:
    error = await error_in(store, registry, settings)
    assert error.message == (
        f"cannot pull {registry.host}/app:1: registry {registry.host}: it has no such image "
        "(HTTP 404: MANIFEST_UNKNOWN: manifest unknown)"
    )
    assert error.hint == "check the name and the tag"


async def test_an_index_without_the_platform_tells_what_there_is(
    store: Store, registry: FakeRegistry, settings: Settings
) -> None:
    made = publish(registry, "app", "x", [{"a": b"1"}], architecture=FOREIGN)
    publish_index(registry, "app", "1", {FOREIGN: made})
    error = await error_in(store, registry, settings)
    assert f"there is no image for {host_platform()}" in error.message
    assert error.hint == f"it is there for linux/{FOREIGN}"


async def test_an_image_of_another_processor_is_told_with_what_it_needs(
    store: Store, registry: FakeRegistry, settings: Settings
) -> None:
    publish(registry, "app", "1", [{"a": b"1"}], architecture=FOREIGN)
    error = await error_in(store, registry, settings)
    assert f"it is an image for linux/{FOREIGN}, not for {host_platform()}" in error.message
    assert "binfmt_misc" in str(error.hint)
    assert f"platform: linux/{FOREIGN}" in str(error.hint)
    assert f"qemu-{FOREIGN}" in str(error.hint)


async def test_an_image_of_this_machine_needs_no_emulator_when_another_was_asked_for(
    store: Store, registry: FakeRegistry, settings: Settings
) -> None:
    publish(registry, "app", "1", [{"a": b"1"}])
    error = await error_in(store, registry, settings, platform=Platform("linux", FOREIGN))
    assert f"it is an image for {host_platform()}, not for linux/{FOREIGN}" in error.message
    assert error.hint == f"ask for it with `platform: {host_platform()}`: this machine runs its programs"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"manifests": []}, "both manifests and layers"),
        ({"layers": []}, "its configuration has 1 layers and its manifest 0"),
        ({"mediaType": "application/vnd.docker.distribution.manifest.v1+json"}, "schema 1"),
        ({"layers": [{"mediaType": OCI_LAYER_GZIP, "digest": "sha256:../../x", "size": 1}]}, "is not a digest"),
        ({"layers": [{"mediaType": OCI_LAYER_GZIP, "digest": digest_of(b""), "size": -1}]}, "out of its range"),
    ],
)
async def test_a_manifest_that_is_none_is_refused(
    store: Store, registry: FakeRegistry, settings: Settings, changed: Mapping[str, object], says: str
) -> None:
    publish(registry, "app", "1", [{"a": b"1"}], changed=changed)
    assert says in (await error_in(store, registry, settings)).message


def spoil(registry: FakeRegistry, made: Made, how: str) -> None:
    """Have the registry lie about the layer."""
    (blob,) = made.blobs
    data = registry.blobs[blob]
    wrong = {"longer": data + b"x", "shorter": data[:-1], "other": data[:-1] + bytes([data[-1] ^ 1])}
    if how in wrong:
        registry.blobs[blob] = wrong[how]
    elif how == "endless":
        registry.plant(f"GET .*{blob}", answers(200, {"Transfer-Encoding": "chunked"}, chunked(data * 3)), times=9)
    else:
        del registry.blobs[blob]


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("longer", "has not the size that it should have"),
        ("shorter", "has not the size that it should have"),
        ("endless", "has not the size that it should have"),
        ("other", "has not the digest that it should have"),
        ("missing", "BLOB_UNKNOWN"),
    ],
)
async def test_a_layer_that_is_not_what_it_was_said_to_be(
    store: Store, registry: FakeRegistry, settings: Settings, how: str, says: str
) -> None:
    made = publish(registry, "app", "1", [{"a": b"1"}])
    spoil(registry, made, how)
    error = await error_in(store, registry, settings)
    assert says in error.message
    assert store.blob(made.blobs[0]) is None


async def test_a_layer_whose_content_has_another_diff_id_is_refused(
    store: Store, registry: FakeRegistry, settings: Settings
) -> None:
    made = publish(registry, "app", "1", [{"a": b"1"}])
    config = json.loads(registry.blobs[made.config])
    config["rootfs"]["diff_ids"] = [digest_of(b"another")]
    raw = json.dumps(config).encode()
    document = json.loads(registry.manifests["app", "1"][0])
    document["config"] |= {"digest": registry.add_blob(raw), "size": len(raw)}
    registry.add_manifest("app", "1", document, OCI_MANIFEST)
    assert f"layer {short(made.blobs[0])}" in (await error_in(store, registry, settings)).message


async def test_the_first_failing_layer_ends_the_others(store: Store, registry: FakeRegistry, settings: Settings) -> None:
    made = publish(registry, "app", "1", [{"big": BIG}, {"a": b"1"}])
    registry.plant(f"GET .*{made.blobs[0]}", stalls_after(2 << 20))
    del registry.blobs[made.blobs[1]]
    with trio.fail_after(15):
        assert "BLOB_UNKNOWN" in (await error_in(store, registry, settings)).message


# Push


async def test_what_was_pulled_is_pushed_as_it_was(store: Store, registry: FakeRegistry, settings: Settings) -> None:
    made = publish(registry, "app", "1", [{"a": b"1"}, {"b": b"2"}])
    image = await get(store, registry, settings)
    with FakeRegistry() as other:
        named = Named(other.host, "team/app", "2")
        digest = await push(store, image, named, Told(), settings=settings, credentials=NOBODY)
        assert digest == made.manifest
        assert other.manifests["team/app", "2"] == registry.manifests["app", "1"]
        assert other.blobs == registry.blobs
        assert other.requests("PUT .*/manifests/2")[0] == other.seen[-1]
        told = Told()
        await push(store, image, named, told, settings=settings, credentials=NOBODY)
        assert [told.actions(blob) for blob in made.blobs] == [["waiting", "shared"]] * 2
        assert len(other.requests("POST")) == 3


async def test_layers_of_another_repository_are_mounted(store: Store, registry: FakeRegistry, settings: Settings) -> None:
    made = publish(registry, "app", "1", [{"a": b"1"}])
    image = await get(store, registry, settings)
    registry.plant("HEAD .*/blobs/", answers(404), times=9)
    told = Told()
    await push(store, image, Named(registry.host, "other", "1"), told, settings=settings, credentials=NOBODY)
    assert {seen.query.get("from") for seen in registry.requests("POST")} == {"app", None}
    assert told.actions(made.blobs[0]) == ["waiting", "shared"]
    assert registry.manifests["other", "1"] == registry.manifests["app", "1"]


async def test_a_push_that_is_refused_is_told(store: Store, registry: FakeRegistry, settings: Settings) -> None:
    publish(registry, "app", "1", [{"a": b"1"}])
    image = await get(store, registry, settings)
    registry.plant("PUT .*/manifests/", answers(403, {}, b'{"errors": [{"code": "DENIED"}]}'))
    named = Named(registry.host, "app", "2")
    with pytest.raises(OperationError, match=r"cannot push .*it denies access"):
        await push(store, image, named, Told(), settings=settings, credentials=NOBODY)
