"""From a line to an instruction: one reader per keyword, in one table. Errors here have no place: `parse` gives them one.

Source: https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.build import instructions as of
from orchestrator.build.frontend.flags import Flags, read_flags
from orchestrator.build.frontend.mounts import read_mount
from orchestrator.build.frontend.syntax import Line, heredoc_name
from orchestrator.compose.text.diagnostics import did_you_mean
from orchestrator.errors import InputError
from orchestrator.units import parse_duration_ns

_NETWORKS = ("default", "none", "host")
_SECURITY = ("sandbox", "insecure")
_LEAST_NS = 1_000_000
_MOST_RETRIES = 1 << 31
_NOT_BEHIND_ONBUILD = frozenset({"ONBUILD", "FROM", "MAINTAINER"})


def read_instruction(line: Line) -> of.Instruction:
    """Raises InputError without a place. FROM is no instruction of a stage (`parse`)."""
    if any("\0" in word for word in (*line.args, *line.flags)):
        raise InputError(f"{line.name} has a NUL character, which no argument and no file name can hold")
    return _READERS[line.name](line, read_flags(line.name, line.flags))


def _some(line: Line, example: str) -> tuple[str, ...]:
    if not line.args:
        raise InputError(f"{line.name} needs at least one argument", hint=f"such as: {line.name} {example}")
    return line.args


def _one(line: Line, example: str) -> str:
    if len(line.args) != 1:
        raise InputError(f"{line.name} needs exactly one argument", hint=f"such as: {line.name} {example}")
    return line.args[0]


def _arg(line: Line, _flags: Flags) -> of.Arg:
    pairs: list[tuple[str, str | None]] = []
    for word in _some(line, "VERSION=1.0"):
        name, equals, value = word.partition("=")
        if not name or set(name) & {"'", '"', "$"}:
            raise InputError(f'ARG {word}: "{name}" is no name of an argument', hint="such as: ARG VERSION=1.0")
        pairs.append((name, value if equals else None))
    return of.Arg(line.place, line.text, tuple(pairs))


def _named(line: Line) -> tuple[tuple[str, str], ...]:
    args = _some(line, "NAME=value")
    pairs = tuple(zip(args[0::3], args[1::3]))
    if any(not name for name, _ in pairs):
        raise InputError(f"{line.name} has a value without a name", hint=f"such as: {line.name} NAME=value")
    return pairs


def _copied(line: Line) -> tuple[tuple[str, ...], str, tuple[of.Document, ...]]:
    """Sources, the destination, and what its heredocs hold."""
    if len(line.args) < 2:
        raise InputError(
            f"{line.name} needs a source and a destination", hint=f"such as: {line.name} . /app (the last one is where to)"
        )
    *sources, destination = line.args
    if line.heredocs and heredoc_name(destination) is not None:
        raise InputError(f"{line.name} cannot have a heredoc as its destination", hint=f"such as: {line.name} <<EOF /file")
    if not destination:
        raise InputError(f"{line.name} has an empty destination")
    if not line.heredocs:
        return tuple(sources), destination, ()
    bodies = {heredoc.document.name: heredoc.document for heredoc in line.heredocs}
    names = [(source, heredoc_name(source)) for source in sources]
    documents = tuple(bodies[name] for _, name in names if name in bodies)
    return tuple(source for source, name in names if name not in bodies), destination, documents


def _copy(line: Line, flags: Flags) -> of.Copy:
    sources, destination, documents = _copied(line)
    from_ = flags.text("from")
    if "$" in from_.removesuffix("$"):
        raise InputError(
            f"COPY --from={from_} cannot have a variable",
            hint=f"name a stage for it: FROM {from_} AS source, then --from=source",
        )
    return of.Copy(
        line.place, line.text, sources, destination, from_, flags.text("chown"), flags.text("chmod"),
        flags.is_on("link"), flags.is_on("parents"), flags.all("exclude"), documents,
    )  # fmt: skip


def _add(line: Line, flags: Flags) -> of.Add:
    sources, destination, documents = _copied(line)
    return of.Add(
        line.place, line.text, sources, destination, flags.text("chown"), flags.text("chmod"), flags.is_on("link"),
        flags.all("exclude"), documents, flags.text("checksum"), flags.is_on("keep-git-dir"), flags.tristate("unpack"),
    )  # fmt: skip


def _run(line: Line, flags: Flags) -> of.Run:
    network, security = flags.text("network") or "default", flags.text("security") or "sandbox"
    if network not in _NETWORKS:
        near = did_you_mean(network, _NETWORKS)
        raise InputError(f'RUN --network={network}: none of {", ".join(_NETWORKS)}{near}')
    if security not in _SECURITY:
        near = did_you_mean(security, _SECURITY)
        raise InputError(f'RUN --security={security}: none of {", ".join(_SECURITY)}{near}')
    command: str | tuple[str, ...] = _command(line)
    executable = ""
    if not command:
        raise InputError("RUN needs a command", hint="such as: RUN make install")
    if line.heredocs and isinstance(command, str):
        if heredoc_name(command) is not None:
            command = line.heredocs[0].document.content
            executable = command if command.startswith("#!") else ""
        else:
            command += "".join(f"\n{heredoc.raw}{heredoc.document.name}" for heredoc in line.heredocs)
    return of.Run(
        line.place, line.text, command, tuple(heredoc.document for heredoc in line.heredocs),
        tuple(read_mount(text) for text in flags.all("mount")), network, security, executable,
    )  # fmt: skip


def _command(line: Line) -> str | tuple[str, ...]:
    """A text is for the shell; nothing at all is an empty tuple, which takes away what the base has."""
    if line.json or not line.args:
        return line.args
    return line.args[0]


def _shell(line: Line, _flags: Flags) -> of.Shell:
    if not line.json:
        raise InputError("SHELL is a list in JSON", hint='such as: SHELL ["/bin/bash", "-c"]')
    return of.Shell(line.place, line.text, _some(line, '["/bin/bash", "-c"]'))


def _onbuild(line: Line, _flags: Flags) -> of.OnBuild:
    behind = line.behind
    if behind is None:
        raise InputError("ONBUILD needs an instruction", hint="such as: ONBUILD COPY . /app")
    if behind.name in _NOT_BEHIND_ONBUILD:
        raise InputError(f"ONBUILD cannot hold {behind.name}")
    read_instruction(behind)
    text = behind.text
    for heredoc in behind.heredocs:
        text += f"\n{heredoc.raw}{heredoc.document.name}"
    return of.OnBuild(line.place, line.text, text)


def _volume(line: Line, _flags: Flags) -> of.Volume:
    paths = _some(line, "/data")
    if not all(path.strip() for path in paths):
        raise InputError("VOLUME has an empty path")
    return of.Volume(line.place, line.text, paths)


def _healthcheck(line: Line, flags: Flags) -> of.Healthcheck:
    kind, *rest = _some(line, "CMD curl -f http://127.0.0.1/")
    if kind.upper() == "NONE":
        if rest:
            raise InputError("HEALTHCHECK NONE takes no arguments")
        return of.Healthcheck(line.place, line.text, none=True)
    if kind.upper() != "CMD":
        raise InputError(
            f'HEALTHCHECK {kind}: neither CMD nor NONE{did_you_mean(kind, ("CMD", "NONE"))}',
            hint="such as: HEALTHCHECK --interval=10s CMD curl -f http://127.0.0.1/",
        )
    if not rest:
        raise InputError("HEALTHCHECK CMD has no command")
    retries = flags.read("retries", _retries)
    return of.Healthcheck(
        line.place, line.text, none=False, command=tuple(rest) if line.json else rest[0],
        interval_s=flags.read("interval", lambda text: _seconds("interval", text)),
        timeout_s=flags.read("timeout", lambda text: _seconds("timeout", text)),
        start_period_s=flags.read("start-period", lambda text: _seconds("start-period", text)),
        start_interval_s=flags.read("start-interval", lambda text: _seconds("start-interval", text)),
        retries=None if retries is None else int(retries),
    )  # fmt: skip


def _seconds(flag: str, text: str) -> float:
    try:
        found_ns = parse_duration_ns(text)
    except ValueError as exc:
        raise InputError(f"HEALTHCHECK --{flag}: {exc}") from exc
    if found_ns < 0 or 0 < found_ns < _LEAST_NS:
        raise InputError(f"HEALTHCHECK --{flag}={text} is less than 1ms")
    return found_ns / 1e9


def _retries(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 10 or int(text) >= _MOST_RETRIES:
        raise InputError(f'HEALTHCHECK --retries: "{text}" is no number')
    return int(text)


_READERS: Mapping[str, Callable[[Line, Flags], of.Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": lambda line, flags: of.Cmd(line.place, line.text, _command(line)),
    "COPY": _copy,
    "ENTRYPOINT": lambda line, flags: of.Entrypoint(line.place, line.text, _command(line)),
    "ENV": lambda line, flags: of.Env(line.place, line.text, _named(line)),
    "EXPOSE": lambda line, flags: of.Expose(line.place, line.text, _some(line, "8080")),
    "HEALTHCHECK": _healthcheck,
    "LABEL": lambda line, flags: of.Label(line.place, line.text, _named(line)),
    "MAINTAINER": lambda line, flags: of.Maintainer(line.place, line.text, _one(line, "name")),
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": lambda line, flags: of.StopSignal(line.place, line.text, _one(line, "SIGTERM")),
    "USER": lambda line, flags: of.User(line.place, line.text, _one(line, "app")),
    "VOLUME": _volume,
    "WORKDIR": lambda line, flags: of.Workdir(line.place, line.text, _one(line, "/app")),
}
