"""How a service's image is had, as the runtime takes it: ``image``, ``build``, ``platform`` and ``pull_policy``.

What only the process has that loads the stack (variables, the SSH agent's socket) is looked up here: whoever builds later
starts clean.
"""

from __future__ import annotations

from orchestrator.compose.kinds import long_forms
from orchestrator.compose.kinds.expand import ExpandError
from orchestrator.compose.kinds.paths import absolute
from orchestrator.compose.kinds.values import byte_size, go_text
from orchestrator.compose.model.granted import file_mode, is_external, owner
from orchestrator.compose.model.limits import ulimits
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.text.tree import Node
from orchestrator.model.build import BuildSecret, BuildSpec, PullPolicy
from orchestrator.units import parse_duration

_DAY_S = 86_400.0
_PERIODS_S = {"daily": _DAY_S, "weekly": 7 * _DAY_S}
_EVERY = "every_"
_LAYOUT = "oci-layout://"


def image_name(read: Reader, node: Node, project: str, service: str) -> str:
    """The image's name: for a build without one ``PROJECT-SERVICE``, as Docker Compose has it."""
    name = read.text(node, "image")
    if name is None and node.get("build") is not None:
        return f"{project}-{service}"
    return name or ""


def pull_policy(read: Reader, node: Node, path: str) -> PullPolicy:
    item = node.get("pull_policy")
    text = read.text(node, "pull_policy")
    if item is None or text in (None, "missing", "if_not_present"):
        return PullPolicy()
    if text in _PERIODS_S:
        return PullPolicy("refresh", _PERIODS_S[text])
    if text.startswith(_EVERY):
        period_s = read.attempt(item, f"{path}.pull_policy", lambda n: _period(go_text(n.value).removeprefix(_EVERY)), 0.0)
        return PullPolicy("refresh", period_s)
    if text != "refresh":
        return PullPolicy(text)
    after = node.get("pull_refresh_after")
    if after is None or not after.value:
        hint = "add one, or write pull_policy: daily"
        read.error(item, f"{path}.pull_policy", "refresh needs pull_refresh_after", hint)
        return PullPolicy()
    period_s = read.attempt(after, f"{path}.pull_refresh_after", lambda n: _period(go_text(n.value)), 0.0)
    return PullPolicy("refresh", period_s)


def _period(text: str) -> float:
    seconds = parse_duration(text)
    if seconds < 0:
        raise ValueError("must not be negative")
    return seconds


def build_spec(read: Reader, node: Node, path: str) -> BuildSpec | None:
    item = node.get("build")
    if item is None or not isinstance(item.value, dict):
        return None
    path = f"{path}.build"
    for key, value in item.items():
        read.mark(value, f"{path}.{key}")
    shm_size = item.get("shm_size")
    isolation = read.text(item, "isolation") or ""
    if isolation not in ("", "default"):
        read.error(item.value["isolation"], f"{path}.isolation", f'"{isolation}" is a mode of Windows containers')
    inline = item.get("dockerfile_inline")
    return BuildSpec(
        context=read.text(item, "context") or ".",
        dockerfile=read.text(item, "dockerfile") or "Dockerfile",
        dockerfile_inline=go_text(inline.value) if inline is not None and inline.value else None,
        args=tuple(read.pairs(item, path, "args", keep_null=False).items()),
        ssh=_ssh(read, item),
        cache_from=read.texts(item, "cache_from"),
        cache_to=read.texts(item, "cache_to"),
        additional_contexts=_contexts(read, item, path),
        extra_hosts=_extra_hosts(read, item, path),
        privileged=read.flag(item, path, "privileged"),
        labels=tuple(read.pairs(item, path, "labels", keep_null=True).items()),
        no_cache=read.flag(item, path, "no_cache"),
        no_cache_filter=read.texts(item, "no_cache_filter"),
        pull=read.flag(item, path, "pull"),
        network=read.text(item, "network") or "",
        shm_size_bytes=read.attempt(shm_size, f"{path}.shm_size", _shm_size, None) if shm_size is not None else None,
        target=read.text(item, "target") or "",
        secrets=_secrets(read, item, path),
        tags=read.texts(item, "tags"),
        ulimits=ulimits(read, item, path),
        platforms=read.texts(item, "platforms"),
        provenance=read.text(item, "provenance") or "",
        sbom=read.text(item, "sbom") or "",
        entitlements=read.texts(item, "entitlements"),
        place=path,
    )


def _shm_size(node: Node) -> int | None:
    size = byte_size(node)
    if size < 0:
        raise ValueError("must not be negative")
    return size or None


def _ssh(read: Reader, node: Node) -> tuple[tuple[str, str], ...]:
    """Where nothing stands beside an id, it is the agent's socket, if there is an agent."""
    found = []
    for name, path in read.pairs(node, "", "ssh", keep_null=True).items():
        socket = path or read.environment.get("SSH_AUTH_SOCK", "")
        found.append((name, absolute(read.working_dir, socket, read.environment.get("HOME")) if socket else ""))
    return tuple(found)


def _contexts(read: Reader, node: Node, path: str) -> tuple[tuple[str, str], ...]:
    found = []
    for name, text in read.pairs(node, path, "additional_contexts", keep_null=True).items():
        if text.startswith(_LAYOUT):
            text = _LAYOUT + absolute(read.working_dir, text.removeprefix(_LAYOUT), None)
        found.append((name, text))
    return tuple(found)


def _extra_hosts(read: Reader, node: Node, path: str) -> tuple[tuple[str, str], ...]:
    item = node.get("extra_hosts")
    try:
        return tuple(long_forms.host_pairs(item)) if item is not None else ()
    except ExpandError as exc:
        assert item is not None
        read.error(item, f"{path}.extra_hosts", str(exc), exc.hint)
        return ()


def _secrets(read: Reader, node: Node, path: str) -> tuple[BuildSecret, ...]:
    """A secret's id is its target where it has one, as in Docker Compose."""
    known = dict(read.section("secrets"))
    found = []
    for number, item in enumerate(read.each(node, "secrets")):
        place = f"{path}.secrets[{number}]"
        source = read.text(item, "source") or ""
        secret = known.get(source)
        if secret is None or is_external(secret):  # The rules, and `check_granted`, say so.
            continue
        file, variable = read.text(secret, "file"), read.text(secret, "environment")
        if file is None and variable is None:
            read.error(item, place, f'the secret "{source}" has neither a file nor an environment variable')
        mode = item.get("mode")
        found.append(
            BuildSecret(
                id=read.text(item, "target") or source,
                file=file,
                environment=variable,
                value=read.variable(variable, secret) if variable is not None else None,
                uid=owner(read, item, place, "uid"),
                gid=owner(read, item, place, "gid"),
                mode=read.attempt(mode, f"{place}.mode", file_mode, None) if mode is not None else None,
            )
        )
    return tuple(found)
