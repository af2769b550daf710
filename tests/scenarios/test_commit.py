"""`pystack commit` and `pystack export`: what a container has become, as an image and as an archive."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MUST_WORK
from tests.machine import Pystack, Stack, eventually

pytestmark = pytest.mark.kernel

AGAIN = "localhost/again:1"
STACK = """
services:
  app:
    image: base:1
    command: [sh, /work.sh]
    environment: {{COLOUR: red}}
    labels: {{of: stack}}
    user: "0"
    working_dir: /srv
    expose: ["81"]
    ports: ["127.0.0.1::8000/udp"]
    stop_signal: SIGUSR1
    stop_grace_period: 0s
    healthcheck: {{test: "test -e /ready", interval: 1m, start_interval: 20ms, start_period: 30s}}
    volumes: [data:/srv/volume, "{out}:/out", {{type: tmpfs, target: /srv/scratch}}]
volumes: {{data: }}
"""
WORK = """
rm /srv/gone
echo new > /srv/keep
rm -r /srv/directory
mkdir -m 2750 /srv/directory
echo only > /srv/directory/only
chown -R 1000:1001 /srv/directory
mv /srv/names/one /srv/names/two
echo x > /srv/names/three
ln /srv/names/three /srv/names/four
ln -s ../keep /srv/names/link
chmod 4755 /srv/keep
mkfifo -m 600 /srv/pipe
chown -h 7:8 /srv/names/link
truncate -s 20000000 /srv/sparse
echo inside > /srv/volume/x
echo inside > /srv/scratch/x
rm -r /srv/file-instead
echo file > /srv/file-instead
touch /ready
exec sleep 3600
"""
LISTING = "find /srv /bin/sh /work.sh -xdev ! -path '/srv/volume*' ! -path '/srv/scratch*' | sort | xargs stat -c"
FORMAT = "'%n %F %a %u:%g %h %Y %t:%T'"
CONTENT = "cat /srv/keep /srv/directory/only /srv/names/* /srv/file-instead"


@pytest.fixture
def base(pystack: Pystack, busybox_rootfs: Path) -> Pystack:
    """The image ``base:1``."""
    tree = pystack.root / "tree"
    shutil.copytree(busybox_rootfs, tree, symlinks=True)
    for name in ("srv/directory/deep", "srv/names", "srv/file-instead/x"):
        (tree / name).mkdir(parents=True)
    for name in ("gone", "keep", "directory/a", "directory/deep/b", "names/one"):
        (tree / "srv" / name).write_text(f"{name}\n")
    (tree / "work.sh").write_text(WORK)
    archive = pystack.root / "base.tar"
    subprocess.run(["tar", "-C", tree, "-cf", archive, "."], check=True)
    changes = ("-c", "ENV KIND=base", "-c", 'ENTRYPOINT ["/bin/busybox"]', "-c", "EXPOSE 80", "-c", "ONBUILD RUN x")
    assert pystack.run("image", "import", *changes, str(archive), "base:1").code == 0
    return pystack


@pytest.fixture
def stack(base: Pystack) -> Iterator[Stack]:
    """Up, and its work done."""
    out = base.root / "out"
    out.mkdir()
    stack = base.stack(STACK.format(out=out))
    stack.must("up", "-d", "--wait")
    yield stack
    stack.must("down", "-v", "-t", "0")


def inspected(pystack: Pystack, name: str) -> Any:
    ran = pystack.run("image", "inspect", name)
    assert ran.code == 0, str(ran)
    return json.loads(ran.stdout)[0]


def seen(stack: Stack, command: str) -> str:
    return stack.must("exec", "-T", "app", "sh", "-c", command).stdout


def in_image(pystack: Pystack, image: str, command: str) -> str:
    """What `command` says in a container of `image` that nothing is mounted in."""
    stack = pystack.stack(f"services:\n  again:\n    image: {image}\n")
    ran = stack.must("run", "-T", "--entrypoint", "/bin/sh", "again", "-c", command)
    stack.must("down", "-v")
    return ran.stdout


def test_what_a_container_has_become_runs_again_here_and_elsewhere(stack: Stack, base: Pystack) -> None:
    show = f"{LISTING} {FORMAT}; {CONTENT}"
    expected = seen(stack, show).splitlines()
    made = stack.must("commit", "-a", "Me", "-m", "its work", "-c", "ENV MORE=yes", "-c", "CMD sleep 5", "app", AGAIN)
    lines = in_image(base, AGAIN, f"{show}; ls -d /srv/* /out /ready; du -k /srv/sparse").splitlines()
    assert lines[: len(expected)] == expected
    assert lines[len(expected) :] == [
        "/ready", "/srv/directory", "/srv/file-instead", "/srv/keep", "/srv/names", "/srv/pipe", "/srv/sparse",
        "0\t/srv/sparse",
    ]  # fmt: skip
    image = inspected(base, AGAIN)
    assert made.stdout.strip() == image["Id"]
    assert image["Author"] == "Me"
    config = image["Config"]
    assert config["Env"] == ["KIND=base", "COLOUR=red", "MORE=yes"]
    assert config["Entrypoint"] == ["/bin/busybox"]
    assert config["Cmd"] == ["/bin/sh", "-c", "sleep 5"]
    assert not config.get("OnBuild")
    assert len(image["RootFS"]["Layers"]) == 2
    taken(base, image["Id"])


def taken(base: Pystack, image: str) -> None:
    """By skopeo and podman, as `image save` writes it."""
    if shutil.which("podman") is None or shutil.which("skopeo") is None:
        assert not MUST_WORK, "no podman or no skopeo (.ci/servers installs them)"
        return
    archive = base.root / "taken.tar"
    assert base.run("image", "save", "-o", str(archive), AGAIN).code == 0
    copy = ["skopeo", "--insecure-policy", "copy", f"docker-archive:{archive}", f"oci:{base.root}/layout:1"]
    subprocess.run(copy, check=True, capture_output=True)
    store = ["--root", str(base.root / "p"), "--runroot", str(base.root / "pr"), "--storage-driver", "vfs"]
    podman = ["podman", *store, "--events-backend", "none"]
    try:
        subprocess.run([*podman, "load", "--quiet", "--input", archive], check=True, capture_output=True)
        shown = subprocess.run([*podman, "image", "inspect", AGAIN], check=True, capture_output=True)
        (found,) = json.loads(shown.stdout)
        assert f"sha256:{found['Id']}" == image
    finally:
        subprocess.run([*podman, "rmi", "--all", "--force"], check=True, capture_output=True)


def entries(path: Path) -> dict[str, tuple[Any, ...]]:
    """Of /srv, /bin and the files beside them."""
    found = {}
    with tarfile.open(path) as archive:
        for item in archive:
            name = item.name.removeprefix("./").rstrip("/")
            if name.split("/")[0] not in ("srv", "bin", "work.sh", "ready", "tmp"):
                continue
            if name.startswith(("srv/volume/", "srv/scratch/")) or name in ("srv/volume", "srv/scratch"):
                continue
            # Which of the names of one file comes first is up to who writes.
            file = archive.extractfile(item) if item.isreg() or item.islnk() else None
            data = hash(file.read()) if file is not None else None
            kind = b"0" if item.islnk() else item.type
            link = item.linkname if item.issym() else ""
            found[name] = (kind, item.mode, item.uid, item.gid, int(item.mtime), link, data)
    return found


def test_an_export_is_what_tar_says_inside_and_the_container_goes_on(stack: Stack, base: Pystack) -> None:
    out = base.root / "out"
    seen(stack, "cd / && tar -cf /out/inside.tar srv bin work.sh ready tmp")
    stack.must("export", "-o", str(out / "export.tar"), "app")
    assert entries(out / "export.tar") == entries(out / "inside.tar")
    with tarfile.open(out / "export.tar") as archive:
        names = [name.removeprefix("./") for name in archive.getnames()]
    assert not [name for name in names if name.startswith(("srv/volume/", "srv/scratch/", "out/", "proc/"))]
    assert sorted(path.name for path in out.iterdir()) == ["export.tar", "inside.tar"]
    command = base.command("-p", stack.name, "export", "app")
    piped = subprocess.run(command, cwd=stack.directory, env=base.child_environment(), stdout=subprocess.PIPE, check=True)
    assert piped.stdout == (out / "export.tar").read_bytes()
    running = stack.must("commit", "--pause=false", "app").stdout.strip()
    assert seen(stack, "kill -0 1 && echo runs") == "runs\n"
    stack.must("stop", "-t", "0")
    stack.must("commit", "--index", "1", "app", "stopped:1")
    assert inspected(base, running)["RootFS"] == inspected(base, "stopped:1")["RootFS"]


HOST = """
services:
  app:
    image: host
    command:
      - python3
      - -c
      - |
        import os, time
        os.makedirs("/opt/made"); open("/opt/made/tool", "w").write("tool")
        os.chown("/opt/made/tool", 5, 6)
        value = bytes.fromhex("0100000200040000000000000000000000000000")
        os.setxattr("/opt/made/tool", "security.capability", value)
        os.setxattr("/opt/made/tool", "user.note", b"noted")
        time.sleep(3600)
    stop_grace_period: 0s
"""
SHOW = "import os; p = '/opt/made/tool'; s = os.stat(p); print(open(p).read(), s.st_uid, s.st_gid, "
SHOW += "os.getxattr(p, 'security.capability').hex(), os.getxattr(p, 'user.note'))"


def test_a_container_of_the_host_image_becomes_one_that_needs_this_machine(pystack: Pystack) -> None:
    stack = pystack.stack(HOST)
    stack.must("up", "-d")
    show = ("exec", "-T", "app", "python3", "-c", SHOW)
    eventually(lambda: "noted" in stack.run(*show).stdout)
    stack.must("commit", "app", "tool:1")
    out = pystack.root / "host.tar"
    stack.must("export", "app", "-o", str(out))
    with tarfile.open(out) as archive:
        tool = archive.getmember("opt/made/tool")
    assert (tool.uid, tool.gid) == (5, 6)
    capability = tool.pax_headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape")
    assert capability == bytes.fromhex("0100000200040000000000000000000000000000")
    again = pystack.stack("services: {app: {image: 'tool:1'}}")
    ran = again.must("run", "-T", "app", "python3", "-c", SHOW)
    assert ran.stdout == stack.must(*show).stdout
    assert ran.stdout.startswith("tool 5 6 01000002")
    assert "io.pystack.host" in inspected(pystack, "tool:1")["Config"]["Labels"]
    again.must("down")
    stack.must("down", "-t", "0")


def test_a_container_of_a_directory_becomes_an_image_that_does_not_need_it(pystack: Pystack, busybox_rootfs: Path) -> None:
    tree = pystack.root / "rootfs"
    shutil.copytree(busybox_rootfs, tree, symlinks=True)
    text = "services: {app: {image: 'rootfs:%s', command: [sleep, '3600'], stop_grace_period: 0s}}"
    stack = pystack.stack(text % tree)
    stack.must("up", "-d")
    untouched = stack.must("commit", "app").stdout.strip()
    seen(stack, "echo made > /made; rm /bin/wget")
    stack.must("commit", "app", "flat:1")
    stack.must("down")
    os.rename(tree, pystack.root / "elsewhere")
    assert in_image(pystack, "flat:1", "cat /made; ls /bin/wget 2>&1 | grep -c 'No such'; id -u") == "made\n1\n0\n"
    image = inspected(pystack, "flat:1")
    assert image["Config"]["Cmd"] == ["sleep", "3600"]
    assert image["RootFS"]["Layers"][:-1] == inspected(pystack, untouched)["RootFS"]["Layers"]
