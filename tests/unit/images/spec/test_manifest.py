"""Manifests and indexes: what is read, what is refused, and which entry fits a platform."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InputError, OperationError
from orchestrator.images.spec import media_types
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest, digest, digest_of
from orchestrator.images.spec.manifest import Index, Manifest, choose, make_index, make_manifest, parse_manifest
from orchestrator.images.spec.platform import Platform, host_platform, parse_platform

A, B = Digest("sha256:" + "a" * 64), Digest("sha256:" + "b" * 64)
CONFIG = {"mediaType": media_types.OCI_CONFIG, "digest": A, "size": 7}
LAYER = {"mediaType": media_types.OCI_LAYER_GZIP, "digest": B, "size": 9}
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": media_types.OCI_MANIFEST,
    "config": CONFIG,
    "layers": [LAYER],
}


def entry(platform: str = "", **more: Any) -> dict[str, Any]:
    parts = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False)) if platform else {}
    made = {"mediaType": media_types.OCI_MANIFEST, "digest": digest_of(platform.encode()), "size": 1, **more}
    return {**made, "platform": parts} if parts else made


def index(*entries: dict[str, Any]) -> Index:
    found = parse_manifest(json.dumps({"schemaVersion": 2, "manifests": list(entries)}).encode())
    assert isinstance(found, Index)
    return found


def written(changes: dict[str, Any]) -> bytes:
    return json.dumps({key: value for key, value in {**MANIFEST, **changes}.items() if value != "absent"}).encode()


def test_a_manifest_says_config_and_layers_and_knows_its_own_digest() -> None:
    raw = written({"annotations": {"a": "b", "c": None}})
    found = parse_manifest(raw, media_types.OCI_MANIFEST)
    assert isinstance(found, Manifest)
    assert found.descriptor == Descriptor(media_types.OCI_MANIFEST, digest_of(raw), len(raw))
    assert (found.config.digest, found.config.size) == (A, 7)
    assert [layer.digest for layer in found.layers] == [B]
    assert (found.annotations, found.raw) == ({"a": "b", "c": ""}, raw)


@pytest.mark.parametrize(
    ("own", "sent", "config", "expected"),
    [
        (media_types.DOCKER_MANIFEST, media_types.DOCKER_MANIFEST, media_types.DOCKER_CONFIG, media_types.DOCKER_MANIFEST),
        ("absent", f"{media_types.DOCKER_MANIFEST}; charset=utf-8", media_types.DOCKER_CONFIG, media_types.DOCKER_MANIFEST),
        ("absent", "text/plain", media_types.DOCKER_CONFIG, media_types.DOCKER_MANIFEST),
        ("absent", None, media_types.OCI_CONFIG, media_types.OCI_MANIFEST),
        (media_types.OCI_MANIFEST, "application/json", media_types.OCI_CONFIG, media_types.OCI_MANIFEST),
    ],
)
def test_its_media_type_is_its_own_or_what_it_was_sent_as(own: str, sent: str | None, config: str, expected: str) -> None:
    raw = written({"mediaType": own, "config": {**CONFIG, "mediaType": config}})
    assert parse_manifest(raw, sent).descriptor.media_type == expected


@pytest.mark.parametrize("media_type", sorted(media_types.LAYERS))
def test_every_media_type_of_a_layer_is_one(media_type: str) -> None:
    found = parse_manifest(written({"layers": [{**LAYER, "mediaType": media_type}]}))
    assert isinstance(found, Manifest)
    assert found.layers[0].foreign is ("foreign" in media_type or "nondistributable" in media_type)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"manifests": []}, "both manifests and layers"),
    ({"layers": "absent"}, "neither manifests nor layers"),
    ({"layers": None}, "neither manifests nor layers"),
    ({"layers": {}}, "layers of the manifest is not a list"),
    ({"schemaVersion": 1}, "schema 1"),
    ({"schemaVersion": 3}, "schemaVersion 3"),
    ({"schemaVersion": "2"}, "schemaVersion of the manifest is not a whole number"),
    ({"fsLayers": []}, "schema 1"),
    ({"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}, "schema 1"),
    ({"mediaType": media_types.OCI_INDEX}, "holds layers"),
    ({"mediaType": "x"}, "'x' for a media type"),
    ({"mediaType": 7}, "mediaType of the manifest is not text"),
    ({"Layers": []}, 'which some read as "layers"'),
    ({"config": "absent"}, 'has "" for a media type'),
    ({"config": {**CONFIG, "mediaType": "application/vnd.cncf.helm.config.v1+json"}}, "no image but"),
    ({"config": {**CONFIG, "mediaType": "application/vnd.oci.empty.v1+json"}, "artifactType": "a/b"}, 'no image but "a/b"'),
    ({"config": {**CONFIG, "digest": "sha256:../../x"}}, "is not a digest"),
    ({"config": {**CONFIG, "digest": A.upper()}}, "is not a digest"),
    ({"config": {**CONFIG, "size": -1}}, "size of the manifest's config is -1"),
    ({"config": {**CONFIG, "size": 2**63}}, "out of its range"),
    ({"config": {**CONFIG, "size": 10**400}}, "out of its range"),
    ({"config": {**CONFIG, "size": True}}, "is not a whole number"),
    ({"config": {**CONFIG, "size": 1.5}}, "is not a whole number"),
    ({"config": {**CONFIG, "size": None}}, "says no size"),
    ({"layers": [7]}, "layer 0 of the manifest is not an object"),
    ({"layers": [{**LAYER, "mediaType": "text/plain"}]}, "none of a layer"),
    ({"layers": [{**LAYER, "mediaType": media_types.OCI_LAYER + "+encrypted"}]}, "none of a layer"),
    ({"layers": [{**LAYER, "urls": [7]}]}, "urls of layer 0 of the manifest holds something that is not text"),
    ({"layers": [LAYER] * 1025}, "1025 layers"),
    ({"annotations": {"a": 7}}, "annotations of the manifest holds something that is not text"),
    (
        {"layers": [{**LAYER, "mediaType": sorted(media_types.FOREIGN_LAYERS)[0], "urls": ["https://x"]}]},
        "is foreign: its content is not in the registry but at 'https://x'",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message for _, message in BAD])
def test_what_is_wrong_with_a_manifest_is_one_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OperationError) as caught:
        parse_manifest(written(changes))
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not valid JSON"),
        (b"\xff{}", "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"{} {}", "not valid JSON"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"layers": [], "layers": []}', 'the key "layers" is there twice'),
        (b'{"a": {"b": 1, "b": 1}}', 'the key "b" is there twice'),
        (b'{"a": "\\ud800"}', "not Unicode"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", "more than 32 deep"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not valid JSON"),
        (b" " * (4 << 20) + b"{}", "longer than 4 MiB"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_what_is_no_proper_json_is_refused_with_the_reason(raw: bytes, message: str) -> None:
    with pytest.raises(OperationError) as caught:
        parse_manifest(raw)
    assert message in caught.value.message


def test_what_was_sent_as_something_else_than_it_says_is_refused() -> None:
    with pytest.raises(OperationError, match="was sent as"):
        parse_manifest(written({}), media_types.DOCKER_MANIFEST)
    with pytest.raises(OperationError, match="holds layers"):
        parse_manifest(written({"mediaType": "absent"}), media_types.OCI_INDEX)


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/amd64/v3", "linux/386", "linux/amd64/v1"], "linux/amd64/v1"),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v2"),
        ("linux/amd64", ["windows/amd64", "linux/386"], "linux/386"),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm64/v9.1", ["linux/arm64", "linux/arm64/v9.2", "linux/arm64/v9"], "linux/arm64/v9"),
        ("linux/arm/v7", ["linux/arm/v8", "linux/arm/v6", "linux/arm/v5"], "linux/arm/v6"),
        ("linux/arm/v6", ["linux/arm", "linux/arm/v5"], "linux/arm/v5"),
        ("linux/riscv64", ["unknown/unknown", "", "linux/amd64"], ""),
        ("linux/x86_64", ["linux/amd64"], "linux/amd64"),
    ],
)
def test_the_entry_that_fits_best_is_chosen(wanted: str, there: list[str], chosen: str) -> None:
    assert choose(index(*map(entry, there)), parse_platform(wanted)).digest == digest_of(chosen.encode())


def test_attestations_and_what_is_no_image_are_passed_over_and_the_first_of_equals_wins() -> None:
    attestation = entry("linux/amd64", digest=A, annotations={"vnd.docker.reference.type": "attestation-manifest"})
    other = entry("linux/amd64", digest=A, mediaType="text/plain")
    found = index(entry("unknown/unknown"), attestation, other, entry("linux/amd64", digest=B), entry("linux/amd64"))
    assert choose(found, parse_platform("linux/amd64")).digest == B


def test_a_platform_that_is_not_there_is_an_error_that_lists_those_that_are() -> None:
    found = index(entry("linux/arm64/v8"), entry("linux/s390x"), entry("unknown/unknown"), entry("linux/arm/v7"))
    with pytest.raises(OperationError) as caught:
        choose(found, parse_platform("linux/amd64"))
    assert caught.value.message == "there is no image for linux/amd64"
    assert caught.value.hint == "it is there for linux/arm/v7, linux/arm64, linux/s390x"
    with pytest.raises(OperationError) as caught:
        choose(index(), host_platform())
    assert caught.value.hint is None


@pytest.mark.parametrize("text", ["", "/", "linux/", "linux/a/b/c", "windows(10)/amd64", "x86", "linux/a b", "é", "l" * 99])
def test_what_is_no_platform_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError):
        parse_platform(text)


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/aarch64", Platform("linux", "arm64")),
        ("linux/arm64/8", Platform("linux", "arm64")),
        ("linux/armhf", Platform("linux", "arm", "v7")),
        ("linux/armel", Platform("linux", "arm", "v6")),
        ("Linux/AMD64/v2", Platform("linux", "amd64", "v2")),
        ("macos/arm64", Platform("darwin", "arm64")),
        ("s390x", Platform("linux", "s390x")),
        ("linux", host_platform()),
    ],
)
def test_a_platform_has_one_name(text: str, platform: Platform) -> None:
    assert parse_platform(text) == platform
    assert parse_platform(str(platform)) == platform


def test_what_is_made_reads_back() -> None:
    config = Descriptor(media_types.OCI_CONFIG, A, 7)
    layers = (Descriptor(media_types.OCI_LAYER_ZSTD, B, 9, annotations={"x": "y"}),)
    made = parse_manifest(make_manifest(config, layers, annotations={"k": "é"}))
    assert isinstance(made, Manifest)
    assert (made.config, made.layers, made.annotations) == (config, layers, {"k": "é"})
    docker = make_manifest(Descriptor(media_types.DOCKER_CONFIG, A, 7), (), annotations={"k": "v"}, docker=True)
    assert parse_manifest(docker).descriptor.media_type == media_types.DOCKER_MANIFEST
    entries = (Descriptor(media_types.OCI_MANIFEST, A, 7, Platform("linux", "arm", "v7")),)
    both = parse_manifest(make_index(entries, annotations={"k": "v"}))
    assert isinstance(both, Index)
    assert (both.manifests, both.annotations) == (entries, {"k": "v"})
    assert parse_manifest(make_index(entries, docker=True)).descriptor.media_type == media_types.DOCKER_LIST


@pytest.mark.parametrize("text", ["", "sha256", "sha256:", f"sha256:{'g' * 64}", A[:-1], A.upper(), A * 2])
def test_what_is_no_digest_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not a digest"):
        digest(text)


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.sampled_from([A, B, 2])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["mediaType", "digest", "size", "platform", "os", "urls", "annotations"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*MANIFEST, "manifests", "annotations", "Layers"]), values), st.booleans())
def test_every_document_is_a_manifest_or_an_operation_error(changes: dict[str, Any], bare: bool) -> None:
    raw = json.dumps(changes if bare else {**MANIFEST, **changes}).encode()
    try:
        found = parse_manifest(raw)
    except OperationError:
        return
    if isinstance(found, Index):
        try:
            assert choose(found, Platform("linux", "amd64")) in found.manifests
        except OperationError:
            return
    else:
        again = make_manifest(found.config, found.layers, annotations=found.annotations)
        assert parse_manifest(again).annotations == found.annotations


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0128dlayersmnift e-', max_size=60).map(str.encode))
def test_every_bytes_are_a_manifest_or_an_operation_error(raw: bytes) -> None:
    with pytest.raises(OperationError):
        parse_manifest(raw)
