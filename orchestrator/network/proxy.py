"""Forwarding TCP connections without NAT: for IPv6, and for IPv4 while the nft table is missing. UDP: `network.udp_proxy`.

Data goes socket -> pipe -> socket by splice(2) and never enters this process. A side that ends its sending (FIN) ends
the same direction of the other; the connection is over when both have.
"""

from __future__ import annotations

import os
import socket
import struct

import trio

from orchestrator.network.serving import accept_forever

_CONNECTIONS = 512
_CONNECT_S = 10.0
_CHUNK = 1 << 16
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_RESET_ON_CLOSE = struct.pack("=ii", 1, 0)


async def serve_port(listener: trio.socket.SocketType, address: str, port: int, local_only: bool = False) -> None:
    """Forward what `listener` accepts to `address`:`port` until cancelled, or the listener is closed. `local_only`: from
    this machine; others are reset."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    async def forward(client: trio.socket.SocketType) -> None:
        if local_only and not _is_ours(client):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            return
        with trio.socket.socket(family, socket.SOCK_STREAM) as server:
            try:
                with trio.fail_after(_CONNECT_S):
                    await server.connect((address, port))
            except (OSError, trio.TooSlowError):
                # The client sees a reset, as it would see the container's refusal with NAT.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_pump, client, server, nursery.cancel_scope)
                nursery.start_soon(_pump, server, client, nursery.cancel_scope)

    await accept_forever(listener, forward, _CONNECTIONS)


def _is_ours(client: trio.socket.SocketType) -> bool:
    """Whether the other end is an address of this machine: only those can be bound."""
    try:
        with socket.socket(client.family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            peer = client.getpeername()
            probe.bind((peer[0], 0, *peer[2:]))
    except OSError:
        return False
    return True


async def _pump(source: trio.socket.SocketType, sink: trio.socket.SocketType, both: trio.CancelScope) -> None:
    """Copy one direction to its end; an error ends both."""
    out_of_pipe, into_pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while True:
            count = await _splice(source, into_pipe, source.fileno(), _CHUNK)
            if count == 0:
                sink.shutdown(socket.SHUT_WR)
                return
            while count:
                count -= await _splice_out(sink, out_of_pipe, count)
    except OSError:
        both.cancel()
    finally:
        os.close(out_of_pipe)
        os.close(into_pipe)


async def _splice(source: trio.socket.SocketType, pipe: int, fd: int, count: int) -> int:
    await trio.lowlevel.checkpoint()
    while True:
        try:
            return os.splice(fd, pipe, count, flags=_FLAGS)
        except BlockingIOError:
            # The pipe is empty here, so it is the socket that has nothing.
            await trio.lowlevel.wait_readable(source)


async def _splice_out(sink: trio.socket.SocketType, pipe: int, count: int) -> int:
    while True:
        try:
            return os.splice(pipe, sink.fileno(), count, flags=_FLAGS)
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sink)
