"""Disks for tests: an ext4 file system of a directory, a qcow2 of a disk with plain, compressed and missing clusters."""

from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path

CLUSTER_BITS = 16


def ext4(source: Path, image: Path, megabytes: int = 8) -> bytes:
    """By mke2fs(8), which is on every Debian."""
    argv = ["/sbin/mke2fs", "-q", "-t", "ext4", "-O", "^metadata_csum", "-d", str(source), str(image), f"{megabytes}M"]
    subprocess.run(argv, check=True, capture_output=True)
    return image.read_bytes()


def qcow2(disk: bytes) -> bytes:
    """Version 3 by its specification; every second cluster is compressed, empty ones are not there."""
    cluster = 1 << CLUSTER_BITS
    count = (len(disk) + cluster - 1) // cluster
    out = bytearray(3 * cluster)  # header, level 1, one table of level 2
    table = []
    for number in range(count):
        data = disk[number * cluster : (number + 1) * cluster].ljust(cluster, b"\0")
        if not data.strip(b"\0"):
            table.append(0)
        elif number % 2:
            packer = zlib.compressobj(wbits=-15)
            packed = packer.compress(data) + packer.flush()
            sectors = (len(out) % 512 + len(packed) + 511) // 512 - 1
            table.append(1 << 62 | sectors << (62 - (CLUSTER_BITS - 8)) | len(out))
            out += packed
        else:
            out += bytes(-len(out) % cluster)
            table.append(1 << 63 | len(out))
            out += data
    out += bytes(-len(out) % 512)
    header = struct.pack(">4sIQIIQIIQ", b"QFI\xfb", 3, 0, 0, CLUSTER_BITS, len(disk), 0, 1, cluster)
    header += bytes(48) + struct.pack(">II", 4, 104)  # no refcounts, no snapshots, no features
    out[: len(header)] = header
    out[cluster : cluster + 8] = struct.pack(">Q", 1 << 63 | 2 * cluster)
    out[2 * cluster : 2 * cluster + 8 * count] = struct.pack(f">{count}Q", *table)
    return bytes(out)
