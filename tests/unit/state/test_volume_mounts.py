"""Volumes with ``driver_opts``, as far as that needs no mount."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from orchestrator.errors import HostError, OperationError
from orchestrator.model.names import ContainerId, ProjectName, VolumeName
from orchestrator.model.volume import Volume
from orchestrator.state import volume_mounts
from orchestrator.state.directory import site_of
from orchestrator.state.preparation import prepare
from orchestrator.state.volumes import FileVolumes


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mount(8) that writes what it is called with into a file, and fails with what `fails` says."""
    program = tmp_path / "bin" / "mount"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/called\n'
        f"[ -e {tmp_path}/fails ] || exit 0\ncat {tmp_path}/fails >&2\nexit 32\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(volume_mounts, "_PATH", f"{program.parent}:/usr/bin:/bin")
    return tmp_path


def provided(mount: Path, **options: str) -> list[str]:
    data = mount / "data"
    data.mkdir(exist_ok=True)
    assert volume_mounts.provide("vol", options, str(data)) == str(data)
    return (mount / "called").read_text().splitlines()


def test_options_are_mount_8_s_and_docker_s_way_to_write_nfs_is_understood(mount: Path) -> None:
    data = str(mount / "data")
    assert provided(mount, type="tmpfs", device="tmpfs", o="size=1m, uid=7") == [
        *("-t", "tmpfs", "-o", "size=1m,uid=7", "tmpfs", data)
    ]
    assert provided(mount, type="ext4", device="/dev/x") == ["-t", "ext4", "/dev/x", data]
    assert provided(mount, type="nfs", device=":/path", o="addr=10.0.0.1,rw") == [
        *("-t", "nfs", "-o", "rw", "10.0.0.1:/path", data)
    ]
    assert provided(mount, type="nfs4", device=":/path", o="addr=fd00::1") == ["-t", "nfs4", "[fd00::1]:/path", data]
    assert provided(mount, type="nfs", device="server:/path", o="rw") == ["-t", "nfs", "-o", "rw", "server:/path", data]


def test_what_mount_8_says_is_the_error(mount: Path) -> None:
    (mount / "fails").write_text("\nmount: /x: unknown filesystem type\n  more\n")
    with pytest.raises(OperationError) as caught:
        provided(mount, type="cifs", device="//server/x")
    assert caught.value.message == 'cannot mount volume "vol" (cifs //server/x): mount: /x: unknown filesystem type'
    assert caught.value.hint == "CIFS needs mount.cifs: apt install cifs-utils"
    (mount / "fails").write_text("")
    with pytest.raises(OperationError, match="mount ended with 32"):
        provided(mount, type="tmpfs", device="tmpfs")


def test_a_machine_without_mount_8_is_told(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume_mounts, "_PATH", "/nosuch")
    with pytest.raises(HostError, match=r"there is no mount\(8\)"):
        provided(mount, type="tmpfs", device="tmpfs")


def test_a_server_that_does_not_answer_is_given_up(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mount / "bin" / "mount").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(volume_mounts, "MOUNT_TIMEOUT_S", 0.05)
    with pytest.raises(OperationError, match="no answer for 0 s"):
        provided(mount, type="nfs", device="server:/path")


def test_a_bound_directory_is_used_where_it_is_and_outlives_the_volume(tmp_path: Path) -> None:
    site = prepare(site_of(str(tmp_path / "data"), str(tmp_path / "run"), ProjectName("demo")))
    volumes, bound = FileVolumes(site), tmp_path / "bound"
    options = (("type", "none"), ("o", "bind"), ("device", str(bound)))
    volume = Volume(VolumeName("d"), "demo_d", options=options)
    with pytest.raises(OperationError, match="which does not exist"):
        volumes.ensure(volume)
    bound.mkdir()
    (bound / "file").write_text("x")
    assert volumes.ensure(volume) == str(bound)
    external = Volume(VolumeName("e"), "demo_d", external=True)
    assert volumes.ensure(external) == str(bound)
    assert volumes.owned() == (volume,)
    volumes.release(volume)
    assert volumes.remove(volume)
    assert os.listdir(bound) == ["file"]


def test_a_volume_is_not_given_other_options_than_it_was_made_with(tmp_path: Path) -> None:
    site = prepare(site_of(str(tmp_path / "data"), str(tmp_path / "run"), ProjectName("demo")))
    volumes = FileVolumes(site)
    plain = Volume(VolumeName("d"), "demo_d")
    volumes.ensure(plain)
    changed = Volume(VolumeName("d"), "demo_d", options=(("type", "none"), ("o", "bind"), ("device", "/")))
    with pytest.raises(OperationError) as caught:
        volumes.ensure(changed)
    assert caught.value.message == "volume 'demo_d' has other driver_opts than it was made with (none)"
    assert caught.value.hint is not None
    assert "pystack volume rm demo_d" in caught.value.hint
    assert volumes.ensure_anonymous(ContainerId("c"), "/x")
