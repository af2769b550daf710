"""Forwarding UDP without NAT: for IPv6, and for containers that have no address of the family that a datagram came by.

A client has a socket of its own towards the container (a *flow*), so that answers find their way back; UDP does not say
when a conversation is over, so a flow ends when nothing was said for a while, or when others need its place. Answers leave
by the address that the question came to (IPV6_PKTINFO), or clients would not take them for answers.

The listening socket is the reservation itself, not a duplicate: a range may have thousands.
"""

from __future__ import annotations

import socket
import struct

import trio

from orchestrator.values import entity

_FLOWS = 1024
"""Of one port. The one that has been silent the longest makes room for another."""
_SILENT_S = 60.0
_BURST = 64
"""Datagrams that are read before others have their turn."""
_LARGEST = 1 << 16
_RECEIVE_BYTES = 1 << 18
_IP_PKTINFO = 8
"""linux/in.h; Python has no name for it. struct in_pktinfo: interface, address of ours, address of the header."""
_PKTINFO = {
    socket.AF_INET: (socket.IPPROTO_IP, _IP_PKTINFO),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO),
}

_Key = tuple[object, bytes]


@entity
class _Flow:
    upstream: socket.socket
    scope: trio.CancelScope
    last_s: float


async def serve_datagrams(sock: socket.socket, address: str, port: int, local_only: bool = False) -> None:
    """Forward what comes to `sock` to `address`:`port` and answers back, until cancelled, or until `sock` is about to be
    closed (`trio.lowlevel.notify_closing`). `local_only`: from loopback addresses, which the kernel takes from nowhere
    else; any other can be forged."""
    if sock.fileno() < 0:
        return  # Closed before this could begin.
    _prepare(sock)
    flows: dict[_Key, _Flow] = {}
    async with trio.open_nursery() as nursery:
        while sock.fileno() >= 0:
            try:
                await trio.lowlevel.wait_readable(sock)
            except trio.ClosedResourceError:
                break
            for _ in range(_BURST):
                try:
                    data, ancillary, _, client = sock.recvmsg(_LARGEST, 64)
                except OSError:
                    break  # Nothing left, or an error that an answer of ours met on its way.
                if local_only and client[0] != "::1" and not client[0].startswith("127."):
                    continue
                local = _address_of_ours(sock, ancillary)
                flow = flows.get((client, local))
                if flow is None:
                    flow = _begin(flows, address, port)
                    if flow is None:
                        continue
                    flows[client, local] = flow
                    nursery.start_soon(_answer, sock, flows, (client, local), flow)
                flow.last_s = trio.current_time()
                _send(flow.upstream, data)
        nursery.cancel_scope.cancel()


def _prepare(sock: socket.socket) -> None:
    """A reservation of a port that is translated has next to no memory for what arrives."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _address_of_ours(sock: socket.socket, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """The control message that makes an answer leave by the address that the question came to."""
    for _, kind, data in ancillary:
        if sock.family == socket.AF_INET6 and kind == socket.IPV6_PKTINFO:
            # The interface counts for link-local addresses alone; others may be reached by another way.
            return data[:20] if data[:1] == b"\xfe" else data[:16] + bytes(4)
        if sock.family == socket.AF_INET and kind == _IP_PKTINFO:
            return struct.pack("=i", 0) + data[8:12] + bytes(4)
    return b""


def _begin(flows: dict[_Key, _Flow], address: str, port: int) -> _Flow | None:
    if len(flows) >= _FLOWS:
        oldest = min(flows, key=lambda key: flows[key].last_s)
        flows.pop(oldest).scope.cancel()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        upstream = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError:
        return None  # Out of descriptors: the datagram is lost, as datagrams are.
    try:
        upstream.connect((address, port))
    except OSError:
        upstream.close()
        return None
    return _Flow(upstream, trio.CancelScope(), trio.current_time())


async def _answer(sock: socket.socket, flows: dict[_Key, _Flow], key: _Key, flow: _Flow) -> None:
    client, local = key
    control = [(*_PKTINFO[sock.family], local)] if local else []
    try:
        with flow.scope:
            while (left := flow.last_s + _SILENT_S - trio.current_time()) > 0:
                with trio.move_on_after(left):
                    await trio.lowlevel.wait_readable(flow.upstream)
                    _return(sock, flow, control, client)
    finally:
        flow.upstream.close()
        if flows.get(key) is flow:
            del flows[key]


def _return(sock: socket.socket, flow: _Flow, control: list[tuple[int, int, bytes]], client: object) -> None:
    for _ in range(_BURST):
        try:
            data = flow.upstream.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError:
            return  # Refused: nobody listens there, now.
        flow.last_s = trio.current_time()
        try:
            sock.sendmsg([data], control, 0, client)  # type: ignore[arg-type]
        except OSError:
            return  # The client is gone, or the socket is: datagrams may be lost.


def _send(sock: socket.socket, data: bytes) -> None:
    for _ in range(2):  # The first may only tell that an earlier one was refused.
        try:
            sock.send(data)
        except ConnectionRefusedError:
            continue
        except OSError:
            return
        return
