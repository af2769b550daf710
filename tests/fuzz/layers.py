"""``python -m tests.fuzz.layers --minutes M --seed S``: hostile layers through the unpacker until the time is up.

A case is a stack of one to three layers, made of entries that know where the canary is, then changed byte by byte, cut or
compressed. Anything but a tree or a PystackError is a finding, and so is a change of the canary (which lies beside the
trees), a descriptor or a thread that is left, a message that no terminal should get, and a case of more than 10 s. Cases
are numbered: ``--case N`` does one of a seed again.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import stat
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from random import Random

from orchestrator.errors import PystackError
from orchestrator.images.unpack.applier import Applier
from orchestrator.images.unpack.layers import apply_layer
from orchestrator.images.unpack.limits import Limits
from orchestrator.images.unpack.merged import Merged
from orchestrator.images.unpack.packing import write_tree
from orchestrator.images.unpack.reading import read_entries
from orchestrator.kernel.trees import remove_tree
from tests.archives import BLOCK, END, base256, directory, file, hardlink, long_name, pax, raw, symlink, tree
from tests.unit.images.unpack.test_decode import zstd

LIMITS = Limits(bytes=1 << 22, entries=500, depth=60, name_bytes=3000)
MOST_S = 10.0
WORDS = (
    b"a", b"b", b"c", b"a", b"b", b"c", b"..", b"..", b".", b"", b"canary", b"file", b"dir", b"proc", b"self", b"root",
    b"n" * 255, b"\xff\n\x1b", b".wh.a", b".wh.b", b".wh..wh..opq", b".wh...", b".wh..wh.x",
)  # fmt: skip
XATTRS = (b"user.a", b"trusted.overlay.opaque", b"user.overlay.opaque", b"trusted.overlay.redirect", b"security.capability",
          b"system.posix_acl_access", b"system.posix_acl_default", b"trusted.x", b"", b"nonsense", b"user.\0")  # fmt: skip
NUMBERS = (b"0", b"1", b"-1", b"4294967294", b"4294967295", b"99999999999999999999", b"1.5", b"x", b"", b"512",
           b"18446744073709551615")  # fmt: skip


def path(r: Random, canary: bytes) -> bytes:
    words = b"/".join(r.choice(WORDS) for _ in range(r.randint(1, 5)))
    return r.choice((b"", b"", b"", b"/", b"../" * r.randint(1, 9), canary + b"/", canary[1:] + b"/")) + words


def records(r: Random, canary: bytes) -> bytes:
    made = []
    for _ in range(r.randint(1, 4)):
        key = r.choice((b"path", b"linkpath", b"uid", b"gid", b"size", b"mtime", b"SCHILY.xattr.", b"LIBARCHIVE.xattr.",
                        b"GNU.sparse.map", b"GNU.sparse.size", b"GNU.sparse.offset", b"GNU.sparse.numbytes",
                        b"GNU.sparse.major", b"GNU.sparse.realsize", b"GNU.sparse.name", b"hdrcharset"))  # fmt: skip
        if key.endswith(b"xattr."):
            made.append((key + r.choice(XATTRS), r.randbytes(r.choice((0, 1, 20, 44, 5000)))))
        elif key in (b"path", b"linkpath", b"GNU.sparse.name"):
            made.append((key, path(r, canary)))
        elif key == b"GNU.sparse.map":
            made.append((key, b",".join(b"%d" % r.choice((0, 1, 10, 512, 600, 2**63)) for _ in range(r.randint(0, 6)))))
        else:
            made.append((key, r.choice(NUMBERS)))
    return pax(*made, flag=r.choice((b"x", b"x", b"x", b"g")))


def entry(r: Random, canary: bytes) -> bytes:
    name, other = path(r, canary), path(r, canary)
    match r.randint(0, 11):
        case 0 | 1:
            return directory(name[:100], r.choice((0o755, 0o7777, 0)), uid=base256(2**32 - r.randint(1, 9), 8))
        case 2 | 3 | 4:
            return file(name[:100], r.randbytes(r.choice((0, 1, 511, 512, 513, 3000))), mode=r.choice((0o644, 0o6755)))
        case 5 | 6 | 7:
            return symlink(name[:100], r.choice((other, canary, b"/", b".."))[:100])
        case 8:
            return hardlink(name[:100], r.choice((other, canary + b"/file"))[:100])
        case 9:
            flag, size = r.choice((b"3", b"4", b"6", b"S", b"V", b"D", b"Z")), r.choice((0, 512, base256(2**62, 12)))
            return raw(name[:100], flag, device=(r.randint(0, 2), r.randint(0, 9)), size=size)
        case 10:
            return records(r, canary) + file(name[:100], r.randbytes(r.choice((0, 10, 1024))))
        case _:
            return long_name(name, r.choice((b"L", b"K"))) + symlink(b"x", b"y")


def layer(r: Random, canary: bytes) -> bytes:
    data = bytearray(b"".join(entry(r, canary) for _ in range(r.randint(1, 12))) + END)
    if r.random() < 0.5:
        for _ in range(r.randint(1, 6)):
            data[r.randrange(len(data))] = r.randrange(256)
        if r.random() < 0.8:
            mend(data)
    if r.random() < 0.1:
        del data[r.randrange(len(data)) :]
    packed = r.choice((bytes, bytes, bytes, lambda x: gzip.compress(x, 1), zstd))(bytes(data))
    if packed != data and r.random() < 0.2:
        broken = bytearray(packed)
        broken[r.randrange(len(broken))] ^= 1 << r.randrange(8)
        packed = bytes(broken[: r.randrange(len(broken)) if r.random() < 0.3 else len(broken)])
    return packed


def mend(data: bytearray) -> None:
    """Right checksums: else the first changed byte would end the archive."""
    for start in range(0, len(data) - BLOCK + 1, BLOCK):
        block = data[start : start + BLOCK]
        if block[257:262] == b"ustar":
            data[start + 148 : start + 156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 256)


def check(exc: PystackError) -> None:
    if not str(exc).isprintable():
        raise AssertionError(repr(str(exc)))


class Yard:
    """Where the cases are done: a canary and the trees, beside each other."""

    def __init__(self) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="pst-", dir="/tmp"))
        self.canary = self.top / "canary"
        (self.canary / "dir").mkdir(parents=True)
        (self.canary / "file").write_bytes(b"alive")
        (self.canary / "dir/file").write_bytes(b"alive")
        self.trees = self.top / "trees"
        self.before = tree(self.canary)

    def trouble(self, r: Random) -> str:
        """What is wrong after one case, or ""."""
        self.trees.mkdir()
        held, running, began = len(os.listdir("/proc/self/fd")), threading.active_count(), time.process_time()
        try:
            self._case(r)
        except Exception:  # whatever it is, it is the finding
            return traceback.format_exc()
        finally:
            used = time.process_time() - began
            remove_tree(str(self.trees))
        if tree(self.canary) != self.before or sorted(os.listdir(self.top)) != ["canary"]:
            return "the canary was touched"
        if len(os.listdir("/proc/self/fd")) != held or threading.active_count() != running:
            return "a descriptor or a thread is left"
        return f"{used:.1f} s" if used > MOST_S else ""

    def _case(self, r: Random) -> None:
        lowers: list[str] = []
        for number in range(r.randint(1, 3)):
            target = self.trees / str(number)
            target.mkdir()
            canary = os.fsencode(self.canary)
            try:
                if r.random() < 0.5:
                    apply_layer(io.BytesIO(layer(r, canary)), str(target), lowers, limits=LIMITS)
                else:
                    entries = [entry(r, canary) for _ in range(r.randint(1, 30))]
                    self._one_by_one(entries, target, lowers)
                lowers.insert(0, str(target))
            except PystackError as exc:
                check(exc)
                continue
            self._back(target, lowers)

    def _one_by_one(self, entries: list[bytes], target: Path, lowers: list[str]) -> None:
        """Refused ones are left out, so that more is reached than up to the first."""
        with Applier(str(target), lowers, LIMITS) as applier:
            for item in entries:
                try:
                    for found, data in read_entries(io.BytesIO(item + END), LIMITS):
                        applier.add(found, data)
                except PystackError as exc:
                    check(exc)
            applier.finish()

    def _back(self, target: Path, lowers: list[str]) -> None:
        """What was made is shown, written, and applied again."""
        out, again = io.BytesIO(), self.trees / "again"
        packed = write_tree(str(target), out)
        again.mkdir()
        out.seek(0)
        assert apply_layer(out, str(again), lowers[1:]).diff_id == packed.diff_id
        assert write_tree(str(again), io.BytesIO()) == packed
        remove_tree(str(again))
        with Merged(lowers) as merged:
            ahead = ["/"]
            while ahead:
                folder = ahead.pop()
                for name in merged.listdir(folder):
                    found = merged.stat(f"{folder}/{name}")
                    assert found is not None
                    if stat.S_ISDIR(found.st_mode):
                        ahead.append(f"{folder}/{name}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int)
    options = parser.parse_args()
    yard = Yard()
    end = time.monotonic() + options.minutes * 60
    number, findings = options.case or 0, 0
    while time.monotonic() < end:
        found = yard.trouble(Random(options.seed * 1_000_000_007 + number))
        if found:
            findings += 1
            print(f"seed {options.seed} case {number}: {found}", flush=True)
        number += 1
        if options.case is not None:
            break
    remove_tree(str(yard.top))
    print(f"{number - (options.case or 0)} cases, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
