# ruff: noqa: E501 (tables)
"""Stacks with profiles, each asked for different services; and how many containers, names and signals."""

from __future__ import annotations

from itertools import product

from tests.differential.oracle import Stack

OPTIONAL = "{condition: service_started, required: false}"
PROFILED = f"""\
services:
  web: {{image: host, networks: [front], volumes: ["web:/d"]}}
  db: {{image: host, profiles: [back], volumes: ["db:/d"]}}
  app: {{image: host, profiles: [front], depends_on: [db]}}
  tool: {{image: host, profiles: [back], depends_on: [db, web]}}
  both: {{image: host, profiles: [front, back], depends_on: {{db: {OPTIONAL}, cache: {OPTIONAL}}}}}
  cache: {{image: host, profiles: [extra], depends_on: [web]}}
  chain: {{image: host, profiles: [extra, front], depends_on: {{both: {{condition: service_started}}}}}}
networks: {{front: , unused: }}
volumes: {{web: , db: , unused: }}
"""
WITHOUT_APP = PROFILED.replace("profiles: [front], depends_on: [db]", "profiles: [front]")
NEEDY = PROFILED.replace("web: {image: host,", "web: {image: host, depends_on: [db],")
"""An active service needs an inactive one: wrong whatever is asked for."""

NAMED = ((), ("web",), ("db",), ("app",), ("tool",), ("both",), ("cache",), ("chain",), ("app", "db"), ("both", "tool"), ("web", "chain"), ("nope",))
ACTIVE = ((), ("back",), ("front",), ("*",))

BROKEN = {
    "dependency": "depends_on: [nope]",
    "network": "networks: [zz]",
    "volume": "volumes: ['zz:/d']",
    "env_file": "env_file: gone.env",
    "optional env_file": "env_file: [{path: gone.env, required: false}]",
    "itself": "depends_on: [bad]",
    "unset": 'labels: {a: "${NOT_SET:?}"}',
    "cast": "cpus: zz",
    "type": "scale: [1]",
    "many": "scale: -1",
    "two numbers": "scale: 2, deploy: {replicas: 3}",
    "signal": "stop_signal: FOO",
    "one name": "scale: 2, container_name: one",
}

COUNTS = ("scale: 2", "deploy: {replicas: 2}", "scale: 0", "scale: 1, deploy: {}", "deploy: {mode: global}", "deploy: {replicas: 2, mode: global}")
BESIDE = ("container_name: one", "ports: ['80:80']", "ports: ['80-81:80']", "ports: ['80']", "deploy: {replicas: 3}", "hostname: h")
NUMBERS = ("99999999999999999999", "9223372036854775807", "10001", "'10001'", "2.0", "2.5", "''", "null", "0x3", "1_0", "-0", "true")
SIGNALS = ("SIGRTMIN+3", "RTMAX-2", "term", "FOO", "'99'", "''", "SIGTERM ", "null")


def choice_stacks() -> dict[str, Stack]:
    """Every stack of this module, by what it is."""
    out = {}
    for (title, text), named, profiles in product({"app": PROFILED, "": WITHOUT_APP}.items(), NAMED, ACTIVE):
        out[f"{title} {named} {profiles}"] = Stack({"compose.yaml": text}, services=named, profiles=profiles)
    for named in ((), ("web",), ("db",), ("cache", "db")):
        out[f"needy {named}"] = Stack({"compose.yaml": NEEDY}, services=named)
    for given in ("front", " front , back ", "", ",", "*", "none"):
        variables = {"COMPOSE_PROFILES": given}
        out[f"environment {given!r}"] = Stack({"compose.yaml": WITHOUT_APP}, environment=variables, services=("chain",))
    for (title, body), named in product(BROKEN.items(), ((), ("web",), ("bad",))):
        text = f"services: {{web: {{image: host}}, bad: {{image: host, profiles: [p], {body}}}}}\n"
        out[f"broken {title} {named}"] = Stack({"compose.yaml": text}, services=named)
    return out


def count_stacks() -> dict[str, Stack]:
    """How many containers, what they are called, and which signal stops them."""
    bodies = [f"{count}, {beside}" for count, beside in product(COUNTS, BESIDE) if count.split(":")[0] != beside.split(":")[0]]
    bodies += [f"scale: {number}" for number in NUMBERS]
    bodies += [f"deploy: {{replicas: {number}}}" for number in NUMBERS]
    bodies += [f"stop_signal: {signal}" for signal in SIGNALS]
    return {body: Stack({"compose.yaml": f"services: {{a: {{image: i, {body}}}}}\n"}) for body in bodies}
