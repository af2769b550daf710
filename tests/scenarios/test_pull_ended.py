"""A pull from a real registry that is ended in the middle: Ctrl-C, SIGTERM, SIGHUP, a closed terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.kernel.registry_lab import docker_registry
from tests.machine import BUSYBOX, Pystack, Stack, eventually
from tests.scenarios.talk import running

pytestmark = [pytest.mark.kernel, pytest.mark.servers]

LAYER_BYTES = 6 << 20
ALL_BYTES = 2 * LAYER_BYTES + (2 << 20)
"""And busybox, and what the registry says beside."""
QUOTA = 8 << 20
ENDS_S = 10.0
"""On a machine that has other things to do; else it is half a second."""
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class Relay:
    """A port of 127.0.0.1 before another one, that hands answers on until `quota` bytes of them have come by, then stands
    still until `release`."""

    def __init__(self, behind: str, quota: int) -> None:
        self._behind = int(behind.rpartition(":")[2])
        self._quota = quota
        self.passed = 0
        self._guard = threading.Lock()
        self._goes_on = threading.Event()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Relay:
        self._start(self._accept)
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._open:
            each.close()

    def release(self) -> None:
        self._goes_on.set()

    @property
    def stands_still(self) -> bool:
        return self.passed >= self._quota and not self._goes_on.is_set()

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._behind))
                self._open += [client, server]
                self._start(self._copy, client, server, False)
                self._start(self._copy, server, client, True)

    def _copy(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                with self._guard:
                    self.passed += len(data) if counted else 0
                    wait = counted and self.passed >= self._quota
                target.sendall(data)
                if wait:
                    self._goes_on.wait()
            target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """With the image ``big:1``: busybox, and two layers that cannot be compressed."""
    if not BUSYBOX.exists():
        pytest.skip("no static busybox (.ci/servers installs it)")
    directory = tmp_path_factory.mktemp("registry")
    with docker_registry(directory) as host:
        maker = Pystack(directory)
        assert maker.run("image", "make", "busybox", "-t", "busybox").code == 0
        dockerfile = "FROM busybox\nCOPY one /\nCOPY two /\n"
        stack = maker.stack(f"services: {{x: {{build: ., image: '{host}/big:1'}}}}", files={"Dockerfile": dockerfile})
        for name in ("one", "two"):
            (stack.directory / name).write_bytes(random.Random(name).randbytes(LAYER_BYTES))
        stack.must("build", "--push")
        yield host


def stack_of(pystack: Pystack, relay: Relay) -> Stack:
    service = f"{{image: '{relay.host}/big:1', command: [sleep, '3600'], stop_grace_period: 0s}}"
    return pystack.stack(f"services:\n  web: {service}\n")


def left(pystack: Pystack) -> dict[str, list[str]]:
    """What the store has of images, of directories in the making and of leases."""
    images = pystack.data_dir / "images"
    listed = {name: sorted(os.listdir(images / name)) for name in ("tmp", "leases") if (images / name).exists()}
    return {"tmp": [], **listed, "images": pystack.run("image", "ls", "-q").stdout.split()}


def came(pystack: Pystack) -> int:
    """Bytes of blobs, whole ones and parts."""
    images = pystack.data_dir / "images"
    return sum(path.stat().st_size for name in ("blobs", "ingest") for path in (images / name).rglob("*") if path.is_file())


def until_amid(pystack: Pystack, relay: Relay) -> None:
    """More than half has come, and nothing comes any more."""
    eventually(lambda: relay.stands_still and came(pystack) > LAYER_BYTES // 2)


def check_the_next_pull_goes_on(pystack: Pystack, relay: Relay, stack: Stack) -> None:
    assert left(pystack) == {"tmp": [], "leases": [], "images": []}
    there, before = came(pystack), relay.passed
    assert there > LAYER_BYTES // 2
    relay.release()
    assert "1 image pulled in " in stack.must("pull").stderr
    assert relay.passed - before < ALL_BYTES - there
    done = left(pystack)
    assert (done["tmp"], done["leases"], len(done["images"])) == ([], [], 1)


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_pull_that_a_signal_ends_leaves_nothing_half_and_the_next_one_goes_on(
    pystack: Pystack, registry: str, number: signal.Signals
) -> None:
    with Relay(registry, QUOTA) as relay:
        stack = stack_of(pystack, relay)
        with running(stack, "pull") as process:
            until_amid(pystack, relay)
            process.send_signal(number)
            _, said = process.communicate(timeout=ENDS_S)
        assert process.returncode == CODES[number], said
        assert said.endswith("pull was cut short: what has come is kept, and the next one goes on from there\n")
        check_the_next_pull_goes_on(pystack, relay, stack)


def test_a_pull_whose_terminal_is_closed_leaves_nothing_half(pystack: Pystack, registry: str) -> None:
    with Relay(registry, QUOTA) as relay:
        stack = stack_of(pystack, relay)
        with closing_terminal(stack, "pull") as (process, close):
            until_amid(pystack, relay)
            close()
            assert process.wait(ENDS_S) == CODES[signal.SIGHUP]
        check_the_next_pull_goes_on(pystack, relay, stack)


@contextlib.contextmanager
def closing_terminal(stack: Stack, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], None]]]:
    """A command on a terminal of its own, and what closes that: the kernel sends SIGHUP to the session's leader."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *stack.pystack.command("-p", stack.name, *words)],
        cwd=stack.directory,
        env={**stack.pystack.child_environment(), "TERM": "xterm"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    over = threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            while not over.is_set():
                if select.select([master], [], [], 0.05)[0]:
                    os.read(master, 1 << 16)

    reader = threading.Thread(target=read)
    reader.start()

    def close() -> None:
        over.set()
        reader.join()
        os.close(master)

    try:
        yield process, close
    finally:
        if not over.is_set():
            close()
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_up_that_a_signal_ends_amid_its_pull_leaves_nothing_half(
    pystack: Pystack, registry: str, number: signal.Signals
) -> None:
    with Relay(registry, QUOTA) as relay:
        stack = stack_of(pystack, relay)
        with running(stack, "up") as process:
            until_amid(pystack, relay)
            process.send_signal(number)
            _, said = process.communicate(timeout=ENDS_S)
        assert process.returncode == 130, said
        assert "\nstopping (Ctrl-C again kills)\n" in said
        eventually(lambda: pystack.processes() == {})
        check_the_next_pull_goes_on(pystack, relay, stack)


def test_the_pull_of_an_up_whose_terminal_is_closed_goes_on_and_down_ends_it(pystack: Pystack, registry: str) -> None:
    with Relay(registry, QUOTA) as relay:
        stack = stack_of(pystack, relay)
        with closing_terminal(stack, "up") as (process, close):
            until_amid(pystack, relay)
            close()
            assert process.wait(ENDS_S) == -signal.SIGHUP
        assert len(pystack.processes()) == 2
        stack.must("down", timeout_s=ENDS_S)
        eventually(lambda: pystack.processes() == {})
        check_the_next_pull_goes_on(pystack, relay, stack)
