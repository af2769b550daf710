"""Looks at a container from outside (`model.health.Look`): nothing of its image is executed, and nothing of it is trusted.

Sockets are made in the network namespace of its run (setns(2) by its pidfd) and used from here. What it answers is read up
to a limit, its files are looked up in its root with no descriptor that could be read or wait (O_PATH), its lines are
searched in time that grows with them and no faster (`model.linepattern`).
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

import trio

from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, OperationError
from orchestrator.kernel import process, rooted, sockdiag
from orchestrator.kernel.cgroup import Layout
from orchestrator.kernel.constants import CLONE_NEWNET
from orchestrator.kernel.pidfd import is_over
from orchestrator.kernel.sockdiag import Listener
from orchestrator.model.health import DeclaredPort, Look, LookKind, ProbeResult
from orchestrator.model.names import ContainerId
from orchestrator.oci.namespaces import own_namespaces
from orchestrator.runtime import bundle, tls_look
from orchestrator.runtime.sandbox import ActiveRun, Sandbox
from orchestrator.runtime.usage import members

T = TypeVar("T")
_ANY = ("0.0.0.0", "::")
_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.05
_SHARE = 0.01
"""What has begun to listen is seen after this share of the time that it took, or `_FIRST_PAUSE_S`."""
_MOST_DESCRIPTORS = 100_000
"""Of processes in another's network namespace, that are looked through for a socket."""
_STATUS_BYTES = 1 << 10
_BODY_BYTES = 1 << 16
_BODY_S = 0.5
"""An answer is read to its end, if that comes soon: who is cut off complains in its log."""
Missing = str | None
"""What is not so, in words; None: all is as it should be."""


class Looks:
    """`_stuck`: containers of which a look at a file has not come back: a file system of theirs does not answer."""

    def __init__(self, site: Site, layout: Layout) -> None:
        self._site = site
        self._layout = layout
        self._stuck: set[ContainerId] = set()

    async def look(self, sandbox: Sandbox, active: ActiveRun, wanted: Look, timeout_s: float) -> ProbeResult:
        """Raises OSError, HostError; OperationError when the run has ended."""
        looks = {
            LookKind.LISTENING: self._listening,
            LookKind.TCP: self._tcp,
            LookKind.HTTP: self._http,
            LookKind.LOG: self._log,
            LookKind.FILE: self._file,
        }
        began_s = trio.current_time()
        missing: Missing = None
        with trio.move_on_after(timeout_s) as deadline:
            missing = await looks[wanted.kind](sandbox, active, wanted)
        took_s = trio.current_time() - began_s
        if deadline.cancelled_caught:
            return ProbeResult(None, str(wanted), took_s)
        return ProbeResult(0 if missing is None else 1, missing or "", took_s)

    async def _listening(self, sandbox: Sandbox, active: ActiveRun, wanted: Look) -> Missing:
        """Returns when it is so."""
        enough = any if wanted.any else all
        began_s = trio.current_time()
        with _in_network(active, sockdiag.open_socket) as asks:
            while True:
                found = [
                    bool(await self._listeners(asks, sandbox, port))
                    for port in wanted.ports or (DeclaredPort(0), DeclaredPort(0, "udp"))
                ]
                if enough(found):
                    return None
                await trio.sleep(min(max(_FIRST_PAUSE_S, _SHARE * (trio.current_time() - began_s)), _LONGEST_PAUSE_S))

    async def _listeners(self, asks: socket.socket, sandbox: Sandbox, port: DeclaredPort) -> Sequence[Listener]:
        """Those of the container, in whose network namespace others may listen too when it is not its own."""
        found = sockdiag.listeners(asks, port.number, port.protocol)
        own = "network" in own_namespaces(sandbox.spec.config) and "network" not in sandbox.spec.shares
        if own or not found:
            return found
        pids = members(self._layout, bundle.group_path(self._site, sandbox.container))
        inodes = {item.inode for item in found}
        owned = await trio.to_thread.run_sync(partial(_held, pids, inodes), abandon_on_cancel=True)
        return [item for item in found if item.inode in owned]

    async def _connect(self, sandbox: Sandbox, active: ActiveRun, wanted: Look) -> tuple[trio.SocketStream | None, Missing]:
        (port,) = wanted.ports
        with _in_network(active, sockdiag.open_socket) as asks:
            found = await self._listeners(asks, sandbox, port)
        missing = f"nothing listens on {port}"
        for address in _reachable(found):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            make = partial(socket.socket, family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            stream = trio.socket.from_stdlib_socket(_in_network(active, make))
            try:
                await stream.connect((address, port.number))
            except OSError as exc:
                stream.close()
                missing = f"{address}, port {port}: {exc.strerror}"
            except BaseException:
                stream.close()
                raise
            else:
                return trio.SocketStream(stream), None
        return None, missing

    async def _tcp(self, sandbox: Sandbox, active: ActiveRun, wanted: Look) -> Missing:
        stream, missing = await self._connect(sandbox, active, wanted)
        if stream is not None:
            await stream.aclose()
        return missing

    async def _http(self, sandbox: Sandbox, active: ActiveRun, wanted: Look) -> Missing:
        plain, missing = await self._connect(sandbox, active, wanted)
        if plain is None:
            return missing
        stream = tls_look.encrypted(plain, wanted.host) if wanted.tls else plain
        async with stream:
            head = f"GET {wanted.path} HTTP/1.1\r\nHost: {wanted.host}\r\nUser-Agent: pystack\r\nAccept: */*\r\n"
            try:
                await stream.send_all(f"{head}Connection: close\r\n\r\n".encode())
                answer = b""
                while b"\n" not in answer and len(answer) < _STATUS_BYTES:
                    if not (data := await stream.receive_some(_STATUS_BYTES)):
                        break
                    answer += data
                status = _status_in(answer)
                with trio.move_on_after(_BODY_S):
                    rest = _BODY_BYTES
                    while rest > 0 and (data := await stream.receive_some(rest)):
                        rest -= len(data)
            except trio.BrokenResourceError as exc:
                return f"TLS: {tls_look.reason(exc.__cause__)}" if wanted.tls else "it broke the connection off"
        if status is None:
            return "what it answers is not HTTP"
        return None if 200 <= status < 400 else f"it answers {wanted.path} with status {status}"

    async def _log(self, sandbox: Sandbox, active: ActiveRun, wanted: Look) -> Missing:
        """Returns when it is so."""
        from orchestrator.runtime.log_look import until_written  # For the others it would be most of what is imported.

        prefix = bundle.log_prefix(self._site, sandbox.container)
        await until_written(prefix, active.run.started_at, wanted.pattern)
        return None

    async def _file(self, sandbox: Sandbox, active: ActiveRun, wanted: Look) -> Missing:
        container = sandbox.container
        if container in self._stuck:
            return f"a file system of it does not answer (looking for {wanted.path})"
        self._stuck.add(container)

        def see() -> Missing:
            try:
                return _file_in(active, wanted.path)
            finally:
                self._stuck.discard(container)

        return await trio.to_thread.run_sync(see, abandon_on_cancel=True)


def _in_network(active: ActiveRun, make: Callable[[], T]) -> T:
    """`make` in the network namespace of the run, by a thread that ends afterwards: it need not find the way back. Raises
    OSError, and OperationError when the run has ended."""
    results: list[T | OSError] = []
    if active.pidfd < 0:
        raise OperationError(f"container {active.run.container} is not running")

    def work() -> None:
        try:
            process.setns(active.pidfd, CLONE_NEWNET)
            results.append(make())
        except OSError as exc:
            results.append(exc)

    thread = threading.Thread(target=work, name="pystack-look")
    thread.start()
    thread.join()
    (result,) = results
    if not isinstance(result, OSError):
        return result
    if result.errno == errno.ESRCH:
        raise OperationError(f"container {active.run.container} is not running") from result
    if result.errno in (errno.EPROTONOSUPPORT, errno.EPERM):
        reason = f"cannot look into the network of {active.run.container}: {result.strerror}"
        raise HostError(reason, hint="the kernel needs CONFIG_INET_DIAG for that") from result
    raise result


def _held(pids: Collection[int], inodes: Collection[int]) -> set[int]:
    """Those sockets that one of the processes has open."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: set[int] = set()
    left = _MOST_DESCRIPTORS
    for pid in pids:
        with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                left -= 1
                with suppress(OSError):  # Closed meanwhile.
                    if (inode := wanted.get(os.readlink(entry.path))) is not None:
                        found.add(inode)
                if left <= 0 or len(found) == len(wanted):
                    return found
    return found


def _reachable(found: Sequence[Listener]) -> list[str]:
    """Where to connect to, the likeliest first. Who listens on ``::`` may take IPv4 too, where there is no IPv6."""
    addresses = {item.address for item in found}
    everywhere = ["127.0.0.1", "::1"] if "::" in addresses else ["127.0.0.1"] if addresses & {*_ANY} else []
    return list(dict.fromkeys([*everywhere, *sorted(addresses - {*_ANY})]))


def _status_in(answer: bytes) -> int | None:
    """RFC 9112, 4: ``HTTP/1.1 200 OK``."""
    words = answer.split(b"\n", 1)[0].split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or len(words[1]) != 3 or not words[1].isdigit():
        return None
    return int(words[1])


def _file_in(active: ActiveRun, path: str) -> Missing:
    """Whatever it is, and whoever may read it. Links stay in the container's root; /proc's magic ones lead nowhere."""
    root = os.open(f"/proc/{active.run.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # The number is another's only after the end of the run, which the pidfd knows of.
        if active.pidfd < 0 or is_over(active.pidfd):
            raise OperationError(f"container {active.run.container} is not running")
        os.close(rooted.open_in(root, os.fsencode(path)))
    except OSError as exc:
        return f"{path}: {exc.strerror}"
    finally:
        os.close(root)
    return None
