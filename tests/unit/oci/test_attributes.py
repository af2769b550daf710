"""The plain attributes of a service in the OCI config: limits, process, names, mounts' options."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.contracts.network import Address
from orchestrator.errors import InputError
from orchestrator.model.build import Ulimit
from orchestrator.model.limits import BlockIo, DeviceValue, Limits
from orchestrator.model.namespaces import Namespace, Namespaces, Sharing
from orchestrator.model.resolving import Resolving
from orchestrator.model.volume import Mount, MountKind, Owner, Recursion
from orchestrator.runtime.bundle import _UPGRADES
from orchestrator.runtime.owners import asked_owners
from orchestrator.values import replace
from tests.unit.oci.test_oci import ETH0, ETH1, SITE, compiled, config, mount_at, service


def resources(**limits: Any) -> dict[str, Any]:
    found: dict[str, Any] = config(service(limits=Limits(**limits)))["linux"]["resources"]
    return found


def test_limits_of_the_processor() -> None:
    made = resources(
        cpu_shares=500,
        cpu_quota_us=20_000,
        cpu_period_us=50_000,
        realtime_runtime_us=100,
        realtime_period_us=900,
        cpuset="0-1",
    )
    assert made["cpu"] == {
        "shares": 500, "quota": 20_000, "period": 50_000, "realtimeRuntime": 100, "realtimePeriod": 900, "cpus": "0-1"
    }  # fmt: skip
    assert resources(cpus=0.5, cpu_shares=9)["cpu"] == {"shares": 9, "quota": 50_000, "period": 100_000}


def test_limits_of_memory() -> None:
    assert resources(memory_bytes=1 << 26)["memory"] == {"limit": 1 << 26, "swap": 1 << 27}
    made = resources(memory_bytes=1 << 26, memswap_bytes=-1, reservation_bytes=1 << 25, swappiness=0, oom_kill_disable=True)
    assert made["memory"] == {
        "limit": 1 << 26, "swap": -1, "reservation": 1 << 25, "swappiness": 0, "disableOOMKiller": True
    }  # fmt: skip
    assert "memory" not in resources()


def test_limits_of_block_devices_are_by_number() -> None:
    first, second = (DeviceValue("/dev/sda", 7),), (DeviceValue("/dev/sdb", 8),)
    limits = Limits(block_io=BlockIo(300, (DeviceValue("/dev/sda", 20),), read_bps=first, write_iops=second))
    made = config(service(limits=limits), block_devices={"/dev/sda": (8, 0), "/dev/sdb": (8, 16)})["linux"]["resources"]
    assert made["blockIO"] == {
        "weight": 300,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 20}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 7}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 8}],
    }
    with pytest.raises(InputError, match='"/dev/sda" is not a block device of this machine') as caught:
        config(service(limits=limits))
    assert caught.value.place == "services.web.blkio_config"


def test_limits_of_the_process_and_its_oom_score() -> None:
    made = config(service(ulimits=(Ulimit("nofile", 9, 10), Ulimit("core", -1, -1)), oom_score_adj=-5))["process"]
    unlimited = (1 << 64) - 1
    assert made["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 9, "hard": 10}, {"type": "RLIMIT_CORE", "soft": unlimited, "hard": unlimited}
    ]  # fmt: skip
    assert made["oomScoreAdj"] == -5
    assert not {"rlimits", "oomScoreAdj"} & config(service())["process"].keys()


def test_further_groups_by_name_and_number() -> None:
    made = config(service(group_add=("staff", "70000", "staff"), user="redis"))
    assert made["process"]["user"]["additionalGids"] == [106, 50, 110, 70_000]
    assert made["annotations"]["pystack.groups"] == "50 70000"
    with pytest.raises(InputError, match='there is no group "none" in the image') as caught:
        config(service(group_add=("staff", "none")))
    assert caught.value.place == "services.web.group_add[1]"


def test_ids_above_those_of_the_project_are_mapped_too() -> None:
    made = config(service(user="123456789"))
    assert made["process"]["user"]["uid"] == 123_456_789
    assert made["linux"]["uidMappings"][1] == {"containerID": 65536, "hostID": 2**31 + 65536, "size": 2**31 - 1 - 65536}
    for number in (0, 65_535, 65_536, 2**31 - 2):
        assert SITE.ids.inside(SITE.ids.outside(number)) == number
    assert SITE.ids.inside(5) is None


def files(**changes: Any) -> dict[str, str]:
    inputs = {key: changes.pop(key) for key in ("endpoints", "resolv_search", "resolv_options") if key in changes}
    return {file.path: (file.content or b"").decode() for file in compiled(service(**changes), **inputs).files}


def test_a_domain_name() -> None:
    made = files(hostname="me", domainname="example.org", endpoints=(ETH1,))
    assert made["/etc/hosts"].endswith("10.9.2.3\tme.example.org me\n")
    assert made["/etc/hostname"] == "me\n"
    assert config(service(hostname="me", domainname="example.org"))["domainname"] == "example.org"
    with pytest.raises(InputError, match="64 bytes"):
        config(service(domainname="x" * 65))


def test_the_hosts_file_has_the_addresses_of_both_families_and_no_link_local_ones() -> None:
    addresses = (Address("10.9.2.3", 24, "10.9.2.1"), Address("fd00::3", 64, "fd00::1"), Address("fe80::7", 64, ""))
    made = files(hostname="me", endpoints=(replace(ETH1, addresses=addresses),))
    assert made["/etc/hosts"].endswith("\n10.9.2.3\tme\nfd00::3\tme\n")
    alone = files(hostname="me", endpoints=(replace(ETH1, addresses=addresses[1:]),))
    assert alone["/etc/resolv.conf"].startswith("nameserver fd00::1\n")


def test_hosts_of_the_stack_come_before_the_containers_own_and_one_of_them_may_be_this_machine() -> None:
    hosts = Resolving(hosts=(("a", "10.0.0.1"), ("gate", "host-gateway"), ("six", "::1")))
    made = files(resolving=hosts, endpoints=(ETH0, ETH1))["/etc/hosts"]
    assert "10.0.0.1\ta\n10.9.2.1\tgate\n::1\tsix\n10.9.1.3\t" in made
    assert "10.9.1.1\tgate\n" in files(resolving=hosts, endpoints=(ETH0,))["/etc/hosts"]
    with pytest.raises(InputError, match="the container is on no network"):
        files(resolving=hosts)
    shared = Namespaces(network=Namespace(Sharing.HOST))
    assert "127.0.0.1\tgate\n" in files(resolving=hosts, namespaces=shared)["/etc/hosts"]


def test_the_resolver_is_ours_where_there_is_a_network_and_the_stacks_where_there_is_none() -> None:
    wanted = Resolving(("1.1.1.1", "9.9.9.9"), ("a.test", "b.test"), ("timeout:3",))
    host = {"resolv_search": ("host.test",), "resolv_options": ("rotate",)}
    made = files(resolving=wanted, endpoints=(ETH1,), **host)["/etc/resolv.conf"]
    assert made == "nameserver 10.9.2.1\nsearch a.test b.test\noptions timeout:3 ndots:0\n"
    alone = files(resolving=wanted, **host)["/etc/resolv.conf"]
    assert alone.startswith("nameserver 1.1.1.1\nnameserver 9.9.9.9\n")
    assert "search" not in files(resolving=Resolving(search=(".",)), **host)["/etc/resolv.conf"]
    assert files(resolving=Resolving(options=("ndots:2",)))["/etc/resolv.conf"] == "options ndots:2\n"


def test_the_size_of_shared_memory_and_the_options_of_a_tmpfs() -> None:
    assert "size=1048576" in mount_at(config(service(shm_bytes=1 << 20)), "/dev/shm")["options"]
    tmpfs = Mount(MountKind.TMPFS, "/t", options=("exec", "size=10%", "uid=7"))
    made = mount_at(config(service(volumes=(tmpfs,))), "/t")["options"]
    assert made == ["nosuid", "noexec", "nodev", "mode=1777", "exec", "size=10%", "uid=7", "rw"]


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, ["rbind", "rprivate", "rnodev", "idmap"]),
        ({"propagation": "rslave"}, ["rbind", "rslave", "rnodev", "idmap"]),
        ({"recursive": Recursion.DISABLED, "read_only": True}, ["bind", "rprivate", "rnodev", "idmap", "ro"]),
        ({"recursive": Recursion.WRITABLE, "read_only": True}, ["rbind", "rprivate", "rnodev", "idmap", "ro"]),
        ({"read_only": True}, ["rbind", "rprivate", "rnodev", "idmap", "ro", "rro"]),
        ({"owner": Owner.SOURCE}, ["rbind", "rprivate", "rnodev", "idmap"]),
        ({"owner": Owner.KEEP}, ["rbind", "rprivate", "rnodev"]),
    ],
)
def test_options_of_a_bind(changes: dict[str, Any], options: list[str]) -> None:
    bind = Mount(MountKind.BIND, "/t", "/s", **changes)
    assert mount_at(config(service(volumes=(bind,))), "/t")["options"] == options


def test_binds_whose_owners_depend_on_their_source_are_an_order() -> None:
    volumes = tuple(Mount(MountKind.BIND, f"/{owner.name}", "/s", owner=owner) for owner in Owner)
    made = config(service(volumes=(*volumes, Mount(MountKind.TMPFS, "/t"))))
    assert json.loads(made["annotations"]["pystack.bind.owner"]) == {"/BY_SOURCE": "by source", "/SOURCE": "source"}
    assert asked_owners(made) == {"/BY_SOURCE": "by source", "/SOURCE": "source"}
    assert "pystack.bind.owner" not in config(service())["annotations"]


def test_the_owner_of_a_source_cannot_be_anybody_without_a_user_namespace() -> None:
    hosts = Namespaces(user=Namespace(Sharing.HOST))
    plain = Mount(MountKind.BIND, "/t", "/s")
    assert "pystack.bind.owner" not in config(service(namespaces=hosts, volumes=(plain,)))["annotations"]
    asked = Mount(MountKind.BIND, "/t", "/s", owner=Owner.SOURCE, place="services.web.volumes[0]")
    with pytest.raises(InputError, match="needs a user namespace") as caught:
        config(service(namespaces=hosts, volumes=(asked,)))
    assert caught.value.place == "services.web.volumes[0]"


def test_relabelling_is_refused_where_there_is_selinux_and_means_nothing_elsewhere() -> None:
    bind = Mount(MountKind.BIND, "/t", "/s", relabel="Z", place="services.web.volumes[0]")
    assert mount_at(config(service(volumes=(bind,))), "/t")
    with pytest.raises(InputError, match="this machine has SELinux, and /s is not relabelled"):
        config(service(volumes=(bind,)), selinux=True)


def test_annotations_and_the_size_of_the_writable_layer() -> None:
    made = config(service(annotations={"a": "b", "pystack.init": "true"}, storage_bytes=9))["annotations"]
    assert made["a"] == "b"
    assert "pystack.init" not in made  # An annotation of the stack cannot give an order.
    assert made["pystack.storage.bytes"] == "9"


def test_bundles_of_before_keep_what_their_options_meant() -> None:
    bind = {"destination": "/t", "type": "bind", "options": ["rbind", "rprivate", "nodev", "idmap", "rw"]}
    other = {"destination": "/dev/shm", "type": "tmpfs", "options": ["nosuid", "nodev"]}
    upgraded = _UPGRADES[2]({"version": 2, "config": {"mounts": [bind, other]}})
    assert upgraded["config"]["mounts"][0]["options"] == ["rbind", "rprivate", "rnodev", "idmap"]
    assert upgraded["config"]["mounts"][1] == other
