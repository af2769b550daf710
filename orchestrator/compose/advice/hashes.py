"""The configuration hash of a service, as Docker Compose takes it."""

from __future__ import annotations

import hashlib
import json

from orchestrator.compose.kinds.shapes import JSON

_HASH_ORDER = [
    "annotations",
    "attach",
    "develop",
    "blkio_config",
    "cap_add",
    "cap_drop",
    "cgroup_parent",
    "cgroup",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpus",
    "cpuset",
    "cpu_shares",
    "command",
    "configs",
    "container_name",
    "credential_spec",
    "deploy",
    "device_cgroup_rules",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "entrypoint",
    "provider",
    "environment",
    "env_file",
    "expose",
    "extends",
    "external_links",
    "extra_hosts",
    "group_add",
    "gpus",
    "hostname",
    "healthcheck",
    "image",
    "init",
    "ipc",
    "isolation",
    "labels",
    "label_file",
    "links",
    "logging",
    "mem_limit",
    "mem_reservation",
    "memswap_limit",
    "mem_swappiness",
    "mac_address",
    "models",
    "network_mode",
    "networks",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "pids_limit",
    "platform",
    "ports",
    "privileged",
    "read_only",
    "restart",
    "runtime",
    "secrets",
    "security_opt",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "storage_opt",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "use_api_socket",
    "user",
    "userns_mode",
    "uts",
    "volumes",
    "volumes_from",
    "working_dir",
    "pre_start",
    "post_start",
    "pre_stop",
    "pull_refresh_after",
]
"""The attributes that a service's hash covers, in the order in which it covers them: what is not here (build, pull_policy,
scale, depends_on, profiles) does not count as a change. Measured: the hashes of v5.6.1 come out with it."""


def service_hash(service: dict[str, JSON]) -> str:
    """SHA-256 of a service of the canonical model, as Docker Compose takes it."""
    covered = {key: service[key] for key in _HASH_ORDER if key in service}
    if "deploy" in covered:
        covered["deploy"] = {key: value for key, value in covered["deploy"].items() if key != "replicas"}
    text = json.dumps(covered, separators=(",", ":"), ensure_ascii=False).replace("$$", "$")
    for char in "&<>\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return hashlib.sha256(text.encode()).hexdigest()
