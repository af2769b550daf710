"""docs/compose.md, generated from the attribute table: a test compares the file with what this module makes of it."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.compose.advice.lint import BY_CODE
from orchestrator.compose.kinds.shapes import Row, Shape, Support
from orchestrator.compose.merge.extends import MAX_EXTENDS
from orchestrator.compose.merge.layers import MAX_INCLUDE_DEPTH, MAX_INCLUDES
from orchestrator.compose.schema.attributes import TOP, TOP_X_PYSTACK, X_PYSTACK
from orchestrator.compose.schema.attributes_service import JOB_ONLY, SERVICE
from orchestrator.compose.text.files import MAX_COMPOSE_BYTES, MAX_ENV_BYTES
from orchestrator.compose.text.tree import MAX_DEPTH, MAX_EXPANDED, MAX_NODES
from orchestrator.model.granted import MOST_BYTES

_DEFAULT_HARMLESS = Row("", TOP, "").harmless
_SUPPORT = {Support.YES: "yes", Support.IGNORED: "ignored, with a warning", Support.REFUSED: "refused by `up`"}
_SECTIONS = ("networks", "volumes", "configs", "secrets", "models")

_INTRO = """\
# The compose format in pystack

<!-- Generated from the attribute table (orchestrator/compose/schema) by orchestrator/compose/advice/reference.py:
     python -c "from orchestrator.compose.advice.reference import write; write('docs/compose.md')" -->

pystack reads every file that Docker Compose v5.6.1 reads, and `pystack config --format json` prints the same model.
What the runtime does not do yet is accepted by `config`; `up` names each such place with its line, refuses it where
leaving it out could surprise (isolation, data, security, behaviour), and warns where it could not.

## Attributes

`up`: **yes** the runtime does it; **ignored** it has no effect here, and `up` says so; **refused** `up` stops and says
where.
"""

_SELECTION = """\
## What takes part

A project is always its whole stack: the services of inactive profiles, and what was not named, are known too.

* A service takes part when it has no `profiles`, or one that is active: by `--profile` (`*`: all), else by
  `COMPOSE_PROFILES` (a comma-separated list).
* Services that are named (`up web`) take part with what they depend on, and nothing else. A named service that is
  inactive has its profiles activated for this command: what it needs may be in them. What it needs in another profile is an
  error at the line that says so, unless it is `required: false`.
* A service that does not take part must be well formed (its variables, types and numbers), but may refer to what is not
  there (a network, a missing `env_file`) or to what the runtime does not do, until it does take part.

`scale`, else `deploy.replicas`, is the number of containers of a service; both must agree. More than one cannot share a
`container_name`, nor one fixed host port: give a range (`8080-8089:80`) or no host port. `stop_signal` is a name
(`SIGTERM`, `term`, `SIGRTMIN+3`) or a number in quotes, and checked when the stack is loaded. `healthcheck.start_interval`
needs a `start_period`, as in Docker Compose.
"""

_GRANTED = f"""\
## Secrets and configs

* `file:`: the host's file, bound read-only with the owner and mode that it has; `uid`, `gid` and `mode` are ignored with a
  warning, as in Docker Compose. What is in it may change without the container being made anew.
* `environment:` (the variable's value when the stack is loaded) and `content:` (of configs): a file in memory, which
  belongs to `uid` and `gid` (root) and has `mode` (0444), made anew for each run, also where `read_only: true` is;
  {MOST_BYTES >> 10} KiB at most. Another value makes the container anew.
* A secret's `target` is below `/run/secrets` unless it is absolute, a config's below `/`. Without one it is the name.
* A file or a variable that is not there is an error of `up`, `run` and `scale` before anything is begun; other verbs
  do not need it. `external: true` and drivers are of Swarm, and errors.
* Where a value from a variable is kept: in the container's own directory (`spec.json`, root's alone, 0600), for
  restarts, until the container is removed; and in the supervisor's memory. What is recorded of the stack has its SHA-256
  alone, by which a short value could be guessed: that file is root's alone, too. `content:` is part of the stack, and
  recorded with it.
"""

_LOGGING = """\
## What is kept of output

| `logging.driver` | what is kept |
|---|---|
| `json-file`, the default | everything until the container is removed, as by Docker; or as `max-size` and `max-file` say |
| `local` | 5 files of 20 MiB, or as `max-size` and `max-file` say |
| `none` | nothing: `logs` and `up` show nothing of it, and say so; `run` shows its output |
| `syslog`, `journald`, `gelf`, `fluentd`, ..., plug-ins | as `local`; a warning says that nothing is sent there |

A file that has reached `max-size` (bytes, or a number with `k`, `m` or `g`; it may lead 4 KiB beyond) is followed by
another, and `max-file` of them are kept (1). `mode` and `max-buffer-size` are accepted: a container never waits for
whoever reads its log. `compress`, `labels`, `env` and `tag` have no effect, and are told. Any other driver or option is
an error. A file that somebody is still reading (`logs`, `up`) is deleted once they have read it, or when 1 GiB is held
so; with `run` in the foreground there is no such bound.
"""

_MORE = """\
## Where we do more

* Every error and warning has `file:line:column`, the source line, a caret, the path of the attribute, and the nearest
  known name where there is one. All errors of a run are shown, not the first alone. Where several values take part (two
  files that do not merge, `mem_limit` and `deploy`, a cycle) the place of each is named; an error in a file that `include`
  or `extends` names says where that stands.
* `x-pystack: {on_unhealthy: restart|ignore|stop}` on a service, or at the top for all: what an unhealthy service means. The
  default is `restart`: an unhealthy service has failed, and is restarted by its restart policy with the same back-off.
  Docker Compose leaves it running; `ignore` does so too.
* `x-pystack: {ready: listening}` on a service: it is healthy as soon as it listens on its ports. `x-pystack: {probe: {http:
  /health}}`, or `tcp`, `log`, `file`: a health check from outside. Both need nothing in the image
  ([health-restarts.md](health-restarts.md)).
* `depends_on.S.restart: true` also restarts when S has crashed and is back; `x-pystack: {cascade: freeze}` in an entry of
  `depends_on`, on a service or at the top lets who depends on it stand still meanwhile; `ignore` is Docker Compose's.
* `deploy.restart_policy` has all its attributes, and `x-pystack.restart` a back-off and a budget (health-restarts.md).
* `x-pystack: {chaos: [{at: 10s, do: cut api db, for: 5s}]}` at the top: a script of faults on purpose, for `pystack chaos
  run` ([chaos.md](chaos.md)). It is checked with the rest, and `up` does nothing about it.
* `x-pystack: {hooks: {before_up: ..., after_up: ..., before_down: ...}}` at the top: shell commands for this machine
  ([hooks.md](hooks.md)).
* `x-pystack: {net: {observe: true}}` at the top: `up` does what `pystack net --observe on` does
  ([networking.md](networking.md), "Who talks to whom").
* `x-pystack: {expect: {ready_within: 30s, never: [failed, db restarted], eventually: running}}` at the top: what `pystack
  simulate` judges the stack by ([simulate.md](simulate.md)). It is checked with the rest, and `up` does nothing about it.
* `x-pystack.owner: source|root|keep` below `bind:` of a mount: who owns on the host what the container writes there
  ([volumes.md](volumes.md), "Owners in bind mounts"). The default: the owner of the source, if that is an ordinary user.
* `pre_start` has `per_replica: true`, which Docker Compose refuses to run. `post_start` runs after every start, also by the
  restart policy ([engine.md](engine.md), "Hooks").
* `pystack lint` (below), and a warning from `up` for the two mistakes that hurt most: a command that an unquoted `&&`, `;`
  or `|` silently cuts, and a volume of one letter.
* Dependencies are checked in linear time; Docker Compose's cycle check takes minutes on 60 services in layers.
* Files that a stack names are opened as regular files of a bounded size: a FIFO or a device is an error, not a hang.
"""

_DIFFERENCES = """\
## Where we differ from Docker Compose v5.6.1

On purpose, each because its answer is a fault:

| what | Docker Compose | pystack |
|---|---|---|
| `build.ssh` with a path, as JSON | fails: invalid JSON | prints `ID=PATH` |
| a service or network named `x-...` | lost, or refers to an undefined network | is a name like any other |
| `pid: null` | a Go panic | the same as absent |
| `${A:-{}} $B` on one line | invalid template | braces are balanced |
| `ports: !reset []` beside `<<: *base` | the ports of `base` | no ports |
| `build.args: [NAME]` with `--no-interpolate` | is left out | stays |
| an unknown key, or no `path`, in an `include` entry | silently accepted | an error |
| a last line `KEY` without a line break in an env file | sets a variable with an empty name | inherits `KEY` |
| text after a closing quote in an env file | sets a variable with an empty name | a name that inherits |
| `%YAML 1.2` | incompatible document | accepted |
| `config` of a stack with jobs, as YAML | prints `name:` in each job, and refuses its own output | reads back |
| `extra_hosts: {}` over `extra_hosts: {}` | an error | an error that says where |
| a stack with a dependency graph in layers | exponential time | linear time |
| alias bombs, FIFOs, devices, endless files | hang or exhaust memory | one error at once |
"""


def markdown() -> str:
    """The whole page."""
    parts = [_INTRO]
    parts.append("### The top level\n\n" + _table(_top_rows()))
    parts.append("### Services\n\n" + _table(_rows_of(SERVICE, "")))
    parts.append(
        "### Jobs\n\nA job has `command`, `image`, `build` and the other attributes of a container (not those of a service"
        " that stays up), and:\n\n" + _table(_flat(JOB_ONLY, ""), "jobs")
    )
    for section in _SECTIONS:
        shape = TOP.at(section)
        assert shape is not None
        assert shape.values is not None
        parts.append(f"### {section.capitalize()}\n\n" + _table(_rows_of(shape.values, ""), section))
    parts.append("### x-pystack of a service\n\n" + _table(_rows_of(X_PYSTACK, "")))
    parts.append("### x-pystack at the top\n\n" + _table(_rows_of(TOP_X_PYSTACK, "")))
    parts.append(_SELECTION)
    parts.append(_GRANTED)
    parts.append(_LOGGING)
    parts.append(_MORE)
    parts.append("## Lint rules\n\n" + _lint())
    parts.append(_DIFFERENCES)
    parts.append(
        f"Limits on input: {MAX_COMPOSE_BYTES // 2**20} MiB a compose file, {MAX_ENV_BYTES // 2**20} MiB an env file, "
        f"{MAX_NODES:,} values\n({MAX_EXPANDED:,} where an alias counts each time), {MAX_DEPTH} levels of nesting, "
        f"{MAX_INCLUDES} included files,\n{MAX_INCLUDE_DEPTH} levels of them, "
        f"{MAX_EXTENDS} services that extend each other in a row.\n"
    )
    return "\n".join(parts)


def write(path: str) -> None:
    """Write the page to `path`."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(markdown())


def _top_rows() -> Iterator[tuple[str, Row]]:
    assert TOP.fields is not None
    for name, row in TOP.fields.items():
        yield name, row
        if name == "include":
            yield from _rows_of(row.shape, name)


def _rows_of(shape: Shape, prefix: str) -> Iterator[tuple[str, Row]]:
    """The attributes below `shape`, those of nested mappings and list elements too."""
    if shape.fields is not None:
        yield from _flat(tuple(shape.fields.values()), prefix)
    elif shape.items is not None and shape.items.fields is not None:
        yield from _rows_of(shape.items, f"{prefix}[]")
    elif shape.values is not None and shape.values.fields is not None:
        yield from _rows_of(shape.values, f"{prefix}.*" if prefix else "*")


def _flat(rows: tuple[Row, ...], prefix: str) -> Iterator[tuple[str, Row]]:
    for row in rows:
        path = f"{prefix}.{row.name}" if prefix else row.name
        yield path, row
        if row.name != "pre_start":
            yield from _rows_of(row.shape, path)


def _table(rows: Iterator[tuple[str, Row]], section: str | None = None) -> str:
    """The attributes as a table; nothing is said below what ``up`` does not run, such as a whole `section`."""
    assert TOP.fields is not None
    nothing = section is not None and TOP.fields[section].support is not Support.YES
    lines = ["| attribute | forms | up | what it is |", "|---|---|---|---|"]
    refused: list[str] = []
    for path, row in rows:
        above = nothing or any(path.startswith((f"{other}.", f"{other}[")) for other in refused)
        support = "" if above else _support(row)
        if row.support is not Support.YES and not above:
            refused.append(path)
        note = f" ({row.note})" if row.note else ""
        lines.append(f"| `{path}` | {_forms(row.shape)} | {support} | {row.doc}{note} |")
    return "\n".join(lines) + "\n"


def _support(row: Row) -> str:
    if row.support is Support.YES or row.harmless == _DEFAULT_HARMLESS:
        return _SUPPORT[row.support]
    return f"{_SUPPORT[row.support]}; not for {', '.join(f'`{value}`' for value in row.harmless)}"


_NAMES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true/false",
    "list": "list",
    "mapping": "mapping",
    "null": "null",
}


def _forms(shape: Shape) -> str:
    if shape.choices and "list" not in shape.accepts:
        return ", ".join(f"`{choice}`" for choice in shape.choices)
    return ", ".join(word for kind, word in _NAMES.items() if kind in shape.accepts)


def _lint() -> str:
    lines = ["| code | rule | level | what it finds | what to do | an example |", "|---|---|---|---|---|---|"]
    for rule in BY_CODE.values():
        lines.append(f"| {rule.code} | {rule.name} | {rule.level} | {rule.summary} | {rule.hint} | `{rule.example}` |")
    return "\n".join(lines) + "\n"
