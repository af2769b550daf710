# ruff: noqa: E501 (tables)
"""Hostile input: each gives a clear error, or loads where that is legal, within 2 s of processor time and 500 MB."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.measure import Measured, measure

LIMIT_S = 2.0
LIMIT_MB = 500.0
OK = "services: {s: {image: i}}\n"


def _within_limits(measured: Measured) -> Measured:
    assert measured.outcome in ("loaded", "refused"), measured
    assert measured.seconds < LIMIT_S, measured
    assert measured.peak_mb < LIMIT_MB, measured
    return measured


def _laughs(levels: int, each: int, wrap: str = "[%s]") -> str:
    lines = ["x-0: &a0 [lol, lol, lol, lol, lol]"]
    for level in range(1, levels):
        lines.append(f"x-{level}: &a{level} " + wrap % ", ".join([f"*a{level - 1}"] * each))
    return "\n".join(lines) + "\n"


def _merges(levels: int) -> str:
    lines = ["x-0: &a0 {k0a: 1, k0b: 2}"]
    for level in range(1, levels):
        aliases = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"x-{level}: &a{level} {{<<: [{aliases}], k{level}: {{n: *a{level - 1}, m: *a{level - 1}}}}}")
    return "\n".join(lines) + "\n"


REFUSED: dict[str, str | bytes] = {
    "alias bomb of lists": _laughs(12, 10) + OK,
    "alias bomb in a service": _laughs(9, 10) + "services: {s: {image: i, x-a: *a8}}\n",
    "alias bomb of maps": "x-0: &a0 {k: v}\n"
    + "".join(f"x-{n}: &a{n} {{a: *a{n - 1}, b: *a{n - 1}, c: *a{n - 1}, d: *a{n - 1}}}\n" for n in range(1, 20))
    + OK,
    "merge key bomb": _merges(30) + OK,
    "alias of itself": "x-a: &a [*a]\n" + OK,
    "10 MB of text": b"x-a: '" + b"a" * 10 * 2**20 + b"'\n" + OK.encode(),
    "10 MB of services": b"services:\n" + b"".join(b"  s%d: {image: i, command: [a, b, c]}\n" % n for n in range(260_000)),
    "10 MB of anchors": b"".join(b"x-%d: &a%d v\n" % (n, n) for n in range(450_000)) + OK.encode(),
    "10 MB of comments": b"# comment\n" * 1_000_000 + OK.encode(),
    "nesting of lists 10,000 deep": "x-a: " + "[" * 10_000 + "]" * 10_000 + "\n" + OK,
    "nesting of maps 10,000 deep": "x-a: " + "{a: " * 10_000 + "1" + "}" * 10_000 + "\n" + OK,
    "nesting by indentation": "x-a:\n" + "".join(" " * (n + 1) + "a:\n" for n in range(2_000)) + OK,
    "nesting unclosed": "x-a: " + "[" * 100_000,
    "NUL byte in a value": b"services: {s: {image: 'a\0b'}}\n",
    "NUL byte alone": b"\0",
    "NUL escaped": 'services: {s: {image: "a\\0b", foo: 1}}\n',
    "invalid UTF-8": b"services: {s: {image: \xff\xfe\xfa}}\n",
    "invalid UTF-8 in a key": b"services: {\xc3\x28: {image: i}}\n",
    "half a surrogate": b"services: {s: {image: '\xed\xa0\x80'}}\n",
    "UTF-32": OK.encode("utf-32"),
    "control characters": b"services: {s: {image: '\x01\x02'}}\n",
    "binary": bytes(range(256)) * 4000,
    "number as a key": "services: {1: {image: i}}\n",
    "list as a key": "services: {[a, b]: {image: i}}\n",
    "mapping as a key": "services: {{a: b}: {image: i}}\n",
    "null as a key": "services: {~: {image: i}}\n",
    "alias as a key of a mapping": "x-a: &a {b: c}\nservices: {*a : {image: i}}\n",
    "python object": "services: {s: {image: !!python/object/apply:os.system ['touch owned']}}\n",
    "python module": "services: !!python/module:os ''\n",
    "cyclic include": "include: [compose.yaml]\n" + OK,
    "endless template": "services: {s: {image: '" + "${A:-" * 20_000 + "'}}\n",
    "deep template": "services: {s: {image: '" + "${A:-" * 20_000 + "x" + "}" * 20_000 + "'}}\n",
    "huge port range": "services: {s: {image: i, ports: ['1-65535:1-65534']}}\n",
    "a key of a megabyte": "services: {s: {image: i, ? '" + "k" * 2**20 + "' : 1}}\n",
    "90,000 unknown keys": "services: {s: {image: i, " + ", ".join(f"k{n}: 1" for n in range(90_000)) + "}}\n",
    "a dependency cycle of 5,000": "services:\n"
    + "".join(f"  s{n}: {{image: i, depends_on: [s{(n + 1) % 5_000}]}}\n" for n in range(5_000)),
    "an extends chain of 5,000 with a cycle": "services:\n"
    + "".join(f"  s{n}: {{image: i, extends: s{(n + 1) % 5_000}}}\n" for n in range(5_000)),
    "a device as an env_file": "services: {s: {image: i, env_file: /dev/zero}}\n",
    "a device as a label_file": "services: {s: {image: i, label_file: /dev/zero}}\n",
    "a device included": "include: [/dev/zero]\n" + OK,
    "a device extended": "services: {s: {image: i, extends: {file: /dev/zero, service: a}}}\n",
    "the terminal included": "include: [/dev/tty]\n" + OK,
    "a folder included": "include: [/]\n" + OK,
    "a NUL in a file name": 'include: ["a\\0b"]\n' + OK,
    "a very long file name": "include: ['" + "a/" * 4000 + "x']\n" + OK,
    "memory as an env_file": "services: {s: {image: i, env_file: /proc/self/mem}}\n",
}

# Tags of Python objects mean nothing here, as in the oracle: the value below them is text or a list like any other.
LEGAL: dict[str, str | bytes] = {
    "python name": "services: {s: {image: i, command: !!python/name:os.system x}}\n",
    "python tuple": "services: {s: {image: i, command: !!python/tuple [a, b]}}\n",
    "a long text": "x-a: '" + "a" * 2**20 + "'\n" + OK,
    "a path that leaves the project": "services: {s: {image: i, volumes: ['../../../../../../../../etc:/etc:ro'], build: ../../..}}\n",
    "a mount of everything": "services: {s: {image: i, volumes: ['/:/host']}}\n",
    "1,000 services with anchors": "x-c: &c {environment: {A: 1, B: 2}}\nservices:\n"
    + "".join(f"  s{n}: {{<<: *c, image: i}}\n" for n in range(1_000)),
    "a merge of 1,000": "services: {s: {image: i, labels: {"
    + ", ".join(f"k{n}: v" for n in range(1_000))
    + "}}}\n",
    "an extends chain of 60": "services:\n  s0: {image: i}\n"
    + "".join(f"  s{n}: {{extends: s{n - 1}}}\n" for n in range(1, 60)),
    "a byte order mark": b"\xef\xbb\xbf" + OK.encode(),
    "UTF-16": OK.encode("utf-16"),
    "terminal escapes": 'services: {s: {image: "\\e[31mred\\e[0m"}}\n',
    "right-to-left override": "services: {s: {image: i, labels: {a: '\u202eabc'}}}\n",
    "1,000 documents": "---\nservices: {s: {image: i}}\n" * 1_000,
    "numbers of all sizes": "services: {s: {image: i, x-a: [1" + "0" * 4_000 + ", 1e999, -0, 0x" + "f" * 1_000 + "]}}\n",
}

EITHER: dict[str, str | bytes] = {
    "100,000 services": b"services:\n" + b"".join(b"  s%d: {image: i}\n" % n for n in range(100_000)),
    "100,000 ports": b"services: {s: {image: i, ports: [" + b", ".join(b"'%d'" % (n % 60_000 + 1) for n in range(100_000)) + b"]}}\n",
    "a port range of everything": "services: {s: {image: i, ports: ['1-65535:1-65535']}}\n",
    "an extends chain of 5,000": "services:\n  s0: {image: i}\n"
    + "".join(f"  s{n}: {{extends: s{n - 1}}}\n" for n in range(1, 5_000)),
    "a dependency chain of 5,000": "services:\n  s0: {image: i}\n"
    + "".join(f"  s{n}: {{image: i, depends_on: [s{n - 1}]}}\n" for n in range(1, 5_000)),
    "a layered graph of 30 by 30": "services:\n"
    + "".join(
        f"  s{layer}-{n}: {{image: i, depends_on: [{', '.join(f's{layer - 1}-{m}' for m in range(30)) if layer else ''}]}}\n"
        for layer in range(30)
        for n in range(30)
    ),
    "10,000 variables": "services: {s: {image: i, command: '" + "$A" * 10_000 + "'}}\n",
    "a line of 4 MB in .env": OK,
    "500 include files": "include: [" + ", ".join(f"f{n}.yaml" for n in range(500)) + "]\n" + OK,
    "an include of itself by another name": "include: [./link/compose.yaml]\n" + OK,
    "40,000 services that fail": b"services:\n" + b"".join(b"  s%d: {image: 3, foo: 1}\n" % n for n in range(40_000)),
}


def _write(folder: Path, text: str | bytes) -> None:
    folder.joinpath("compose.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_input_is_refused_with_a_clear_error(name: str, tmp_path: Path) -> None:
    _write(tmp_path, REFUSED[name])
    measured = _within_limits(measure(tmp_path))
    assert measured.outcome == "refused", measured
    assert len(measured.message) > 10
    assert "Traceback" not in measured.message
    assert re.search(r"[\x00-\x08\x0b-\x1f\x7f]", measured.message) is None
    assert not (tmp_path / "owned").exists()
    assert not Path("owned").exists()


@pytest.mark.parametrize("name", LEGAL)
def test_strange_but_legal_input_loads(name: str, tmp_path: Path) -> None:
    _write(tmp_path, LEGAL[name])
    measured = _within_limits(measure(tmp_path))
    assert measured.outcome == "loaded", measured


@pytest.mark.parametrize("name", EITHER)
def test_large_input_ends_in_time(name: str, tmp_path: Path) -> None:
    _write(tmp_path, EITHER[name])
    if "4 MB" in name:
        tmp_path.joinpath(".env").write_bytes(b"A=" + b"x" * (4 * 2**20 - 3) + b"\n")
    if "include" in name:
        for number in range(500):
            tmp_path.joinpath(f"f{number}.yaml").write_text(f"services: {{t{number}: {{image: i, build: .}}}}\n")
        tmp_path.joinpath("link").symlink_to(".")
    measured = _within_limits(measure(tmp_path))
    assert "Traceback" not in measured.message


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [_fifo, _socket, _folder, _loop, _zero])
@pytest.mark.parametrize("where", ["compose", "env_file", "label_file", "include", "extends", ".env"])
def test_what_is_not_a_regular_file_is_refused_and_never_waited_for(
    where: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    odd = tmp_path / (".env" if where == ".env" else "odd")
    make(odd)
    texts = {
        "env_file": "services: {s: {image: i, env_file: odd}}\n",
        "label_file": "services: {s: {image: i, label_file: odd}}\n",
        "include": "include: [odd]\n" + OK,
        "extends": "services: {s: {extends: {file: odd, service: a}}}\n",
    }
    _write(tmp_path, texts.get(where, OK))
    measured = _within_limits(measure(tmp_path, *(["odd"] if where == "compose" else [])))
    if where != ".env":
        assert measured.outcome == "refused", measured
        assert "odd" in measured.message


def test_a_cycle_of_includes_through_three_files_names_the_files(tmp_path: Path) -> None:
    _write(tmp_path, "include: [a.yaml]\n" + OK)
    tmp_path.joinpath("a.yaml").write_text("include: [b.yaml]\n")
    tmp_path.joinpath("b.yaml").write_text("include: [compose.yaml]\n")
    measured = _within_limits(measure(tmp_path))
    assert measured.outcome == "refused"
    assert "b.yaml" in measured.message


def test_a_cycle_of_extends_through_two_files_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, "services: {s: {extends: {file: a.yaml, service: t}}}\n")
    tmp_path.joinpath("a.yaml").write_text("services: {t: {extends: {file: compose.yaml, service: s}}}\n")
    measured = _within_limits(measure(tmp_path))
    assert measured.outcome == "refused"
    assert "services.s" in measured.message or "extends" in measured.message
