"""Volumes and mounts of the model that are more than a directory."""

from __future__ import annotations

import pytest

from orchestrator.model.volume import Mount, MountKind, Owner
from tests.unit.compose.stacks import Stack


def test_options_subpaths_and_images_arrive(stack: Stack) -> None:
    found = stack.load(
        """
        services:
          a:
            image: host
            volumes:
            - {type: volume, source: d, target: /d, volume: {subpath: a/b}}
            - {type: image, source: "rootfs:/x", target: /i, image: {subpath: c}}
        volumes:
          d: {driver: local, driver_opts: {type: none, o: bind, device: ./data}}
          n: {driver_opts: {type: nfs, o: "addr=10.0.0.1,rw", device: ":/path"}}
        """
    ).project
    (volume, image) = found.services["a"].volumes  # type: ignore[index]
    assert volume == Mount(MountKind.VOLUME, "/d", "d", place="services.a.volumes[0]", subpath="a/b")
    assert image == Mount(MountKind.IMAGE, "/i", "rootfs:/x", True, place="services.a.volumes[1]", subpath="c")
    options = {key: dict(item.options) for key, item in found.volumes.items()}
    assert options["d"] == {"type": "none", "o": "bind", "device": str(stack.folder / "data")}  # type: ignore[index]
    assert options["n"] == {"type": "nfs", "o": "addr=10.0.0.1,rw", "device": ":/path"}  # type: ignore[index]


@pytest.mark.parametrize(
    ("mount", "volume", "said"),
    [
        ("{type: volume, source: d, target: /d, volume: {subpath: /abs}}", "", 'the subpath "/abs" is not a path below'),
        ("{type: volume, source: d, target: /d, volume: {subpath: a/../../b}}", "", 'the subpath "a/../../b" is not'),
        ("{type: image, source: x, target: /d, image: {subpath: ..}}", "", 'the subpath ".." is not a path below'),
        ("{type: image, target: /d}", "", "an image mount needs a source"),
        ("{type: volume, source: d, target: /d}", "driver: nfs", 'there is no volume driver "nfs": only local'),
        ("{type: volume, source: d, target: /d}", "driver_opts: {size: 1}", '"size" is no option of the local driver'),
        ("{type: volume, source: d, target: /d}", "driver_opts: {type: tmpfs}", 'needs "device" as well'),
        ("{type: volume, source: d, target: /d}", "driver_opts: {o: x, device: y}", 'needs "type" as well'),
        ("{type: volume, source: d, target: /d}", "driver_opts: {type: none, device: /y}", 'type "none" needs o: bind'),
        ("{type: volume, source: d, target: /d}", "driver_opts: {type: none, device: y, o: bind}", "not an absolute path"),
        ("{type: volume, source: d, target: /d}", "driver_opts: {type: none, device: /y, o: 'bind,ro'}", 'takes no "ro"'),
        ("{type: volume, source: d, target: /d}", "driver_opts: {type: tmpfs, device: -x}", "cannot be mounted"),
    ],
)
def test_what_cannot_be_mounted_is_one_error_with_its_place(stack: Stack, mount: str, volume: str, said: str) -> None:
    text = f"services: {{a: {{image: host, volumes: [{mount}]}}}}\nvolumes: {{d: {{{volume}}}}}\n"
    (item,) = stack.errors(text).diagnostics
    assert said in item.message
    assert item.line == (2 if volume else 1)


def test_a_volume_of_one_letter_is_taken_for_a_drive_and_the_hint_says_so(stack: Stack) -> None:
    (item,) = stack.errors("services: {a: {image: host, volumes: ['v:/data']}}\nvolumes: {v: {}}\n").diagnostics
    assert item.message == 'the target "v:/data" is not an absolute path'
    assert item.hint == "a name of one letter is read as a Windows drive: give the volume a longer one"


@pytest.mark.parametrize(
    ("written", "owner"),
    [
        ("./a:/d", Owner.BY_SOURCE),
        ("{type: bind, source: ./a, target: /d, bind: {propagation: rslave}}", Owner.BY_SOURCE),
        ("{type: bind, source: ./a, target: /d, bind: {x-pystack.owner: source, x-other: 1}}", Owner.SOURCE),
        ("{type: bind, source: ./a, target: /d, bind: {x-pystack.owner: root}}", Owner.ROOT),
        ("{type: bind, source: ./a, target: /d, bind: {x-pystack.owner: keep}}", Owner.KEEP),
    ],
)
def test_the_owner_of_what_is_written_into_a_bind(stack: Stack, written: str, owner: Owner) -> None:
    text = f"services:\n  a:\n    image: host\n    volumes:\n    - {written}\n"
    (mount,) = stack.load(text).project.services["a"].volumes  # type: ignore[index]
    assert mount.owner is owner


@pytest.mark.parametrize(
    ("bind", "said"),
    [
        ("x-pystack.owner: me", 'the x-pystack.owner "me" is not one of source, root, keep'),
        ("x-pystack.owner: 0", 'the x-pystack.owner "0" is not one of source, root, keep'),
        ("x-pystack.owner: ", 'the x-pystack.owner "" is not one of source, root, keep'),
        ("x-pystack.owner: [root]", "is not one of source, root, keep"),
        ("x-pystack.owners: root", 'there is no "x-pystack.owners" of a bind mount: it is x-pystack.owner'),
    ],
)
def test_another_owner_is_an_error_with_its_place(stack: Stack, bind: str, said: str) -> None:
    mount = f"{{type: bind, source: /x, target: /d, bind: {{{bind}}}}}"
    text = f"services:\n  a:\n    image: host\n    volumes:\n    - {mount}\n"
    (item,) = stack.errors(text).diagnostics
    assert said in item.message
    assert item.line == 5


@pytest.mark.parametrize(
    ("volumes", "tmpfs", "told"),
    [
        ('["/srv:/a"]', "[/a/]", "services.a.tmpfs[0]: something is mounted at /a already: services.a.volumes[0]"),
        ("[]", "[/a, //a]", "services.a.tmpfs[1]: something is mounted at /a already: services.a.tmpfs[0]"),
        ('["/srv:/a"]', "[/a]", "services.a.volumes[0]: something is mounted at /a already: services.a.tmpfs[0]"),
    ],
)
def test_a_place_is_mounted_on_once_however_it_is_written(stack: Stack, volumes: str, tmpfs: str, told: str) -> None:
    (found,) = stack.messages(f"services:\n  a: {{image: host, volumes: {volumes}, tmpfs: {tmpfs}}}\n")
    assert told in found
