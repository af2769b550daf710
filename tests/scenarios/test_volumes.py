"""Volumes of a stack as `pystack` brings it up: options, folders, images as mounts, and what a volume begins with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack

pytestmark = pytest.mark.kernel

STACK = """
services:
  app:
    image: rootfs:{image}
    command: [sh, -c, "echo new > /scratch/x; exec sleep 3600"]
    stop_grace_period: 0s
    volumes:
    - data:/srv/data
    - {{type: volume, source: data, target: /part, volume: {{subpath: sub}}}}
    - {{type: volume, source: plain, target: /srv/plain, volume: {{nocopy: true}}}}
    - /srv/data
    - scratch:/scratch
    - host:/host
    - shared:/shared
    - {{type: image, source: "rootfs:{image}", target: /other, image: {{subpath: srv}}}}
volumes:
  data:
  plain:
  scratch: {{driver: local, driver_opts: {{type: tmpfs, device: tmpfs, o: "size=1m,mode=0755"}}}}
  host: {{driver: local, driver_opts: {{type: none, o: bind, device: {bound}}}}}
  shared: {{external: true, name: {shared}}}
"""


@pytest.fixture
def image(pystack: Pystack, busybox_rootfs: Path) -> Path:
    made = pystack.root / "image"
    shutil.copytree(busybox_rootfs, made, symlinks=True)
    for name in ("data", "plain"):
        (made / "srv" / name / "sub").mkdir(parents=True)
        (made / "srv" / name / "file").write_text(name)
    os.chown(made / "srv" / "data", 1000, 1001)
    os.link(made / "srv" / "data" / "file", made / "srv" / "data" / "sub" / "again")
    return made


@pytest.fixture
def stack(pystack: Pystack, image: Path) -> Iterator[Stack]:
    bound, shared = pystack.root / "bound", f"shared{os.urandom(4).hex()}"
    bound.mkdir()
    (bound / "there").write_text("host")
    made = pystack.stack(STACK.format(image=image, bound=bound, shared=shared).replace("    - /srv/data\n", ""))
    made.must("volume", "create", shared)
    yield made
    made.must("down", "-v", "-t", "0")
    made.must("volume", "rm", shared)


def mounted(path: str) -> bool:
    with open("/proc/self/mountinfo") as file:
        return any(line.split()[4].startswith(path) for line in file)


def test_a_stack_with_every_kind_of_volume(stack: Stack, pystack: Pystack) -> None:
    stack.must("up", "-d")
    show = "stat -c '%u:%g %h' /srv/data /srv/data/file; cat /part/again; ls /srv/plain; cat /scratch/x /host/there;"
    show += "ls /other"
    out = stack.must("exec", "-T", "app", "sh", "-c", show).stdout.splitlines()
    assert out[0].startswith("1000:1001 ")
    assert out[1] == "0:0 2"
    assert out[2] == "datanew"
    assert out[3:] == ["host" + "data", "plain"]
    scratch = f"{pystack.data_dir}/volumes/{stack.name}_scratch"
    assert mounted(scratch)
    assert (pystack.root / "bound" / "there").read_text() == "host"
    stack.must("exec", "-T", "app", "sh", "-c", "echo x > /host/from; echo x > /shared/from")
    assert (pystack.root / "bound" / "from").stat().st_uid == 0
    failed = stack.run("exec", "-T", "app", "touch", "/other/x")
    assert failed.code != 0
    assert "Read-only file system" in failed.stderr
    listed = stack.must("volumes", "-q").stdout.split()
    assert len(listed) == 5
    (value,) = json.loads(stack.must("volume", "inspect", f"{stack.name}_scratch").stdout)
    assert value["UsedBy"] == [f"{stack.name}-app-1"]
    refused = stack.run("volume", "rm", f"{stack.name}_data")
    assert refused.code == 1
    assert f"is in use by container {stack.name}-app-1" in refused.stderr
    assert "nothing to do" in stack.must("plan").stdout
    stack.must("down", "-t", "0")
    assert not mounted(scratch)
    assert (pystack.root / "bound" / "there").read_text() == "host"


def test_what_cannot_be_mounted_is_one_error_of_its_service(pystack: Pystack, busybox_rootfs: Path) -> None:
    service = f"image: 'rootfs:{busybox_rootfs}', command: [sleep, '9']"
    stack = pystack.stack(f"""
services:
  part: {{{service}, volumes: [{{type: volume, source: plain, target: /d, volume: {{subpath: nosuch}}}}]}}
  machine: {{{service}, volumes: [{{type: image, source: host, target: /d}}]}}
  missing: {{{service}, volumes: ["missing:/d"]}}
  bound: {{{service}, volumes: ["bound:/d"]}}
  strange: {{{service}, volumes: ["strange:/d"]}}
volumes:
  plain:
  missing: {{external: true, name: nosuch-volume}}
  bound: {{driver_opts: {{type: none, o: bind, device: /nosuch}}}}
  strange: {{driver_opts: {{type: nosuchfs, device: x}}}}
""")
    outcome = stack.run("up", "-d")
    assert outcome.code in (1, 2)
    assert "Traceback" not in outcome.stderr
    for said in (
        'there is no "nosuch" in ',
        'the image "host" is parts of this machine, and cannot be mounted',
        "external volume 'nosuch-volume' does not exist",
        "is the directory /nosuch, which does not exist",
        "cannot mount volume",
    ):
        assert said in outcome.stderr
    (stack.directory / "compose.yaml").write_text(
        f"services: {{a: {{{service}, volumes: [{{type: image, source: 'rootfs:/nosuch', target: /d}}]}}}}\n"
    )
    outcome = stack.run("up", "-d", "--remove-orphans")
    assert outcome.code in (1, 2)
    assert "/nosuch" in outcome.stderr
    stack.must("down", "-v", "--remove-orphans")


def test_a_volume_keeps_the_options_that_it_was_made_with(pystack: Pystack, busybox_rootfs: Path) -> None:
    text = (
        f"services: {{a: {{image: 'rootfs:{busybox_rootfs}', command: ['true'], volumes: ['vol:/d']}}}}\n"
        "volumes: {vol: {driver_opts: {type: tmpfs, device: tmpfs, o: size=1m}}}\n"
    )
    stack = pystack.stack(text)
    stack.must("up", "-d")
    (stack.directory / "compose.yaml").write_text(text.replace("size=1m", "size=2m"))
    outcome = stack.run("up", "-d")
    assert outcome.code == 1
    assert "has other driver_opts than it was made with (type=tmpfs, device=tmpfs, o=size=1m)" in outcome.stderr
    stack.must("down", "-v")
    assert not mounted(f"{pystack.data_dir}/volumes")


def test_down_removes_the_volumes_of_the_files_and_leaves_those_that_they_have_no_more(
    pystack: Pystack, busybox_rootfs: Path
) -> None:
    service = f"{{image: 'rootfs:{busybox_rootfs}', command: ['true'], volumes: ['vol:/d']}}"
    text = f"services: {{a: {service}}}\nvolumes: {{vol: NEW}}\n"
    down = ("-f", "compose.yaml", "down", "-v")
    stack = pystack.stack(text.replace("NEW", "{}"))
    old, new = f"{stack.name}_vol", f"{stack.name}_new"
    stack.must("up", "-d")
    for now, told in ((f"{{name: {new}}}", True), (f"{{name: {old}, external: true}}", False)):
        (stack.directory / "compose.yaml").write_text(text.replace("NEW", now))
        stack.must("up", "-d")
        assert (f"volume {old} stays" in stack.must(*down).stderr) is told
        assert stack.must("volume", "ls", "-q").stdout.split() == [old]
    stack.must("down", "-v")
    assert stack.must("volume", "ls", "-q").stdout == "", "without a file all that the project has made is meant"


def test_what_one_project_unmounts_another_one_still_has(pystack: Pystack, busybox_rootfs: Path) -> None:
    name = f"both{os.urandom(4).hex()}"
    stack = pystack.stack("services: {}\n")
    stack.must("volume", "create", name, "--opt", "type=tmpfs", "--opt", "device=tmpfs")
    text = (
        f"services: {{a: {{image: 'rootfs:{busybox_rootfs}', command: [sleep, '3600'], stop_grace_period: 0s, "
        f"volumes: ['vol:/d']}}}}\nvolumes: {{vol: {{external: true, name: {name}}}}}\n"
    )
    one, two = pystack.stack(text), pystack.stack(text)
    one.must("up", "-d")
    two.must("up", "-d")
    one.must("exec", "-T", "a", "sh", "-c", "echo both > /d/x")
    one.must("down")
    assert two.must("exec", "-T", "a", "cat", "/d/x").stdout == "both\n"
    assert mounted(f"{pystack.data_dir}/volumes/{name}")
    two.must("down")
    assert not mounted(f"{pystack.data_dir}/volumes/{name}")
    one.must("volume", "rm", name)
