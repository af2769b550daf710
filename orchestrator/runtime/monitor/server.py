"""The requests of docs/monitor-protocol.md, and what happens when the supervisor goes away."""

from __future__ import annotations

import errno
import os
import time

from orchestrator.kernel import fdpass, process
from orchestrator.kernel.constants import CLONE_NEWNS
from orchestrator.kernel.identity import is_trusted
from orchestrator.kernel.suppress import suppress
from orchestrator.runtime.monitor import store as stores
from orchestrator.runtime.monitor import wire
from orchestrator.runtime.monitor.beginning import Begun
from orchestrator.runtime.monitor.journal import Journal
from orchestrator.runtime.monitor.logfile import Log
from orchestrator.runtime.monitor.loop import Connection, Loop, Reserve
from orchestrator.runtime.monitor.mount_namespace import MountNamespaces
from orchestrator.runtime.monitor.runs import TRIM_S, Run, Start, told
from orchestrator.runtime.monitor.starter import Starter

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    import socket
    from collections.abc import Callable
    from typing import Any

IDLE_S = 10.0
_FIRST_RESPAWN_S = 0.1
_LONGEST_RESPAWN_S = 30.0
_RESPAWN_RESET_S = 10.0
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_SHORTAGE_PAUSE_S = 0.05


class Refusal(Exception):
    """A request that cannot be carried out; its text goes back as ``error``."""


class Monitor:
    def __init__(
        self,
        listener: socket.socket,
        namespaces: MountNamespaces,
        data: int,
        logs: int,
        boot_id: str,
        extents: list[list[int]],
    ) -> None:
        self.loop = Loop()
        self._listener, self._mounts, self._logs, self._boot_id = listener, namespaces, logs, boot_id
        self._extents = extents
        found = os.fstat(data)
        self._place = [found.st_dev, found.st_ino]
        self._store = stores.Store()
        self._starter = Starter(self.loop, namespaces)
        self._journal = Journal(data, boot_id)
        self._runs: dict[str, Run] = {}
        self._starting: dict[str, Begun] = {}
        self._next: dict[str, Begun] = {}
        """Starts that were asked for while there is a run, and begin when it has ended."""
        self._execs: set[Run] = set()
        self._supervisor: Connection | None = None
        self._respawn: list[str] | None = None
        self._respawn_after_s = _FIRST_RESPAWN_S
        self._respawned_at = 0.0
        self._said_goodbye = False
        self._connections: dict[Connection, None] = {}
        self._reserve = Reserve()
        listener.setblocking(False)
        self.loop.add(listener.fileno(), self._accept)
        self.loop.later(IDLE_S, self._end_if_idle)

    def _accept(self, _: int) -> None:
        try:
            sock = fdpass.accept(self._listener)
        except OSError as exc:
            if exc.errno in _SHORTAGES:
                self._accept_in_need()
            return
        self._admit(sock)

    def _admit(self, sock: socket.socket) -> None:
        if not is_trusted(wire.peer_uid(sock)):
            sock.close()
            return
        self._connections[Connection(self.loop, sock, self._message, self._closed)] = None

    def _accept_in_need(self) -> None:
        """Out of descriptors. The reserve lets one more in, and whoever has been connected for longest without a word goes:
        so a supervisor gets in whatever else is connected. If that does not help, a pause: or the queue, which stays
        full, would keep us busy."""
        self._reserve.spend()
        try:
            sock = fdpass.accept(self._listener)
        except OSError:
            self.loop.rest(self._listener.fileno(), _SHORTAGE_PAUSE_S)
        else:
            silent = next((connection for connection in self._connections if connection.silent), None)
            if silent is not None:
                silent.close()
            if self._reserve.restore():
                self._admit(sock)
            else:
                sock.close()
                self.loop.rest(self._listener.fileno(), _SHORTAGE_PAUSE_S)
        self._reserve.restore()

    def _message(self, connection: Connection, header: wire.Header, body: bytes, fds: list[int]) -> None:
        """Every handler answers for itself, and takes the descriptors it keeps out of `fds`; the rest is closed here."""
        number = header.get("id")
        try:
            HANDLERS[header["op"]](self, connection, header, body, fds)
        except Refusal as exc:
            connection.send({"re": number, "error": str(exc)})
        except OSError as exc:
            connection.send({"re": number, "error": "os", "errno": exc.errno, "path": _text(exc.filename)})
        except Exception as exc:
            connection.send({"re": number, "error": f"malformed request: {type(exc).__name__}: {exc}"})
        finally:
            for fd in fds:
                os.close(fd)

    def _closed(self, connection: Connection) -> None:
        self._connections.pop(connection, None)
        for name in [name for name, begun in self._next.items() if begun.connection is connection]:
            self._starting[name] = self._next.pop(name)
        for begun in self._starting.values():
            if begun.connection is connection and begun.undecided:
                begun.give_up()
        if connection is not self._supervisor:
            return
        self._supervisor = None
        if self._said_goodbye or not self._runs:
            self.loop.later(IDLE_S, self._end_if_idle)
        else:
            self._schedule_respawn()

    def _event(self, **event: Any) -> None:
        if self._supervisor is not None:
            self._supervisor.send(event)

    # Being left alone.

    def _end_if_idle(self) -> None:
        if not self._runs and not self._starting and not self._connections:
            self.loop.stopped = True

    def _schedule_respawn(self) -> None:
        if self._respawn is None:
            return
        if time.monotonic() - self._respawned_at > _RESPAWN_RESET_S + self._respawn_after_s:
            self._respawn_after_s = _FIRST_RESPAWN_S
        self.loop.later(self._respawn_after_s, self._respawn_supervisor)
        self._respawn_after_s = min(self._respawn_after_s * 2, _LONGEST_RESPAWN_S)

    def _respawn_supervisor(self) -> None:
        if self._supervisor is not None or not self._runs or self._respawn is None:
            return
        self._respawned_at = time.monotonic()
        self._reserve.spend()  # For the pidfd: a child that we do not know would never be reaped.
        try:
            pid = process.clone3(0)
            if pid == 0:
                self._become_supervisor(self._respawn)
            pidfd = os.pidfd_open(pid)
        except OSError:
            self._schedule_respawn()
            raise
        finally:
            self._reserve.restore()

        def ended(_: int) -> None:
            self.loop.remove(pidfd)
            os.close(pidfd)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
            if self._supervisor is None:  # It ended before it said hello; otherwise `_closed` has seen to it.
                self._schedule_respawn()

        self.loop.add(pidfd, ended)

    def _become_supervisor(self, argv: list[str]) -> None:
        try:
            process.setns(stores.keep_only(self._mounts.host_ns), CLONE_NEWNS)
            os.setsid()
            os.execv(argv[0], argv)
        finally:
            os._exit(127)

    # Requests.

    def _hello(self, connection: Connection, header: wire.Header, _: bytes, fds: list[int]) -> None:
        if not wire.LOWEST_VERSION <= header["version"] <= wire.VERSION:
            raise Refusal(f"this monitor speaks versions {wire.LOWEST_VERSION} to {wire.VERSION}, not {header['version']}")
        if stores.USERNS not in self._store.kept:
            made = fds.pop(0) if fds else stores.make_user_namespace(self._extents, self._extents)
            self._store.keep(stores.USERNS, [made])
        previous, self._supervisor = self._supervisor, connection
        if previous is not None and previous is not connection:
            previous.close()
        self._respawn = header["respawn"]
        self._said_goodbye = False
        number = header["id"]
        for run in self._runs.values():
            pipes = sorted(run.pipes.items(), key=lambda item: item[1])
            item = {
                "re": number, "item": "run", "container": run.container, "run": run.number, "pid": run.pid,
                "started": run.started, "echo": run.echo, "log": run.log_policy, "streams": [stream for _, stream in pipes],
            }  # fmt: skip
            connection.send(item, [run.pidfd, *(fd for fd, _ in pipes)])
        for name, kept in self._store.kept.items():
            connection.send({"re": number, "item": "kept", "name": name}, kept)
        answer = {"re": number, "pid": os.getpid(), "boot": self._boot_id, "layers": self._store.layers}
        connection.send({**answer, "version": wire.VERSION, "place": self._place})

    def _goodbye(self, connection: Connection, header: wire.Header, _: bytes, fds: list[int]) -> None:
        self._said_goodbye = True
        connection.send({"re": header["id"]})

    def _keep(self, connection: Connection, header: wire.Header, _: bytes, fds: list[int]) -> None:
        self._store.keep(header["name"], fds[:])
        fds.clear()
        connection.send({"re": header["id"]})

    def _fetch(self, connection: Connection, header: wire.Header, _: bytes, fds: list[int]) -> None:
        connection.send({"re": header["id"]}, self._store.kept.get(header["name"], ()))

    def _drop(self, connection: Connection, header: wire.Header, _: bytes, fds: list[int]) -> None:
        self._store.drop(header["name"])
        connection.send({"re": header["id"]})

    def _netns(self, connection: Connection, header: wire.Header, _: bytes, fds: list[int]) -> None:
        number, names = header["id"], header["names"]

        def made(made_fds: list[int], error: int) -> None:
            answer: wire.Header = {"re": number}
            if not made_fds:  # Fewer than asked for is no error: who asks for the rest is told.
                answer |= {"error": "os", "errno": error, "path": "a network namespace"}
            connection.send(answer, made_fds)
            for name, fd in zip(names, made_fds, strict=False):
                self._store.keep(name, [fd])

        stores.make_network_namespaces(self.loop, self._store.user_namespace(), len(names), made)

    def _userns(self, connection: Connection, header: wire.Header, _: bytes, fds: list[int]) -> None:
        name = header["name"]
        if name not in self._store.kept:
            self._store.keep(name, [stores.make_user_namespace(header["uids"], header["gids"])])
        connection.send({"re": header["id"]}, self._store.kept[name])

    def _layer(self, connection: Connection, header: wire.Header, _: bytes, fds: list[int]) -> None:
        number = self._store.add_layer(header["key"], fds[0], plain=bool(header.get("plain")))
        connection.send({"re": header["id"], "number": number})

    def _unlayer(self, connection: Connection, header: wire.Header, _: bytes, fds: list[int]) -> None:
        for key in header["keys"]:
            self._store.remove_layer(key)
        connection.send({"re": header["id"]})

    def _named(self, header: wire.Header, fds: list[int]) -> tuple[dict[str, int], list[int]]:
        """The descriptors of a start or exec: by name, and the v1 cgroup.procs files."""
        names = header["names"]
        procs = [fd for name, fd in zip(names, fds, strict=True) if name == "procs"]
        named = {name: fd for name, fd in zip(names, fds, strict=True) if name != "procs"}
        return {"user": self._store.user_namespace(), **named}, procs

    def _log_of(self, header: wire.Header, *, goes_on: bool = False) -> Log:
        container, run = header["container"], header["run"]

        def lost(problem: int, count: int) -> None:
            self._event(event="unlogged", container=container, run=run, errno=problem, bytes=count)

        return Log(self._logs, container, header["log"], self._mounts.null, goes_on=goes_on, on_loss=lost)

    def _start(self, connection: Connection, header: wire.Header, body: bytes, fds: list[int]) -> None:
        container = header["container"]
        run = self._runs.get(container)
        follows = run is not None and header.get("after") == run.number and container not in self._next
        if container in self._starting or (run is not None and not follows):
            raise Refusal(f"container {container} is running")
        named, procs = self._named(header, fds)
        log = None if follows else self._log_of(header)
        begun = Begun(
            self.loop, self._mounts, connection, header, body, named, procs, log, self._starter,
            self._executed, self._failed,
        )  # fmt: skip
        for fd in begun.pipes:
            fds.remove(fd)
        begun.take(fds)
        (self._next if follows else self._starting)[container] = begun

    def _executed(self, begun: Begun, pid: int, pidfd: int, warnings: list[tuple[int, str]]) -> None:
        self._starting.pop(begun.container, None)
        run = Run(
            self.loop, pid, pidfd, self._run_ended, log=begun.log, pipes=begun.pipes, started=time.time(),
            container=begun.container, number=begun.header["run"], echo=begun.header["echo"],
        )  # fmt: skip
        self._runs[run.container] = run
        self._journal.started(run)
        answer = {"re": begun.asked, "pid": pid, "started": run.started, "warnings": warnings}
        begun.connection.send(answer, [pidfd, *begun.masters])

    def _failed(self, begun: Begun) -> None:
        for known in (self._starting, self._next):
            if known.get(begun.container) is begun:
                del known[begun.container]
        if self._supervisor is None:
            self.loop.later(IDLE_S, self._end_if_idle)

    def _go(self, connection: Connection, header: wire.Header, _: bytes, fds: list[int]) -> None:
        begun = self._held(header)
        begun.header["echo"] = header.get("echo", begun.header["echo"])
        begun.go(header["id"])

    def _unhold(self, connection: Connection, header: wire.Header, _: bytes, fds: list[int]) -> None:
        (self._next.pop(header["container"], None) or self._held(header)).give_up(header["id"])

    def _held(self, header: wire.Header) -> Begun:
        begun = self._starting.get(header["container"])
        if begun is None or not begun.undecided:
            raise Refusal(f"no start of {header['container']} is held")
        return begun

    def _run_ended(self, run: Run, status: int | None) -> None:
        del self._runs[run.container]
        if run.log is not None and run.log.held:
            self._trim_later(run.container, run.log)
        at = self._journal.ended(run, status)
        self._event(event="exit", container=run.container, run=run.number, status=status, at=at, echo=run.echo)
        if self._supervisor is None:
            self.loop.later(IDLE_S, self._end_if_idle)
        if (following := self._next.pop(run.container, None)) is not None:
            self._starting[run.container] = following
            following.begin(self._log_of(following.header))

    def _trim_later(self, container: str, log: Log) -> None:
        """Readers may need what a run has written for longer than it lives; the next run sees to it itself."""

        def trim() -> None:
            if container not in self._runs and container not in self._starting:
                log.trim()
                if log.held:
                    self._trim_later(container, log)

        self.loop.later(TRIM_S, trim)

    def _exec(self, connection: Connection, header: wire.Header, body: bytes, fds: list[int]) -> None:
        run = self._runs.get(header["container"])
        if run is None:
            raise Refusal(f"container {header['container']} is not running")
        named, procs = self._named(header, fds)
        number = header["id"]

        def executed(pid: int, pidfd: int, _: list[tuple[int, str]]) -> None:
            self._execs.add(Run(self.loop, pid, pidfd, ended))
            connection.send({"re": number, "pid": pid}, [pidfd])

        def ended(run: Run, status: int | None) -> None:
            self._execs.discard(run)
            connection.send({"event": "ended", "exec": number, "status": status})

        def failed(step: int, error: int, text: str) -> None:
            connection.send({"re": number, **told(step, error, text)})

        target = os.dup(run.pidfd)  # The run may end meanwhile.
        fds.append(target)
        start = Start(
            self.loop, self._mounts, body, {**named, "target": target}, procs, executed, failed,
            starter=self._starter, within=target,
        )  # fmt: skip
        start.take(fds)

    def _adopt(self, connection: Connection, header: wire.Header, _: bytes, fds: list[int]) -> None:
        container = header["container"]
        if container in self._runs:
            raise Refusal(f"container {container} is known already")
        log = self._log_of(header, goes_on=True)
        pidfd, *pipes = fds
        fds.clear()
        self._runs[container] = Run(
            self.loop, header["pid"], pidfd, self._run_ended, log=log,
            pipes=dict(zip(pipes, header["streams"], strict=True)), started=header["started"],
            container=container, number=header["run"], echo=header["echo"],
        )  # fmt: skip
        connection.send({"re": header["id"]})

    def _reaped(self, connection: Connection, header: wire.Header, _: bytes, fds: list[int]) -> None:
        run = self._runs.get(header["container"])
        if run is not None and run.number == header["run"]:
            run.end(header["status"])
        connection.send({"re": header["id"]})

    def _forget(self, connection: Connection, header: wire.Header, _: bytes, fds: list[int]) -> None:
        container = header["container"]
        if container in self._runs:
            raise Refusal(f"container {container} is running")
        self._store.drop_all_of(container)
        self._journal.write(e="forget", c=container)
        connection.send({"re": header["id"]})

    def _shutdown(self, connection: Connection, header: wire.Header, _: bytes, fds: list[int]) -> None:
        if self._runs:
            raise Refusal("containers are running")
        for begun in self._starting.values():  # Whoever asked for it has gone.
            begun.end()
        self._said_goodbye = True
        connection.send({"re": header["id"]})
        self.loop.stopped = True

    def run(self) -> None:
        self.loop.run()
        self._starter.stop()


def _text(path: object) -> str | None:
    return os.fsdecode(path) if isinstance(path, str | bytes) else None


HANDLERS: dict[str, Callable[[Monitor, Connection, wire.Header, bytes, list[int]], None]] = {
    "hello": Monitor._hello,
    "goodbye": Monitor._goodbye,
    "keep": Monitor._keep,
    "fetch": Monitor._fetch,
    "drop": Monitor._drop,
    "netns": Monitor._netns,
    "userns": Monitor._userns,
    "layer": Monitor._layer,
    "unlayer": Monitor._unlayer,
    "start": Monitor._start,
    "go": Monitor._go,
    "unhold": Monitor._unhold,
    "exec": Monitor._exec,
    "adopt": Monitor._adopt,
    "reaped": Monitor._reaped,
    "forget": Monitor._forget,
    "shutdown": Monitor._shutdown,
}
