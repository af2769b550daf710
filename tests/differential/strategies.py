# ruff: noqa: E501 (tables)
"""Random whole stacks: several files, includes, extends, anchors, interpolation, profiles, and all attributes.

The generator takes a `random.Random`: the runner gives it a seeded one, hypothesis one of its own whose choices it can shrink.
Most values are sound, so that most stacks load and their models can be compared; one stack in eight gets a value that we refuse.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from random import Random

from hypothesis import strategies as st

from tests.differential.batch import Case, accepted
from tests.differential.drafts import INLINE, Draft, Element, File
from tests.differential.forms import PLACES, SERVICE, VALUES, service_forms
from tests.differential.forms_parts import CONFIG, NETWORK, SECRET, VOLUME, part_forms

NAMES = ("web", "api", "db", "cache", "worker", "s-1", "a.b", "x_y")
NETWORKS = ("front", "back", "default")
VOLUMES = ("data", "logs")
VARIABLES = ("TAG", "PORT", "EMPTY", "UNSET", "NAME_1", "N2")
_WORDS = ("a", "b c", "x=y", "1", "0.5", "true", "no", "", "~", "é", "a:b", "#h", "- d", "{e}", "10m", "k8s", "it's", 'q"q', "\\n", "/p/q")

# What names things that only this generator defines, or would mostly fail beside random neighbours.
_OWN = {"depends_on", "networks", "volumes", "ports", "environment", "labels", "profiles", "extends", "configs", "secrets"}
_OWN |= {"models", "links", "network_mode", "ipc", "pid", "volumes_from", "container_name", "scale", "deploy", "build", "provider"}
_OWN |= {"command", "entrypoint", "healthcheck", "pre_start", "credential_spec", "use_api_socket"}


@functools.cache
def sound() -> dict[str, tuple[str, ...]]:
    """The values of the table that we load, by attribute; those of parts as the whole attribute."""
    found: dict[str, list[str]] = {}
    for form in [*service_forms(), *part_forms()]:
        body = PLACES[form.place].replace("@", f"{form.attribute}: {form.value}")
        attribute, value = form.attribute, form.value
        if form.place not in ("service", "bare service"):
            attribute, _, value = body.removeprefix("{").removesuffix("}").removeprefix("image: i, ").partition(": ")
        if attribute not in _OWN | {"image", "unknown"} and accepted(Case((body,))):
            found.setdefault(attribute, []).append(value)
    return {name: tuple(values) for name, values in found.items()}


def quoted(text: str) -> str:
    """`text` as a YAML string on one line."""
    return json.dumps(text, ensure_ascii=False)


def word(r: Random) -> str:
    """Text, sometimes with variables in it, as YAML."""
    if r.random() < 0.25:
        return quoted(interpolated(r))
    return quoted(r.choice(_WORDS).replace("$", "$$"))


def interpolated(r: Random, depth: int = 0) -> str:
    """A template that does not fail."""
    name = r.choice(VARIABLES)
    inner = interpolated(r, depth + 1) if depth < 2 and r.random() < 0.3 else r.choice(("d", "", "x-y", "a:b", "$$z"))
    kinds = (f"${name}", f"${{{name}}}", f"${{{name}:-{inner}}}", f"${{{name}-{inner}}}", f"${{{name}:+{inner}}}", f"${{{name}+{inner}}}")
    return r.choice(("", "p-", "$$")) + r.choice(kinds) + r.choice(("", "/s"))


def _scalar(r: Random) -> str:
    return r.choice((word(r), word(r), str(r.randint(-5, 99999)), r.choice(("true", "false", "null", "1.5", "0x1f", "1e3", "yes"))))


def pairs(r: Random) -> str:
    """Environment or labels: a mapping or a list."""
    names = r.sample(("A", "B", "C", "DB_URL", "x.y/z", "TAG"), r.randint(0, 4))
    if r.random() < 0.5:
        return "{" + ", ".join(f"{name}: {_scalar(r)}" for name in names) + "}"
    texts = [name + r.choice(("", "=", "=v", "=a=b", "=" + interpolated(r))) for name in names]
    return "[" + ", ".join(map(quoted, texts)) + "]"


def port(r: Random) -> str:
    low = r.randint(1, 60000)
    span = r.choice((0, 0, 0, 2))
    target = str(low) if not span else f"{low}-{low + span}"
    outside = r.randint(1, 60000)
    published = str(outside) if not span else f"{outside}-{outside + span}"
    if r.random() < 0.3:
        parts = [f"target: {low}"]
        parts += [f"published: {r.choice((str(outside), quoted(str(outside)), quoted(f'{outside}-{outside + 3}')))}"] * (r.random() < 0.7)
        parts += [f"protocol: {r.choice(('tcp', 'udp'))}"] * (r.random() < 0.4)
        parts += [f"mode: {r.choice(('host', 'ingress'))}"] * (r.random() < 0.4)
        parts += ["host_ip: 127.0.0.1"] * (r.random() < 0.3)
        parts += ["name: p"] * (r.random() < 0.2)
        return "{" + ", ".join(parts) + "}"
    host = r.choice(("", "", "127.0.0.1:", "[::1]:", "0.0.0.0:"))
    text = r.choice((target, f"{host}{published}:{target}", f"{host}{published}:{target}")) + r.choice(("", "", "/udp", "/tcp"))
    return r.choice((quoted(text), text if text.isdigit() else quoted(text)))


def mount(r: Random) -> str:
    target = r.choice(("/a", "/b", "/a/b", "/c/", "/d/../e"))
    source = r.choice((*VOLUMES, "./s", "../s", "/abs/s", "~/s", ".", "${UNSET:-./dyn}"))
    if r.random() < 0.6:
        mode = r.choice(("", "", ":ro", ":rw", ":ro,z", ":cached", ":nocopy"))
        return quoted(r.choice((f"{source}:{target}{mode}", f"{source}:{target}{mode}", target)))
    kind = "volume" if source in VOLUMES else "bind"
    parts = [f"type: {kind}", f"source: {quoted(source)}", f"target: {target}"]
    parts += [f"read_only: {r.choice(('true', 'false'))}"] * (r.random() < 0.3)
    if kind == "bind" and r.random() < 0.4:
        parts.append("bind: {" + r.choice(("create_host_path: true", "create_host_path: false", "propagation: rslave", "selinux: z")) + "}")
    if kind == "volume" and r.random() < 0.4:
        parts.append("volume: {" + r.choice(("nocopy: true", "subpath: x", "labels: {a: b}", "labels: [a=b]")) + "}")
    return r.choice(("{" + ", ".join(parts) + "}", "{type: tmpfs, target: /tm" + r.choice(("", ", tmpfs: {size: 10m}")) + "}"))


def command(r: Random) -> str:
    if r.random() < 0.5:
        return "[" + ", ".join(word(r) for _ in range(r.randint(0, 4))) + "]"
    pieces = ("run", "--flag=x", "'a b'", '"c d"', "e\\ f", "$$HOME", "''", '"x $$Y"', "é", "a'b'c", "-x", "#no")
    return quoted(" ".join(r.choice(pieces) for _ in range(r.randint(1, 5))))


def several(r: Random, one: Callable[[Random], str], most: int = 3) -> str:
    return "[" + ", ".join(one(r) for _ in range(r.randint(0, most))) + "]"


def duration(r: Random) -> str:
    return r.choice(("5s", "1m30s", "500ms", "2h", "1d", "0s", "1m0.5s", quoted("${UNSET:-7s}")))


def size(r: Random) -> str:
    return r.choice(("64m", "1g", "1.5G", "512k", "1048576", "'300mb'", "10b", quoted("${UNSET:-5m}")))


def healthcheck(r: Random) -> str:
    parts = [r.choice(("test: [CMD, x]", "test: curl -f u || exit 1", "test: [NONE]", "test: [CMD-SHELL, 'a $$B']", "disable: true"))]
    parts += [f"{name}: {duration(r)}" for name in ("interval", "timeout", "start_period", "start_interval") if r.random() < 0.4]
    parts += [f"retries: {r.randint(0, 9)}"] * (r.random() < 0.4)
    return "{" + ", ".join(parts) + "}"


def deploy(r: Random) -> str:
    parts = [f"mode: {r.choice(('replicated', 'global'))}"] * (r.random() < 0.3)
    parts += [f"labels: {pairs(r)}"] * (r.random() < 0.3)
    parts += [f"resources: {{limits: {{cpus: '0.5', memory: {r.choice(('64m', '1g'))}}}}}"] * (r.random() < 0.4)
    parts += [f"restart_policy: {{condition: on-failure, delay: {duration(r)}, max_attempts: 3}}"] * (r.random() < 0.3)
    parts += [f"update_config: {{parallelism: {r.randint(1, 5)}, delay: {duration(r)}, order: start-first}}"] * (r.random() < 0.3)
    parts += ["placement: {constraints: [a==b], preferences: [{spread: z}]}"] * (r.random() < 0.2)
    return "{" + ", ".join(parts) + "}"


def build(r: Random) -> str:
    if r.random() < 0.3:
        return r.choice((".", "./ctx", "../up", "https://example.com/r.git#main"))
    parts = [f"context: {r.choice(('.', './ctx', '/abs', quoted('${UNSET:-./c}')))}"]
    parts += [f"dockerfile: {r.choice(('D', 'sub/D', '../D'))}"] * (r.random() < 0.4)
    parts += [f"args: {pairs(r)}"] * (r.random() < 0.5)
    parts += [f"target: {r.choice(('dev', 'prod'))}"] * (r.random() < 0.3)
    parts += [f"labels: {pairs(r)}"] * (r.random() < 0.2)
    parts += [r.choice(("tags: ['a:b']", "cache_from: [x, y]", "platforms: [linux/amd64]", f"shm_size: {size(r)}", "extra_hosts: [a=1.1.1.1]"))]
    return "{" + ", ".join(parts) + "}"


def dependencies(r: Random, earlier: list[str]) -> str:
    chosen = r.sample(earlier, r.randint(1, min(3, len(earlier))))
    if r.random() < 0.4:
        return "[" + ", ".join(chosen) + "]"
    conditions = ("service_started", "service_healthy", "service_completed_successfully")
    rest = ("", "", ", restart: true", ", required: false")
    return "{" + ", ".join(f"{name}: {{condition: {r.choice(conditions)}{r.choice(rest)}}}" for name in chosen) + "}"


def attachments(r: Random) -> str:
    names = r.sample(NETWORKS, r.randint(1, 2))
    if r.random() < 0.5:
        return "[" + ", ".join(names) + "]"
    values = ("", "{}", "{aliases: [n, m]}", "{priority: 5}", "{ipv4_address: 10.0.0.9}", "{driver_opts: {a: b}}", "{mac_address: '02:42:ac:11:00:09'}")
    return "{" + ", ".join(f"{name}: {r.choice(values)}" for name in names) + "}"


def grants(r: Random, names: tuple[str, str]) -> str:
    name = r.choice(names)
    return r.choice((name, f"{{source: {name}}}", f"{{source: {name}, target: /t, mode: 0440}}", f"{{source: {name}, uid: '1', gid: '2'}}"))


def attribute(r: Random, name: str, earlier: list[str]) -> str:
    """A sound value of the attribute."""
    own: dict[str, Callable[[Random], str]] = {
        "environment": pairs,
        "labels": pairs,
        "ports": lambda r: several(r, port),
        "volumes": lambda r: several(r, mount),
        "command": command,
        "entrypoint": command,
        "healthcheck": healthcheck,
        "deploy": deploy,
        "build": build,
        "networks": attachments,
        "configs": lambda r: "[" + grants(r, ("conf1", "conf2")) + "]",
        "secrets": lambda r: "[" + grants(r, ("sec1", "sec2")) + "]",
        "profiles": lambda r: r.choice(("[p1]", "[p1, p2]", "[]", "[p2]")),
        "depends_on": lambda r: dependencies(r, earlier),
        "links": lambda r: f"['{r.choice(earlier)}:alias']",
        "scale": lambda r: str(r.randint(0, 3)),
        "container_name": lambda r: f"c{r.randint(0, 10**6)}",
        "stop_grace_period": duration,
        "mem_limit": size,
        "shm_size": size,
    }
    if name in own:
        return own[name](r)
    return r.choice(sound()[name])


_EVERY = tuple(name for name in SERVICE if name not in ("image", "unknown", "extends", "network_mode", "ipc", "pid", "volumes_from", "pre_start"))
_EVERY = tuple(name for name in _EVERY if name not in ("models", "provider", "credential_spec", "use_api_socket"))
_COMMON = ("environment", "ports", "volumes", "labels", "command", "networks", "depends_on", "healthcheck", "build", "deploy")


def service(r: Random, earlier: list[str], most: int) -> Element:
    chosen = [r.choice(_COMMON if r.random() < 0.5 else _EVERY) for _ in range(r.randint(0, most))]
    needs_earlier = {"depends_on", "links"}
    return {name: attribute(r, name, earlier) for name in chosen if earlier or name not in needs_earlier}


def _elements(r: Random) -> dict[str, dict[str, Element]]:
    """The sections that services refer to."""
    networks = [v for v in NETWORK[:32] if "external: {" not in v and "foo" not in v and "subnet: x" not in v]
    volumes = [v for v in VOLUME[:12] if "external: {" not in v]
    return {
        "networks": {name: {INLINE: r.choice(networks) if r.random() < 0.4 else "{}"} for name in NETWORKS},
        "volumes": {name: {INLINE: r.choice(volumes) if r.random() < 0.5 else ""} for name in VOLUMES},
        "configs": {name: {INLINE: r.choice((CONFIG[0], CONFIG[4], CONFIG[6], CONFIG[9]))} for name in ("conf1", "conf2")},
        "secrets": {name: {INLINE: r.choice((SECRET[0], SECRET[1], "{environment: HOME}"))} for name in ("sec1", "sec2")},
    }


def random_draft(r: Random) -> Draft:
    """A whole stack."""
    names = r.sample(NAMES, r.randint(1, 6))
    main = File(sections={"services": {}, **_elements(r)})
    services = main.sections["services"]
    if r.random() < 0.3:
        main.lines["name"] = r.choice(("proj", quoted("${UNSET:-named}")))
    if r.random() < 0.4:
        inside = ", ".join(f"{name}: {attribute(r, name, [])}" for name in r.sample(("environment", "labels", "ports", "tty", "dns"), 2))
        main.lines["x-common"] = f"&common {{{inside}}}"
        main.lines["x-env"] = "&env {E1: 1, E2: two}"
    for number, name in enumerate(names):
        body: Element = {"image": r.choice(("nginx", "redis:7", quoted("i:${TAG:-latest}"), "a.b/c@sha256:0"))}
        if "x-common" in main.lines and r.random() < 0.5:
            body["<<"] = "*common"
        body |= service(r, names[:number], 7)
        if "x-env" in main.lines and r.random() < 0.3:
            body["environment"] = r.choice(("*env", "{<<: *env, E2: own}"))
        if number and r.random() < 0.2:
            body["extends"] = r.choice((r.choice(names[:number]), "{file: base.yaml, service: base}", "{service: base2, file: ./base.yaml}"))
        services[name] = body
    draft = Draft({"compose.yaml": main}, ("compose.yaml",))
    draft.other |= {"a.env": "A=1\nB='two'\n", "b.env": 'B=3\nC="${A:-x}"\n', "raw.env": "A='1'\n", "one.label": "l1=v1\n", "two.label": "l1=w\n"}
    _add_files(r, draft, names)
    draft.environment = {"TAG": "1.2", "PORT": "8080", "EMPTY": "", **({"N2": "$TAG"} if r.random() < 0.5 else {})}
    if r.random() < 0.4:
        draft.other[".env"] = "NAME_1=dot\nTAG=fromdot\n"
    draft.profiles = r.choice(((), (), ("p1",), ("*",), ("p1", "p2")))
    if r.random() < 0.15:
        draft.services = (r.choice(names),)
    if r.random() < 0.12:
        _spoil(r, draft)
    return draft


def _add_files(r: Random, draft: Draft, names: list[str]) -> None:
    """Override files, a base for extends, an included stack."""
    base = {"base": {"image": "base", **service(r, [], 4)}, "base2": {"extends": "base", **service(r, [], 2)}}
    for body in base.values():
        for name in ("networks", "volumes", "configs", "secrets", "env_file", "label_file"):
            body.pop(name, None)
    draft.files["base.yaml"] = File(sections={"services": base})
    for file_name in ("over.yaml", "third.yaml")[: r.choice((0, 0, 1, 1, 2))]:
        changed = r.sample(names, r.randint(1, len(names)))
        bodies = {}
        for name in changed:
            earlier = names[: names.index(name)]
            body = service(r, earlier, 4)
            for key in body:
                if r.random() < 0.12:
                    body[key] = r.choice(("!reset null", f"!override {body[key]}" if body[key][:1] in "[{" else body[key]))
            bodies[name] = body
        draft.files[file_name] = File(sections={"services": bodies})
        draft.compose = (*draft.compose, file_name)
    if r.random() < 0.25:
        inner: Element = {"image": "inner", **service(r, [], 4)}
        for name in ("networks", "volumes", "configs", "secrets", "env_file", "label_file"):
            inner.pop(name, None)
        inner["volumes"] = r.choice(("['./in:/in']", "['invol:/in']", "[]"))
        sub = File(sections={"services": {"inner": inner}, "volumes": {"invol": {INLINE: ""}}})
        draft.files["sub/compose.yaml"] = sub
        draft.other["sub/.env"] = "TAG=sub\nNAME_1=subname\n"
        entry = ("[sub/compose.yaml]", "[{path: sub/compose.yaml, project_directory: .}]", "[{path: [sub/compose.yaml], env_file: a.env}]")
        draft.files["compose.yaml"].lines["include"] = r.choice(entry)


def _spoil(r: Random, draft: Draft) -> None:
    """Give one attribute of one service a value of some other type."""
    services = draft.files["compose.yaml"].sections["services"]
    body = services[r.choice(sorted(services))]
    body[r.choice([name for name in SERVICE if name not in ("extends", "provider", "pid")])] = r.choice(VALUES)


drafts = st.randoms(use_true_random=False).map(random_draft)
