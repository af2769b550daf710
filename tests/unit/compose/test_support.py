"""What ``up`` does with every attribute that the runtime does not run: the whole table, and a stack of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.compose.kinds.shapes import Row, Shape, Support
from orchestrator.compose.model.support import unsupported
from orchestrator.compose.schema.attributes import TOP
from orchestrator.compose.schema.attributes_service import CONTAINER, SERVICE
from orchestrator.compose.text.diagnostics import ComposeError
from orchestrator.compose.text.files import Source
from orchestrator.compose.text.tree import parse
from tests.unit.compose.stacks import Stack


def places(shape: Shape, steps: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Row]]:
    """Every attribute of the table that is not run, and is not below another such; ``[]`` and ``*`` stand for elements."""
    if shape.fields is not None:
        for name, row in shape.fields.items():
            if row.support is Support.YES:
                yield from places(row.shape, (*steps, name))
            else:
                yield (*steps, name), row
    elif shape.items is not None and shape.items.fields is not None:
        yield from places(shape.items, (*steps, "[]"))
    elif shape.values is not None:
        yield from places(shape.values, (*steps, "*"))


PLACES = list(places(TOP))
SAMPLES = {"string": "word", "number": "7", "integer": "7", "boolean": "true", "list": "[word]", "mapping": "{key: word}"}


def written(steps: tuple[str, ...], value: str) -> str:
    """YAML with `value` at `steps`, in flow style on one line."""
    for step in reversed(steps):
        value = f"[{value}]" if step == "[]" else f"{{{'name' if step == '*' else step}: {value}}}"
    return value


def compose_path(steps: tuple[str, ...]) -> str:
    path = ".".join("name" if step == "*" else step for step in steps)
    return path.replace(".[]", "[0]")


def classified(steps: tuple[str, ...], value: str) -> tuple[list[str], list[str]]:
    """The paths of what is refused and of what is ignored; each has a place in the text."""
    (tree,) = parse(Source("compose.yaml", "/compose.yaml", written(steps, value)))
    refused, ignored = unsupported(tree)
    for item in (*refused, *ignored):
        assert (item.file, item.line) == ("compose.yaml", 1)
        assert item.source_line is not None
        assert item.source_line[item.column - 1 :].startswith(steps[-1])
    return [item.path for item in refused], [item.path for item in ignored]


def ids(found: list[tuple[tuple[str, ...], Row]]) -> list[str]:
    return [compose_path(steps) for steps, _ in found]


@pytest.mark.parametrize(("steps", "row"), PLACES, ids=ids(PLACES))
def test_what_is_not_run_is_never_left_out_in_silence(steps: tuple[str, ...], row: Row) -> None:
    samples = [*row.shape.choices, *(SAMPLES[kind] for kind in sorted(row.shape.accepts & SAMPLES.keys()))]
    if "false" not in row.harmless and "boolean" in row.shape.accepts:
        samples.append("false")
    tried = [text for text in samples if text not in row.harmless]
    assert tried, "every value of it is harmless"
    for text in tried:
        refused, ignored = classified(steps, text)
        expected = [compose_path(steps)]
        assert (refused, ignored) == ((expected, []) if row.support is Support.REFUSED else ([], expected)), text


@pytest.mark.parametrize(("steps", "row"), PLACES, ids=ids(PLACES))
def test_what_asks_for_nothing_is_not_mentioned(steps: tuple[str, ...], row: Row) -> None:
    for text in ("", '""', "[]", "{}", *row.harmless, *(f'"{value}"' for value in row.harmless)):
        assert classified(steps, text) == ([], []), text


def test_dangerous_things_are_refused_and_never_merely_ignored() -> None:
    """What gives a container less isolation than it asks for, or other data: leaving it out must stop ``up``."""
    refused = {
        compose_path(steps).removeprefix("services.name.") for steps, row in PLACES if row.support is Support.REFUSED
    }
    assert refused >= {
        "use_api_socket",
        "deploy.mode",
    }


EVERYTHING = """\
services:
  a:
    image: host
    use_api_socket: true
    post_start: [{command: x}]
    pre_stop: [{command: x}]
    shm_size: 1m
    secrets: [s]
    configs: [c]
    external_links: []
    pre_start: [{image: x}]
    models: {m: {}}
    logging: {driver: local}
    labels: {k: v}
    isolation: hyperv
    develop: {watch: [{path: ., action: restart}]}
    cpu_count: 2
    cpu_percent: 5
    credential_spec: {file: x}
    deploy:
      placement: {constraints: [node.role == manager]}
      mode: global
secrets:
  s: {file: ./s}
configs:
  c: {content: x}
models: {m: {model: x}}
"""
REFUSED = {
    "services.a.use_api_socket": 4,
    "services.a.models": 12,
    "services.a.deploy.mode": 22,
    "models": 27,
}
IGNORED = {
    "services.a.isolation": 15,
    "services.a.cpu_count": 17,
    "services.a.cpu_percent": 18,
    "services.a.credential_spec": 19,
    "services.a.deploy.placement": 21,
}


def test_up_names_each_thing_that_it_does_not_do_with_its_line(stack: Stack) -> None:
    error = stack.errors(EVERYTHING)
    assert {item.path: item.line for item in error.diagnostics} == REFUSED
    assert all(item.message.startswith("not supported yet") for item in error.diagnostics)


def test_up_goes_on_with_a_warning_where_nothing_can_surprise(stack: Stack) -> None:
    kept = [line for number, line in enumerate(EVERYTHING.split("\n"), 1) if number not in REFUSED.values()]
    loaded = stack.load("\n".join(kept))
    assert {item.path for item in loaded.warnings} == set(IGNORED)
    assert all(item.line and item.message.startswith("not supported yet, and ignored") for item in loaded.warnings)


RUN = {
    "annotations": "{k: v}",
    "attach": "false",
    "blkio_config": "{weight: 300}",
    "build": ".",
    "cap_add": "[net_admin]",
    "cap_drop": "[CAP_KILL]",
    "cgroup": "host",
    "cgroup_parent": "/apps",
    "command": "[x]",
    "configs": "[c]",
    "container_name": "other",
    "cpu_period": "50000",
    "cpu_quota": "50000",
    "cpu_rt_period": "50000",
    "cpu_rt_runtime": "500",
    "cpu_shares": "500",
    "cpus": "1",
    "cpuset": "'0'",
    "depends_on": "[b]",
    "dns": "10.0.0.1",
    "dns_opt": "[rotate]",
    "dns_search": "x.test",
    "domainname": "x.test",
    "device_cgroup_rules": "[c 89:* rw]",
    "devices": "[/dev/fuse]",
    "entrypoint": "[x]",
    "environment": "{K: v}",
    "env_file": "x.env",
    "expose": "[80]",
    "extra_hosts": "{h: 10.0.0.1}",
    "group_add": "[adm]",
    "gpus": "all",
    "healthcheck": "{test: x}",
    "hostname": "h",
    "image": "rootfs:/x",
    "init": "true",
    "label_file": "x.env",
    "ipc": "host",
    "labels": "{k: v}",
    "logging": "{driver: none}",
    "mac_address": "02:00:00:00:00:01",
    "mem_limit": "64m",
    "mem_reservation": "32m",
    "mem_swappiness": "0",
    "memswap_limit": "64m, mem_limit: 64m",
    "network_mode": "host",
    "networks": "{default: {aliases: [x]}}",
    "oom_kill_disable": "true",
    "oom_score_adj": "7",
    "pid": "host",
    "pids_limit": "9",
    "platform": "linux/arm64",
    "ports": "[80]",
    "privileged": "true",
    "profiles": "[p]",
    "provider": "{type: p}",
    "pull_policy": "always",
    "pull_refresh_after": "2d, pull_policy: refresh",
    "read_only": "true",
    "restart": "always",
    "runtime": "",
    "scale": "2",
    "secrets": "[s]",
    "security_opt": "[no-new-privileges]",
    "shm_size": "1m",
    "stop_grace_period": "3s",
    "stdin_open": "true",
    "stop_signal": "USR1",
    "storage_opt": "{size: 1g}",
    "sysctls": "{net.core.somaxconn: 1}",
    "tmpfs": "/t",
    "tty": "true",
    "ulimits": "{nofile: 9}",
    "user": '"7"',
    "userns_mode": "host",
    "uts": "host",
    "volumes": "[/v]",
    "volumes_from": "[b]",
    "working_dir": "/w",
    "deploy": "{resources: {limits: {cpus: '1'}}}",
    "develop": "{watch: [{path: ., action: restart}]}",
    "extends": "b",
    "external_links": "[x-1]",
    "links": "[b]",
    "post_start": "[{command: x}]",
    "pre_start": "[{command: x}]",
    "pre_stop": "[{command: x}]",
}


def test_what_the_table_says_is_run_arrives_at_the_runtime(stack: Stack) -> None:
    """Every attribute marked as run changes what the runtime gets."""
    assert SERVICE.fields is not None
    run = {name for name, row in SERVICE.fields.items() if row.support is Support.YES}
    assert run == set(RUN)
    stack.write("x.env", "E=1\n")

    def service(body: str) -> object:
        text = f"services: {{a: {{{body}}}, b: {{image: host, hostname: other}}}}\n{GRANTED}"
        return stack.load(text, profiles=("p",)).project.services

    plain = service("image: host")
    for name, value in RUN.items():
        if not value:  # It only says what happens anyway.
            continue
        own = "" if name == "image" else "image: host, "
        assert service(f"{own}{name}: {value}") != plain, name


def test_what_runs_before_a_service_has_all_attributes_of_a_container(stack: Stack) -> None:
    stack.write("x.env", "E=1\n")

    def service(body: str) -> object:
        step = f"{{command: other, {body}}}"
        text = f"services: {{a: {{image: host, pre_start: [{step}]}}, b: {{image: host}}}}\n{GRANTED}"
        return stack.load(text).project.services

    plain = service("per_replica: false")
    for name in (row.name for row in CONTAINER if row.support is Support.YES and RUN[row.name]):
        if name != "command":
            assert service(f"{name}: {RUN[name]}") != plain, name
    assert service("per_replica: true") != plain


GRANTED = "secrets: {s: {file: ./s}, e: {environment: E}}\nconfigs: {c: {content: x}}\n"
INERT = {
    "services.name.volumes[0].consistency",
    # For people, or said by the format to mean the same wherever there is one machine.
    *("services.name.ports[0].name", "services.name.ports[0].app_protocol", "services.name.ports[0].mode"),
}
BELOW = {
    "services.name.provider.type": "provider: {type: x}",
    "services.name.provider.options": "provider: {type: x, options: {k: v}}",
    "services.name.build.context": "build: {context: x}",
    "services.name.build.dockerfile": "build: {dockerfile: x}",
    "services.name.build.dockerfile_inline": "build: {dockerfile_inline: FROM host}",
    "services.name.build.entitlements": "build: {entitlements: [network.host]}",
    "services.name.build.args": "build: {args: {K: v}}",
    "services.name.build.provenance": "build: {provenance: true}",
    "services.name.build.sbom": "build: {sbom: true}",
    "services.name.build.ssh": "build: {ssh: [default]}",
    "services.name.build.labels": "build: {labels: {k: v}}",
    "services.name.build.cache_from": "build: {cache_from: [x]}",
    "services.name.build.cache_to": "build: {cache_to: [x]}",
    "services.name.build.no_cache": "build: {no_cache: true}",
    "services.name.build.no_cache_filter": "build: {no_cache_filter: x}",
    "services.name.build.additional_contexts": "build: {additional_contexts: {x: y}}",
    "services.name.build.pull": "build: {pull: true}",
    "services.name.build.extra_hosts": "build: {extra_hosts: {h: 10.0.0.1}}",
    "services.name.build.isolation": "build: {isolation: hyperv}",
    "services.name.build.network": "build: {network: none}",
    "services.name.build.target": "build: {target: x}",
    "services.name.build.secrets[0].source": "build: {secrets: [s]}",
    "services.name.build.secrets[0].target": "build: {secrets: [{source: s, target: x}]}",
    "services.name.build.secrets[0].uid": "build: {secrets: [{source: s, uid: '7'}]}",
    "services.name.build.secrets[0].gid": "build: {secrets: [{source: s, gid: '7'}]}",
    "services.name.build.secrets[0].mode": "build: {secrets: [{source: s, mode: '0400'}]}",
    "services.name.build.shm_size": "build: {shm_size: 1m}",
    "services.name.build.tags": "build: {tags: [x]}",
    "services.name.build.ulimits.name.soft": "build: {ulimits: {nofile: {soft: 1, hard: 2}}}",
    "services.name.build.ulimits.name.hard": "build: {ulimits: {nofile: {soft: 1, hard: 3}}}",
    "services.name.build.platforms": "build: {platforms: [linux/amd64]}",
    "services.name.build.privileged": "build: {privileged: true}",
    "services.name.deploy.resources.limits.cpus": "deploy: {resources: {limits: {cpus: '1'}}}",
    "services.name.deploy.resources.limits.memory": "deploy: {resources: {limits: {memory: 64m}}}",
    "services.name.deploy.resources.limits.pids": "deploy: {resources: {limits: {pids: 9}}}",
    **{
        f"services.name.{where}[0].{key}": body % f"capabilities: [gpu], {text}"
        for where, body in (
            ("gpus", "gpus: [{%s}]"),
            ("deploy.resources.reservations.devices", "deploy: {resources: {reservations: {devices: [{%s}]}}}"),
        )
        for key, text in (
            ("capabilities", "count: all"),
            ("driver", "driver: x"),
            ("count", "count: 2"),
            ("device_ids", "device_ids: [x]"),
            ("options", "options: {k: v}"),
        )
    },
    "services.name.devices[0].source": "devices: [{source: /dev/x, target: /dev/z}]",
    "services.name.devices[0].target": "devices: [{source: /dev/x, target: /dev/y}]",
    "services.name.devices[0].permissions": "devices: [{source: /dev/x, target: /dev/y, permissions: r}]",
    "services.name.deploy.replicas": "deploy: {replicas: 2}",
    "services.name.deploy.restart_policy.condition": "deploy: {restart_policy: {condition: on-failure}}",
    "services.name.deploy.restart_policy.max_attempts": (
        "deploy: {restart_policy: {condition: on-failure, max_attempts: 3}}"
    ),
    "services.name.deploy.restart_policy.delay": "deploy: {restart_policy: {delay: 3s}}",
    "services.name.deploy.restart_policy.window": "deploy: {restart_policy: {window: 3s}}",
    "services.name.extends.service": "extends: {service: b}",
    "services.name.extends.file": "extends: {service: far, file: other.yaml}",
    "services.name.secrets[0].source": "secrets: [s]",
    "services.name.secrets[0].target": "secrets: [{source: s, target: x}]",
    "services.name.secrets[0].uid": "secrets: [{source: e, uid: '7'}]",
    "services.name.secrets[0].gid": "secrets: [{source: e, gid: '7'}]",
    "services.name.secrets[0].mode": "secrets: [{source: e, mode: '0400'}]",
    "services.name.configs[0].source": "configs: [c]",
    "services.name.configs[0].target": "configs: [{source: c, target: x}]",
    "services.name.configs[0].uid": "configs: [{source: c, uid: '7'}]",
    "services.name.configs[0].gid": "configs: [{source: c, gid: '7'}]",
    "services.name.configs[0].mode": "configs: [{source: c, mode: '0400'}]",
    "services.name.env_file[0].path": "env_file: [{path: x.env}]",
    "services.name.env_file[0].required": "env_file: [{path: no.env, required: true}]",
    "services.name.env_file[0].format": "env_file: [{path: x.env, format: raw}]",
    "services.name.ulimits.name.soft": "ulimits: {nofile: {soft: 1, hard: 2}}",
    "services.name.ulimits.name.hard": "ulimits: {nofile: {soft: 1, hard: 3}}",
    "services.name.blkio_config.weight": "blkio_config: {weight: 20}",
    "services.name.blkio_config.weight_device[0].path": "blkio_config: {weight_device: [{path: /x, weight: 10}]}",
    "services.name.blkio_config.weight_device[0].weight": "blkio_config: {weight_device: [{path: /x, weight: 11}]}",
    **{
        f"services.name.blkio_config.device_{kind}[0].{key}": (
            f"blkio_config: {{device_{kind}: [{{path: /{key}, rate: 1}}]}}"
        )
        for kind in ("read_bps", "read_iops", "write_bps", "write_iops")
        for key in ("path", "rate")
    },
    "services.name.deploy.resources.reservations.memory": "deploy: {resources: {reservations: {memory: 64m}}}",
    "services.name.networks.name.mac_address": "networks: {default: {mac_address: '02:00:00:00:00:07'}}",
    "services.name.volumes[0].bind.selinux": "volumes: [{type: bind, target: /t, source: /s, bind: {selinux: z}}]",
    "services.name.volumes[0].bind.propagation": (
        "volumes: [{type: bind, target: /t, source: /s, bind: {propagation: rslave}}]"
    ),
    "services.name.volumes[0].bind.recursive": (
        "volumes: [{type: bind, target: /t, source: /s, bind: {recursive: disabled}}]"
    ),
    "services.name.volumes[0].volume.labels": "volumes: [{type: volume, target: /t, volume: {labels: {k: v}}}]",
    "services.name.networks.name.aliases": "networks: {default: {aliases: [x]}}",
    "services.name.networks.name.ipv4_address": "networks: {default: {ipv4_address: 10.0.0.7}}",
    "services.name.networks.name.ipv6_address": "hostname: c, networks: {default: {ipv6_address: 'fd00::7'}}",
    "services.name.networks.name.link_local_ips": "hostname: c, networks: {default: {link_local_ips: ['fe80::7']}}",
    "services.name.networks.name.interface_name": "hostname: c, networks: {default: {interface_name: lan0}}",
    "services.name.networks.name.priority": "hostname: c, networks: {default: {priority: 7}}",
    "services.name.networks.name.gw_priority": "hostname: c, networks: {default: {gw_priority: 7}}",
    "services.name.volumes[0].type": "volumes: [{type: tmpfs, target: /t}]",
    "services.name.volumes[0].source": "volumes: [{type: bind, target: /t, source: /s}]",
    "services.name.volumes[0].target": "volumes: [{type: tmpfs, target: /u}]",
    "services.name.volumes[0].read_only": "volumes: [{type: tmpfs, target: /t, read_only: true}]",
    "services.name.volumes[0].bind.create_host_path": (
        "volumes: [{type: bind, target: /t, source: /s, bind: {create_host_path: false}}]"
    ),
    "services.name.volumes[0].volume.nocopy": "volumes: [{type: volume, target: /t, volume: {nocopy: true}}]",
    "services.name.volumes[0].volume.subpath": "volumes: [{type: volume, target: /t, volume: {subpath: a/b}}]",
    "services.name.volumes[0].image.subpath": (
        "volumes: [{type: image, target: /t, source: 'rootfs:/x', image: {subpath: a}}]"
    ),
    "services.name.volumes[0].tmpfs.size": "volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1m}}]",
    "services.name.volumes[0].tmpfs.mode": "volumes: [{type: tmpfs, target: /t, tmpfs: {mode: 0700}}]",
    "services.name.depends_on.name.condition": "depends_on: {b: {condition: service_healthy}}",
    "services.name.depends_on.name.restart": "depends_on: {b: {condition: service_healthy, restart: true}}",
    "services.name.depends_on.name.required": "depends_on: {b: {condition: service_healthy, required: false}}",
    "services.name.healthcheck.test": "healthcheck: {test: x}",
    "services.name.healthcheck.timeout": "healthcheck: {test: x, timeout: 1s}",
    "services.name.healthcheck.interval": "healthcheck: {test: x, interval: 1s}",
    "services.name.healthcheck.retries": "healthcheck: {test: x, retries: 7}",
    "services.name.healthcheck.start_period": "healthcheck: {test: x, start_period: 1s}",
    "services.name.healthcheck.start_interval": "healthcheck: {test: x, start_period: 9s, start_interval: 1s}",
    "services.name.healthcheck.disable": "healthcheck: {test: x, disable: true}",
    "services.name.ports[0].host_ip": "ports: [{target: 80, host_ip: 127.0.0.1}]",
    "services.name.ports[0].target": "ports: [{target: 80}]",
    "services.name.ports[0].published": "ports: [{target: 80, published: 81}]",
    "services.name.ports[0].protocol": "ports: [{target: 80, protocol: udp}]",
    **{
        f"services.name.{kind}[0].{key}": f"{kind}: [{{{body}}}]"
        for kind in ("post_start", "pre_stop")
        for key, body in (
            ("command", "command: x"),
            ("user", "command: x, user: root"),
            ("privileged", "command: x, privileged: true"),
            ("working_dir", "command: x, working_dir: /w"),
            ("environment", "command: x, environment: {K: v}"),
        )
    },
    **{
        f"services.name.deploy.{key}.{name}": f"deploy: {{{key}: {{{name}: {value}}}}}"
        for key in ("update_config", "rollback_config")
        for name, value in (
            ("parallelism", "2"),
            ("delay", "3s"),
            ("failure_action", "continue"),
            ("monitor", "3s"),
            ("max_failure_ratio", "0.5"),
            ("order", "start-first"),
        )
    },
    **{
        f"services.name.develop.watch[0].{key}": f"develop: {{watch: [{{path: ./w, target: /t, {body}}}]}}"
        for key, body in (
            ("action", "action: restart"),
            ("path", "action: rebuild"),
            ("target", "action: sync"),
            ("ignore", "action: sync, ignore: [x]"),
            ("include", "action: sync, include: [x]"),
            ("initial_sync", "action: sync, initial_sync: true"),
            ("x-initialSync", "action: sync+restart, x-initialSync: true"),
            ("exec.command", "action: sync+exec, exec: {command: x}"),
            ("exec.user", "action: sync+exec, exec: {command: x, user: root}"),
            ("exec.privileged", "action: sync+exec, exec: {command: x, privileged: true}"),
            ("exec.working_dir", "action: sync+exec, exec: {command: x, working_dir: /w}"),
            ("exec.environment", "action: sync+exec, exec: {command: x, environment: {K: v}}"),
        )
    },
    "networks.name.name": "networks: {default: {name: x}}",
    "networks.name.driver": "networks: {default: {driver: overlay}}",
    "networks.name.ipam.driver": "networks: {default: {ipam: {driver: other}}}",
    "networks.name.ipam.config[0].subnet": "networks: {default: {ipam: {config: [{subnet: 10.1.0.0/24}]}}}",
    "networks.name.ipam.config[0].gateway": (
        "networks: {default: {ipam: {config: [{subnet: 10.1.0.0/24, gateway: 10.1.0.9}]}}}"
    ),
    "networks.name.ipam.config[0].ip_range": (
        "networks: {default: {ipam: {config: [{subnet: 10.1.0.0/24, ip_range: 10.1.0.128/25}]}}}"
    ),
    "networks.name.ipam.config[0].aux_addresses": (
        "networks: {default: {ipam: {config: [{subnet: 10.1.0.0/24, aux_addresses: {x: 10.1.0.9}}]}}}"
    ),
    "networks.name.enable_ipv4": "networks: {default: {enable_ipv4: false, enable_ipv6: true}}",
    "networks.name.enable_ipv6": "networks: {default: {enable_ipv6: true}}",
    "networks.name.driver_opts": "networks: {default: {driver_opts: {com.docker.network.driver.mtu: 1400}}}",
    "networks.name.internal": "networks: {default: {internal: true}}",
    "services.name.logging.driver": "logging: {driver: local}",
    "services.name.logging.options": "logging: {options: {max-size: 5m}}",
    "networks.name.labels": "networks: {default: {labels: [k]}}",
    "volumes.name.name": "volumes: {data: {name: x}}",
    "volumes.name.driver_opts": "volumes: {data: {driver_opts: {type: tmpfs, device: tmpfs}}}",
    "volumes.name.driver": "volumes: {data: {driver: nfs}}",
    "networks.name.external.name": "networks: {default: {external: {name: y}}}",
    "volumes.name.external.name": "volumes: {data: {external: {name: y}}}",
    "volumes.name.labels": "volumes: {data: {labels: [k]}}",
}
"""Every attribute below those of `RUN`, and of networks and volumes, in a stack where it makes a difference."""


def leaves(shape: Shape, steps: tuple[str, ...]) -> Iterator[str]:
    """The attributes that are run and have none below them."""
    if shape.fields is not None:
        for name, row in shape.fields.items():
            if row.support is Support.YES:
                yield from leaves(row.shape, (*steps, name))
    elif shape.items is not None and shape.items.fields is not None:
        yield from leaves(shape.items, (*steps, "[]"))
    elif shape.values is not None and shape.values.fields is not None:
        yield from leaves(shape.values, (*steps, "*"))
    else:
        yield compose_path(steps)


def test_what_stands_below_arrives_too(stack: Stack) -> None:
    below = {path for path in leaves(TOP, ()) if path.startswith(("services", "networks", "volumes"))}
    below = {path for path in below if path.removeprefix("services.name.") not in RUN}
    # Those of a container are those of a service, and stand in a service's `pre_start` as in itself.
    below = {path for path in below if not path.startswith("services.name.pre_start[0].")}
    assert below == set(BELOW) | INERT
    stack.write("x.env", "E='1'\n")
    stack.write("other.yaml", "services: {far: {image: host, hostname: far}}\n")

    def outcome(text: str) -> object:
        own = "" if text.startswith(("networks", "volumes: {")) else f", {text}"
        top = "" if own else text
        try:
            project = stack.load(
                f"{GRANTED}"
                f"services: {{a: {{image: host{own}}}, b: {{image: host, hostname: b, volumes: ['data:/data']}}}}\n"
                + (top if top.startswith("volumes") else f"volumes: {{data: }}\n{top}")
            ).project
        except ComposeError as exc:
            return str(exc)
        return project.services, project.networks, project.volumes, project.providers

    seen = [outcome("labels: {}")]
    for path, text in BELOW.items():
        found = outcome(text)
        assert found not in seen, path
        seen.append(found)
