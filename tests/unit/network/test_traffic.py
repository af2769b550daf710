"""Traffic control as bytes. What this machine's kernel takes is proved by tests/kernel; netem is not everywhere."""

from __future__ import annotations

import struct

from orchestrator.kernel import traffic
from orchestrator.kernel.netlink import attributes

TC_NETEM = "84d71700102700000000000000000000 00000000b4c40400"
"""What tc(8) of iproute2 6.1 sends for ``netem delay 100ms 20ms limit 10000``, seen by strace(1)."""


def test_netem_is_packed_as_tc_packs_it_with_the_times_in_nanoseconds_behind() -> None:
    request = traffic.new_netem(1, 0x7079_0001, 0x707A_0000, 0.1, 0.02, 10_000, "queues of lo")
    family, index, handle, parent, info = struct.unpack_from("=BxxxiIII", request.body)
    assert (request.kind, family, index, handle, parent, info) == (36, 0, 1, 0x707A_0000, 0x7079_0001, 0)
    found = dict(attributes(request.body[20:]))
    assert found[1] == b"netem\0"
    assert found[2][:24] == bytes.fromhex(TC_NETEM)
    exact = {kind: struct.unpack("=q", data)[0] for kind, data in attributes(found[2][24:])}
    assert exact == {10: 100_000_000, 11: 20_000_000}


def test_times_longer_than_ticks_can_say_are_right_in_nanoseconds() -> None:
    request = traffic.new_netem(1, 0, 0, 3600.0, 0.0, 10, "")
    options = dict(attributes(request.body[20:]))[2]
    assert struct.unpack_from("=I", options) == (0xFFFF_FFFF,)
    assert dict(attributes(options[24:]))[10] == struct.pack("=q", 3_600_000_000_000)
