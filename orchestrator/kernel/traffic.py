"""Traffic control as messages of rtnetlink(7): queueing disciplines, classes and filters of an interface.

Numbers and structures are from linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h; what they mean is in tc-htb(8),
tc-netem(8) and tc-u32(8). A handle is ``major:minor``, 16 bits each; a class's parent is a class, or the discipline's
handle with minor 0.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

from orchestrator.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Request, attr, attr_text, nest
from orchestrator.values import frozen

RTM_NEWQDISC, RTM_DELQDISC = 36, 37
RTM_NEWTCLASS = 40
RTM_NEWTFILTER = 44

TC_H_ROOT = 0xFFFFFFFF
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_HTB_PARMS, TCA_HTB_INIT = 1, 2
TCA_NETEM_LATENCY64, TCA_NETEM_JITTER64 = 10, 11
TCA_U32_CLASSID, TCA_U32_SEL = 1, 5
TC_U32_TERMINAL = 1
TC_LINKLAYER_ETHERNET = 1

ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD

_TCMSG = struct.Struct("=BxxxiIII")
_TICK_NS = 64
"""Times within these structures are in ticks (PSCHED_SHIFT 6)."""
_MOST = 0xFFFFFFFF

GONE = (errno.ENOENT, errno.EINVAL, errno.ENODEV)
"""Of a deletion: there is none, the one that is there is another's, or the interface is gone."""


@frozen
class Match:
    """32 bits of a packet, `offset` bytes after the beginning of its network header, as tc-u32(8) compares them."""

    offset: int
    value: int
    mask: int = 0xFFFFFFFF


def _body(index: int, handle: int, parent: int, info: int = 0) -> bytes:
    return _TCMSG.pack(0, index, handle, parent, info)


def new_htb(index: int, handle: int, default: int, what: str) -> Request:
    """An HTB tree as the root of the interface `index`. `default`: the minor number of the class for what no filter
    chooses, 0: it passes at once. EEXIST when the interface has a root of somebody else's."""
    version, rate2quantum = 3, 10
    options = attr(TCA_HTB_INIT, struct.pack("=5I", version, rate2quantum, default, 0, 0))
    body = _body(index, handle, TC_H_ROOT) + attr_text(TCA_KIND, "htb") + nest(TCA_OPTIONS, options)
    return Request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body, what)


def delete_root(index: int, handle: int, what: str) -> Request:
    """Take the tree `handle` away, and nobody else's."""
    return Request(RTM_DELQDISC, 0, _body(index, handle, TC_H_ROOT), what, GONE)


def new_htb_class(index: int, parent: int, handle: int, bytes_per_s: int, burst_bytes: int, what: str) -> Request:
    """A class with that rate, which is all that it gets, and at once `burst_bytes` of it."""
    spec = struct.pack("=BBHhHI", 0, TC_LINKLAYER_ETHERNET, 0, 0, 0, min(bytes_per_s, _MOST))
    ticks = min(burst_bytes * 1_000_000_000 // bytes_per_s // _TICK_NS, _MOST)
    quantum = max(1600, min(bytes_per_s // 10, 200_000))
    parms = attr(TCA_HTB_PARMS, spec + spec + struct.pack("=5I", ticks, ticks, quantum, 0, 0))
    body = _body(index, handle, parent) + attr_text(TCA_KIND, "htb") + nest(TCA_OPTIONS, parms)
    return Request(RTM_NEWTCLASS, NLM_F_CREATE | NLM_F_EXCL, body, what)


def new_netem(index: int, parent: int, handle: int, delay_s: float, jitter_s: float, limit: int, what: str) -> Request:
    """A queue that holds each packet back for `delay_s`, give or take `jitter_s`, `limit` packets at a time. ENOENT when
    the kernel has no netem (CONFIG_NET_SCH_NETEM)."""
    delay_ns, jitter_ns = round(delay_s * 1e9), round(jitter_s * 1e9)
    ticks = [min(ns // _TICK_NS, _MOST) for ns in (delay_ns, jitter_ns)]
    options = struct.pack("=6I", ticks[0], limit, 0, 0, 0, ticks[1])
    options += attr(TCA_NETEM_LATENCY64, struct.pack("=q", delay_ns))
    options += attr(TCA_NETEM_JITTER64, struct.pack("=q", jitter_ns))
    body = _body(index, handle, parent) + attr_text(TCA_KIND, "netem") + attr(TCA_OPTIONS, options)
    return Request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body, what)


def new_u32(
    index: int, parent: int, protocol: int, priority: int, matches: Sequence[Match], target: int, what: str
) -> Request:
    """Packets of `protocol` (an Ethernet type) for which all of `matches` hold belong to the class `target`. The filters
    are asked in the order of `priority`; one priority is of one protocol. ENOENT when the kernel has no u32."""
    selector = struct.pack("=BBBx2sHhh4s", TC_U32_TERMINAL, 0, len(matches), b"\0\0", 0, 0, 0, bytes(4))
    keys = b"".join(struct.pack(">II", item.mask, item.value) + struct.pack("=ii", item.offset, 0) for item in matches)
    options = nest(TCA_OPTIONS, attr(TCA_U32_CLASSID, struct.pack("=I", target)), attr(TCA_U32_SEL, selector + keys))
    info = priority << 16 | struct.unpack("=H", struct.pack(">H", protocol))[0]
    body = _body(index, 0, parent, info) + attr_text(TCA_KIND, "u32") + options
    return Request(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, body, what)
