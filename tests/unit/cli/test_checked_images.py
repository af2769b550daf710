"""What a verb refuses of images before it begins, with the place in the compose file."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.selection import check_images
from orchestrator.compose.load import LoadRequest, load
from orchestrator.errors import InputError


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("image: Redis", "services.a.image", 'image "Redis" has capital letters in its name'),
        ("image: 'oci:'", "services.a.image", 'image "oci:" names no file or directory'),
        (
            "platform: linux/x/y/z\n  image: x",
            "services.a.platform",
            '"linux/x/y/z" is not a platform',
        ),
        (
            "build: {tags: [a, B]}",
            "services.a.build.tags",
            'image "B" has capital letters in its name',
        ),
        ("build: {platforms: [x86]}", "services.a.build.platforms", '"x86" is neither an operating system'),
        ("image: host\n  build: .", "services.a.image", '"host" is not a name that an image could have'),
        ("image: rootfs:x\n  build: .", "services.a.image", '"rootfs:x" is not a name that an image could have'),
    ],
)
def test_a_malformed_reference_is_an_error_at_its_place(tmp_path: Path, text: str, place: str, message: str) -> None:
    body = "\n".join(f"    {line.strip()}" for line in text.split("\n"))
    (tmp_path / "compose.yaml").write_text(f"services:\n  a:\n{body}\n")
    project = load(LoadRequest(str(tmp_path), {})).project
    with pytest.raises(InputError) as caught:
        check_images(project, ["a"])
    assert caught.value.message.startswith(message)
    assert place.split(": ")[-1] in caught.value.place
    assert caught.value.place.startswith("compose.yaml:")


def test_what_is_well_formed_passes_and_others_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        "services:\n  a: {image: 'redis:7'}\n  b: {build: {tags: ['x:1'], platforms: [linux/arm64]}}\n"
        "  c: {image: host, platform: arm64}\n  d: {image: X}\n"
    )
    check_images(load(LoadRequest(str(tmp_path), {})).project, ["a", "b", "c"])


def refused(tmp_path: Path, text: str) -> InputError:
    (tmp_path / "compose.yaml").write_text(text)
    project = load(LoadRequest(str(tmp_path), {})).project
    with pytest.raises(InputError) as caught:
        check_images(project, list(project.services))
    return caught.value


def test_builds_that_wait_for_each_other_are_named_in_their_order(tmp_path: Path) -> None:
    parts = "".join(
        f"  {one}: {{build: {{context: ., additional_contexts: {{x: 'service:{next_one}'}}}}}}\n"
        for one, next_one in ("ab", "bc", "cb")
    )
    error = refused(tmp_path, f"services:\n{parts}")
    assert error.message == "these builds take from each other: b -> c -> b"
    assert error.place.endswith(":3:48: services.b.build.additional_contexts")


def test_a_name_for_two_platforms_is_refused_where_the_second_is_asked_for(tmp_path: Path) -> None:
    error = refused(
        tmp_path,
        "services:\n  a: {image: x, platform: linux/amd64}\n  b: {image: x}\n  c: {image: x, platform: linux/x86_64}\n"
        "  d: {image: x, platform: linux/arm64}\n",
    )
    assert error.message == 'image "x" is asked for linux/arm64 here, and for linux/amd64 by a'
    assert error.place.endswith(":5:27: services.d.platform")
