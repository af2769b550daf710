"""The plain attributes: what they become, and what is refused at its place."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from orchestrator.compose.kinds.shapes import Shape
from orchestrator.compose.load import load, load_canonical
from orchestrator.compose.schema.attributes import TOP
from orchestrator.compose.text.diagnostics import ComposeError
from orchestrator.model.build import Ulimit
from orchestrator.model.limits import BlockIo, DeviceValue, Limits
from orchestrator.model.resolving import Resolving
from orchestrator.model.service import Service
from orchestrator.model.volume import MountKind, Recursion, VolumesFrom
from tests.unit.compose.stacks import Stack
from tests.unit.compose.test_support import written


def service(stack: Stack, body: str) -> Service:
    services = stack.load(f"services: {{a: {{image: host, {body}}}, b: {{image: host}}}}").project.services
    return next(item for item in services.values() if item.name == "a")


def test_limits(stack: Stack) -> None:
    made = service(
        stack,
        "cpu_shares: 20, cpu_quota: 5000, cpu_period: 10000, cpu_rt_runtime: 9, cpu_rt_period: 10, cpuset: '0-1, 3', "
        "mem_limit: 64m, memswap_limit: -1, mem_reservation: 32m, mem_swappiness: 0, oom_kill_disable: true, "
        "pids_limit: -1, blkio_config: {weight: 10, device_read_bps: [{path: /dev/sda, rate: 1mb}], "
        "weight_device: [{path: /dev/sdb, weight: 20}]}",
    )
    assert made.limits == Limits(
        cpu_shares=20, cpu_quota_us=5000, cpu_period_us=10_000, realtime_runtime_us=9, realtime_period_us=10,
        cpuset="0-1,3", memory_bytes=1 << 26, memswap_bytes=-1, reservation_bytes=1 << 25, swappiness=0,
        oom_kill_disable=True, pids=-1,
        block_io=BlockIo(10, (DeviceValue("/dev/sdb", 20),), (DeviceValue("/dev/sda", 1 << 20),)),
    )  # fmt: skip
    assert service(stack, "pids_limit: 0").limits == Limits(pids=-1)  # As for Docker, which has no limit otherwise.
    deployed = "deploy: {resources: {limits: {memory: 64m}, reservations: {memory: 32m}}}"
    assert service(stack, deployed).limits == Limits(memory_bytes=1 << 26, reservation_bytes=1 << 25)
    assert service(stack, "mem_swappiness: -1, memswap_limit: 0, cpu_shares: 0, oom_score_adj: 0").limits == Limits()


def test_the_process_and_the_names_it_finds_others_by(stack: Stack) -> None:
    made = service(
        stack,
        "ulimits: {nofile: 7, core: {soft: 0, hard: -1}}, oom_score_adj: -7, group_add: [adm, 7], domainname: d, "
        "shm_size: 1m, dns: [1.1.1.1, '::1'], dns_search: [a.b, .], dns_opt: [rotate], annotations: [a=b], "
        "storage_opt: {size: 1g}, "
        "extra_hosts: ['a:1.2.3.4', 'b=[::1]', 'c=host-gateway', 'd:::2']",
    )
    assert made.ulimits == (Ulimit("nofile", 7, 7), Ulimit("core", 0, -1))
    assert (made.oom_score_adj, made.group_add, made.domainname, made.shm_bytes) == (-7, ("adm", "7"), "d", 1 << 20)
    hosts = (("a", "1.2.3.4"), ("b", "::1"), ("c", "host-gateway"), ("d", "::2"))
    assert made.resolving == Resolving(("1.1.1.1", "::1"), ("a.b", "."), ("rotate",), hosts)
    assert (made.annotations, made.storage_bytes) == ({"a": "b"}, 1 << 30)


def test_mounts(stack: Stack) -> None:
    made = service(
        stack,
        "tmpfs: ['/t:size=10%,mode=700,uid=7,exec,nr_inodes=5k,ro'], volumes_from: ['b:ro', 'container:x'], volumes: ["
        "{type: bind, source: /s, target: /b, read_only: true, consistency: cached, "
        "bind: {propagation: rshared, recursive: writable, selinux: z}}, "
        "{type: volume, target: /v, volume: {labels: {k: v}}}]",
    )
    bind, volume, tmpfs = made.volumes
    assert (bind.propagation, bind.recursive, bind.relabel) == ("rshared", Recursion.WRITABLE, "z")
    assert volume.labels == (("k", "v"),)
    assert (tmpfs.kind, tmpfs.tmpfs_mode, tmpfs.read_only) == (MountKind.TMPFS, 0o700, True)
    assert tmpfs.options == ("size=10%", "uid=7", "exec", "nr_inodes=5k")
    assert made.volumes_from == (VolumesFrom("b", read_only=True), VolumesFrom("x", is_container=True))
    assert "b" in made.depends_on


def test_a_mac_address_is_on_the_first_network(stack: Stack) -> None:
    made = service(stack, "mac_address: 02-AA-00-00-00-01")
    assert [item.mac_address for item in made.networks.values()] == ["02:aa:00:00:00:01"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("cpu_quota: 5000, cpus: 1", "services.a.cpu_quota: cpu_quota and cpus exclude each other"),
        ("cpu_period: 999", "services.a.cpu_period: must be between 1000 and 1000000 microseconds"),
        ("cpu_quota: 5", "services.a.cpu_quota: must be at least 1000 microseconds"),
        ("cpu_shares: -1", "services.a.cpu_shares: must be at least 0"),
        ("cpu_rt_runtime: 11, cpu_rt_period: 10", "services.a.cpu_rt_runtime: must not be longer than cpu_rt_period"),
        ("cpuset: 3-1", 'services.a.cpuset: "3-1" is not a list of processors'),
        ("cpuset: a", 'services.a.cpuset: "a" is not a list of processors'),
        ("memswap_limit: 1g", "services.a.memswap_limit: memswap_limit needs mem_limit"),
        ("memswap_limit: 1m, mem_limit: 64m", "services.a.memswap_limit: must be at least mem_limit"),
        ("mem_reservation: 65m, mem_limit: 64m", "services.a.mem_reservation: must not be above mem_limit"),
        ("mem_reservation: 5", "services.a.mem_reservation: 5 bytes is less than the minimum of 6 MiB"),
        ("mem_limit: 1kb", "services.a.mem_limit: 1024 bytes is less than the minimum of 6 MiB"),
        ("deploy: {resources: {limits: {memory: 5b}}}", "services.a.mem_limit: 5 bytes is less than the minimum of 6 MiB"),
        ("mem_swappiness: 101", "services.a.mem_swappiness: must be between 0 and 100"),
        ("mem_limit: 1e400", 'services.a.mem_limit: "1e400" is too large a size'),
        ("pids_limit: 1.5", "services.a.pids_limit: must be a whole number, not the number 1.5"),
        ("pids_limit: 4194305", "services.a.pids_limit: must be between -1 and 4194304"),
        ("deploy: {resources: {limits: {pids: 99999999999}}}", "services.a.pids_limit: must be between -1 and 4194304"),
        ("cpus: nan", "services.a.cpus: must not be NaN"),
        ("cpus: inf", "services.a.cpus: must not be so large"),
        ("environment: ['=x']", 'services.a.environment: "=x" has no name before its "="'),
        (
            "post_start: [{command: [id], environment: ['=x']}]",
            'services.a.post_start[0].environment: "=x" has no name before its "="',
        ),
        ('command: ["a\\0"]', "services.a.command: holds a NUL byte"),
        ('post_start: [{command: ["a\\0"]}]', "services.a.post_start[0].command: holds a NUL byte"),
        ('healthcheck: {test: [CMD, "a\\0"]}', "services.a.healthcheck.test: holds a NUL byte"),
        ("blkio_config: {weight: 9}", "services.a.blkio_config.weight: must be between 10 and 1000"),
        (
            "blkio_config: {device_read_bps: [{path: sda, rate: 1}]}",
            'services.a.blkio_config.device_read_bps[0]: "sda" is not the path of a block device',
        ),
        ("ulimits: {files: 1}", 'services.a.ulimits.files: there is no limit "files"'),
        (
            "ulimits: {nofile: {soft: 9, hard: 3}}",
            "services.a.ulimits.nofile: the soft limit, 9, is above the hard limit, 3",
        ),
        ("ulimits: {nofile: -2}", "services.a.ulimits.nofile: a limit is at least 0, or -1 for unlimited"),
        ("oom_score_adj: 1001", "services.a.oom_score_adj: must be at most 1000"),
        ("group_add: ['a:b']", 'services.a.group_add[0]: "a:b" is not a group'),
        ("dns: [one.test]", 'services.a.dns[0]: "one.test" is not an IP address'),
        ("dns_search: ['a b']", 'services.a.dns_search[0]: "a b" is not a domain'),
        ("dns_opt: ['a b']", 'services.a.dns_opt[0]: "a b" is not an option of the resolver'),
        ("hostname: 'a b'", 'services.a.hostname: "a b" is not the name of a host'),
        ("domainname: a/b", 'services.a.domainname: "a/b" is not the name of a domain'),
        ("extra_hosts: ['a=b']", 'services.a.extra_hosts: "b" is not an IP address'),
        ("extra_hosts: ['a b=1.1.1.1']", 'services.a.extra_hosts: "a b" is not the name of a host'),
        (
            "mac_address: 03:00:00:00:00:01",
            'services.a.mac_address: "03:00:00:00:00:01" is not the MAC address of one station (its first octet is even)',
        ),
        ("mac_address: nic", 'services.a.mac_address: "nic" is not a MAC address (write 02:42:ac:11:00:02)'),
        (
            "mac_address: 02:00:00:00:00:01, scale: 2",
            "services.a.scale: more than one container cannot have one mac_address",
        ),
        ("tmpfs: ['/t:color=red']", 'services.a.tmpfs[0]: "color=red" is no option of a tmpfs'),
        ("tmpfs: ['/t:uid=me']", 'services.a.tmpfs[0]: "me" is no value for uid'),
        (
            "volumes: [{type: bind, source: /s, target: /t, bind: {propagation: up}}]",
            'services.a.volumes[0]: the propagation "up" is not one of private, rprivate, shared, rshared, slave, rslave',
        ),
        (
            "volumes: [{type: bind, source: /s, target: /t, bind: {recursive: readonly}}]",
            "services.a.volumes[0]: recursive: readonly needs read_only: true",
        ),
        (
            "volumes: [{type: tmpfs, target: /t, tmpfs: {mode: 99999}}]",
            'services.a.volumes[0]: "99999" is not a file mode (write 0440)',
        ),
        ("healthcheck: {test: [CMD]}", "services.a.healthcheck.test: CMD has no command behind it"),
        ("healthcheck: {test: [CMD-SHELL]}", "services.a.healthcheck.test: CMD-SHELL has no command behind it"),
        ("volumes_from: [nobody]", 'services.a.volumes_from[0]: "nobody" is not a service'),
        ("volumes_from: ['b:rx']", 'services.a.volumes_from[0]: "b:rx" is not SERVICE, SERVICE:ro, or container:NAME'),
        ("storage_opt: {dm: 1}", 'services.a.storage_opt.dm: there is no storage option "dm"'),
        ("runtime: runsc", 'services.a.runtime: there is no runtime "runsc": pystack runs all containers itself'),
    ],
)  # fmt: skip
def test_what_cannot_be_is_an_error_at_its_place(stack: Stack, body: str, message: str) -> None:
    found = stack.messages(f"services: {{a: {{image: host, {body}}}, b: {{image: host}}}}")
    assert any(text.partition(" ")[2].endswith(message) for text in found), found


def test_options_for_mounts_of_another_type_are_ignored_with_a_warning(stack: Stack) -> None:
    mounts = [
        "{type: volume, source: data, target: /a, bind: {propagation: rshared}, volume: {nocopy: true}}",
        "'./src:/b:nocopy'",
        "{type: tmpfs, target: /c, source: /src, tmpfs: {size: 1m}, image: {}}",
        "'./src:/d:rslave'",
        "data:/e",
        "/f",
    ]
    loaded = stack.load(f"services: {{a: {{image: host, volumes: [{', '.join(mounts)}]}}}}\nvolumes: {{data: {{}}}}\n")
    assert [(item.path, item.message) for item in loaded.warnings] == [
        ("services.a.volumes[0].bind", "ignored: a mount of type volume has no options of bind"),
        ("services.a.volumes[1].volume", "ignored: a mount of type bind has no options of volume"),
        ("services.a.volumes[2].source", "ignored: a mount of type tmpfs has no source"),
    ]


def numeric(shape: Shape | None, steps: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every place of the format where a number may stand."""
    if shape is None:
        return
    if shape.accepts & {"number", "integer"}:
        yield steps
    for name, row in (shape.fields or {}).items():
        yield from numeric(row.shape, (*steps, name))
    yield from numeric(shape.items, (*steps, "[]"))
    yield from numeric(shape.values, (*steps, "*"))


HUGE = str(10**40)
NUMBERS = (
    ".inf", "-.inf", ".nan", "1e400", "-1e400", "-1", HUGE, f"-{HUGE}", "1e308", "1.5", '"1e400"', '"inf"', f'"{HUGE}"'
)  # fmt: skip


def test_no_number_is_too_large_or_too_odd_for_an_answer(stack: Stack) -> None:
    """Each is read, or is an error of the stack's; what is read is JSON."""
    places = set(numeric(TOP))
    assert len(places) > 150
    for steps in sorted(places):
        for number in NUMBERS:
            stack.write("compose.yaml", written(steps, number))
            try:
                json.dumps(load_canonical(stack.request())[0], allow_nan=False)
                load(stack.request())
            except ComposeError:
                continue
