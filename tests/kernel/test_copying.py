"""Whose what is copied is, in a container of any user namespace, running or not; and archives with attributes."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from orchestrator.cli.container_files import Copying, copy_in, copy_out, local_source
from orchestrator.errors import OperationError
from orchestrator.oci.terms import ANNOTATION_OWNERS, OWNER_BY_SOURCE
from orchestrator.runtime.bundle import read_bundle
from orchestrator.runtime.view import opened_view
from tests.kernel.place import Place, place, with_lowers
from tests.kernel.service_box import BOX

pytestmark = pytest.mark.kernel
NOBODY = 2**32 - 1
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permissions, number)
    for tag, permissions, number in ((1, 6, NOBODY), (2, 4, 1234), (4, 4, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY))
)
"""user::rw-, user:1234:r--, group::r--, mask::r--, other::---"""
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
"""cap_net_bind_service, effective."""


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    made.mkdir()
    (made / "file").write_text("x")
    os.chown(made / "file", 1000, 1001)
    os.setxattr(made / "file", "user.kind", b"value")
    os.setxattr(made / "file", "system.posix_acl_access", ACL)
    os.setxattr(made / "file", "security.capability", CAPABILITY)
    return made


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("hosts", [(), ("user",)], ids=["own", "host"])
async def test_owners_and_attributes(
    here: Place, source: Path, tmp_path: Path, running: bool, hosts: tuple[str, ...]
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    options = ["rbind", "rprivate", "rnodev", *(() if hosts else ("idmap",))]
    mount = {"destination": "/volume", "type": "bind", "source": str(volume), "options": options}
    said: list[str] = []
    plain, whole = (Copying(archive, False, said.append) for archive in (False, True))
    script = "stat -c '%u:%g %a' /etc /etc/plain/file /etc/whole/file /volume /volume/plain/file /volume/whole/file"
    spec = here.spec(["sh", "-c", f"sleep 1000 & {script}; wait"], mounts=[mount], hosts=hosts)
    if not running:
        spec = here.spec(["sh", "-c", script], mounts=[mount], hosts=hosts)
    await here.runtime.create(spec)
    if running:
        await here.runtime.start(BOX)
    with opened_view(here.site, read_bundle(here.site, BOX)) as view:
        for folder in ("/etc", "/volume"):
            copy_in(view, BOX, local_source(str(source), plain), f"{folder}/plain", plain)
            copy_in(view, BOX, local_source(str(source), whole), f"{folder}/whole", whole)
            back = tmp_path / f"back-{folder.strip('/')}"
            copy_out(view, BOX, f"{folder}/whole", str(back), whole)
            assert os.stat(back / "file").st_uid == 1000
            assert os.getxattr(back / "file", "user.kind") == b"value"
            assert os.getxattr(back / "file", "system.posix_acl_access") == ACL
            assert os.getxattr(back / "file", "security.capability") == CAPABILITY
    assert said == []
    assert (os.stat(volume / "plain").st_uid, os.stat(volume / "whole" / "file").st_uid) == (0, 1000)
    if running:
        await here.runtime.kill(BOX)
        run = (await here.runtime.containers())[0].run
        assert run is None or await here.runtime.wait(run)
        await here.runtime.create(here.spec(["sh", "-c", script], mounts=[mount], hosts=hosts))
    await here.runtime.wait(await here.runtime.start(BOX))
    expected = ["0:0 755", "0:0 640", "1000:1001 640"]
    assert here.log(BOX).decode().splitlines()[-6:] == expected + expected


async def test_many_layers_and_what_is_missing(here: Place, source: Path, tmp_path: Path) -> None:
    layers = [tmp_path / f"layer{number}" for number in range(20)]
    for number, layer in enumerate(layers):
        layer.mkdir()
        (layer / "own").mkdir()
        (layer / "own" / str(number)).write_text(str(number))
    mount = {"destination": "/gone", "type": "bind", "source": str(tmp_path / "nosuch"), "options": ["rbind", "idmap"]}
    await here.runtime.create(with_lowers(here.spec(["true"], mounts=[mount]), *layers, here.rootfs))
    copying = Copying(False, False, print)
    with opened_view(here.site, read_bundle(here.site, BOX)) as view:
        assert [text.partition(":")[0] for text in view.missing] == [f"cannot mount {tmp_path}/nosuch at /gone"]
        copy_out(view, BOX, "/own", str(tmp_path / "out"), copying)
    assert len(os.listdir(tmp_path / "out")) == 20


async def test_a_container_that_is_started_meanwhile_is_told(here: Place, source: Path) -> None:
    await here.runtime.create(here.spec(["sleep", "1000"]))
    view = opened_view(here.site, read_bundle(here.site, BOX))
    copying = Copying(False, False, print)
    copy_in(view.__enter__(), BOX, local_source(str(source), copying), "/etc", copying)
    await here.runtime.start(BOX)
    with pytest.raises(OperationError, match="was started meanwhile"):
        view.__exit__(None, None, None)


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
async def test_in_a_bind_of_an_ordinary_user_files_are_that_users(
    here: Place, source: Path, tmp_path: Path, running: bool
) -> None:
    folder = tmp_path / "bound"
    folder.mkdir()
    os.chown(folder, 5000, 5000)
    mount = {"destination": "/bound", "type": "bind", "source": str(folder), "options": ["rbind", "rprivate", "idmap"]}
    owners = {ANNOTATION_OWNERS: json.dumps({"/bound": OWNER_BY_SOURCE})}
    await here.runtime.create(here.spec(["sleep", "1000"], mounts=[mount], annotations=owners))
    if running:
        await here.runtime.start(BOX)
    copying = Copying(False, False, print)
    with opened_view(here.site, read_bundle(here.site, BOX)) as view:
        copy_in(view, BOX, local_source(str(source), copying), "/bound/new", copying)
    found = [os.stat(path) for path in (folder / "new", folder / "new" / "file")]
    assert [(each.st_uid, each.st_gid) for each in found] == [(5000, 5000)] * 2
