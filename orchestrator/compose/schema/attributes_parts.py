"""The attribute table, part 3: files, limits, devices, networks, ports and mounts of services."""

from __future__ import annotations

import re

from orchestrator.compose.kinds import defaults, long_forms, merging, once, short_forms, values
from orchestrator.compose.kinds.parts_shown import (
    show_attachment,
    show_capitalised,
    show_device_count,
    show_mode,
    show_model,
    show_provider_options,
    show_ulimit,
)
from orchestrator.compose.kinds.shapes import PathRule, Shape
from orchestrator.compose.schema.forms import (
    ANY_TEXT,
    BYTES,
    DURATION,
    FLAG,
    INT,
    ITEM,
    LABELS,
    MODE,
    OPTIONS,
    OPTIONS_OR_NULL,
    ORDER,
    TEXT,
    UNIQUE_STRINGS,
    WEIGHT,
    Row,
    Support,
    by_name,
    choice,
    list_of,
    map_of,
    object_of,
)

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
CONFIG_MOUNT = object_of("a config", _MOUNT_FIELDS, accepts="string mapping", expand=long_forms.named("source"))
SECRET_MOUNT = CONFIG_MOUNT.with_(what="a secret", default=defaults.secret_mount)
CONFIGS = list_of(CONFIG_MOUNT, "a list of configs", same=once.by_config_target)
SECRETS = list_of(SECRET_MOUNT, "a list of secrets", same=once.by_secret_target)
HOOK_SECRETS = list_of(CONFIG_MOUNT.with_(what="a secret"), "a list of secrets", same=once.by_secret_target)
BUILD_SECRETS = list_of(CONFIG_MOUNT.with_(what="a secret"), "a list of secrets")

# Limits and devices

ULIMIT = object_of(
    "a limit",
    (Row("soft", INT, "the soft limit"), Row("hard", INT, "the hard limit")),
    accepts="integer string mapping",
    required=("soft", "hard"),
    cast=values.cast_int,
    merge=merging.replace,
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
    expand=long_forms.device,
    show=values.show_object,
)
DEVICES = list_of(DEVICE, "a list of devices", same=once.by_device_target)

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
).with_(accepts=frozenset(("string", "list")), choices=("all",), expand=long_forms.gpus)

CREDENTIAL_SPEC = object_of(
    "credential_spec",
    (
        Row("config", TEXT, "a config that holds it"),
        Row("file", TEXT, "a file that holds it"),
        Row("registry", TEXT, "a value of the Windows registry"),
    ),
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
    merge=merging.append,
    same=once.by_path,
    expand=long_forms.env_file,
).with_(accepts=frozenset(("string", "list")))
LABEL_FILE = list_of(
    ITEM.with_(path=PathRule.PLAIN), "a list of files", merge=merging.append_distinct, expand=long_forms.string_list
).with_(accepts=frozenset(("string", "list")))
EXTENDS = object_of(
    "extends",
    (Row("service", TEXT, "the service to start from"), Row("file", PATH, "the file it stands in")),
    accepts="string mapping",
    required=("service",),
    extensions=False,
    expand=long_forms.named("service"),
    show=values.show_object,
)
LOGGING = object_of(
    "logging",
    (
        Row("driver", TEXT, "json-file (the default: all is kept), local (5 files of 20 MiB) or none"),
        Row("options", OPTIONS_OR_NULL, "max-size, max-file"),
    ),
    merge=merging.logging,
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
    merge=merging.named,
    expand=long_forms.names,
    extensions=False,
)
NETWORKS = by_name(
    object_of(
        "an attachment to a network",
        (
            Row("aliases", UNIQUE_STRINGS.with_(same=once.by_key), "further names of the service"),
            Row("driver_opts", OPTIONS, "driver options", NO),
            Row("gw_priority", ORDER, "the highest has the default route"),
            Row("interface_name", TEXT, "the interface's name in the container"),
            Row("ipv4_address", TEXT, "a fixed address"),
            Row("ipv6_address", TEXT, "a fixed IPv6 address"),
            Row("link_local_ips", UNIQUE_STRINGS.with_(same=once.by_key), "further, link-local addresses"),
            Row("mac_address", TEXT, "a fixed MAC address"),
            Row("priority", ORDER, "the network with the highest is the first one"),
        ),
        accepts="mapping null",
        show=show_attachment,
    ),
    "networks",
).with_(
    accepts=frozenset(("mapping", "list")),
    items=ITEM,
    unique_items=True,
    merge=merging.named,
    expand=long_forms.names,
    extensions=False,
)

PORT = object_of(
    "a port",
    (
        Row("name", TEXT, "a name for people"),
        Row("mode", TEXT, "ingress or host: the same here"),
        Row("host_ip", TEXT, "the host's address", note="an IPv6 address is refused"),
        Row("target", INT, "the container's port"),
        Row(
            "published",
            TEXT.with_(accepts=frozenset(("string", "integer"))),
            "the host's port, or a range of which one is taken",
        ),
        Row("protocol", TEXT, "tcp or udp", note="sctp is refused"),
        Row("app_protocol", TEXT, "the protocol above it, for people"),
    ),
    accepts="number string mapping",
    required=("target",),
    default=defaults.port_defaults,
    show=values.show_object,
)
PORTS = list_of(PORT, "a list of ports", unique=True, same=once.by_port, spread=short_forms.ports)

VOLUME_MOUNT = object_of(
    "a mount",
    (
        Row(
            "type",
            choice("bind", "volume", "tmpfs", "cluster", "npipe", "image"),
            "what is mounted",
            note="cluster and npipe are refused",
        ),
        Row("source", TEXT, "the host's path, or the volume"),
        Row("target", TEXT, "where it is mounted"),
        Row("read_only", FLAG, "it cannot be written"),
        Row("consistency", TEXT, "without effect on Linux"),
        Row(
            "bind",
            object_of(
                "bind",
                (
                    Row("selinux", choice("z", "Z"), "SELinux label", note="refused where there is SELinux"),
                    Row("propagation", TEXT, "private, rprivate, shared, rshared, slave or rslave"),
                    Row("create_host_path", FLAG.with_(show=values.show_opt_out), "make a missing host path"),
                    Row(
                        "recursive",
                        choice("enabled", "disabled", "writable", "readonly"),
                        "what comes along of the mounts below",
                    ),
                ),
            ),
            "options of a bind mount",
        ),
        Row(
            "volume",
            object_of(
                "volume",
                (
                    Row("labels", LABELS, "labels of an anonymous volume"),
                    Row("nocopy", FLAG, "do not fill it from the image"),
                    Row("subpath", TEXT, "a folder in the volume"),
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
        Row("image", object_of("image", (Row("subpath", TEXT, "a folder in the image"),)), "options of an image mount"),
    ),
    accepts="string mapping",
    required=("type",),
    expand=short_forms.volume,
    path=PathRule.MOUNT,
    show=values.show_object,
)
VOLUMES = list_of(VOLUME_MOUNT, "a list of mounts", unique=True, same=once.by_mount_target)

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
    expand=long_forms.named("cron"),
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
