"""How an image is had: pulled, and when; or built, and from what (compose-spec, "build" and "pull_policy").

Pairs are tuples and not mappings, so that a value can be hashed: requests for images are looked up by it. Write
``dict(spec.args)``.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.names import ServiceName
from orchestrator.values import field, frozen, replace


@frozen
class PullPolicy:
    """`when`: ``always``, ``never``, ``missing``, ``build`` or ``refresh``. ``refresh``: pulled when it is missing, and
    again once what is there was pulled `refresh_s` seconds ago (``daily``, ``weekly``, ``every_12h``)."""

    when: str = "missing"
    refresh_s: float | None = None


@frozen
class BuildSecret:
    """A secret of a build: `id` is what ``--mount=type=secret,id=`` names (Compose's ``target``, else ``source``). Its
    content is that of the absolute `file`, or `value`, which the variable `environment` had when the stack was loaded
    (None: it had none, so there is no such secret). `uid`, `gid`, `mode`: defaults of its mount; None: the builder's."""

    id: str
    file: str | None = None
    environment: str | None = None
    value: str | None = field(default=None, repr=False)
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None


@frozen
class Ulimit:
    """A resource limit (getrlimit(2)) by the name that Docker gives it (``nofile``); -1: unlimited."""

    name: str
    soft: int
    hard: int


@frozen
class BuildSpec:
    """Compose's ``build:``. Directories and files are absolute; URLs, and references with a scheme, are as written.

    `context`: a directory, or a URL (a Git repository, a tar). `dockerfile`: relative to `context`, or absolute. `args`:
    those without a value have taken it from the environment, or are left out when it has none. `additional_contexts`: name
    to a directory, URL, ``docker-image://REF``, ``oci-layout://DIR[:TAG][@DIGEST]`` or ``service:NAME``. `ssh`: an id
    (``default``) to the absolute path of a key or of an agent's socket, "" when there is no agent. `cache_from`,
    `cache_to`: BuildKit's notation, as written. `extra_hosts`: host to address. `network`: "" for the default, else as
    written (``none``, ``host``). `provenance`, `sbom`: as written, "" when not given. `place`: its compose path
    (``services.web.build``); the same build is the same wherever it stands.
    """

    context: str
    dockerfile: str = "Dockerfile"
    dockerfile_inline: str | None = None
    args: tuple[tuple[str, str], ...] = ()
    ssh: tuple[tuple[str, str], ...] = ()
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    additional_contexts: tuple[tuple[str, str], ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    privileged: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    pull: bool = False
    network: str = ""
    shm_size_bytes: int | None = None
    target: str = ""
    secrets: tuple[BuildSecret, ...] = ()
    tags: tuple[str, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    platforms: tuple[str, ...] = ()
    provenance: str = ""
    sbom: str = ""
    entitlements: tuple[str, ...] = ()
    place: str = field(default="", repr=False, compare=False)


_SERVICE = "service:"


def built_before(spec: BuildSpec) -> tuple[str, ...]:
    """The services whose images the build takes something from (``additional_contexts: NAME=service:OTHER``)."""
    return tuple(context.removeprefix(_SERVICE) for _, context in spec.additional_contexts if context.startswith(_SERVICE))


def with_images(spec: BuildSpec, images: Mapping[str, str]) -> BuildSpec:
    """The same with those contexts as images, by service."""
    contexts = tuple(
        (name, f"docker-image://{images[context.removeprefix(_SERVICE)]}" if context.startswith(_SERVICE) else context)
        for name, context in spec.additional_contexts
    )
    return replace(spec, additional_contexts=contexts)


def building_cycle(specs: Mapping[ServiceName, BuildSpec]) -> tuple[ServiceName, ...]:
    """Services whose builds wait for each other, each taking something from the next, the last from the first; () if there
    are none."""
    done: set[ServiceName] = set()
    for start in specs:
        path: list[ServiceName] = []
        todo = [(start, 0)]
        while todo:
            name, depth = todo.pop()
            del path[depth:]
            if name in path:
                return tuple(path[path.index(name) :])
            path.append(name)
            if name not in done and name in specs:
                done.add(name)
                todo += [(ServiceName(other), depth + 1) for other in built_before(specs[name])]
    return ()


def secret_values(spec: BuildSpec) -> dict[str, str]:
    """The values that came from variables, by the variable."""
    return {secret.environment: secret.value for secret in spec.secrets if secret.environment and secret.value is not None}


def with_secret_values(spec: BuildSpec, values: Mapping[str, str]) -> BuildSpec:
    """The same with these values and no other."""
    secrets = (replace(secret, value=values.get(secret.environment or "")) for secret in spec.secrets)
    return replace(spec, secrets=tuple(secrets))
