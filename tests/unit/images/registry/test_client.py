"""The API, against a registry that does what real ones do on bad days."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from orchestrator.images.registry.client import MOST_MANIFEST_BYTES, Client
from orchestrator.images.registry.credentials import Credential
from orchestrator.images.registry.faults import Fault, Kind, error_of
from orchestrator.images.registry.settings import Endpoint, RegistrySettings, Settings
from orchestrator.images.registry.wire import Wire
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest, digest_of
from orchestrator.images.spec.media_types import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from orchestrator.values import replace
from tests.unit.images.registry.server import (
    Answer,
    FakeRegistry,
    Trouble,
    answers,
    cuts,
    cuts_after,
    drips,
    patience,
    stalls,
    stalls_after,
    writes,
)

ANN = Credential("ann", "secret")
BASIC = f"Basic {base64.b64encode(b'ann:secret').decode()}"
DOCUMENT = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": []}


@asynccontextmanager
async def client_of(
    registry: FakeRegistry, settings: Settings, credential: Credential | None = None, **more: Any
) -> AsyncIterator[Client]:
    """Of the repository ``app``."""
    async with Wire(settings) as wire:
        yield Client(wire, settings.endpoint(registry.host), "app", credential, **more)


async def fault_in(registry: FakeRegistry, settings: Settings, credential: Credential | None = None) -> Fault:
    """What asking for ``app:latest`` ends with."""
    async with client_of(registry, settings, credential) as client:
        with pytest.raises(Fault) as caught:
            await client.manifest("latest")
    assert caught.value.registry == registry.host
    assert caught.value.hint
    return caught.value


# Manifests


async def test_a_manifest_comes_with_its_type_and_digest(registry: FakeRegistry, settings: Settings) -> None:
    digest = registry.add_manifest("app", "latest", DOCUMENT)
    async with client_of(registry, settings) as client:
        found = await client.manifest("latest")
        assert (found.raw, found.media_type, found.digest) == (json.dumps(DOCUMENT).encode(), OCI_MANIFEST, digest)
        assert await client.manifest(digest) == found
        assert await client.head_manifest("latest") == digest
        assert await client.head_manifest("other") is None
    (seen,) = registry.requests("GET /v2/app/manifests/latest")
    assert {OCI_MANIFEST, OCI_INDEX} < set(seen.headers["accept"].split(", "))
    assert seen.headers["accept-encoding"] == "identity"
    assert "authorization" not in seen.headers


async def test_a_manifest_of_sha512_is_verified_too(registry: FakeRegistry, settings: Settings) -> None:
    raw = json.dumps(DOCUMENT).encode()
    registry.manifests["app", "sha512:" + "0" * 128] = (raw, OCI_MANIFEST)
    async with client_of(registry, settings) as client:
        with pytest.raises(Fault) as caught:
            await client.manifest("sha512:" + "0" * 128)
    assert caught.value.kind is Kind.WRONG_DIGEST


async def test_another_manifest_than_the_digest_says_is_refused(registry: FakeRegistry, settings: Settings) -> None:
    wanted = digest_of(b"something else")
    registry.manifests["app", wanted] = (json.dumps(DOCUMENT).encode(), OCI_MANIFEST)
    async with client_of(registry, settings) as client:
        with pytest.raises(Fault) as caught:
            await client.manifest(wanted)
    assert caught.value.kind is Kind.WRONG_DIGEST
    assert wanted in str(caught.value)


async def test_a_registry_whose_header_says_another_digest_is_told(registry: FakeRegistry, settings: Settings) -> None:
    headers = {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": digest_of(b"x")}
    registry.plant("GET /v2/app/manifests", answers(200, headers, b"{}"))
    assert (await fault_in(registry, settings)).kind is Kind.WRONG_DIGEST


@pytest.mark.parametrize(
    ("trouble", "times", "kind"),
    [
        (answers(200, {}, b" " * (MOST_MANIFEST_BYTES + 1)), 1, Kind.TOO_LARGE),
        (answers(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>"), 1, Kind.NOT_A_REGISTRY),
        (answers(403), 1, Kind.DENIED),
        (answers(404), 1, Kind.NOT_FOUND),
        (answers(418), 1, Kind.UNEXPECTED),
        (answers(429), 3, Kind.THROTTLED),
        (answers(429, {"Retry-After": "3600"}), 1, Kind.THROTTLED),
        (answers(500), 3, Kind.BROKEN),
        (answers(503, {"Retry-After": "0"}), 3, Kind.BROKEN),
        (cuts, 3, Kind.CUT),
        (stalls, 3, Kind.STALLED),
        (stalls_after(2), 3, Kind.STALLED),
        (cuts_after(2), 3, Kind.CUT),
        (drips, 3, Kind.STALLED),
        (writes(b"SSH-2.0-OpenSSH_9\r\n"), 3, Kind.CUT),
        (writes(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), 3, Kind.CUT),
        (answers(302, {"Location": "ftp://example.org/"}), 1, Kind.REDIRECT),
        (answers(302, {"Location": "http://me:pw@127.0.0.1/"}), 1, Kind.REDIRECT),
        (answers(302, {"Location": "http://[::1"}), 1, Kind.REDIRECT),
        (answers(302, {"Location": "/v2/app/manifests/latest"}), 6, Kind.REDIRECT),
        (answers(304), 1, Kind.UNEXPECTED),
    ],
)
async def test_each_trouble_is_one_clear_fault_after_as_many_attempts(
    registry: FakeRegistry, settings: Settings, trouble: Trouble, times: int, kind: Kind
) -> None:
    registry.add_manifest("app", "latest", DOCUMENT)
    registry.plant("GET /v2/app/manifests", trouble, times=times)
    assert (await fault_in(registry, patience(settings, trouble))).kind is kind
    assert len(registry.requests("GET /v2/app/manifests")) == times


@pytest.mark.parametrize("trouble", [answers(500), answers(429, {"Retry-After": "0"}), cuts, stalls, cuts_after(3)])
async def test_trouble_that_passes_is_not_noticed(registry: FakeRegistry, settings: Settings, trouble: Trouble) -> None:
    digest = registry.add_manifest("app", "latest", DOCUMENT)
    registry.plant("GET /v2/app/manifests", trouble, times=2)
    async with client_of(registry, patience(settings, trouble)) as client:
        assert (await client.manifest("latest")).digest == digest


async def test_what_a_registry_says_of_its_refusal_is_told_and_bounded(registry: FakeRegistry, settings: Settings) -> None:
    said = {"errors": [{"code": "DENIED", "message": "pull\naccess " + "x" * 5000}]}
    registry.plant("GET /v2/app/manifests", answers(403, {}, json.dumps(said).encode()))
    error = error_of(await fault_in(registry, settings), "cannot pull app")
    told = f"cannot pull app: registry {registry.host}: it denies access (HTTP 403: DENIED: pull access xxx"
    assert error.message.startswith(told)
    assert len(error.message) < 500
    assert "\n" not in error.message


async def test_how_long_a_registry_asks_to_wait_is_told(registry: FakeRegistry, settings: Settings) -> None:
    registry.plant("GET /v2/app/manifests", answers(429, {"Retry-After": "3600"}))
    assert "it asks us to wait 3600 s" in str(await fault_in(registry, settings))


# Finding the registry


async def test_nobody_listens(settings: Settings) -> None:
    with FakeRegistry() as gone:
        host = gone.host
    async with Wire(settings) as wire:
        with pytest.raises(Fault) as caught:
            await Client(wire, settings.endpoint(host), "app", None).ping()
    assert caught.value.kind is Kind.REFUSED
    assert host in str(caught.value)


async def test_an_unknown_host_is_told(settings: Settings) -> None:
    async with Wire(settings) as wire:
        with pytest.raises(Fault) as caught:
            await Client(wire, settings.endpoint("registry.invalid"), "app", None).ping()
    # Without a network nobody can say that it is unknown.
    assert caught.value.kind in (Kind.UNKNOWN_HOST, Kind.UNREACHABLE)
    assert "registry.invalid" in str(caught.value)


@pytest.mark.parametrize(("status", "body"), [(404, b"<html>"), (204, b""), (301, b"")])
async def test_what_is_no_registry_is_told(registry: FakeRegistry, settings: Settings, status: int, body: bytes) -> None:
    registry.plant("GET /v2/$", answers(status, {"Content-Type": "text/html"}, body))
    assert (await fault_in(registry, settings)).kind is Kind.NOT_A_REGISTRY


async def test_tls_is_tried_before_a_loopback_registry_is_asked_without(registry: FakeRegistry, settings: Settings) -> None:
    hello = []
    with FakeRegistry() as plain:
        read = plain._serve

        def serve(connection: Any) -> None:
            hello.append(connection.recv(1, 2))  # MSG_PEEK
            read(connection)

        plain._serve = serve  # type: ignore[method-assign]
        plain.add_manifest("app", "latest", DOCUMENT)
        async with client_of(plain, settings) as client:
            await client.manifest("latest")
    assert hello == [b"\x16", b"G"]


async def test_a_registry_elsewhere_is_never_asked_without_tls(registry: FakeRegistry, settings: Settings) -> None:
    async with Wire(settings) as wire:
        strict = replace(settings.endpoint(registry.host), plain=False)
        with pytest.raises(Fault) as caught:
            await Client(wire, strict, "app", ANN).ping()
    assert caught.value.kind is Kind.NO_TLS
    assert "insecure = true" in caught.value.hint
    assert registry.seen == []


async def test_a_proxy_is_taken_from_the_environment_but_not_for_loopback(
    registry: FakeRegistry, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add_manifest("app", "latest", DOCUMENT)
    with FakeRegistry() as proxy:
        proxy.add_manifest("app", "latest", DOCUMENT)
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}")
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")
        async with Wire(settings) as wire:
            far = Endpoint("registry.example", "registry.example", "http", plain=True)
            await Client(wire, far, "app", None).manifest("latest")
            await Client(wire, settings.endpoint(registry.host), "app", None).manifest("latest")
        assert [seen.target for seen in proxy.seen] == [
            "http://registry.example/v2/",
            "http://registry.example/v2/app/manifests/latest",
        ]


# Who may


async def test_basic_is_answered_and_only_when_it_is_asked_for(registry: FakeRegistry, settings: Settings) -> None:
    registry.challenge, registry.accepted = 'Basic realm="r"', frozenset({BASIC})
    digest = registry.add_manifest("app", "latest", DOCUMENT)
    async with client_of(registry, settings, ANN) as client:
        assert (await client.manifest("latest")).digest == digest
    assert [seen.headers.get("authorization") for seen in registry.seen] == [None, BASIC]


@pytest.mark.parametrize(
    ("credential", "kind", "says"),
    [(None, Kind.LOGIN_NEEDED, "it wants a login"), (Credential("ann", "wrong"), Kind.LOGIN_REFUSED, "refuses the login")],
)
@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
async def test_without_the_right_login_the_hint_is_how_to_log_in(
    registry: FakeRegistry, settings: Settings, scheme: str, credential: Credential | None, kind: Kind, says: str
) -> None:
    registry.challenge = f'{scheme} realm="http://{registry.host}/token"'
    registry.plant("GET /token", answers(401), times=9)
    fault = await fault_in(registry, settings, credential)
    assert fault.kind is kind
    assert says in str(fault)
    assert f"pystack login {registry.host}" in fault.hint


async def test_a_401_without_a_challenge_is_told(registry: FakeRegistry, settings: Settings) -> None:
    registry.plant("GET /v2/$", answers(401))
    assert (await fault_in(registry, settings, ANN)).kind is Kind.UNEXPECTED


def gives_token(text: str, **more: object) -> Trouble:
    return answers(200, {}, json.dumps({"token": text, **more}).encode())


async def test_a_token_is_asked_for_once_and_used_for_everything(registry: FakeRegistry, settings: Settings) -> None:
    registry.challenge = f'Bearer realm="http://{registry.host}/token?x=1",service="reg",scope="repository:app:pull"'
    registry.accepted = frozenset({"Bearer one"})
    registry.plant("GET /token", gives_token("one", expires_in=300))
    registry.add_manifest("app", "latest", DOCUMENT)
    async with client_of(registry, settings, ANN, actions="pull,push", also=("other",)) as client:
        await client.manifest("latest")
        assert not await client.has_blob(digest_of(b"x"))
    (asked,) = registry.requests("GET /token")
    assert asked.target == "/token?x=1&service=reg&scope=repository:app:pull,push&scope=repository:other:pull&account=ann"
    assert asked.headers["authorization"] == BASIC
    assert {seen.headers.get("authorization") for seen in registry.requests("HEAD|GET /v2/app")} == {"Bearer one"}


async def test_a_token_that_is_not_taken_any_more_is_replaced(registry: FakeRegistry, settings: Settings) -> None:
    registry.challenge = f'Bearer realm="http://{registry.host}/token"'
    registry.accepted = frozenset({"Bearer one"})
    registry.plant("GET /token", gives_token("one"))
    registry.plant("GET /token", gives_token("two"))
    registry.add_manifest("app", "latest", DOCUMENT)
    async with client_of(registry, settings) as client:
        await client.manifest("latest")
        registry.accepted = frozenset({"Bearer two"})
        await client.manifest("latest")
    assert len(registry.requests("GET /token")) == 2
    assert all("authorization" not in seen.headers for seen in registry.requests("GET /token"))


async def test_a_token_is_renewed_before_it_expires(registry: FakeRegistry, settings: Settings) -> None:
    registry.challenge = f'Bearer realm="http://{registry.host}/token"'
    registry.accepted = frozenset({"Bearer one", "Bearer two"})
    registry.plant("GET /token", gives_token("one", expires_in=1e-9))
    registry.plant("GET /token", answers(200, {}, b'{"access_token": "two"}'))
    registry.add_manifest("app", "latest", DOCUMENT)
    async with client_of(registry, settings) as client:
        await client.manifest("latest")
        await client.manifest("latest")
    sent = [seen.headers["authorization"] for seen in registry.requests("GET /v2/app")]
    assert sent == ["Bearer one", "Bearer two"]


async def test_a_refresh_token_is_posted_to_the_realm_alone(registry: FakeRegistry, settings: Settings) -> None:
    registry.challenge = f'Bearer realm="http://{registry.host}/token",service="a b"'
    registry.accepted = frozenset({"Bearer one"})
    registry.plant("POST /token", gives_token("one"))
    registry.add_manifest("app", "latest", DOCUMENT)
    async with client_of(registry, settings, Credential(identity_token="re/fresh")) as client:
        await client.manifest("latest")
    (posted,) = registry.requests("POST /token")
    assert posted.body == (
        b"grant_type=refresh_token&service=a+b&client_id=pystack&scope=repository%3Aapp%3Apull&refresh_token=re%2Ffresh"
    )
    assert "authorization" not in posted.headers


@pytest.mark.parametrize(
    ("trouble", "times", "kind"),
    [
        (answers(200, {}, b"<html>"), 1, Kind.UNEXPECTED),
        (answers(200, {}, b"[]"), 1, Kind.UNEXPECTED),
        (gives_token(""), 1, Kind.UNEXPECTED),
        (gives_token("a\r\nX-Evil: 1"), 1, Kind.UNEXPECTED),
        (answers(200, {}, b" " * (2 << 20)), 1, Kind.TOO_LARGE),
        (answers(404), 1, Kind.UNEXPECTED),
        (answers(500), 3, Kind.BROKEN),
        (stalls, 3, Kind.STALLED),
    ],
)
async def test_a_realm_in_trouble(
    registry: FakeRegistry, settings: Settings, trouble: Trouble, times: int, kind: Kind
) -> None:
    registry.challenge = f'Bearer realm="http://{registry.host}/token"'
    registry.plant("GET /token", trouble, times=times)
    assert (await fault_in(registry, patience(settings, trouble), ANN)).kind is kind
    assert len(registry.requests("GET /token")) == times


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "http://", "x", "http://[", "https://me:pw@auth.example/"])
async def test_a_realm_that_is_no_address_gets_nothing(registry: FakeRegistry, settings: Settings, realm: str) -> None:
    registry.challenge = f'Bearer realm="{realm}"'
    assert (await fault_in(registry, settings, ANN)).kind is Kind.UNEXPECTED


# Redirects


async def test_another_host_gets_no_credentials_and_the_same_one_does(registry: FakeRegistry, settings: Settings) -> None:
    registry.challenge, registry.accepted = 'Basic realm="r"', frozenset({BASIC})
    digest = registry.add_manifest("app", "real", DOCUMENT)
    with FakeRegistry() as storage:
        storage.manifests[("app", "stored")] = registry.manifests["app", "real"]
        registry.plant("GET /v2/app/manifests/latest", answers(307, {"Location": "/v2/app/manifests/moved"}))
        there = f"http://{storage.host}/v2/app/manifests/stored"
        registry.plant("GET /v2/app/manifests/moved", answers(302, {"Location": there, "Set-Cookie": "a=b"}))
        async with client_of(registry, settings, ANN) as client:
            assert (await client.manifest("latest")).digest == digest
            assert (await client.manifest("real")).digest == digest
        (seen,) = storage.requests("GET /v2/app")
        assert "authorization" not in seen.headers
    assert registry.requests("GET /v2/app/manifests/moved")[0].headers["authorization"] == BASIC
    assert all("cookie" not in seen.headers for seen in registry.seen)


async def test_another_host_that_wants_a_login_is_not_answered(registry: FakeRegistry, settings: Settings) -> None:
    registry.add_manifest("app", "latest", DOCUMENT)
    with FakeRegistry() as storage:
        storage.challenge = 'Basic realm="r"'
        registry.plant("GET /v2/app", answers(307, {"Location": f"http://{storage.host}/v2/x"}), times=9)
        assert (await fault_in(registry, settings, ANN)).kind is Kind.LOGIN_REFUSED
        assert all("authorization" not in seen.headers for seen in storage.seen)


async def test_what_is_written_is_not_redirected_elsewhere(registry: FakeRegistry, settings: Settings) -> None:
    with FakeRegistry() as other:
        registry.plant("PUT", answers(307, {"Location": f"http://{other.host}/"}))
        async with client_of(registry, settings) as client:
            with pytest.raises(Fault) as caught:
                await client.put_manifest("latest", b"{}", OCI_MANIFEST)
        assert other.seen == []
    assert caught.value.kind is Kind.REDIRECT


# Tags, configurations


async def test_tags_come_over_all_pages(registry: FakeRegistry, settings: Settings) -> None:
    for tag in ("a", "b", "c", "d", "e"):
        registry.add_manifest("app", tag, DOCUMENT)
    async with client_of(registry, settings) as client:
        assert await client.tags() == ["a", "b", "c", "d", "e"]
    assert len(registry.requests("GET /v2/app/tags")) == 3


@pytest.mark.parametrize(
    "trouble",
    [
        answers(200, {}, b'{"tags": 1}'),
        answers(200, {"Link": '<http://example.org/>; rel="next"'}, b'{"tags": []}'),
    ],
)
async def test_a_list_of_tags_that_is_none_is_told(registry: FakeRegistry, settings: Settings, trouble: Trouble) -> None:
    registry.plant("GET /v2/app/tags", trouble)
    async with client_of(registry, settings) as client:
        with pytest.raises(Fault, match="its list of tags is none"):
            await client.tags()


@pytest.mark.parametrize(
    ("size", "digest", "kind"),
    [
        (5, None, None),
        (4, None, Kind.WRONG_SIZE),
        (5, digest_of(b"other"), Kind.WRONG_DIGEST),
        (1 << 40, None, Kind.TOO_LARGE),
    ],
)
async def test_a_configuration_is_verified(
    registry: FakeRegistry, settings: Settings, size: int, digest: Digest | None, kind: Kind | None
) -> None:
    blob = Descriptor(OCI_CONFIG, digest or Digest(registry.add_blob(b"12345")), size)
    registry.blobs[blob.digest] = b"12345"
    async with client_of(registry, settings) as client:
        if kind is None:
            assert await client.small_blob(blob) == b"12345"
            return
        with pytest.raises(Fault) as caught:
            await client.small_blob(blob)
    assert caught.value.kind is kind


async def test_a_mirror_s_prefix_stands_before_the_repository(registry: FakeRegistry, settings: Settings) -> None:
    registry.add_manifest("hub/library/redis", "7", DOCUMENT)
    mirrored = replace(settings, registries={"docker.io": RegistrySettings(mirrors=(f"http://{registry.host}/hub",))})
    endpoint: Endpoint = mirrored.endpoints("docker.io")[0]
    async with Wire(mirrored) as wire:
        await Client(wire, endpoint, "library/redis", None).manifest("7")



@pytest.mark.parametrize("answer", [Answer(200), Answer(404)])
async def test_whether_a_blob_is_there(registry: FakeRegistry, settings: Settings, answer: Answer) -> None:
    registry.plant("HEAD", lambda *_: answer)
    async with client_of(registry, settings) as client:
        assert await client.has_blob(digest_of(b"x")) is (answer.status == 200)
