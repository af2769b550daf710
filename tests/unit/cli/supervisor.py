"""A control server for tests: real sockets, scripted answers, and a record of what was asked."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestrator.contracts.protocol import VERSION

Script = Callable[["Exchange"], None]


@dataclass
class Exchange:
    """One request, and the means to answer it."""

    verb: str
    args: dict[str, Any]
    fds: tuple[int, ...]
    connection: socket.socket

    def event(self, value: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        self.send({"event": value}, fds)

    def ok(self, value: Any) -> None:
        self.send({"ok": value})

    def error(self, message: str, *, hint: str = "", exit_code: int = 1, kind: str = "") -> None:
        kind = kind or {2: "input", 125: "host", 126: "command", 127: "command"}.get(exit_code, "operation")
        self.send({"error": {"kind": kind, "message": message, "hint": hint, "exit_code": exit_code}})

    def send(self, message: Any, fds: tuple[int, ...] = ()) -> None:
        data = json.dumps(message).encode() + b"\n"
        with contextlib.suppress(OSError):
            if fds:
                socket.send_fds(self.connection, [data], list(fds))
            else:
                self.connection.sendall(data)

    def wait_closed(self) -> None:
        """Until the client has closed its end."""
        with contextlib.suppress(OSError):
            while self.connection.recv(4096):
                pass


@dataclass
class FakeSupervisor:
    """Listens in `run_dir` and answers by `scripts` (verb -> what to do); `hello` is answered by itself.

    `asked`: the requests so far, without `hello`. `seen(verb)` is set when the first request of that verb has come.
    """

    run_dir: str
    scripts: dict[str, Script] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        os.makedirs(self.run_dir, mode=0o700, exist_ok=True)
        self._events: dict[str, threading.Event] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = os.path.join(self.run_dir, "control.sock")
        self._listener.bind(self._path)
        self._inode = os.stat(self._path).st_ino
        self._listener.listen(16)
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []
        self._spawn(self._accept)

    def seen(self, verb: str) -> threading.Event:
        return self._events.setdefault(verb, threading.Event())

    def last(self, verb: str) -> dict[str, Any]:
        """The args of the last request of `verb`."""
        return next(args for name, args in reversed(self.asked) if name == verb)

    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.asked]

    def close(self) -> None:
        """As a killed supervisor: nothing listens any more, all connections are closed."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(10)
                assert not thread.is_alive(), "a thread of the control server is stuck"
        for connection in self._connections:
            connection.close()
        assert not self.errors, self.errors

    def _spawn(self, target: Callable[..., None], *args: Any) -> None:
        def guarded() -> None:
            try:
                target(*args)
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        for line, fds in _lines(connection):
            request = json.loads(line)
            assert request["v"] == VERSION
            exchange = Exchange(request["verb"], request["args"], fds, connection)
            exchange.send({"v": VERSION, "ack": True})
            if exchange.verb == "hello":
                exchange.ok({"version": "0.1.0", "project": "demo", "pid": os.getpid()})
                continue
            self.asked.append((exchange.verb, exchange.args))
            self.seen(exchange.verb).set()
            script = self.scripts.get(exchange.verb)
            if script is None:
                exchange.error(f"no script for {exchange.verb}", exit_code=125)
            else:
                script(exchange)
            for fd in fds:
                os.close(fd)


def _lines(connection: socket.socket) -> Iterator[tuple[bytes, tuple[int, ...]]]:
    buffer, fds = b"", []
    while True:
        try:
            data, new, _, _ = socket.recv_fds(connection, 65536, 8)
        except OSError:
            return
        fds += new
        if not data:
            return
        buffer += data
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            yield line, tuple(fds)
            fds = []


def ok(value: Any) -> Script:
    """A script that answers with `value`."""
    return lambda exchange: exchange.ok(value)


def fails(message: str, *, hint: str = "", exit_code: int = 1, kind: str = "") -> Script:
    return lambda exchange: exchange.error(message, hint=hint, exit_code=exit_code, kind=kind)


def after(events: list[dict[str, Any]], value: Any) -> Script:
    """A script that sends `events`, then the result."""

    def play(exchange: Exchange) -> None:
        for item in events:
            exchange.event(item)
        exchange.ok(value)

    return play
