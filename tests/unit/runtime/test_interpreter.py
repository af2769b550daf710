"""What a file would be executed by."""

from __future__ import annotations

import os
import resource
import struct
from pathlib import Path

import pytest

from orchestrator.runtime.monitor.interpreter import interpreter_of

LOADER = b"/lib/ld-musl-x86_64.so.1"


def elf(order: str = "<", kind: int = 3, offset: int = 120, bits: int = 2) -> bytes:
    """A 64-bit ELF header with one program header (elf(5)), and the loader's path behind it."""
    ident = b"\x7fELF" + bytes((bits, 1 if order == "<" else 2, 1)) + bytes(9)
    header = ident + struct.pack(order + "HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack(order + "IIQQQQQQ", kind, 4, offset, 0, 0, len(LOADER) + 1, 0, 1) + LOADER + b"\0"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"#!/bin/nope -x\necho\n", b"/bin/nope"),
        (b"#! /usr/bin/env bash\n", b"/usr/bin/env"),
        (b"#!/bin/sh\r\n", b"/bin/sh"),
        (b"#!\n", b""),
        (elf(), LOADER),
        (elf(">"), LOADER),
        (elf(kind=1), b""),
        (elf(bits=1), b""),
        (elf(offset=1 << 62), b""),
        (elf()[:70], b""),
        (b"", b""),
        (b"text", b""),
    ],
)
def test_what_a_file_names(tmp_path: Path, content: bytes, found: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert interpreter_of(os.fsencode(file)) == found


def test_no_file_is_told_from_one_that_says_nothing(tmp_path: Path) -> None:
    assert interpreter_of(os.fsencode(tmp_path / "none")) is None
    os.mkfifo(tmp_path / "pipe")
    assert interpreter_of(os.fsencode(tmp_path / "pipe")) == b""


def test_a_file_that_is_not_there_has_none_also_when_there_is_no_descriptor_left(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"#!/bin/nope\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        found = [interpreter_of(os.fsencode(tmp_path / name)) for name in ("there", "not-there")]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == [b"", None]
