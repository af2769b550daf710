"""Build arguments: what is defined without being declared, and what ARG above the first FROM gives.

Source: https://docs.docker.com/reference/dockerfile/#predefined-args and #automatic-platform-args-in-the-global-scope
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.build.frontend.words import expand
from orchestrator.build.instructions import Arg, Dockerfile

PROXIES = frozenset(
    name for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY") for name in (upper, upper.lower())
)
"""RUN has them in its environment if they were given, declared or not; they are in no history and no cache key."""

CONTROLS = frozenset({
    "BUILDKIT_BUILD_NAME", "BUILDKIT_CACHE_MOUNT_NS", "BUILDKIT_CONTEXT_KEEP_GIT_DIR", "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_HISTORY_PROVENANCE_V1", "BUILDKIT_INLINE_CACHE", "BUILDKIT_MULTI_PLATFORM", "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SYNTAX", "SOURCE_DATE_EPOCH",
})  # fmt: skip
"""They tell the builder something; giving one that no ARG declares is no mistake."""

PLATFORM = (
    *(f"{side}{part}" for side in ("BUILD", "TARGET") for part in ("PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT")),
    "TARGETSTAGE",
)
"""Known in FROM without a declaration; a stage that wants one declares it with ARG."""


def platform_arguments(build: str, target: str, stage: str = "") -> dict[str, str]:
    """The values of `PLATFORM` for platforms in their text form (``linux/arm64/v8``) and the name of the target stage."""
    found: dict[str, str] = {}
    for side, text in (("BUILD", build), ("TARGET", target)):
        os_name, architecture, variant = (*text.split("/"), "", "")[:3]
        found |= {
            f"{side}PLATFORM": text, f"{side}OS": os_name, f"{side}OSVERSION": "", f"{side}ARCH": architecture,
            f"{side}VARIANT": variant,
        }  # fmt: skip
    return found | {"TARGETSTAGE": stage or "default"}


def global_arguments(dockerfile: Dockerfile, given: Mapping[str, str], platform: Mapping[str, str]) -> dict[str, str]:
    """What FROM may use: `platform` and the ARGs above the first FROM, of which `given` ones win over the defaults. Those
    without a value are not in it. Raises InputError without a place."""
    known = {name: given.get(name, value) for name, value in platform.items()}
    for item in dockerfile.globals:
        for name, value in declared(item, known, given, {}, dockerfile.escape):
            if value is not None:
                known[name] = value
    return known


def declared(
    item: Arg, variables: Mapping[str, str], given: Mapping[str, str], outer: Mapping[str, str], escape: str
) -> Iterator[tuple[str, str | None]]:
    """What an ARG declares, None for what has no value: `given` for the build, else its default (with `variables` and those
    before it on the line), else what `outer` (`global_arguments`, in a stage) has. Raises InputError without a place."""
    known = dict(variables)
    for name, default in item.pairs:
        value = given.get(name)
        if value is None:
            value = expand(default, known, escape) if default is not None else outer.get(name)
        if value is not None:
            known[name] = value
        yield name, value


def unused(dockerfile: Dockerfile, given: Mapping[str, str]) -> tuple[str, ...]:
    """Names that were given and that no ARG declares and nobody else reads, sorted."""
    known = {name for item in dockerfile.globals for name, _ in item.pairs} | PROXIES | CONTROLS | set(PLATFORM)
    for stage in dockerfile.stages:
        known.update(name for item in stage.instructions if isinstance(item, Arg) for name, _ in item.pairs)
    return tuple(sorted(set(given) - known))
