"""The attribute table: every place of the compose format, once. Everything else reads it.

Part 1: the top level, networks, volumes, configs, secrets, models and include. Part 2 (`attributes_service`): services.
Part 3 (`attributes_parts`) and part 4 (`attributes_build`): what stands below services. The language of the table is in
`shapes`, and its words in `forms`. docs/compose.md is generated from it.
"""

from __future__ import annotations

from orchestrator.compose.kinds import long_forms, merging, values
from orchestrator.compose.kinds.shapes import PathRule
from orchestrator.compose.schema.attributes_service import JOB, SERVICE
from orchestrator.compose.schema.forms import (
    DURATION,
    FLAG,
    INT,
    LABELS,
    NATURAL,
    OPTIONS,
    STRING_OR_LIST,
    STRINGS,
    TEXT,
    Row,
    Support,
    by_name,
    choice,
    list_of,
    map_of,
    object_of,
)

RESOURCES = ("networks", "volumes", "configs", "secrets", "models")
"""The sections of what services use, and share."""

NO = Support.REFUSED
SKIP = Support.IGNORED
_PATH = TEXT.with_(path=PathRule.PLAIN)

_EXTERNAL = object_of(
    "external",
    (Row("name", TEXT, "the name (deprecated: write name: beside external: true)"),),
    accepts="boolean string mapping",
    cast=values.cast_bool,
    show=values.show_flag,
)
_OPEN_EXTERNAL = _EXTERNAL.with_(closed=False)

_IPAM_CONFIG = object_of(
    "an address range",
    (
        Row("subnet", TEXT, "the subnet"),
        Row("gateway", TEXT, "the bridge's address; of macvlan and ipvlan, the router's"),
        Row("ip_range", TEXT, "the part of it that addresses are given out of"),
        Row("aux_addresses", map_of(TEXT, extensions=False), "addresses that others have, by a name for people"),
    ),
)
NETWORK = object_of(
    "a network",
    (
        Row("name", TEXT, "its full name"),
        Row("driver", TEXT, "bridge, macvlan or ipvlan; others are refused"),
        Row(
            "driver_opts",
            OPTIONS,
            "options of the driver, as Docker has them",
            note="those that docs/networking.md does not list are refused",
        ),
        Row(
            "ipam",
            object_of(
                "ipam",
                (
                    Row("driver", TEXT, "default; others are refused"),
                    Row("config", list_of(_IPAM_CONFIG, "a list of address ranges", merge=merging.ipam), "address ranges"),
                    Row("options", map_of(TEXT, extensions=False), "options of the driver", SKIP),
                ),
            ),
            "addresses",
            default={},
        ),
        Row("external", _EXTERNAL, "shared with other projects: made by `pystack network create`, and never removed here"),
        Row("internal", FLAG, "no way out"),
        Row("attachable", FLAG, "Swarm only", SKIP),
        Row("labels", LABELS, "labels"),
        Row("enable_ipv4", FLAG.with_(show=values.show_either), "false: without IPv4"),
        Row("enable_ipv6", FLAG.with_(show=values.show_either), "true: with IPv6"),
    ),
    accepts="mapping null",
    expand=long_forms.external,
    show=values.show_thing,
)
VOLUME = object_of(
    "a volume",
    (
        Row("name", TEXT, "its full name"),
        Row("driver", TEXT, "local; others are refused"),
        Row("driver_opts", OPTIONS, "type, o and device, as mount(8) has them"),
        Row("external", _EXTERNAL, "made by someone else, and never removed"),
        Row("labels", LABELS, "labels"),
    ),
    accepts="mapping null",
    expand=long_forms.external,
    path=PathRule.VOLUME,
    show=values.show_thing,
)
SECRET = object_of(
    "a secret",
    (
        Row("name", TEXT, "its full name"),
        Row("environment", TEXT, "the environment variable that holds it"),
        Row("file", _PATH, "the file that holds it"),
        Row("external", _OPEN_EXTERNAL, "in the store of a Swarm: an error, for there is none here"),
        Row("labels", LABELS, "labels"),
        Row("driver", TEXT, "Swarm only", NO),
        Row("driver_opts", OPTIONS, "Swarm only", NO),
        Row("template_driver", TEXT, "Swarm only", NO),
    ),
    expand=long_forms.external,
)
CONFIG = object_of(
    "a config",
    (
        Row("name", TEXT, "its full name"),
        Row("content", TEXT, "its text"),
        Row("environment", TEXT, "the environment variable that holds it"),
        Row("file", _PATH, "the file that holds it"),
        Row("external", _OPEN_EXTERNAL, "in the store of a Swarm: an error, for there is none here"),
        Row("labels", LABELS, "labels"),
        Row("template_driver", TEXT, "Swarm only", NO),
    ),
    expand=long_forms.external,
)
MODEL = object_of(
    "a model",
    (
        Row("name", TEXT, "its full name"),
        Row("model", TEXT, "the OCI artefact"),
        Row("context_size", INT.with_(accepts=frozenset(("integer",)), cast=None), "the size of its context"),
        Row("runtime_flags", STRINGS, "flags of the inference engine"),
    ),
    required=("model",),
)
INCLUDE = list_of(
    object_of(
        "an include",
        (
            Row("path", STRING_OR_LIST.with_(merge=None, same=None), "the files, later ones over earlier ones"),
            Row("env_file", STRING_OR_LIST.with_(merge=None, same=None), "variables for them, instead of .env"),
            Row("project_directory", TEXT, "the folder of their relative paths"),
        ),
        accepts="string mapping",
        extensions=False,
        expand=long_forms.named("path"),
    ),
    "a list of files",
)

_ON_UNHEALTHY = choice("restart", "ignore", "stop")
_UNHEALTHY = Row("on_unhealthy", _ON_UNHEALTHY, "what to do about an unhealthy service: restart (default), ignore or stop")
_PORT = TEXT.with_(what="a port", accepts=frozenset(("string", "integer")))
_PORTS = list_of(_PORT, "all, any or a list of ports").with_(accepts=frozenset(("string", "list")), choices=("all", "any"))
READY = object_of(
    "ready",
    (
        Row("listening", _PORTS, "all of the declared ports (default), any of them, or these: `[80, 53/udp]`"),
        Row("timeout", DURATION, "from the start of a run; then it is unhealthy (default: without end)"),
    ),
    accepts="string mapping",
    required=("listening",),
).with_(choices=("listening",))
PROBE = object_of(
    "a probe",
    (
        Row("http", TEXT, "`/PATH`, `:PORT/PATH` or `http(s)://ADDRESS:PORT/PATH`: answered with a status from 200 to 399"),
        Row("tcp", _PORT, "the port that takes a connection"),
        Row("log", TEXT, "a regular expression: once in each run a line is written in which it is found"),
        Row("file", TEXT, "a path in the container, absolute: there is such a file"),
        Row("interval", DURATION, "from the end of one probe to the next (10s)"),
        Row("timeout", DURATION, "a probe that takes longer has failed (5s); of `log`, as of `ready`"),
        Row("retries", NATURAL, "failures in a row until unhealthy (3)"),
        Row("start_period", DURATION, "failures do not count until then (30s)"),
        Row("start_interval", DURATION, "the interval during start_period (100ms)"),
    ),
)
_REAL = TEXT.with_(what="a number", accepts=frozenset(("number", "string")))
RESTART = object_of(
    "restart",
    (
        Row("first", DURATION, "the delay before the first restart (100ms)"),
        Row("factor", _REAL, "how many times longer each further delay is (2)"),
        Row("cap", DURATION, "the longest delay (1m)"),
        Row("jitter", _REAL, "by which part of it a delay is longer or shorter, 0 to 1 (0)"),
        Row("reset_after", TEXT, "the delays begin anew after a run of so long (10s), or `healthy`: one that was healthy"),
        Row(
            "budget",
            object_of(
                "a budget",
                (
                    Row("restarts", NATURAL, "at most so many restarts"),
                    Row("within", DURATION, "in any such time; then it is given up"),
                ),
                required=("restarts", "within"),
            ),
            "how many restarts are too many",
        ),
    ),
)
_RESTART = Row("restart", RESTART, "the back-off of the restart policy (docs/health-restarts.md)")
_CASCADE = Row(
    "cascade",
    choice("restart", "freeze", "ignore"),
    "what becomes of the service when a dependency has crashed and is restarted: restart, freeze or ignore",
)
DEPENDENCY_X_PYSTACK = object_of("x-pystack", (_CASCADE,))
"""Of an entry of ``depends_on``."""
X_PYSTACK = object_of(
    "x-pystack",
    (
        _UNHEALTHY,
        _CASCADE,
        _RESTART,
        Row("ready", READY, "`listening`: healthy as soon as it listens on its declared ports (docs/health-restarts.md)"),
        Row("probe", PROBE, "a health check that needs nothing in the image (docs/health-restarts.md)"),
    ),
)
"""Of a service."""
CHAOS_STEP = object_of(
    "a fault",
    (
        Row("do", TEXT, "what would be written after `pystack chaos`"),
        Row("at", DURATION, "when, from the beginning"),
        Row("every", DURATION, "from the beginning, and again and again"),
        Row("for", DURATION, "when it ends by itself (60s)"),
    ),
    required=("do",),
)
_HOST_COMMANDS = STRING_OR_LIST.with_(merge=None, same=None)
HOST_HOOKS = object_of(
    "hooks",
    (
        Row("before_up", _HOST_COMMANDS, "before `up` does anything"),
        Row("after_up", _HOST_COMMANDS, "when all is up"),
        Row("before_down", _HOST_COMMANDS, "before `down` does anything"),
    ),
)
OBSERVED = object_of("net", (Row("observe", FLAG, "`up` does what `pystack net --observe on` does"),))
_CLAIMS = STRING_OR_LIST.with_(merge=None, same=None)
EXPECT = object_of(
    "expectations",
    (
        Row("ready_within", DURATION, "by when all is ready"),
        Row("never", _CLAIMS, "[SERVICE] failed, blocked, unhealthy, exited or restarted"),
        Row("eventually", _CLAIMS, "[SERVICE] running, healthy, completed or stopped, in the end"),
        Row("restarts_at_most", NATURAL, "how often all containers together are restarted"),
    ),
)
TOP_X_PYSTACK = object_of(
    "x-pystack",
    (
        _UNHEALTHY,
        _CASCADE,
        _RESTART,
        Row("chaos", list_of(CHAOS_STEP, "a list of faults"), "a script for `pystack chaos run` (docs/chaos.md)"),
        Row("expect", EXPECT, "what `pystack simulate` judges the stack by (docs/simulate.md)"),
        Row("hooks", HOST_HOOKS, "commands for this machine, before and after `up` and `down` (docs/hooks.md)"),
        Row("net", OBSERVED, "who talks to whom (docs/networking.md)"),
    ),
)

TOP = object_of(
    "a compose file",
    (
        Row("version", TEXT, "obsolete, without effect", SKIP),
        Row("name", TEXT, "the project's name"),
        Row("include", INCLUDE, "other compose files to load"),
        Row("services", by_name(SERVICE, "services", extensions=False), "the services", default={}),
        Row("models", by_name(MODEL, "models", extensions=False), "language models", NO),
        Row("networks", by_name(NETWORK, "networks", extensions=False), "networks"),
        Row("volumes", by_name(VOLUME, "volumes", extensions=False), "named volumes"),
        Row("secrets", by_name(SECRET, "secrets", extensions=False), "secrets"),
        Row("configs", by_name(CONFIG, "configs", extensions=False), "configs"),
        Row("jobs", by_name(JOB, "jobs", extensions=False), "containers that run to their end, by hand or by a schedule"),
    ),
)
