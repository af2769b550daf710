"""Warnings about what is legal and probably not meant, by the names that BuildKit's documentation gives the rules.

A rule is a generator over what is written; `RULES` has them all. What needs more than the text (the environment of a base
image, the ignore file) is `stage_findings`, for who knows.

Source: https://docs.docker.com/reference/build-checks/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from orchestrator.build import instructions as of
from orchestrator.build.frontend.arguments import PLATFORM, global_arguments, platform_arguments
from orchestrator.build.frontend.directives import read_check, skipped_here
from orchestrator.build.frontend.mistakes import mistake
from orchestrator.build.frontend.syntax import Line
from orchestrator.build.frontend.words import expand, undefined
from orchestrator.compose.text.diagnostics import did_you_mean
from orchestrator.errors import InputError
from orchestrator.images.reference import parse_reference
from orchestrator.values import frozen

_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile(r"(?:_|^)public(?:_|$)|_(?:file|version)$", re.IGNORECASE)
_RESERVED = ("scratch", "context")
_LAST_ONE_COUNTS = frozenset({"CMD", "ENTRYPOINT", "HEALTHCHECK"})


@frozen
class Written:
    """A line and what was read from it; `stage`: the number of the stage it is in, -1 above the first."""

    line: Line
    value: of.Instruction | of.Stage
    stage: int


Found = Iterator[tuple[int, str]]
"""(line, message)."""


def text_findings(dockerfile: of.Dockerfile, written: Sequence[Written], empty: Iterable[int]) -> tuple[of.Finding, ...]:
    """What the text alone shows, in the order of the lines, without what its comments switch off."""
    check = read_check(dockerfile.text)
    here = {item.line.place.line: skipped_here(item.line.comments) for item in written}
    found = [of.Finding("NoEmptyContinuation", "an empty line goes on with a line", line) for line in empty]
    for name, rule in RULES.items():
        found += [of.Finding(name, message, line) for line, message in rule(dockerfile, written)]
    found = [item for item in found if check.wants(item.rule) and not {"all", item.rule} & here.get(item.line, frozenset())]
    return tuple(sorted(found, key=lambda item: item.line))


def stage_findings(
    dockerfile: of.Dockerfile, stage: of.Stage, environment: Iterable[str], ignores: Callable[[str], bool] | None = None
) -> tuple[of.Finding, ...]:
    """What shows when the names in the `environment` of the base are known, and which paths the context `ignores`."""
    check = read_check(dockerfile.text)
    known = set(environment)
    found = []
    for item in stage.instructions:
        names = {name for word in expanded_words(item) for name in undefined(word, known, dockerfile.escape)}
        for name in sorted(names):
            message = f"the variable {name} is not defined{did_you_mean(name, known)}"
            found.append(of.Finding("UndefinedVar", message, item.place.line))
        if isinstance(item, of.Arg | of.Env):
            known.update(name for name, _ in item.pairs)
        if ignores is not None and (isinstance(item, of.Add) or (isinstance(item, of.Copy) and not item.from_)):
            for source in item.sources:
                path = source.strip("/")
                if not set(source) & set("$*?[") and "://" not in source and ignores(path.removeprefix("./")):
                    message = f"{source} is copied and excluded by the ignore file"
                    found.append(of.Finding("CopyIgnoredFile", message, item.place.line))
    return tuple(item for item in found if check.wants(item.rule))


def warn(dockerfile: of.Dockerfile, findings: Sequence[of.Finding], tell: Callable[[str], object]) -> None:
    """A sentence for each. Raises InputError for the first, if ``# check=error=true`` says that warnings are mistakes."""
    for finding in findings:
        if read_check(dockerfile.text).error:
            hint = "it is a mistake because of check=error=true"
            place = of.Lines(finding.line, finding.line)
            raise mistake(dockerfile.text, dockerfile.name, place, f"{finding.message} ({finding.rule})", hint)
        tell(f"{dockerfile.name}:{finding.line}: {finding.message} ({finding.rule})")


def expanded_words(item: of.Instruction) -> tuple[str, ...]:
    """The words of an instruction in which variables are expanded."""
    match item:
        case of.Arg():
            return tuple(value for _, value in item.pairs if value is not None)
        case of.Env() | of.Label():
            return tuple(word for pair in item.pairs for word in pair)
        case of.Copy():
            return (*item.sources, item.destination, item.chown, item.chmod, *item.excludes)
        case of.Add():
            return (*item.sources, item.destination, item.chown, item.chmod, *item.excludes, item.checksum)
        case of.Workdir():
            return (item.path,)
        case of.User():
            return (item.user,)
        case of.Expose():
            return item.ports
        case of.Volume():
            return item.paths
        case of.StopSignal():
            return (item.signal,)
    return ()


def _stages(written: Sequence[Written]) -> Iterator[tuple[Line, of.Stage]]:
    for item in written:
        if isinstance(item.value, of.Stage):
            yield item.line, item.value


def _stage_name_casing(_dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    for line, stage in _stages(written):
        if stage.name and line.args[2] != stage.name:
            yield line.place.line, f"the stage name {line.args[2]} should be in lower case"


def _from_as_casing(_dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    for line, stage in _stages(written):
        if stage.name and (line.keyword.islower() or line.keyword.isupper()):
            word = line.args[1]
            if word != (word.lower() if line.keyword.islower() else word.upper()):
                yield line.place.line, f"{line.keyword} and {word} should have the same case"


def _instruction_casing(_dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    lower = sum(item.line.keyword.islower() for item in written if item.stage >= 0)
    upper = sum(item.line.keyword.isupper() for item in written if item.stage >= 0)
    most = "lower" if lower > upper else "upper"
    for item in written:
        word = item.line.keyword
        if item.stage >= 0 and word != (word.lower() if lower > upper else word.upper()):
            yield item.line.place.line, f"{word} should be in {most} case as most instructions are"


def _duplicate_stage_name(_dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    seen: set[str] = set()
    for line, stage in _stages(written):
        if stage.name in seen:
            yield line.place.line, f"the stage name {stage.name} is used before"
        if stage.name:
            seen.add(stage.name)


def _reserved_stage_name(_dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    for line, stage in _stages(written):
        if stage.name in _RESERVED:
            yield line.place.line, f"a stage should not be called {stage.name}, which means something else"


def _json_recommended(_dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    shells = {item.stage for item in written if isinstance(item.value, of.Shell)}
    for item in written:
        value = item.value
        if isinstance(value, of.Cmd | of.Entrypoint) and isinstance(value.command, str) and item.stage not in shells:
            yield item.line.place.line, f"{item.line.name} should be a list in JSON: a shell passes no signals on"


def _maintainer(_dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    for item in written:
        if isinstance(item.value, of.Maintainer):
            yield item.line.place.line, "MAINTAINER is deprecated: use LABEL org.opencontainers.image.authors="


def _undefined_in_from(dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    known = {name for item in dockerfile.globals for name, _ in item.pairs} | set(PLATFORM)
    for line, stage in _stages(written):
        for word in (stage.base, stage.platform):
            for name in undefined(word, known, dockerfile.escape):
                yield line.place.line, f"FROM uses the argument {name}, which is not declared{did_you_mean(name, known)}"


def _invalid_default(dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    try:
        known = global_arguments(dockerfile, {}, platform_arguments("linux/amd64", "linux/amd64"))
    except InputError:
        return
    for line, stage in _stages(written):
        if "$" not in stage.base:
            continue
        try:
            parse_reference(expand(stage.base, known, dockerfile.escape))
        except InputError:
            yield line.place.line, f"with the defaults of its arguments, FROM {stage.base} names no valid image"


def _workdir(dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    rooted: set[str] = set()
    for stage in dockerfile.stages:
        absolute = stage.base.lower() in rooted
        for item in stage.instructions:
            if not isinstance(item, of.Workdir):
                continue
            plain = item.path.strip("\"'")
            if plain.startswith("/"):
                absolute = True
            elif not absolute and not plain.startswith("$"):
                yield item.place.line, f"WORKDIR {plain} is relative to whatever the base image has"
                absolute = True
        if absolute and stage.name:
            rooted.add(stage.name)


def _once(_dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    last: dict[tuple[int, str], int] = {}
    for item in written:
        name = item.line.name
        if name not in _LAST_ONE_COUNTS:
            continue
        if (before := last.get((item.stage, name))) is not None:
            yield before, f"{name} is given again below, and only the last one counts"
        last[item.stage, name] = item.line.place.line


def _legacy_key_value(_dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    for item in written:
        if item.line.name in ("ENV", "LABEL") and item.line.args[2:3] == ("",):
            yield item.line.place.line, f"write {item.line.name} {item.line.args[0]}=value, with an equals sign"


def _redundant_platform(_dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    for line, stage in _stages(written):
        if stage.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            yield line.place.line, f"FROM --platform={stage.platform} is what it would be anyway"


def _constant_platform(_dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    for line, stage in _stages(written):
        parts = {part for part in stage.platform.lower().split("/") if part}
        if parts and "$" not in stage.platform and not any(part in stage.name for part in parts):
            yield line.place.line, f"FROM --platform={stage.platform} builds for this platform alone"


def _secrets(_dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    for item in written:
        if not isinstance(item.value, of.Arg | of.Env) or item.stage < 0:
            continue
        for name, _ in item.value.pairs:
            if _SECRET.search(name) and not _NO_SECRET.search(name):
                what = f"{item.line.name} {name}"
                yield item.line.place.line, f"{what} would be in the image's history: use RUN --mount=type=secret"


def _expose_casing(_dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    for item, port in _ports(written):
        protocol = port.partition("/")[2]
        if protocol != protocol.lower() and "$" not in port:
            yield item.line.place.line, f"EXPOSE {port}: the protocol should be in lower case"


def _expose_format(_dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    for item, port in _ports(written):
        if ":" in port and "$" not in port:
            yield item.line.place.line, f"EXPOSE {port}: an address or a port of the host means nothing here"


def _ports(written: Sequence[Written]) -> Iterator[tuple[Written, str]]:
    for item in written:
        if isinstance(item.value, of.Expose):
            yield from ((item, port) for port in item.value.ports)


def _definition_description(_dockerfile: of.Dockerfile, written: Sequence[Written]) -> Found:
    for item in written:
        names: list[str] = []
        if isinstance(item.value, of.Stage):
            names = [item.value.name] if item.value.name else []
        elif isinstance(item.value, of.Arg):
            names = [name for name, _ in item.value.pairs]
        comment = item.line.comments[-1] if item.line.comments else ""
        if names and comment and not any(comment.startswith(f"{name} ") for name in names):
            yield item.line.place.line, f"the comment of {item.line.name} should begin with the name: # {names[0]} ..."


RULES: dict[str, Callable[[of.Dockerfile, Sequence[Written]], Found]] = {
    "StageNameCasing": _stage_name_casing,
    "FromAsCasing": _from_as_casing,
    "ConsistentInstructionCasing": _instruction_casing,
    "DuplicateStageName": _duplicate_stage_name,
    "ReservedStageName": _reserved_stage_name,
    "JSONArgsRecommended": _json_recommended,
    "MaintainerDeprecated": _maintainer,
    "UndefinedArgInFrom": _undefined_in_from,
    "InvalidDefaultArgInFrom": _invalid_default,
    "WorkdirRelativePath": _workdir,
    "MultipleInstructionsDisallowed": _once,
    "LegacyKeyValueFormat": _legacy_key_value,
    "RedundantTargetPlatform": _redundant_platform,
    "FromPlatformFlagConstDisallowed": _constant_platform,
    "SecretsUsedInArgOrEnv": _secrets,
    "ExposeProtoCasing": _expose_casing,
    "ExposeInvalidFormat": _expose_format,
    "InvalidDefinitionDescription": _definition_description,
}
