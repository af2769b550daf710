# ruff: noqa: E501 (tables)
"""Making inputs for the loader: a case is a folder's files; mutations work on text, on structure and on bytes."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import yaml

from tests.differential.forms_parts import FILE, section_stacks

Case: TypeAlias = "dict[str, bytes]"
CORPUS = Path(__file__).parents[1] / "corpus"
MAX_BYTES = 300_000

TOKENS = (
    "${", "}", "${A", "${A:-", "${A:?", "$$", "$", "!reset ", "!override ", "!!python/object:os.system ", "!!binary ", "&a ", "*a", "<<: ", "<<: *a\n",
    "- ", ": ", "? ", "| \n", ">-\n", "---\n", "...\n", "%YAML 1.1\n", "[", "]", "{", "}", "'", '"', "#", "\t", "\n", "\r\n", "\0", "\ufeff", "\u2028",
    "null", "~", "true", "-1", "0", "1e999", "-0", "9" * 40, ".inf", ".nan", "0x", "0o8", "2001-01-01", "1_000", "services:\n", "include:\n", "extends: ",
    "extends: {file: compose.yaml, service: web}", "depends_on: ", "env_file: .env", "profiles: [x]", "ports: ['1-65535:1-65535']", "volumes: [", "x-a: ",
    "../", "/", "~/", "C:\\", "\\", "\\x", "::", "..", "''", '""', "=", "a" * 300, "é", "🎉", "\ud7ff", "&", "*", "!", "@", "`", "|", ">",
)
_BYTES = (b"\xff", b"\xfe\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\x00", b"\xf4\x90\x80\x80", b"\x1b[31m", b"\x85", b"\xe2\x80\xae")
_LEAVES: tuple[Any, ...] = (
    None, True, False, 0, -1, 3, 2.5, 1e308, 10**30, "", " ", "a", "a b", "x" * 2000, "$A", "${A:-${B}}", "1g", "5s", "80:80", "a=b", "=", ":",
    [], {}, [[]], [{}], {"": ""}, ["a", "a"], {"a": None}, {"a": ["b"]}, [None], "/x:/y:ro", "~", "!reset", "service:web", "\u202e", "0", "-",
)


def seeds() -> list[Case]:
    """The corpus, the whole-file forms and the stacks of the sections."""
    found: list[Case] = []
    for folder in sorted(path for path in CORPUS.iterdir() if path.is_dir()):
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        found.append({str(path.relative_to(folder)): path.read_bytes() for path in paths})
    found += [{"compose.yaml": text.encode()} for text in FILE.values()]
    for stack in section_stacks().values():
        found.append({name: text.encode() if isinstance(text, str) else text for name, text in stack.files.items()})
    return [case for case in found if any(name.endswith((".yaml", ".yml")) for name in case)]


def mutate(r: Random, pool: list[Case]) -> Case:
    """A new case from one of `pool`, by one to six mutations."""
    case = dict(r.choice(pool))
    for _ in range(r.randint(1, 6)):
        name = r.choice(sorted(case))
        data = case[name]
        kind = r.random()
        if kind < 0.4 and name.endswith((".yaml", ".yml")):
            data = structure(r, data)
        elif kind < 0.85:
            data = text(r, data.decode("utf-8", "replace"), pool).encode("utf-8", "surrogatepass")
        else:
            data = raw(r, data)
        case[name] = data[:MAX_BYTES]
    return case


def raw(r: Random, data: bytes) -> bytes:
    """Bytes changed without regard to what they mean."""
    at = r.randint(0, len(data))
    match r.randrange(5):
        case 0:
            return data[:at] + r.choice(_BYTES) + data[at:]
        case 1:
            return data[:at] + bytes([r.randrange(256)]) + data[at + 1 :]
        case 2:
            return data[:at]
        case 3:
            return data[:at] + r.randbytes(r.randint(1, 30)) + data[at:]
        case _:
            return data[:at] + data[at + r.randint(1, 20) :]


def text(r: Random, data: str, pool: list[Case]) -> str:
    """Lines and tokens moved, doubled, put in and taken out."""
    lines = data.split("\n")
    at = r.randint(0, len(data))
    line = r.randrange(len(lines))
    match r.randrange(9):
        case 0 | 1:
            return data[:at] + r.choice(TOKENS) + data[at:]
        case 2:
            lines[line] = " " * r.randint(0, 12) + lines[line].lstrip()
        case 3:
            lines.insert(r.randrange(len(lines)), lines[line])
        case 4:
            del lines[line : line + r.randint(1, 5)]
        case 5:
            piece = data[at : at + r.randint(1, 60)]
            return data[:at] + piece * r.randint(2, 200) + data[at:]
        case 6:
            other = r.choice(list(r.choice(pool).values())).decode("utf-8", "replace")
            start = r.randint(0, len(other))
            return data[:at] + other[start : start + r.randint(1, 400)] + data[at:]
        case 7:
            words = lines[line].split(" ")
            words[r.randrange(len(words))] = r.choice(TOKENS)
            lines[line] = " ".join(words)
        case _:
            r.shuffle(lines)
    return "\n".join(lines)


def structure(r: Random, data: bytes) -> bytes:
    """The tree with a node replaced, moved, doubled or wrapped; unchanged when it is not YAML."""
    try:
        tree = yaml.load(data.decode("utf-8", "replace"), Loader=yaml.BaseLoader)  # strings only: nothing is built
    except (yaml.YAMLError, RecursionError, ValueError, TypeError):
        return data
    places = list(_places(tree))
    if not places:
        return data
    for _ in range(r.randint(1, 3)):
        holder, key = r.choice(places)
        other_holder, other_key = r.choice(places)
        try:
            match r.randrange(5):
                case 0 | 1:
                    holder[key] = r.choice(_LEAVES)
                case 2:
                    holder[key] = json.loads(json.dumps(other_holder[other_key]))
                case 3:
                    for _ in range(r.randint(1, 200)):
                        holder[key] = r.choice(([holder[key]], {"a": holder[key]}))
                case _:
                    if isinstance(holder, dict):
                        holder[r.choice(TOKENS)] = holder.pop(key)
                    else:
                        holder.extend(holder[: 10_000 // (len(holder) + 1)])
        except (KeyError, IndexError, RecursionError, ValueError):
            continue
    try:
        return json.dumps(tree, ensure_ascii=False).encode("utf-8", "surrogatepass")
    except (RecursionError, ValueError, TypeError):
        return data


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every node below the root; shared nodes once."""
    found: list[tuple[Any, Any]] = []
    seen: set[int] = set()
    stack = [tree]
    while stack:
        node = stack.pop()
        if not isinstance(node, dict | list) or id(node) in seen:
            continue
        seen.add(id(node))
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            found.append((node, key))
            stack.append(node[key])
    return found
