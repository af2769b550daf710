"""Builds that meet trouble: killed, out of disk, side by side; and what comes over a network."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from orchestrator.build import workshop
from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, OperationError
from tests.kernel.build_bench import bench, heirs
from tests.machine import ROOT, eventually

pytestmark = pytest.mark.kernel

_KILLED = """
import sys, trio
from pathlib import Path
from tests.kernel.build_bench import Bench

async def main():
    bench = Bench(Path(sys.argv[1]), Path(sys.argv[2]))
    spec = bench.spec("FROM busybox\\nRUN --mount=type=secret,id=s echo started; sleep 1000\\n")
    await bench.builder.build(spec, (), bench, lambda told: print(getattr(told, "text", ""), flush=True))

trio.run(main)
"""


async def test_what_a_killed_build_left_is_cleared_away(leaves_nothing_behind: None, busybox_rootfs: Path) -> None:
    root = Path(tempfile.mkdtemp(prefix="build-"))
    for name in ("data", "run"):
        (root / name).mkdir(mode=0o700)
    command = [sys.executable, "-c", _KILLED, str(root), str(busybox_rootfs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert any(line.strip() == "started" for line in process.stdout)
        process.kill()
    eventually(lambda: not (root / "data/projects/_build-0").exists() and not heirs(root))
    async with bench(busybox_rootfs, root) as at:
        assert (await at.build("FROM busybox\nRUN echo alive\n")).output() == ["alive"]


async def test_builds_run_side_by_side(leaves_nothing_behind: None, busybox_rootfs: Path) -> None:
    async with bench(busybox_rootfs) as at:
        seen: dict[str, str] = {}

        async def one(name: str) -> None:
            built = await at.build(f"FROM busybox\nRUN echo {name} > /name\nCOPY a /a\n", {"a": name}, tags=(name,))
            seen[name] = built.text("/name") + built.text("/a")

        async with trio.open_nursery() as nursery:
            for name in ("one", "two", "three"):
                nursery.start_soon(one, name)
        assert seen == {name: f"{name}\n{name}" for name in ("one", "two", "three")}
        assert sorted(at.store.names()) == [f"docker.io/library/{name}:latest" for name in ("one", "three", "two")]


async def test_a_full_disk_is_one_error_and_leaves_nothing(leaves_nothing_behind: None, busybox_rootfs: Path) -> None:
    root = Path(tempfile.mkdtemp(prefix="small-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", root], check=True)
    try:
        big = Path(tempfile.mkdtemp(prefix="big-"))
        (big / "file").write_bytes(bytes(16 << 20))
        async with bench(busybox_rootfs, root / "build") as at:
            with pytest.raises(OperationError, match="ended with exit code 1") as caught:
                await at.build("FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=16\n")
            assert (caught.value.hint or "").startswith("the disk is full")
            with pytest.raises(HostError, match="the disk is full"):
                await at.build("FROM busybox\nCOPY file /file\n", big)
            filler = root / "filler"
            subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4k"], stderr=subprocess.DEVNULL, check=False)
            with pytest.raises(HostError, match="the disk is full"):
                await at.build("FROM busybox\nWORKDIR /a/b\n")
            filler.unlink()
            assert (await at.build("FROM busybox\nRUN echo still\n")).output() == ["still"]
    finally:
        subprocess.run(["umount", root], check=True)
        root.rmdir()
        (big / "file").unlink()
        big.rmdir()


async def test_an_interrupted_copy_leaves_nothing(leaves_nothing_behind: None, busybox_rootfs: Path) -> None:
    async with bench(busybox_rootfs) as at:
        context = at.context({f"d/{number}": "x" for number in range(50)})
        with trio.CancelScope() as scope:

            def told(each: object) -> None:
                if getattr(each, "action", "") == "building":
                    scope.cancel()

            await at.builder.build(at.spec("FROM busybox\nCOPY d /d\n", context), (), at, told)
        assert scope.cancelled_caught
        assert (await at.build("FROM busybox\nCOPY d /d\n", context)).ran() == 1


async def test_a_build_that_is_cancelled_while_its_place_is_opened_ends(
    leaves_nothing_behind: None, busybox_rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_place = workshop._take_place
    with trio.fail_after(20), trio.CancelScope() as scope:

        def take(*arguments: str) -> tuple[Site, int, bool]:
            trio.from_thread.run_sync(scope.cancel)
            return take_place(*arguments)

        monkeypatch.setattr(workshop, "_take_place", take)
        async with bench(busybox_rootfs) as at:
            await at.build("FROM busybox\nRUN true\n")
    assert scope.cancelled_caught


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """The address of an HTTP server of the files below `directory`."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(directory))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def test_add_fetches_files_and_checks_them(leaves_nothing_behind: None, busybox_rootfs: Path) -> None:
    async with bench(busybox_rootfs) as at:
        files = at.context({"tool.sh": "#!/bin/sh\n"})
        os.utime(files / "tool.sh", (1_000_000_000, 1_000_000_000))
        right = hashlib.sha256(b"#!/bin/sh\n").hexdigest()
        with served(files) as url:
            built = await at.build(
                f"FROM busybox\nADD {url}/tool.sh /bin/\nADD --chmod=755 --checksum=sha256:{right} {url}/tool.sh /t\n"
            )
            found = built.stat("/bin/tool.sh")
            assert (found.st_mode & 0o777, found.st_mtime, built.stat("/t").st_mode & 0o777) == (0o600, 1e9, 0o755)
            for line, what in (
                (f"ADD --checksum=sha256:{'0' * 64} {url}/tool.sh /t", "has the checksum"),
                (f"ADD {url}/missing /t", "404"),
            ):
                with pytest.raises(OperationError, match=what) as caught:
                    await at.build(f"FROM busybox\n{line}\n")
                assert caught.value.place == "build.dockerfile_inline:2"
        with pytest.raises(OperationError, match="cannot fetch"):
            await at.build(f"FROM busybox\nADD {url}/tool.sh /t\n")


async def test_an_archive_elsewhere_is_a_context(leaves_nothing_behind: None, busybox_rootfs: Path) -> None:
    async with bench(busybox_rootfs) as at:
        context = at.context({"Dockerfile": "FROM busybox\nCOPY a /a\n", "a": "1"})
        site = at.context({"text": "no archive"})
        subprocess.run(["tar", "-C", context, "-czf", site / "context.tgz", "."], check=True)
        with served(site) as url:
            assert (await at.build_spec(f"{url}/context.tgz")).text("/a") == "1"
            with pytest.raises(OperationError, match="is no tar archive"):
                await at.build_spec(f"{url}/text")


async def test_a_git_repository_is_a_source_and_a_context(leaves_nothing_behind: None, busybox_rootfs: Path) -> None:
    async with bench(busybox_rootfs) as at:
        top = at.context({"work/sub/file": "content", "work/Dockerfile": "FROM busybox\nCOPY sub /s\n", "site/": ""})
        _git(top / "work", "init", "-q", "-b", "main")
        _git(top / "work", "add", ".")
        _git(top / "work", "-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "-m", "one")
        _git(top, "clone", "-q", "--bare", "work", "site/repo.git")
        with git_served(top / "site") as url:
            built = await at.build(
                f"FROM busybox\nADD {url}/repo.git#main:sub /s\nADD --keep-git-dir=true {url}/repo.git /whole\n"
            )
            assert built.names("/s") == ["file"]
            assert built.names("/whole") == [".git", "Dockerfile", "sub"]
            built = await at.build_spec(f"{url}/repo.git")
            assert built.text("/s/file") == "content"
            with pytest.raises(OperationError, match="nowhere"):
                await at.build(f"FROM busybox\nADD {url}/repo.git#nowhere /s\n")


@contextmanager
def git_served(directory: Path) -> Iterator[str]:
    """The address of a Git server of the repositories below `directory`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    options = ["--listen=127.0.0.1", f"--port={port}", f"--base-path={directory}", "--export-all"]
    with subprocess.Popen(["/usr/lib/git-core/git-daemon", *options], stderr=subprocess.DEVNULL) as daemon:
        try:

            def answers() -> bool:
                with socket.socket() as caller:
                    return caller.connect_ex(("127.0.0.1", port)) == 0

            eventually(answers)
            yield f"git://127.0.0.1:{port}"
        finally:
            daemon.terminate()


def _git(directory: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=directory, check=True)
