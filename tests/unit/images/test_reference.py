"""What ``image:`` names: Docker's grammar, the transports, and what is neither."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.errors import InputError
from orchestrator.images.reference import (
    Archive,
    HostReference,
    IdReference,
    Named,
    RootfsReference,
    parse_named,
    parse_reference,
)
from orchestrator.images.spec.digest import Digest

A = Digest("sha256:" + "a" * 64)
LONG = Digest("sha512:" + "0" * 128)


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("redis", "docker.io", "library/redis", "latest", None),
        ("redis:7-alpine", "docker.io", "library/redis", "7-alpine", None),
        (f"redis@{A}", "docker.io", "library/redis", "", A),
        (f"redis:7@{A}", "docker.io", "library/redis", "7", A),
        (f"redis@{LONG}", "docker.io", "library/redis", "", LONG),
        ("team/app", "docker.io", "team/app", "latest", None),
        ("docker.io/redis", "docker.io", "library/redis", "latest", None),
        ("index.docker.io/redis", "docker.io", "library/redis", "latest", None),
        ("index.docker.io/team/app:1", "docker.io", "team/app", "1", None),
        ("docker://redis:7", "docker.io", "library/redis", "7", None),
        ("localhost/app", "localhost", "app", "latest", None),
        ("localhost:5000/a/b:c", "localhost:5000", "a/b", "c", None),
        ("localhost:5000", "docker.io", "library/localhost", "5000", None),
        ("127.0.0.1:5000/app", "127.0.0.1:5000", "app", "latest", None),
        ("[::1]:5000/app", "[::1]:5000", "app", "latest", None),
        ("ghcr.io/x/y:v1.2_3", "ghcr.io", "x/y", "v1.2_3", None),
        ("Registry/app", "Registry", "app", "latest", None),
        ("a_b/c__d/e--f.g", "docker.io", "a_b/c__d/e--f.g", "latest", None),
        ("docker:dind", "docker.io", "library/docker", "dind", None),
        ("docker.io/library/oci:x", "docker.io", "library/oci", "x", None),
    ],
)
def test_a_name_is_normalised_as_docker_does(
    text: str, registry: str, repository: str, tag: str, digest: Digest | None
) -> None:
    assert parse_reference(text) == Named(registry, repository, tag, digest)


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("redis:7", "docker.io/library/redis:7", "redis:7"),
        ("team/app", "docker.io/team/app:latest", "team/app:latest"),
        (f"redis:7@{A}", f"docker.io/library/redis:7@{A}", f"redis:7@{A}"),
        ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
        ("docker.io/library/host", "docker.io/library/host:latest", "docker.io/library/host:latest"),
        ("docker.io/library/oci:x", "docker.io/library/oci:x", "docker.io/library/oci:x"),
        ("docker.io/ghcr.io/x", "docker.io/ghcr.io/x:latest", "docker.io/ghcr.io/x:latest"),
        ("docker://oci:5000/x", "docker://oci:5000/x:latest", "docker://oci:5000/x:latest"),
    ],
)
def test_the_full_and_the_familiar_form_mean_the_same(text: str, full: str, familiar: str) -> None:
    found = parse_reference(text)
    assert isinstance(found, Named)
    assert (found.full, found.familiar) == (full, familiar)
    assert parse_reference(full) == parse_reference(familiar) == found


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("host", HostReference()),
        ("rootfs:./app:1", RootfsReference("./app:1")),
        (str(A), IdReference(A)),
        ("a" * 64, IdReference(A)),
        ("oci:dir", Archive("oci", "dir")),
        ("oci:/a/b:v1", Archive("oci", "/a/b", "v1")),
        ("oci:/a/b:docker.io/library/redis:7", Archive("oci", "/a/b", "docker.io/library/redis:7")),
        ("oci:b:@0", Archive("oci", "b", "@0")),
        ("oci-archive:x.tar:v1", Archive("oci-archive", "x.tar", "v1")),
        ("docker-archive:/x.tar", Archive("docker-archive", "/x.tar")),
        ("docker-archive:/x.tar:redis", Archive("docker-archive", "/x.tar", "docker.io/library/redis:latest")),
        ("docker-archive:/x.tar:@12", Archive("docker-archive", "/x.tar", "@12")),
        ("dir:/a:b", Archive("dir", "/a:b")),
    ],
)
def test_other_kinds_of_references_are_told_apart(text: str, reference: object) -> None:
    found = parse_reference(text)
    assert found == reference
    if isinstance(found, Archive):
        assert parse_reference(found.full) == found


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "the image has no name", "redis:7"),
        ("HOST", 'image "HOST" has capital letters in its name', 'did you mean "host"?'),
        ("team/App:V1", 'image "team/App:V1" has capital letters in its name', "team/app:v1"),
        ("redis:", '"" is not a tag, in image "redis:"', "letters"),
        ("redis:-x", '"-x" is not a tag', "letters"),
        (f"redis:{'x' * 129}", "is not a tag", "128"),
        ("a:b:c", '"b:c" is not a tag', "letters"),
        ("redis@sha256:abc", '"sha256:abc" is not a digest', ""),
        ("redis@md5:" + "a" * 64, "is not a digest", ""),
        (f"redis@{A.upper()}", "is not a digest", ""),
        ("a___b", '"a___b" is not a name of an image', "NAME"),
        ("a..b", '"a..b" is not a name of an image', "NAME"),
        ("-a", '"-a" is not a name of an image', "NAME"),
        ("a//b", '"a//b" is not a name of an image', "NAME"),
        ("/a", '"/a" is not a name of an image', "NAME"),
        ("a/", '"a/" is not a name of an image', "NAME"),
        ("a b", '"a b" is not a name of an image', "NAME"),
        ("é", '"é" is not a name of an image', "NAME"),
        ("../x", '".." is not a registry', "NAME"),
        ("https://ghcr.io/x", '"https://ghcr.io/x" is a URL', "https://"),
        ("localhost:0/x", '"localhost:0" is not a registry', "NAME"),
        ("localhost:65536/x", '"localhost:65536" is not a registry', "NAME"),
        ("-x.io/a", '"-x.io" is not a registry', "NAME"),
        ("[x]:5000/a", '"[x]:5000" is not a registry', "NAME"),
        (f"x/{'a' * 254}", "256 characters, more than 255", ""),
        ("rootfs:", "names no directory", "rootfs:DIR"),
        ("rootfs:a\0b", "names no directory", "rootfs:DIR"),
        ("oci:", 'image "oci:" names no file or directory', "oci:PATH"),
        ("oci:a:", "names nothing after the last colon", "oci:a"),
        ("oci:a:@x", '"@x" is not a number of an image', "@0"),
        ("oci:a:b c", '"b c" is not a name of an image', ""),
        ("docker-archive:a:B", 'image "B" has capital letters', ""),
        ("docker-daemon:redis:7", 'the transport "docker-daemon:"', "docker://"),
        ("containers-storage:redis", 'the transport "containers-storage:"', "docker://"),
    ],
)
def test_what_is_malformed_is_one_error_with_the_way_out(text: str, message: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_reference(text)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("text", ["host", "rootfs:x", "oci:x", "dir:x", "a" * 64, str(A)])
def test_where_a_name_is_needed_nothing_else_will_do(text: str) -> None:
    with pytest.raises(InputError, match="is not a name that an image could have"):
        parse_named(text)


pieces = st.sampled_from(
    [
        *"aZ09.-_:/@[] ~\0é",
        *("__", "::1", "localhost", "docker.io/", "index.docker.io/", "library/", "oci:", "dir:", "host", "a" * 64),
        *(str(A), "docker://", "rootfs:", ":5000/", "sha256:"),
    ]
)


@given(st.lists(pieces, max_size=12).map("".join) | st.text(max_size=40))
@example("docker://docker://x")
@example("docker.io/docker.io/docker.io/x")
def test_every_text_is_a_reference_that_reads_back_or_an_input_error(text: str) -> None:
    try:
        found = parse_reference(text)
    except InputError:
        return
    if isinstance(found, Named):
        assert parse_reference(found.full) == parse_reference(found.familiar) == parse_named(found.full) == found
        assert found.tag or found.digest
        assert ".." not in found.repository.split("/")
    elif isinstance(found, Archive):
        assert parse_reference(found.full) == found
