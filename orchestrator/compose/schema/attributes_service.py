"""The attribute table, part 2: the attributes of services (and of jobs and pre_start containers)."""

from __future__ import annotations

import re

from orchestrator.compose.kinds import long_forms, merging, once
from orchestrator.compose.kinds.shapes import Shape
from orchestrator.compose.schema import attributes_build as building
from orchestrator.compose.schema import attributes_parts as parts
from orchestrator.compose.schema.forms import (
    ANY_TEXT,
    BOOL,
    BYTES,
    COMMAND,
    COUNT,
    CPUS,
    DURATION,
    EITHER,
    ENVIRONMENT,
    FLAG,
    HOSTS,
    INT,
    KEYED_STRINGS,
    LABELS,
    NULL_TEXT,
    STRING_OR_LIST,
    TEXT,
    UNIQUE_STRINGS,
    WHOLE,
    Row,
    Support,
    choice,
    list_of,
    map_of,
    object_of,
    pairs,
)
from orchestrator.model.names import CONTAINER_NAME

NO = Support.REFUSED
SKIP = Support.IGNORED
INT_TEXT = ANY_TEXT.with_(accepts=frozenset(("integer", "string")))

CONTAINER = (
    Row("annotations", LABELS.with_(what="annotations"), "annotations of the container"),
    Row("blkio_config", parts.BLKIO, "block device limits"),
    Row("cap_add", KEYED_STRINGS, "capabilities to add, or ALL"),
    Row("cap_drop", KEYED_STRINGS, "capabilities to drop, or ALL"),
    Row("cgroup_parent", TEXT, "the parent cgroup: a path below the root of the hierarchy"),
    Row("cgroup", choice("host", "private"), "the cgroup namespace: host or private"),
    Row("cpu_count", INT.with_(minimum=0), "Windows only", SKIP),
    Row("cpu_percent", CPUS.with_(accepts=frozenset(("integer", "string")), minimum=0, maximum=100), "Windows only", SKIP),
    Row("cpu_period", WHOLE, "the period of cpu_quota"),
    Row("cpu_quota", WHOLE, "CPU time per period"),
    Row("cpu_rt_period", WHOLE.with_(cast=None), "real-time period"),
    Row("cpu_rt_runtime", WHOLE.with_(cast=None), "real-time share"),
    Row("cpus", CPUS, "at most so many CPUs"),
    Row("cpuset", TEXT, "on these CPUs only"),
    Row("cpu_shares", WHOLE, "relative weight of CPU time"),
    Row("command", COMMAND, "the command, instead of the image's", default=None),
    Row("configs", parts.CONFIGS, "configs as files"),
    Row("credential_spec", parts.CREDENTIAL_SPEC, "Windows only", SKIP),
    Row("device_cgroup_rules", UNIQUE_STRINGS, "devices that may be used: `c 89:* rwm`"),
    Row("devices", parts.DEVICES, "devices of the host, or CDI devices"),
    Row("dns", STRING_OR_LIST.with_(expand=long_forms.texts), "name servers"),
    Row("dns_opt", UNIQUE_STRINGS.with_(merge=merging.append, same=once.by_key), "options of the resolver"),
    Row("dns_search", STRING_OR_LIST, "search domains"),
    Row("domainname", TEXT, "the domain name"),
    Row("entrypoint", COMMAND, "the entry point, instead of the image's", default=None),
    Row("environment", ENVIRONMENT, "environment variables"),
    Row("env_file", parts.ENV_FILE, "files with environment variables"),
    Row("extra_hosts", HOSTS, "further lines of /etc/hosts"),
    Row("group_add", list_of(INT_TEXT, unique=True), "further groups"),
    Row("gpus", parts.GPUS, "GPUs, as CDI devices"),
    Row("hostname", TEXT, "the host name, and a name by which others find it"),
    Row("image", TEXT, "the image"),
    Row("init", EITHER, "an init process that reaps orphans and passes signals on"),
    Row("ipc", TEXT, "the IPC namespace: host, none, private, shareable, service:NAME or container:NAME"),
    Row("isolation", TEXT, "Windows only", SKIP, harmless=("default",)),
    Row("labels", LABELS, "labels"),
    Row("label_file", parts.LABEL_FILE, "files with labels"),
    Row("logging", parts.LOGGING, "what is kept of its output"),
    Row("mem_limit", BYTES, "at most so much memory"),
    Row("mem_reservation", BYTES.with_(accepts=frozenset(("integer", "string"))), "memory to protect"),
    Row("memswap_limit", BYTES, "at most so much memory and swap"),
    Row("mem_swappiness", BYTES.with_(accepts=frozenset(("integer", "string"))), "swappiness"),
    Row("mac_address", TEXT, "a fixed MAC address, on the first network"),
    Row("models", parts.MODELS, "language models", NO, note="Docker's model runner serves them, and there is none here"),
    Row("network_mode", TEXT, "host, none, service:NAME, container:NAME, or bridge: the project's default network"),
    Row("networks", parts.NETWORKS, "networks to attach to"),
    Row("oom_kill_disable", FLAG, "do not kill when out of memory"),
    Row("oom_score_adj", INT.with_(minimum=-1000, maximum=1000), "whom to kill first when out of memory"),
    Row("pid", NULL_TEXT, "the PID namespace: host, service:NAME or container:NAME"),
    Row("pids_limit", WHOLE, "at most so many processes"),
    Row("platform", TEXT, "the platform of the image"),
    Row("privileged", FLAG, "all rights of the host's root"),
    Row(
        "pull_policy",
        TEXT.with_(
            what="a pull policy (always, never, build, missing, daily, weekly, every_12h)",
            pattern=re.compile(
                r"^(always|never|build|if_not_present|missing|refresh|daily|weekly|every_([0-9]+[wdhms])+)$"
            ),
        ),
        "when to pull the image",
    ),
    Row("pull_refresh_after", TEXT, "how old the image must be for pull_policy: refresh to pull it again"),
    Row("read_only", FLAG, "the root file system cannot be written, nor can the files that pystack makes in it"),
    Row("runtime", TEXT, "the OCI runtime", note="runc or pystack, which are both ours here; others are refused"),
    Row("secrets", parts.SECRETS, "secrets as files"),
    Row(
        "security_opt",
        UNIQUE_STRINGS,
        "no-new-privileges, seccomp, systempaths; label and apparmor",
        note="a label or an AppArmor profile is refused where the kernel has such",
    ),
    Row("shm_size", BYTES, "the size of /dev/shm, 64 MiB unless said"),
    Row("stop_grace_period", DURATION, "how long to wait from the stop signal to SIGKILL"),
    Row("stop_signal", TEXT, "the signal that asks to stop: `SIGTERM`, `term`, `15`, `SIGRTMIN+3`"),
    Row(
        "storage_opt",
        map_of(ANY_TEXT.with_(accepts=frozenset(("string", "number", "null")))),
        "size: how large the writable layer may grow",
    ),
    Row("sysctls", pairs("kernel parameters"), "kernel parameters of the container's namespaces"),
    Row("tmpfs", STRING_OR_LIST, "tmpfs mounts"),
    Row("ulimits", parts.ULIMITS, "resource limits"),
    Row("use_api_socket", BOOL, "the engine's API socket", NO, note="there is no engine, and so no socket of one"),
    Row("user", TEXT, "UID or name, with :GID or name"),
    Row("userns_mode", TEXT, "the user namespace: host"),
    Row("uts", TEXT, "the UTS namespace: host"),
    Row("volumes", parts.VOLUMES, "mounts"),
    Row("volumes_from", UNIQUE_STRINGS, "the mounts of another service"),
    Row("working_dir", TEXT, "the working directory"),
)

WORKLOAD = (
    Row("build", building.BUILD, "how to build the image"),
    Row("depends_on", building.DEPENDS_ON, "what must run first"),
    Row("expose", list_of(INT_TEXT, unique=True, same=once.by_text), "ports that other services use"),
    Row("healthcheck", building.HEALTHCHECK, "how to tell that it works"),
    Row("ports", parts.PORTS, "published ports"),
    Row("stdin_open", FLAG, "keep standard input open"),
    Row("tty", FLAG, "a terminal"),
)

_HOOK_SECRETS = Row("secrets", parts.HOOK_SECRETS, "secrets as files")
PRE_START = object_of(
    "a pre_start container",
    (
        *(_HOOK_SECRETS if row.name == "secrets" else row for row in CONTAINER),
        Row("per_replica", FLAG, "once for each container of the service"),
    ),
)

SERVICE_ONLY = (
    Row("profiles", UNIQUE_STRINGS.with_(same=once.by_key), "profiles that enable it"),
    Row("deploy", building.DEPLOY, "replicas, limits, updates"),
    Row("develop", building.DEVELOP, "what to do when files change (docs/watch.md)"),
    Row("restart", TEXT, "no, always, on-failure[:N] or unless-stopped"),
    Row("scale", COUNT, "how many containers, 10,000 at most"),
    Row("attach", EITHER, "show its log in the foreground, unless `--attach` names it"),
    Row(
        "container_name",
        TEXT.with_(what="a container name", pattern=re.compile(CONTAINER_NAME)),
        "the container's name, and a further name of the service on its networks",
    ),
    Row(
        "provider",
        parts.PROVIDER,
        "a program of this machine that provides the service, which is no container then (docs/providers.md)",
    ),
    Row("extends", parts.EXTENDS, "another service to start from"),
    Row(
        "external_links",
        UNIQUE_STRINGS,
        "names for containers that are no service's: `CONTAINER:ALIAS`",
        note="those on this project's networks, and other projects' on networks that they share",
    ),
    Row("links", UNIQUE_STRINGS.with_(same=once.by_key), "names for other services that it alone has: `SERVICE:ALIAS`"),
    Row("pre_start", list_of(PRE_START), "containers that run to their end before it starts"),
    Row("post_start", list_of(building.HOOK), "commands to run in it after it has started"),
    Row("pre_stop", list_of(building.HOOK), "commands to run in it before it is stopped"),
)

JOB_ONLY = (
    Row("profiles", UNIQUE_STRINGS.with_(same=once.by_key), "profiles that enable it"),
    Row("triggers", parts.TRIGGERS, "what starts it"),
)

SERVICE: Shape = object_of("a service", (*SERVICE_ONLY, *CONTAINER, *WORKLOAD))
JOB: Shape = object_of("a job", (*JOB_ONLY, *CONTAINER, *WORKLOAD), required=("triggers",))
