"""The attribute table, part 3: the mappings below services (build, deploy, healthcheck, ports, volumes, hooks...)."""

from __future__ import annotations

import re

from orchestrator.compose import defaults, expand, merge, short_forms, values
from orchestrator.compose.forms import (
    ANY_TEXT,
    BOOL,
    BYTES,
    COMMAND,
    CPUS,
    DURATION,
    ENVIRONMENT,
    FLAG,
    HOSTS,
    INT,
    ITEM,
    LABELS,
    MODE,
    NATURAL,
    OPTIONS,
    OPTIONS_OR_NULL,
    ORDER,
    REAL,
    STRING_OR_LIST,
    STRINGS,
    TEXT,
    UNIQUE_STRINGS,
    WEIGHT,
    WHOLE,
    Row,
    Support,
    by_name,
    choice,
    list_of,
    map_of,
    object_of,
    pairs,
)
from orchestrator.compose.parts_show import (
    show_attachment,
    show_capitalised,
    show_device_count,
    show_mode,
    show_model,
    show_provider_options,
    show_ssh,
    show_ulimit,
    show_watch,
)
from orchestrator.compose.paths import PathRule
from orchestrator.compose.shapes import Shape

NO = Support.REFUSED
SKIP = Support.IGNORED
PATH = TEXT.with_(path=PathRule.PLAIN)
SET_DURATION = DURATION.with_(show=values.show_set_duration)

# Files granted to a service

_MOUNT_FIELDS = (
    Row("source", TEXT, "the key under configs: or secrets:"),
    Row("target", TEXT, "where it is mounted"),
    Row("uid", TEXT, "the owner"),
    Row("gid", TEXT, "the group"),
    Row("mode", MODE.with_(show=show_mode), "the permission bits"),
)
CONFIG_MOUNT = object_of("a config", _MOUNT_FIELDS, accepts="string mapping", expand=expand.named("source"))
SECRET_MOUNT = CONFIG_MOUNT.with_(what="a secret", default=defaults.secret_mount)
CONFIGS = list_of(CONFIG_MOUNT, "a list of configs", same=merge.by_config_target)
SECRETS = list_of(SECRET_MOUNT, "a list of secrets", same=merge.by_secret_target)
HOOK_SECRETS = list_of(CONFIG_MOUNT.with_(what="a secret"), "a list of secrets", same=merge.by_secret_target)
BUILD_SECRETS = list_of(CONFIG_MOUNT.with_(what="a secret"), "a list of secrets")

# Limits and devices

ULIMIT = object_of(
    "a limit",
    (Row("soft", INT, "the soft limit"), Row("hard", INT, "the hard limit")),
    accepts="integer string mapping",
    required=("soft", "hard"),
    cast=values.cast_int,
    merge=merge.replace,
    show=show_ulimit,
)
ULIMITS = map_of(ULIMIT, "limits", key_pattern=re.compile("^[a-z]+$"), closed=False)
BUILD_ULIMITS = ULIMITS.with_(values=ULIMIT.with_(merge=None))

_LIMIT = object_of(
    "a limit",
    (Row("path", TEXT, "the device", default=""), Row("rate", BYTES, "bytes or operations a second", default="0")),
    extensions=False,
    show=show_capitalised,
)
_WEIGHT = object_of(
    "a weight",
    (Row("path", TEXT, "the device", default=""), Row("weight", WEIGHT, "10 to 1000", default=0)),
    extensions=False,
    show=show_capitalised,
)
BLKIO = object_of(
    "blkio_config",
    (
        Row("weight", WEIGHT, "relative weight, 10 to 1000"),
        Row("weight_device", list_of(_WEIGHT), "relative weight, by device"),
        Row("device_read_bps", list_of(_LIMIT), "bytes read a second, by device"),
        Row("device_read_iops", list_of(_LIMIT), "reads a second, by device"),
        Row("device_write_bps", list_of(_LIMIT), "bytes written a second, by device"),
        Row("device_write_iops", list_of(_LIMIT), "writes a second, by device"),
    ),
    extensions=False,
)

DEVICE = object_of(
    "a device",
    (
        Row("source", TEXT, "the device on the host"),
        Row("target", TEXT, "the device in the container"),
        Row("permissions", TEXT, "r, w and m"),
    ),
    accepts="string mapping",
    required=("source", "target"),
    expand=expand.device,
    show=values.show_object,
)
DEVICES = list_of(DEVICE, "a list of devices", same=merge.by_device_target)

_REQUEST_FIELDS = (
    Row("capabilities", UNIQUE_STRINGS, "what the device must be able to do"),
    Row("driver", TEXT, "the driver"),
    Row("count", ANY_TEXT.with_(accepts=frozenset(("string", "integer")), show=show_device_count), "how many, or all"),
    Row("options", LABELS, "options of the driver"),
    Row("device_ids", UNIQUE_STRINGS, "which"),
)
DEVICE_REQUEST = object_of("a device request", _REQUEST_FIELDS, required=("capabilities",), default=defaults.device_request)
GPUS = list_of(
    object_of("a GPU request", _REQUEST_FIELDS, closed=False, default=defaults.device_request), "a list of GPU requests"
).with_(accepts=frozenset(("string", "list")), choices=("all",), expand=expand.gpus)

CREDENTIAL_SPEC = object_of(
    "credential_spec",
    (
        Row("config", TEXT, "a config that holds it"),
        Row("file", TEXT, "a file that holds it"),
        Row("registry", TEXT, "a value of the Windows registry"),
    ),
)

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
            pairs("SSH keys").with_(merge=None, same=None, expand=expand.ssh, show=show_ssh),
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
                expand=expand.contexts,
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
        Row("tags", STRINGS.with_(same=merge.by_key), "further tags"),
        Row("ulimits", BUILD_ULIMITS, "limits of the build"),
        Row("platforms", STRINGS, "platforms to build for"),
        Row("privileged", FLAG, "extended rights"),
    ),
    accepts="string mapping",
    merge=merge.build,
    expand=expand.named("context"),
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
    merge=merge.dependencies,
    expand=expand.depends_on,
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
                merge=merge.replace,
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
                            STRING_OR_LIST.with_(merge=None, same=None, expand=expand.string_list),
                            "patterns to watch",
                        ),
                        Row(
                            "ignore",
                            STRING_OR_LIST.with_(merge=None, same=None, expand=expand.string_list),
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
        Row("replicas", NATURAL, "how many containers", NO, harmless=(1,)),
        Row("labels", LABELS, "labels of the service", SKIP),
        Row("update_config", object_of("update_config", _UPDATE), "how to update", SKIP),
        Row("rollback_config", object_of("rollback_config", _UPDATE), "how to roll back", SKIP),
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
                                Row("memory", BYTES.with_(accepts=frozenset(("string",))), "at least so much memory", SKIP),
                                Row("devices", list_of(DEVICE_REQUEST), "devices", NO),
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
                    Row("condition", TEXT, "none, on-failure or any"),
                    Row("delay", DURATION, "between two attempts", SKIP),
                    Row("max_attempts", NATURAL, "give up after so many"),
                    Row("window", DURATION, "how long a run must last to count as a success", SKIP),
                ),
            ),
            "when to restart",
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

# Files, networks, ports, volumes

ENV_FILE = list_of(
    object_of(
        "an env_file",
        (
            Row("path", PATH, "the file"),
            Row("required", FLAG.with_(show=values.show_opt_out), "false: it may be absent"),
            Row("format", TEXT, "raw: no quotes, no variables"),
        ),
        accepts="string mapping",
        required=("path",),
        extensions=False,
        show=values.show_object,
    ),
    "a list of files",
    merge=merge.append,
    same=merge.by_path,
    expand=expand.env_file,
).with_(accepts=frozenset(("string", "list")))
LABEL_FILE = list_of(
    ITEM.with_(path=PathRule.PLAIN), "a list of files", merge=merge.append_distinct, expand=expand.string_list
).with_(accepts=frozenset(("string", "list")))
EXTENDS = object_of(
    "extends",
    (Row("service", TEXT, "the service to start from"), Row("file", PATH, "the file it stands in")),
    accepts="string mapping",
    required=("service",),
    extensions=False,
    expand=expand.named("service"),
    show=values.show_object,
)
LOGGING = object_of(
    "logging",
    (Row("driver", TEXT, "the driver"), Row("options", OPTIONS_OR_NULL, "its options")),
    merge=merge.logging,
)
MODELS = by_name(
    object_of(
        "a model's use",
        (Row("endpoint_var", TEXT, "variable for its URL"), Row("model_var", TEXT, "variable for its name")),
        accepts="mapping null",
        show=show_model,
    ),
    "models",
    closed=False,
).with_(
    accepts=frozenset(("mapping", "list")),
    items=ITEM,
    unique_items=True,
    merge=merge.named,
    expand=expand.names,
    extensions=False,
)
NETWORKS = by_name(
    object_of(
        "an attachment to a network",
        (
            Row("aliases", UNIQUE_STRINGS.with_(same=merge.by_key), "further names of the service"),
            Row("driver_opts", OPTIONS, "driver options", SKIP),
            Row("gw_priority", ORDER, "which network holds the default route", SKIP),
            Row("interface_name", TEXT, "the interface's name in the container", SKIP),
            Row("ipv4_address", TEXT, "a fixed address"),
            Row("ipv6_address", TEXT, "a fixed IPv6 address", NO),
            Row("link_local_ips", UNIQUE_STRINGS.with_(same=merge.by_key), "link-local addresses", SKIP),
            Row("mac_address", TEXT, "a fixed MAC address", SKIP),
            Row("priority", ORDER, "the order in which networks are attached", SKIP),
        ),
        accepts="mapping null",
        show=show_attachment,
    ),
    "networks",
).with_(
    accepts=frozenset(("mapping", "list")),
    items=ITEM,
    unique_items=True,
    merge=merge.named,
    expand=expand.names,
    extensions=False,
)

PORT = object_of(
    "a port",
    (
        Row("name", TEXT, "a name for people"),
        Row("mode", TEXT, "ingress or host: the same here"),
        Row("host_ip", TEXT, "the host's address"),
        Row("target", INT, "the container's port"),
        Row(
            "published",
            TEXT.with_(accepts=frozenset(("string", "integer"))),
            "the host's port, or a range of which one is taken",
        ),
        Row("protocol", TEXT, "tcp or udp"),
        Row("app_protocol", TEXT, "the protocol above it, for people"),
    ),
    accepts="number string mapping",
    required=("target",),
    default=defaults.port_defaults,
    show=values.show_object,
)
PORTS = list_of(PORT, "a list of ports", unique=True, same=merge.by_port, spread=short_forms.ports)

VOLUME_MOUNT = object_of(
    "a mount",
    (
        Row("type", choice("bind", "volume", "tmpfs", "cluster", "npipe", "image"), "what is mounted"),
        Row("source", TEXT, "the host's path, or the volume"),
        Row("target", TEXT, "where it is mounted"),
        Row("read_only", FLAG, "it cannot be written"),
        Row("consistency", TEXT, "without effect on Linux", SKIP),
        Row(
            "bind",
            object_of(
                "bind",
                (
                    Row("selinux", choice("z", "Z"), "SELinux label", SKIP),
                    Row("propagation", TEXT, "mount propagation", NO),
                    Row("create_host_path", FLAG.with_(show=values.show_opt_out), "make a missing host path"),
                    Row("recursive", choice("enabled", "disabled", "writable", "readonly"), "recursive mounts", NO),
                ),
            ),
            "options of a bind mount",
        ),
        Row(
            "volume",
            object_of(
                "volume",
                (
                    Row("labels", LABELS, "labels of an anonymous volume", SKIP),
                    Row("nocopy", FLAG, "do not fill it from the image"),
                    Row("subpath", TEXT, "a folder in the volume", NO),
                ),
            ),
            "options of a volume",
        ),
        Row(
            "tmpfs",
            object_of(
                "tmpfs",
                (
                    Row("size", BYTES.with_(accepts=frozenset(("integer", "string")), minimum=0), "its size"),
                    Row("mode", MODE.with_(show=values.show_octal), "its permission bits"),
                ),
            ),
            "options of a tmpfs",
        ),
        Row("image", object_of("image", (Row("subpath", TEXT, "a folder in the image"),)), "options of an image mount", NO),
    ),
    accepts="string mapping",
    required=("type",),
    expand=short_forms.volume,
    path=PathRule.MOUNT,
    show=values.show_object,
)
VOLUMES = list_of(VOLUME_MOUNT, "a list of mounts", unique=True, same=merge.by_mount_target)

PROVIDER = object_of(
    "provider",
    (
        Row("type", TEXT, "the program"),
        Row(
            "options",
            map_of(
                Shape(
                    "an option",
                    frozenset(("string", "number", "boolean", "list")),
                    items=ANY_TEXT.with_(accepts=frozenset(("string", "number", "boolean"))),
                ),
                "options",
                show=show_provider_options,
            ),
            "its options",
        ),
    ),
    required=("type",),
)

SCHEDULE = object_of(
    "a schedule",
    (
        Row("cron", TEXT, "when, as cron writes it"),
        Row("timezone", TEXT, "in which time zone"),
        Row("concurrency", choice("forbid", "queue"), "when the last run still runs"),
        Row("missed_fires", choice("one", "skip"), "what to do about runs that were missed"),
    ),
    accepts="string mapping",
    required=("cron",),
    expand=expand.named("cron"),
    show=values.show_object,
)
TRIGGERS = object_of(
    "triggers",
    (
        Row("manual", FLAG, "it may be started by hand"),
        Row("schedule", list_of(SCHEDULE), "when it starts by itself"),
    ),
    any_of=("manual", "schedule"),
)
