"""The attribute table, part 4: build, dependencies, health, hooks, develop and deploy."""

from __future__ import annotations

from orchestrator.compose.kinds import defaults, long_forms, merging, once, values
from orchestrator.compose.kinds.parts_shown import (
    show_ssh,
    show_watch,
)
from orchestrator.compose.kinds.shapes import PathRule
from orchestrator.compose.schema.attributes_parts import BUILD_SECRETS, BUILD_ULIMITS, DEVICE_REQUEST
from orchestrator.compose.schema.forms import (
    ANY_TEXT,
    BOOL,
    BYTES,
    COMMAND,
    COUNT,
    CPUS,
    DURATION,
    ENVIRONMENT,
    FLAG,
    HOSTS,
    INT,
    ITEM,
    LABELS,
    NATURAL,
    REAL,
    STRING_OR_LIST,
    STRINGS,
    TEXT,
    WHOLE,
    Row,
    Support,
    by_name,
    choice,
    list_of,
    object_of,
    pairs,
)

NO = Support.REFUSED
SKIP = Support.IGNORED

PATH = TEXT.with_(path=PathRule.PLAIN)
SET_DURATION = DURATION.with_(show=values.show_set_duration)

# Build

BUILD = object_of(
    "build",
    (
        Row("context", TEXT.with_(path=PathRule.CONTEXT), "the folder or URL with the sources"),
        Row("dockerfile", TEXT, "the Dockerfile's name"),
        Row("dockerfile_inline", TEXT, "the Dockerfile's text"),
        Row("entitlements", STRINGS, "extra rights of the build"),
        Row("args", ENVIRONMENT.with_(what="build arguments"), "build arguments"),
        Row("provenance", ANY_TEXT.with_(accepts=frozenset(("string", "boolean"))), "a provenance attestation"),
        Row("sbom", ANY_TEXT.with_(accepts=frozenset(("string", "boolean"))), "a list of materials"),
        Row(
            "ssh",
            pairs("SSH keys").with_(merge=None, same=None, expand=long_forms.ssh, show=show_ssh),
            "SSH agents and keys for the build",
        ),
        Row("labels", LABELS, "labels of the image"),
        Row("cache_from", STRINGS, "where to read the build cache"),
        Row("cache_to", STRINGS, "where to write the build cache"),
        Row("no_cache", FLAG, "do not use the cache"),
        Row("no_cache_filter", STRING_OR_LIST.with_(merge=None, same=None), "stages not to take from the cache"),
        Row(
            "additional_contexts",
            pairs("named contexts").with_(
                expand=long_forms.contexts,
                values=TEXT.with_(path=PathRule.NAMED_CONTEXT),
                accepts=frozenset(("mapping", "list")),
            ),
            "further named contexts",
        ),
        Row("pull", FLAG, "always pull base images"),
        Row("extra_hosts", HOSTS, "further host names"),
        Row("isolation", TEXT, "Windows only"),
        Row("network", TEXT, "the network of RUN"),
        Row("target", TEXT, "the stage to build"),
        Row("secrets", BUILD_SECRETS, "secrets of the build"),
        Row("shm_size", BYTES, "the size of /dev/shm"),
        Row("tags", STRINGS.with_(same=once.by_key), "further tags"),
        Row("ulimits", BUILD_ULIMITS, "limits of the build"),
        Row("platforms", STRINGS, "platforms to build for"),
        Row("privileged", FLAG, "extended rights"),
    ),
    accepts="string mapping",
    merge=merging.build,
    expand=long_forms.named("context"),
    default=defaults.build_context,
    show=values.show_object,
)

# Dependencies, health, hooks

DEPENDENCY = object_of(
    "a dependency",
    (
        Row(
            "condition",
            choice("service_started", "service_healthy", "service_completed_successfully"),
            "what to wait for",
        ),
        Row("restart", FLAG, "restart this service when the dependency is restarted"),
        Row(
            "required",
            BOOL.with_(cast=values.cast_bool, show=values.show_either),
            "false: only warn when it is absent or fails",
        ),
    ),
    required=("condition",),
)
DEPENDS_ON = by_name(DEPENDENCY, "dependencies").with_(
    accepts=frozenset(("mapping", "list")),
    items=ITEM,
    unique_items=True,
    merge=merging.dependencies,
    expand=long_forms.depends_on,
    extensions=False,
)

HEALTHCHECK = object_of(
    "healthcheck",
    (
        Row(
            "test",
            STRINGS.with_(
                what="a test",
                accepts=frozenset(("string", "list")),
                merge=merging.replace,
                show=values.show_health_test,
            ),
            "what to run: text, [CMD, ...], [CMD-SHELL, text] or [NONE]",
        ),
        Row("timeout", DURATION, "a probe that takes longer has failed"),
        Row("interval", DURATION, "from the end of one probe to the next"),
        Row("retries", NATURAL.with_(accepts=frozenset(("number", "string"))), "failures in a row until unhealthy"),
        Row("start_period", DURATION, "failures do not count until then"),
        Row("start_interval", DURATION, "the interval during start_period"),
        Row("disable", FLAG, "no check, whatever the image says"),
    ),
)

_HOOK_FIELDS = (
    Row("command", COMMAND, "what to run"),
    Row("user", TEXT, "as whom"),
    Row("privileged", FLAG, "with extended rights"),
    Row("working_dir", TEXT, "where"),
    Row("environment", ENVIRONMENT, "further environment variables"),
)
_EXEC_PRIVILEGED = Row("privileged", FLAG.with_(cast=None), "with extended rights")
HOOK = object_of("a hook", _HOOK_FIELDS, required=("command",))
EXEC = object_of(
    "a hook",
    (
        Row("command", COMMAND, "what to run", default=None),
        *(row if row.name != "privileged" else _EXEC_PRIVILEGED for row in _HOOK_FIELDS[1:]),
    ),
    required=("command",),
)
DEVELOP = object_of(
    "develop",
    (
        Row(
            "watch",
            list_of(
                object_of(
                    "a watch rule",
                    (
                        Row("path", PATH, "the file or folder to watch"),
                        Row(
                            "action",
                            choice("rebuild", "sync", "restart", "sync+restart", "sync+exec"),
                            "what to do when it changes",
                        ),
                        Row("target", TEXT, "where to copy it in the container"),
                        Row("exec", EXEC, "what to run after a sync", default={"command": None}),
                        Row(
                            "include",
                            STRING_OR_LIST.with_(merge=None, same=None, expand=long_forms.string_list),
                            "patterns to watch",
                        ),
                        Row(
                            "ignore",
                            STRING_OR_LIST.with_(merge=None, same=None, expand=long_forms.string_list),
                            "patterns not to watch",
                        ),
                        Row("initial_sync", BOOL, "copy everything at the start"),
                        Row("x-initialSync", BOOL, "an older name of initial_sync"),
                    ),
                    required=("path", "action"),
                    show=show_watch,
                ),
                "a list of watch rules",
            ),
            "rules",
        ),
    ),
    accepts="mapping null",
    show=values.show_object,
)

# Deploy

_UPDATE = (
    Row("parallelism", NATURAL, "how many at a time"),
    Row("delay", SET_DURATION, "between two of them"),
    Row("failure_action", TEXT, "continue, rollback or pause"),
    Row("monitor", SET_DURATION, "how long to watch each for failure"),
    Row("max_failure_ratio", REAL, "failures to bear"),
    Row("order", choice("start-first", "stop-first"), "which first, the new or the old"),
)
_GENERIC = list_of(
    object_of(
        "a generic resource",
        (
            Row(
                "discrete_resource_spec",
                object_of(
                    "a discrete resource",
                    (
                        Row("kind", TEXT, "its kind"),
                        Row("value", WHOLE.with_(cast=None, show=values.show_count), "how many", default=0),
                    ),
                ),
                "kind and number",
            ),
        ),
    ),
    "a list of generic resources",
)
DEPLOY = object_of(
    "deploy",
    (
        Row("mode", TEXT, "replicated or global", NO, harmless=("replicated",)),
        Row("replicas", COUNT, "how many containers, 10,000 at most"),
        Row("labels", LABELS, "labels of the service", SKIP),
        Row("update_config", object_of("update_config", _UPDATE), "how changed containers are replaced"),
        Row("rollback_config", object_of("rollback_config", _UPDATE), "the same, for going back after a failure"),
        Row(
            "resources",
            object_of(
                "resources",
                (
                    Row(
                        "limits",
                        object_of(
                            "limits",
                            (
                                Row("cpus", CPUS, "at most so many CPUs"),
                                Row("memory", BYTES.with_(accepts=frozenset(("string",))), "at most so much memory"),
                                Row("pids", INT, "at most so many processes"),
                            ),
                        ),
                        "limits",
                    ),
                    Row(
                        "reservations",
                        object_of(
                            "reservations",
                            (
                                Row("cpus", CPUS, "at least so many CPUs", SKIP),
                                Row("memory", BYTES.with_(accepts=frozenset(("string",))), "at least so much memory"),
                                Row("devices", list_of(DEVICE_REQUEST), "devices, as CDI has them"),
                                Row("generic_resources", _GENERIC, "Swarm only", SKIP),
                            ),
                        ),
                        "reservations",
                    ),
                ),
            ),
            "limits and reservations",
            default={},
        ),
        Row(
            "restart_policy",
            object_of(
                "restart_policy",
                (
                    Row("condition", TEXT, "none, on-failure, any or unless-stopped"),
                    Row("delay", DURATION, "between two attempts, each time (default: a back-off from 100ms to 1m)"),
                    Row("max_attempts", NATURAL, "give up after so many"),
                    Row("window", DURATION, "a restart after which it runs for so long does not count"),
                ),
            ),
            "when to restart; it wins over `restart`",
        ),
        Row(
            "placement",
            object_of(
                "placement",
                (
                    Row("constraints", STRINGS, "Swarm only"),
                    Row(
                        "preferences",
                        list_of(object_of("a preference", (Row("spread", TEXT, "Swarm only"),))),
                        "Swarm only",
                    ),
                    Row("max_replicas_per_node", INT, "Swarm only"),
                ),
            ),
            "Swarm only",
            SKIP,
            default={},
        ),
        Row("endpoint_mode", TEXT, "Swarm only", SKIP),
    ),
    accepts="mapping null",
    show=values.show_object,
)
