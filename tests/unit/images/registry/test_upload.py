"""Blobs go into a registry in one piece, in chunks, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.images.registry import upload as uploads
from orchestrator.images.registry.client import Client
from orchestrator.images.registry.credentials import Credential
from orchestrator.images.registry.faults import Fault, Kind
from orchestrator.images.registry.settings import Settings
from orchestrator.images.registry.upload import upload
from orchestrator.images.registry.wire import Wire
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import digest_of
from orchestrator.images.spec.media_types import OCI_LAYER
from tests.unit.images.registry.server import FakeRegistry, Trouble, answers, cuts
from tests.unit.images.registry.test_client import ANN, BASIC

DATA = os.urandom(3000)


async def send(
    registry: FakeRegistry,
    settings: Settings,
    tmp_path: Path,
    *,
    data: bytes = DATA,
    credential: Credential | None = None,
    mount_from: str = "",
) -> tuple[bool, list[int]]:
    """Upload `data`; whether it was sent, and what was heard of it."""
    path, heard = tmp_path / "blob", list[int]()
    path.write_bytes(data)
    blob = Descriptor(OCI_LAYER, digest_of(data), len(data))
    async with Wire(settings) as wire:
        client = Client(wire, settings.endpoint(registry.host), "app", credential, actions="pull,push")
        return await upload(client, blob, str(path), heard.append, mount_from=mount_from), heard


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK", 1000)


def methods(registry: FakeRegistry) -> list[str]:
    return [seen.method for seen in registry.seen if seen.path != "/v2/"]


@pytest.mark.parametrize("data", [DATA, b""])
async def test_a_small_blob_goes_in_one_piece(
    registry: FakeRegistry, settings: Settings, tmp_path: Path, data: bytes
) -> None:
    sent, heard = await send(registry, settings, tmp_path, data=data)
    assert (sent, registry.blobs[digest_of(data)], methods(registry)) == (True, data, ["POST", "PUT"])
    assert heard == ([len(data)] if data else [])


async def test_the_state_in_the_location_is_kept_as_it_is(
    registry: FakeRegistry, settings: Settings, tmp_path: Path
) -> None:
    await send(registry, settings, tmp_path)
    (put,) = registry.requests("PUT")
    assert put.target == f"/v2/app/blobs/uploads/upload0?_state=x%2By&digest={digest_of(DATA).replace(':', '%3A')}"


@pytest.mark.usefixtures("small_chunks")
async def test_a_large_blob_goes_in_chunks(registry: FakeRegistry, settings: Settings, tmp_path: Path) -> None:
    assert await send(registry, settings, tmp_path) == (True, [1000, 2000, 3000])
    assert methods(registry) == ["POST", "PATCH", "PATCH", "PUT"]
    assert registry.blobs[digest_of(DATA)] == DATA


@pytest.mark.usefixtures("small_chunks")
async def test_chunks_are_as_large_as_the_registry_wants(
    registry: FakeRegistry, settings: Settings, tmp_path: Path
) -> None:
    location = {"Location": "/v2/app/blobs/uploads/upload0", "OCI-Chunk-Min-Length": "2000"}
    registry.uploads["upload0"] = bytearray()
    registry.plant("POST", answers(202, location))
    await send(registry, settings, tmp_path)
    assert [len(seen.body) for seen in registry.requests("PATCH|PUT")] == [2000, 1000]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("trouble", [cuts, answers(500), answers(429, {"Retry-After": "0"})])
async def test_an_upload_goes_on_where_it_was_cut(
    registry: FakeRegistry, settings: Settings, tmp_path: Path, trouble: Trouble
) -> None:
    registry.plant("PATCH .*upload0", answers(202, {"Location": "/v2/app/blobs/uploads/upload0"}))
    registry.uploads = {"upload0": bytearray(DATA[:1000])}
    registry.plant("POST", answers(202, {"Location": "/v2/app/blobs/uploads/upload0"}))
    registry.plant("PATCH .*upload0", trouble, times=2)
    assert (await send(registry, settings, tmp_path))[0]
    assert registry.blobs[digest_of(DATA)] == DATA
    assert len(registry.requests("POST")) == 1
    assert len(registry.requests("GET .*upload0")) == 2


async def test_an_upload_that_the_registry_forgot_is_begun_anew(
    registry: FakeRegistry, settings: Settings, tmp_path: Path
) -> None:
    registry.plant("PUT", cuts)
    registry.plant("GET .*upload0", answers(404))
    assert (await send(registry, settings, tmp_path))[0]
    assert len(registry.requests("POST")) == 2


async def test_a_blob_is_mounted_from_another_repository(
    registry: FakeRegistry, settings: Settings, tmp_path: Path
) -> None:
    registry.add_blob(DATA)
    assert await send(registry, settings, tmp_path, mount_from="team/base") == (False, [])
    (post,) = registry.requests("POST")
    assert post.query == {"mount": digest_of(DATA), "from": "team/base"}


async def test_a_blob_that_cannot_be_mounted_is_sent(registry: FakeRegistry, settings: Settings, tmp_path: Path) -> None:
    assert (await send(registry, settings, tmp_path, mount_from="team/base"))[0]
    assert methods(registry) == ["POST", "PUT"]


async def test_storage_elsewhere_gets_the_bytes_and_no_credentials(
    registry: FakeRegistry, settings: Settings, tmp_path: Path
) -> None:
    registry.challenge, registry.accepted = 'Basic realm="r"', frozenset({BASIC})
    with FakeRegistry() as storage:
        storage.uploads["u"] = bytearray()
        registry.plant("POST", answers(202, {"Location": f"http://{storage.host}/v2/app/blobs/uploads/u"}))
        await send(registry, settings, tmp_path, credential=ANN)
        assert storage.blobs[digest_of(DATA)] == DATA
        assert all("authorization" not in seen.headers for seen in storage.seen)


async def test_a_login_that_is_asked_for_late_costs_one_more_request(
    registry: FakeRegistry, settings: Settings, tmp_path: Path
) -> None:
    registry.accepted = frozenset({BASIC})
    registry.plant("PUT", answers(401, {"WWW-Authenticate": 'Basic realm="r"'}))
    assert (await send(registry, settings, tmp_path, credential=ANN))[0]
    assert [seen.headers.get("authorization") for seen in registry.requests("PUT")] == [None, BASIC]


@pytest.mark.parametrize(
    ("pattern", "trouble", "kind"),
    [
        ("POST", answers(202), Kind.UNEXPECTED),
        ("POST", answers(202, {"Location": "file:///x"}), Kind.UNEXPECTED),
        ("POST", answers(200), Kind.UNEXPECTED),
        ("POST", answers(404), Kind.NOT_FOUND),
        ("POST", answers(403), Kind.DENIED),
        ("PUT", answers(400, {}, b'{"errors": [{"code": "DIGEST_INVALID"}]}'), Kind.UNEXPECTED),
        ("PUT", answers(413), Kind.UNEXPECTED),
    ],
)
async def test_an_upload_that_is_refused_is_told(
    registry: FakeRegistry, settings: Settings, tmp_path: Path, pattern: str, trouble: Trouble, kind: Kind
) -> None:
    registry.plant(pattern, trouble, times=9)
    with pytest.raises(Fault) as caught:
        await send(registry, settings, tmp_path)
    assert caught.value.kind is kind
    assert len(registry.requests(pattern)) == 1


async def test_a_registry_that_keeps_failing_is_given_up(
    registry: FakeRegistry, settings: Settings, tmp_path: Path
) -> None:
    registry.plant("PUT", answers(500), times=9)
    with pytest.raises(Fault) as caught:
        await send(registry, settings, tmp_path)
    assert caught.value.kind is Kind.BROKEN
    assert len(registry.requests("PUT")) == 3
