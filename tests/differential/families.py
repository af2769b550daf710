# ruff: noqa: E501 (tables)
"""Whole small stacks, by family: sections, interpolation, .env dialects, how the loader is called."""

from __future__ import annotations

import json

from tests.differential.choices import choice_stacks, count_stacks
from tests.differential.forms_parts import section_stacks
from tests.differential.oracle import Stack

_ENVIRONMENT = {"A": "a", "B": "b", "EMPTY": "", "NUM": "3", "SPACE": "x y", "DOLLAR": "$A", "LONG_NAME_1": "l", "lower": "z"}

TEMPLATES = (
    "plain", "$A", "${A}", "$A$B", "${A}${B}", "x${A}y", "$NOPE", "${NOPE}", "$EMPTY.", "${EMPTY}", "$$A", "$$$A", "$$$$A", "$${A}",
    "${A:-d}", "${NOPE:-d}", "${EMPTY:-d}", "${EMPTY-d}", "${NOPE-d}", "${NOPE:-}", "${NOPE-}", "${A:+r}", "${EMPTY:+r}", "${EMPTY+r}",
    "${NOPE:+r}", "${NOPE+r}", "${A+r}", "${A:?e}", "${NOPE:?e}", "${EMPTY:?e}", "${EMPTY?e}", "${NOPE?e}", "${NOPE?}", "${NOPE:?}",
    "${NOPE:-${A}}", "${NOPE:-${NADA:-deep}}", "${NOPE:-$A}", "${NOPE:-a:b}", "${NOPE:-a-b}", "${NOPE:-a?b}", "${NOPE:-a:-b}",
    "${NOPE:-${A:-x}-${B}}", "${A:+${B}}", "${A:+${NOPE:-n}}", "${NOPE:-a${B}c}", "${NOPE:-'q'}", '${NOPE:-"q"}', "${NOPE:-a b}",
    "${NOPE:-}}", "${NOPE:-{}}", "${NOPE:-{a}}", "${NOPE:-$$x}", "${NOPE:-$${A}}", "${", "${}", "${A", "$", "$ A", "a$", "${A }", "${ A}",
    "$1", "${1}", "${A.B}", "${A-B}", "${A:B}", "${A=B}", "${A:=B}", "${-d}", "${:-d}", "$A-$B", "$A_B", "${A}_B", "$lower", "$DOLLAR",
    "${NOPE:-$DOLLAR}", "${SPACE}", "$NUM", "${NOPE?with ${A} in}", "${NOPE:?$A}", "${A:-${NOPE:?no}}", "${A:-${", "${NOPE:-${}",
    "%A%", "a${A}b${NOPE:-c}d$$e", "${NOPE:-\n}", "${LONG_NAME_1}", "${NOPE:-${A}}${B}", "${NOPE-${EMPTY:-e}}", "${EMPTY:-${EMPTY-x}y}",
    "#$A", "~", "${NOPE:-/a/b}", "${NOPE:-http://x:80/y?z=1&w}", "${NOPE:+${A:?x}}", "${A:?${NOPE:?x}}", "${é}", "$é", "${A:-é}",
)

# Casts: where a variable stands for something that is not text.
CASTS = (
    ("privileged", "true"), ("privileged", "yes"), ("privileged", "Y"), ("privileged", "1"), ("privileged", "off"), ("privileged", ""),
    ("privileged", "TRUE"), ("privileged", "nope"), ("scale", "2"), ("scale", "x"), ("scale", ""), ("scale", "0x2"), ("scale", "1_0"),
    ("cpus", "0.5"), ("cpus", ".5"), ("cpus", ""), ("cpus", "1e-1"), ("pids_limit", "5"), ("pids_limit", "-1"), ("mem_limit", "1g"),
    ("mem_limit", "5"), ("mem_limit", ""), ("cpu_shares", "5"), ("stop_grace_period", "1m"), ("stop_grace_period", ""),
    ("oom_score_adj", "5"), ("oom_kill_disable", "true"), ("init", "true"), ("tty", "on"), ("read_only", "n"), ("mem_swappiness", "5"),
    ("ports", "['${V}:80']"), ("ports", "[{target: '${V}'}]"), ("ulimits", "{nofile: '${V}'}"), ("healthcheck", "{retries: '${V}'}"),
    ("deploy", "{replicas: '${V}'}"), ("command", "'${V}'"), ("command", "['${V}']"), ("image", "'${V}'"), ("environment", "['${V}=x']"),
    ("environment", "{'${V}': '${V}'}"), ("volumes", "['${V}:/x']"), ("depends_on", "['${V}']"), ("labels", "{a: '${V}'}"),
    ("user", "'${V}'"), ("networks", "['${V}']"), ("healthcheck", "{disable: '${V}'}"), ("logging", "{options: {a: '${V}'}}"),
    ("sysctls", "{a: '${V}'}"), ("expose", "['${V}']"), ("extra_hosts", "{a: '${V}'}"), ("cpu_rt_runtime", "'${V}'"),
    ("blkio_config", "{weight: '${V}'}"), ("networks", "{default: {priority: '${V}'}}"), ("stdin_open", "'${V}'"),
)

DOTENV = (
    "K=v", "K = v", "K= v ", "K=v # c", "K=v#c", "K='v'", "K=\"v\"", "K='v # c'", "K=\"v # c\" # d", "K=", "K\n", "HOME\n", "K: v", "K:v", "export K=v",
    "export K\n", "# c\nK=v", "\n\nK=v\n", "K=v\r\nL=w\r\n", "K='a\nb'", "K=\"a\nb\"", "K=\"a\\nb\"", "K='a\\nb'", "K=a\\nb", "K=\"a\\tb\\\"c\\\\d\"",
    "K=$A", "K=${A}", "K='$A'", "K=\"$A\"", "K=\"${A:-d}\"", "K=${NOPE:-d}", "K=${NOPE-d}", "K=$$A", "K=\\$A", "K=\"\\$A\"", "L=1\nK=$L", "L=1\nK='$L'",
    "K=1\nK=2", "K=a b c", "K=a\tb", "K==", "K=a=b", "=v", "1K=v", "K.L=v", "K-L=v", "K L=v", "K='v", "K=\"v", "K=v'w", "K=v\"w",
    "'K'=v", "K=[a]", "K={\"a\": 1}", "K=é", "é=v", "K=v\nL\n", "K=\"${L}\"\nL=1", "K=${L:?no}", "K=${A:+r}", "K=\\u0041", "K=\"\\u0041\"",
    "K=`a`", "K=a;b", "K='it''s'", "K=\"a'b\"", "K='a\"b'", "  K=v", "\tK=v", "K\t=\tv", "K=v \n", "K=#c", "K= #c", "K='' # c", "K=\"\"", "K=\" \"",
    "K=\"a\\\nb\"", "K=a\\", "K=\\", "K=$", "K=$(ls)", "K=${", "K=\"${\"", "K=a$", "K=true", "K=007", "K=1e3", "\ufeffK=v", "K=v\x0b", "K:=v", "K:\nL=1",
    "K=>v", "K=a&b", "K = 'v'", "K: 'v'", "K:   \"v\"", "export  K = v", "exportK=v", "K=v # c 'd'", "K='v' # it's", "K=\"a # b\\\" c\" # d",
    "K=${A}$B", "K=${A}_${B}", "K=\"$A$$B\"", "K=a ${A} b # c", "K='${A}'\"${A}\"", "K=\"\\a\\b\\c\\r\"", "K=%d", "K=!x", "K=a!b",
)


def _templates() -> dict[str, Stack]:
    out = {}
    for template in TEMPLATES:
        text = json.dumps({"services": {"t": {"image": "i", "labels": {"v": template}}}})
        out[f"template: {template}"] = Stack({"compose.yaml": text}, environment=_ENVIRONMENT)
    return out


def _casts() -> dict[str, Stack]:
    out = {}
    for attribute, text in CASTS:
        if "${V}" in text:
            for value in ("3", "", "true", "x y", "a"):
                body = f"services: {{s: {{image: i, {attribute}: {text}}}, a: {{image: i}}}}\nnetworks: {{a: {{}}}}\nvolumes: {{a: {{}}}}\n"
                out[f"cast: {attribute}: {text}, V={value!r}"] = Stack({"compose.yaml": body}, environment={"V": value})
        else:
            body = f"services: {{s: {{image: i, {attribute}: '${{V}}'}}}}\n"
            out[f"cast: {attribute}: V={text!r}"] = Stack({"compose.yaml": body}, environment={"V": text})
    return out


def _dotenv() -> dict[str, Stack]:
    out = {}
    use = "services: {s: {image: i, env_file: [x.env], labels: {k: '${K-none}', l: '${L-none}'}}}\n"
    for text in DOTENV:
        name = json.dumps(text)
        out[f"env_file: {name}"] = Stack({"compose.yaml": use, "x.env": text}, environment={"A": "a", "B": "b"})
        out[f".env: {name}"] = Stack(
            {"compose.yaml": use, "x.env": "N=${K-none}\n", ".env": text}, environment={"A": "a", "B": "b"}
        )
        raw = use.replace("[x.env]", "[{path: x.env, format: raw}]")
        out[f"raw: {name}"] = Stack({"compose.yaml": raw, "x.env": text}, environment={"A": "a"})
    two = {"compose.yaml": use.replace("x.env", "x.env, y.env"), "x.env": "K=1\nM=${K}\n", "y.env": "K=2\nL=${K}\nO=${M}\n"}
    out["env_file: two"] = Stack(two)
    out["env_file: two, .env"] = Stack({**two, ".env": "K=top\n"})
    out["env_file: over environment"] = Stack(
        {"compose.yaml": "services: {s: {image: i, env_file: x.env, environment: {K: own, L: }}}\n", "x.env": "K=f\nL=g\n"}
    )
    out["env_file: environment list"] = Stack(
        {"compose.yaml": "services: {s: {image: i, env_file: x.env, environment: [K, L=, M]}}\n", "x.env": "K=f\nL=g\n"},
        environment={"M": "m"},
    )
    return out


_S = "services: {s: {image: 'i:${T:-none}'}}\n"
_OVER = "services: {s: {tty: true}}\n"
_MANY = """
services:
  web: {image: w, depends_on: [api], networks: [front]}
  api: {image: a, depends_on: {db: {condition: service_healthy}}, networks: [front, back], secrets: [t], volumes: ['d:/d']}
  db: {image: d, networks: [back], profiles: [data]}
  adm: {image: x, profiles: [debug, admin], depends_on: [db], configs: [c]}
  tool: {image: t, profiles: [tools], network_mode: 'service:web'}
  free: {image: f}
networks: {front: {}, back: {}}
volumes: {d: {}}
secrets: {t: {file: ./t}}
configs: {c: {content: x}}
"""
_OK = _MANY.replace(", profiles: [data]", "")


def _calls() -> dict[str, Stack]:
    out = {
        "compose.yml": Stack({"compose.yml": _S}),
        "docker-compose.yml": Stack({"docker-compose.yml": _S}),
        "docker-compose.yaml": Stack({"docker-compose.yaml": _S}),
        "two kinds": Stack({"compose.yaml": _S, "docker-compose.yml": "services: {t: {image: t}}\n"}),
        "override": Stack({"compose.yaml": _S, "compose.override.yaml": _OVER}),
        "override yml": Stack({"compose.yaml": _S, "compose.override.yml": _OVER}),
        "override other kind": Stack({"compose.yaml": _S, "docker-compose.override.yml": _OVER}),
        "overrides both": Stack({"compose.yaml": _S, "compose.override.yml": _OVER, "compose.override.yaml": "services: {s: {init: true}}\n"}),
        "override not with -f": Stack({"compose.yaml": _S, "compose.override.yaml": _OVER}, compose=("compose.yaml",)),
        "parent": Stack({"compose.yaml": _S, "sub/x": ""}, cwd="sub"),
        "parent of parent with .env": Stack({"compose.yaml": _S, ".env": "T=top\n", "a/b/.env": "T=sub\n"}, cwd="a/b"),
        "nothing": Stack({"x": ""}),
        "nothing by that name": Stack({"compose.yaml": _S}, compose=("nope.yaml",)),
        "a folder": Stack({"compose.yaml": _S, "d/x": ""}, compose=("d",)),
        "-f in a folder": Stack({"d/compose.yaml": _S, "d/.env": "T=d\n", ".env": "T=top\n"}, compose=("d/compose.yaml",)),
        "two -f in folders": Stack(
            {"a/c.yaml": "services: {s: {image: i, volumes: ['./x:/x']}}\n", "b/c.yaml": "services: {s: {volumes: ['./y:/y']}}\n"},
            compose=("a/c.yaml", "b/c.yaml"),
        ),
        "-f twice the same": Stack({"c.yaml": "services: {s: {image: i, ports: ['80:80'], dns: [a]}}\n"}, compose=("c.yaml", "c.yaml")),
        "project directory": Stack(
            {"a/c.yaml": "services: {s: {image: '${T}', build: ./b}}\n", "b/.env": "T=b\n", "a/.env": "T=a\n"},
            compose=("a/c.yaml",),
            project_directory="b",
        ),
        "project name": Stack({"compose.yaml": "name: file\nservices: {s: {image: '${COMPOSE_PROJECT_NAME}'}}\n"}, project_name="flag"),
        "project name bad": Stack({"compose.yaml": _S}, project_name="Bad Name"),
        "project name variable": Stack({"compose.yaml": "name: file\n" + _S}, environment={"COMPOSE_PROJECT_NAME": "env"}),
        "project name in .env": Stack({"compose.yaml": _S, ".env": "COMPOSE_PROJECT_NAME=fromenv\n"}),
        "two names": Stack({"a.yaml": "name: one\n" + _S, "b.yaml": "name: two\n" + _OVER}, compose=("a.yaml", "b.yaml")),
        "COMPOSE_FILE": Stack({"a.yaml": _S, "b.yaml": _OVER}, environment={"COMPOSE_FILE": "a.yaml:b.yaml"}),
        "COMPOSE_FILE in .env": Stack({"a.yaml": _S, "b.yaml": _OVER, ".env": "COMPOSE_FILE=a.yaml:b.yaml\n"}),
        "COMPOSE_PATH_SEPARATOR": Stack(
            {"a.yaml": _S, "b.yaml": _OVER}, environment={"COMPOSE_FILE": "a.yaml,b.yaml", "COMPOSE_PATH_SEPARATOR": ","}
        ),
        "COMPOSE_PROFILES": Stack({"compose.yaml": _MANY}, environment={"COMPOSE_PROFILES": "data,debug"}),
        "COMPOSE_PROFILES and flag": Stack({"compose.yaml": _MANY}, environment={"COMPOSE_PROFILES": "data"}, profiles=("tools",)),
        "COMPOSE_PROFILES in .env": Stack({"compose.yaml": _MANY, ".env": "COMPOSE_PROFILES=data\n"}),
        "COMPOSE_ENV_FILES": Stack({"compose.yaml": _S, "x.env": "T=x\n", ".env": "T=dot\n"}, environment={"COMPOSE_ENV_FILES": "x.env"}),
        "COMPOSE_DISABLE_ENV_FILE": Stack({"compose.yaml": _S, ".env": "T=dot\n"}, environment={"COMPOSE_DISABLE_ENV_FILE": "1"}),
        "--env-file": Stack({"compose.yaml": _S, "x.env": "T=x\n", ".env": "T=dot\n"}, env_files=("x.env",)),
        "--env-file twice": Stack({"compose.yaml": _S, "x.env": "T=x\nU=1\n", "y.env": "T=${T}y${U}\n"}, env_files=("x.env", "y.env")),
        "--env-file missing": Stack({"compose.yaml": _S}, env_files=("nope.env",)),
        "environment over .env": Stack({"compose.yaml": _S, ".env": "T=dot\n"}, environment={"T": "env"}),
        "stdin": Stack({"x": ""}, compose=("-",), stdin=_S),
        "stdin and a file": Stack({"b.yaml": _OVER}, compose=("-", "b.yaml"), stdin=_S),
        "a file and stdin": Stack({"b.yaml": _S}, compose=("b.yaml", "-"), stdin=_OVER),
        "empty stdin": Stack({"x": ""}, compose=("-",), stdin=""),
        "override adds": Stack(
            {"compose.yaml": _S, "compose.override.yaml": "services: {t: {image: t}}\nnetworks: {n: {}}\nvolumes: {v: {}}\n"}
        ),
        "override wrong type": Stack({"compose.yaml": _S, "compose.override.yaml": "services: {s: [a]}\n"}),
        "override of a folder's file": Stack({"compose.yaml": _S, "compose.override.yaml": ""}),
        "link": Stack({"real/compose.yaml": "services: {s: {image: i, build: ./b}}\n"}, links={"compose.yaml": "real/compose.yaml"}),
    }
    for profiles in ((), ("data",), ("debug",), ("admin",), ("tools",), ("*",), ("data", "debug"), ("none",), ("data,debug",)):
        out[f"profiles {profiles}"] = Stack({"compose.yaml": _MANY}, profiles=profiles)
        out[f"profiles, ok {profiles}"] = Stack({"compose.yaml": _OK}, profiles=profiles)
    for services in (("web",), ("api",), ("db",), ("adm",), ("tool",), ("free",), ("web", "free"), ("adm", "tool"), ("nope",), ("free", "free")):
        out[f"services {services}"] = Stack({"compose.yaml": _MANY}, services=services)
        out[f"services, ok {services}"] = Stack({"compose.yaml": _OK}, services=services)
        out[f"services, ok, profile {services}"] = Stack({"compose.yaml": _OK}, services=services, profiles=("debug",))
    return {f"call: {name}": stack for name, stack in out.items()}


_BASE = {
    "base.yaml": "services:\n  b: {image: b, extends: a, environment: {B: 1}}\n  a: {image: a, volumes: ['./x:/x'], labels: {l: a}}\n"
    "  n: {image: n, networks: [net]}\n  v: {image: v, volumes: ['vol:/v']}\n  d: {image: d, depends_on: [a]}\n"
    "  far: {extends: {file: deep/far.yaml, service: far}}\nnetworks: {net: {}}\nvolumes: {vol: {}}\n",
    "deep/far.yaml": "services:\n  far: {image: '${T:-far}', build: ./ctx, env_file: far.env, volumes: ['../up:/up']}\n",
    "deep/far.env": "F=far\n",
    "cycle.yaml": "services:\n  c: {extends: {file: compose.yaml, service: s}}\n",
}
EXTENDS = {
    "chain": "{extends: {file: base.yaml, service: b}, environment: {C: 2}}",
    "other file's network": "{extends: {file: base.yaml, service: n}}",
    "other file's volume": "{extends: {file: base.yaml, service: v}}",
    "dependency": "{extends: {file: base.yaml, service: d}}",
    "far": "{extends: {file: base.yaml, service: far}}",
    "far direct": "{extends: {file: ./deep/far.yaml, service: far}, build: {args: {A: 1}}}",
    "cycle through a file": "{extends: {file: cycle.yaml, service: c}}",
    "self": "{extends: s, image: i}",
    "self by file": "{extends: {file: compose.yaml, service: s}, image: i}",
    "sibling": "{extends: t, command: own}",
    "variable": "{extends: {file: '${WHICH:-base}.yaml', service: '${SVC:-a}'}}",
    "null": "{extends: , image: i}",
    "empty": "{extends: {}, image: i}",
    "reset": "{extends: t, environment: !reset {}, labels: !override {n: 1}}",
    "remote": "{extends: {file: 'https://example.com/x.yaml', service: a}, image: i}",
}


def _extends() -> dict[str, Stack]:
    rest = "  t: {image: t, profiles: [p], environment: {E: t}, labels: {a: b}, depends_on: [u], links: [u]}\n  u: {image: u}\n"
    out = {}
    for name, body in EXTENDS.items():
        text = f"services:\n  s: {body}\n{rest}"
        out[f"extends: {name}"] = Stack({**_BASE, "compose.yaml": text})
        out[f"extends, with network: {name}"] = Stack({**_BASE, "compose.yaml": text + "networks: {net: {}}\nvolumes: {vol: {}}\n"})
        over = "services: {s: {environment: {O: 1}, extends: u}}\n"
        out[f"extends, override: {name}"] = Stack({**_BASE, "compose.yaml": text, "compose.override.yaml": over})
    return out


def stack_families() -> dict[str, dict[str, Stack]]:
    """family -> what it is -> the stack."""
    return {
        "sections": section_stacks(),
        "templates": _templates(),
        "casts": _casts(),
        "dotenv": _dotenv(),
        "calls": _calls(),
        "extends files": _extends(),
        "choices": choice_stacks(),
        "counts": count_stacks(),
    }
