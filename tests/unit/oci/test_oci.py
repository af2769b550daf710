"""Service + image -> OCI runtime config. The golden files are whole configs without the seccomp profile, which has its own
tests; write them anew with ``PYSTACK_REGOLD=1 pytest tests/unit/oci`` and read the difference."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contracts.images import Image, ImageConfig, ImageMount
from orchestrator.contracts.network import Address, Endpoint
from orchestrator.contracts.runtime import GeneratedFile, SandboxSpec, VolumeFill
from orchestrator.contracts.site import IdMap, Site
from orchestrator.errors import InputError
from orchestrator.kernel.caps import CAPABILITIES
from orchestrator.model.granted import GrantedFile
from orchestrator.model.health import HealthCheck
from orchestrator.model.limits import Limits
from orchestrator.model.names import ContainerId, NetworkName, ProjectKey, ProjectName, ServiceName, cgroup_path
from orchestrator.model.namespaces import Namespace, Namespaces, Sharing
from orchestrator.model.resolving import HOST_GATEWAY, Resolving
from orchestrator.model.service import Service
from orchestrator.model.volume import Mount, MountKind
from orchestrator.oci.compile import command_of, compile_sandbox
from orchestrator.oci.confinement import DEFAULT_CAPABILITIES
from orchestrator.oci.inputs import SandboxInputs
from orchestrator.oci.terms import NAMESPACES
from orchestrator.oci.validate import validate
from orchestrator.plan.healthcheck import healthcheck_of
from orchestrator.values import replace

GOLDEN = Path(__file__).parent
SITE = Site(ProjectName("shop"), ProjectKey("0123abcd"), "/data/projects/shop", "/run/shop", IdMap(1_000_000))
HOST = Image(
    "host",
    "sha256:feed",
    ("/data/images/host-feed",),
    mounts=(ImageMount("/usr", "/usr"),),
    passwd=b"root:x:0:0:root:/root:/bin/sh\nredis:x:104:106::/var/lib/redis:/usr/sbin/nologin\n",
    group=b"root:x:0:\nredis:x:106:\nssl-cert:x:110:postgres,redis\nstaff:x:50:redis\n",
    no_new_privileges=True,
)
APP = Image(
    "rootfs:app",
    "sha256:beef",
    ("/images/top", "/images/base"),
    ImageConfig(
        entrypoint=("/entry",),
        command=("serve",),
        environment={"LANG": "C.UTF-8", "PATH": "/app/bin:/usr/bin"},
        working_dir="/app/",
        user="1000:1000",
        stop_signal="SIGQUIT",
        healthcheck=HealthCheck(("/bin/check",), interval_s=7.0),
        volumes=("/var/cache",),
    ),
)
ETH0 = Endpoint(NetworkName("back"), (Address("10.9.1.3", 24, "10.9.1.1"),), "02:00:00:00:00:01", "eth0", ("web",), True)
ETH1 = Endpoint(NetworkName("front"), (Address("10.9.2.3", 24, "10.9.2.1"),), "02:00:00:00:00:02", "eth1", ("web",))


def service(**changes: Any) -> Service:
    return replace(Service(ServiceName("web"), "host", command=("sleep", "1")), **changes)


def compiled(wanted: Service, image: Image = HOST, **changes: Any) -> SandboxSpec:
    return compile_sandbox(SandboxInputs(SITE, ContainerId("shop-web-1"), wanted, image, **changes))


def config(wanted: Service, image: Image = HOST, **changes: Any) -> dict[str, Any]:
    return compiled(wanted, image, **changes).config


def with_config(image: Image, **changes: Any) -> Image:
    return replace(image, config=replace(image.config, **changes))


def mount_at(wanted: dict[str, Any], target: str) -> dict[str, Any]:
    (found,) = [mount for mount in wanted["mounts"] if mount["destination"] == target]
    return dict(found)


FULL = Service(
    ServiceName("web"),
    "rootfs:app",
    command=("serve", "--fast"),
    environment={"MODE": "prod", "LANG": "de_DE.UTF-8"},
    user="1000",
    hostname="web.shop.test",
    volumes=(
        Mount(MountKind.VOLUME, "/var/lib/data/", "data"),
        Mount(MountKind.VOLUME, "/var/lib/keep", "keep", nocopy=True, read_only=True),
        Mount(MountKind.BIND, "/srv", "/home/me/site", read_only=True, create_host_path=True),
        Mount(MountKind.TMPFS, "/run", tmpfs_size_bytes=1 << 20, tmpfs_mode=0o700),
    ),
    limits=Limits(cpus=1.5, memory_bytes=64 << 20, pids=100),
    read_only=True,
    init=True,
    labels={"tier": "front"},
)
FULL_PATHS = {"/var/lib/data": "/v/data", "/var/lib/keep": "/v/keep", "/var/cache": "/v/anon"}


@pytest.mark.parametrize("name", ["plain", "full"])
def test_the_config_is_the_golden_one(name: str) -> None:
    made = compiled(service(), endpoints=(ETH1,)) if name == "plain" else compiled(FULL, APP, volume_paths=FULL_PATHS)
    config = dict(made.config)
    config["linux"] = {key: value for key, value in config["linux"].items() if key != "seccomp"}
    path = GOLDEN / f"{name}.json"
    if os.environ.get("PYSTACK_REGOLD") == "1":
        path.write_text(json.dumps(config, indent=2) + "\n")
    assert config == json.loads(path.read_text())


def test_the_layers_and_the_container_are_passed_on() -> None:
    made = compiled(FULL, APP, volume_paths=FULL_PATHS)
    assert made.container == "shop-web-1"
    assert made.lowers == ("/images/top", "/images/base")


def test_volumes_are_filled_from_the_image_unless_nocopy_or_the_host_image() -> None:
    made = compiled(FULL, APP, volume_paths=FULL_PATHS)
    assert set(made.fills) == {VolumeFill("/var/cache", "/v/anon"), VolumeFill("/var/lib/data", "/v/data")}
    on_host = service(volumes=(Mount(MountKind.VOLUME, "/data", "data"),))
    assert compiled(on_host, volume_paths={"/data": "/v/data"}).fills == ()


def test_the_generated_files_carry_addresses_names_and_our_dns() -> None:
    files = {
        file.path: (file.content or b"").decode()
        for file in compiled(
            service(hostname="web.shop.test"),
            endpoints=(ETH0, ETH1),
            resolv_search=("corp.test",),
            resolv_options=("timeout:1", "ndots:5"),
        ).files
    }
    assert files["/etc/hostname"] == "web.shop.test\n"
    assert "127.0.0.1\tlocalhost\n" in files["/etc/hosts"]
    assert files["/etc/hosts"].endswith("10.9.1.3\tweb.shop.test web\n10.9.2.3\tweb.shop.test web\n")
    assert files["/etc/resolv.conf"] == "nameserver 10.9.2.1\nsearch corp.test\noptions timeout:1 ndots:0\n"


def test_the_name_server_is_the_networks_own_and_of_older_records_the_gateway() -> None:
    own = replace(ETH1, resolver="10.9.2.254")
    for endpoints, server in (((ETH0, own), "10.9.2.254"), ((ETH0, ETH1), "10.9.2.1"), ((ETH0,), "10.9.1.1")):
        files = {file.path: (file.content or b"").decode() for file in compiled(service(), endpoints=endpoints).files}
        assert files["/etc/resolv.conf"] == f"nameserver {server}\noptions ndots:0\n"
    gateway = service(resolving=Resolving(hosts=(("host", "host-gateway"),)))
    hosts = {file.path: (file.content or b"").decode() for file in compiled(gateway, endpoints=(own,)).files}["/etc/hosts"]
    assert "10.9.2.1\thost\n" in hosts


def test_on_networks_that_the_host_is_on_too_the_gateway_is_neither_the_name_server_nor_this_machine() -> None:
    lan = Endpoint(NetworkName("lan"), (Address("192.0.2.9", 24, "192.0.2.1"),), "02:00:00:00:00:03", "eth0", outer=True)
    named = service(resolving=Resolving(hosts=(("host", "host-gateway"),), servers=("192.0.2.53",)))
    with pytest.raises(InputError, match='"host-gateway" has no address: the container is on no network of this machine'):
        compiled(named, endpoints=(lan,))
    files = {file.path: (file.content or b"").decode() for file in compiled(named, endpoints=(lan, ETH1)).files}
    assert files["/etc/resolv.conf"].startswith("nameserver 10.9.2.1\n")
    assert "10.9.2.1\thost\n" in files["/etc/hosts"]
    assert "192.0.2.9\t" in files["/etc/hosts"]
    asked = service(resolving=Resolving(servers=("192.0.2.53",)))
    alone = {file.path: (file.content or b"").decode() for file in compiled(asked, endpoints=(lan,)).files}
    assert alone["/etc/resolv.conf"].startswith("nameserver 192.0.2.53\n")


def test_dns_of_internal_networks_alone_is_still_ours_and_without_a_network_there_is_none() -> None:
    files = {file.path: file.content for file in compiled(service(), endpoints=(ETH0,)).files}
    assert files["/etc/resolv.conf"] == b"nameserver 10.9.1.1\noptions ndots:0\n"
    alone = {file.path: file.content or b"" for file in compiled(service()).files}
    assert alone["/etc/resolv.conf"] == b"options ndots:0\n"
    assert alone["/etc/hosts"].endswith(b"127.0.1.1\tshop-web-1\n")


def test_a_file_that_the_stack_mounts_is_not_generated() -> None:
    own = service(volumes=(Mount(MountKind.BIND, "/etc/hosts", "/home/me/hosts"),))
    assert {file.path for file in compiled(own).files} == {"/etc/hostname", "/etc/resolv.conf"}


@pytest.mark.parametrize(
    ("entrypoint", "command", "expected"),
    [
        (None, None, ("/entry", "serve")),
        (None, ("other",), ("/entry", "other")),
        (None, (), ("/entry",)),
        (("/mine",), None, ("/mine",)),
        (("/mine",), ("arg",), ("/mine", "arg")),
        ((), ("sh", "-c", "x"), ("sh", "-c", "x")),
        ((), None, ("serve",)),
    ],
)
def test_entrypoint_and_command_combine_as_docker_does(
    entrypoint: tuple[str, ...] | None, command: tuple[str, ...] | None, expected: tuple[str, ...]
) -> None:
    assert command_of(service(entrypoint=entrypoint, command=command), APP) == expected


def test_no_command_at_all_is_an_error_with_the_service_and_a_hint() -> None:
    with pytest.raises(InputError, match=r"services\.web: no command") as caught:
        compiled(service(command=None))
    assert caught.value.hint == "add `command:` to the service"


def test_names_are_resolved_by_the_image_with_supplementary_groups() -> None:
    process = config(service(user="redis"))["process"]
    assert process["user"] == {"uid": 104, "gid": 106, "umask": 18, "additionalGids": [106, 50, 110]}
    assert "HOME=/var/lib/redis" in process["env"]
    assert process["capabilities"]["effective"] == []
    assert len(process["capabilities"]["bounding"]) == 11


@pytest.mark.parametrize(
    ("added", "dropped", "expected"),
    [
        (("CAP_NET_ADMIN",), (), {*DEFAULT_CAPABILITIES, "CAP_NET_ADMIN"}),
        ((), ("CAP_CHOWN", "CAP_NET_ADMIN"), {*DEFAULT_CAPABILITIES} - {"CAP_CHOWN"}),
        (("CAP_CHOWN",), ("CAP_CHOWN",), {*DEFAULT_CAPABILITIES}),
        (("CAP_KILL",), ("ALL",), {"CAP_KILL"}),
        ((), ("ALL",), set()),
        (("ALL",), ("CAP_SYS_ADMIN",), {*CAPABILITIES} - {"CAP_SYS_ADMIN"}),
        (("ALL",), ("ALL",), {*CAPABILITIES}),
    ],
)
def test_capabilities_are_added_and_dropped_as_docker_does(
    added: tuple[str, ...], dropped: tuple[str, ...], expected: set[str]
) -> None:
    sets = config(service(user="0", cap_add=added, cap_drop=dropped))["process"]["capabilities"]
    assert set(sets["bounding"]) == set(sets["effective"]) == set(sets["permitted"]) == expected


def test_an_explicit_group_is_the_only_one() -> None:
    assert config(service(user="redis:staff"))["process"]["user"]["additionalGids"] == [50]


@pytest.mark.parametrize(
    "user", ["nobody-here", "redis:nogroup", "2147483647", "0:2147483647", "-1", "4294967295"]
)
def test_a_user_that_cannot_be_is_an_error_at_its_place(user: str) -> None:
    with pytest.raises(InputError, match=r"services\.web\.user: ") as caught:
        compiled(service(user=user))
    assert caught.value.hint


def test_a_stack_may_set_home_and_path() -> None:
    env = config(service(environment={"HOME": "/x", "PATH": "/y"}))["process"]["env"]
    assert [entry for entry in env if entry.startswith(("HOME=", "PATH="))] == ["PATH=/y", "HOME=/x"]


def test_the_hostname_is_the_container_unless_set_and_fits_a_dns_label() -> None:
    assert config(service())["hostname"] == "shop-web-1"
    long = compile_sandbox(SandboxInputs(SITE, ContainerId("p" * 70 + "-web-1"), service(), HOST))
    assert long.config["hostname"] == "p" * 63
    with pytest.raises(InputError, match="hostname"):
        compiled(service(hostname="h" * 65))


def test_binds_are_mapped_and_let_no_device_open_but_those_that_everyone_has() -> None:
    bind = mount_at(config(service(volumes=(Mount(MountKind.BIND, "/data//x/../y", "/src"),))), "/data/y")
    assert bind["source"] == "/src"
    assert {"idmap", "rnodev", "rbind", "rprivate"} == set(bind["options"])
    hidden = mount_at(config(service(volumes=(Mount(MountKind.BIND, "/etc/some", "/dev/null", True),))), "/etc/some")
    assert {"ro", "rro", "rbind", "rprivate"} == set(hidden["options"])  # As `devices:` would have it.
    usr = mount_at(config(service()), "/usr")
    assert {"ro", "rro", "idmap", "rnodev", "rnosuid", "rbind", "rprivate"} == set(usr["options"])


def test_a_mount_of_the_stack_replaces_ours_at_the_same_place_and_parents_come_first() -> None:
    shm = Mount(MountKind.TMPFS, "/dev/shm", tmpfs_size_bytes=1 << 30)
    deep = Mount(MountKind.BIND, "/a/b/c", "/deep")
    shallow = Mount(MountKind.BIND, "/a", "/shallow")
    made = config(service(volumes=(deep, shm, shallow)))
    assert "size=1073741824" in mount_at(made, "/dev/shm")["options"]
    targets = [mount["destination"] for mount in made["mounts"]]
    assert targets.index("/a") < targets.index("/a/b/c")
    assert targets[0] == "/proc"
    sys = config(service(volumes=(Mount(MountKind.BIND, "/sys", "/sys", read_only=True),)))
    assert "/sys/fs/cgroup" not in [mount["destination"] for mount in sys["mounts"]]


@pytest.mark.parametrize("target", ["relative", "/", "/proc", "/proc/sys", "/dev", "/x/../proc/1", "//"])
def test_targets_that_would_undo_the_confinement_are_refused_at_their_place(target: str) -> None:
    mount = Mount(MountKind.BIND, target, "/src", place="services.web.volumes[0]")
    with pytest.raises(InputError, match=r"services\.web\.volumes\[0\]: "):
        compiled(service(volumes=(mount,)))


def test_limits_default_to_2048_processes_and_minus_one_is_none() -> None:
    assert config(service())["linux"]["resources"] == {"pids": {"limit": 2048}}
    assert config(service(limits=Limits(pids=-1)))["linux"]["resources"]["pids"] == {"limit": -1}


@pytest.mark.parametrize("limits", [Limits(memory_bytes=4096), Limits(cpus=0.001)])
def test_limits_too_small_to_live_with_are_refused(limits: Limits) -> None:
    with pytest.raises(InputError, match=r"services\.web\.(mem_limit|cpus): "):
        compiled(service(limits=limits))


def test_a_relative_working_directory_is_refused() -> None:
    with pytest.raises(InputError, match="working_dir"):
        compiled(service(working_dir="app"))


def test_each_processor_the_host_has_is_masked() -> None:
    masked = config(service(), host_cpus=2)["linux"]["maskedPaths"]
    assert "/sys/devices/system/cpu/cpu1/thermal_throttle" in masked
    assert "/sys/devices/system/cpu/cpu2/thermal_throttle" not in masked
    assert {"/proc/kcore", "/proc/keys", "/proc/interrupts", "/sys/devices/virtual/powercap"} <= set(masked)


def test_the_health_check_of_the_service_wins_and_takes_the_image_s_test() -> None:
    assert healthcheck_of(service(), HOST) is None
    assert healthcheck_of(service(), APP) == HealthCheck(("/bin/check",), 7.0, 30.0, 3, 0.0, 5.0)
    slower = HealthCheck(interval_s=60.0)
    assert healthcheck_of(service(healthcheck=slower), APP) == HealthCheck(("/bin/check",), 60.0, 30.0, 3, 0.0, 5.0)
    assert healthcheck_of(service(healthcheck=slower), HOST) is None
    assert healthcheck_of(service(healthcheck=HealthCheck(disabled=True)), APP) is None


def test_what_a_health_check_of_the_service_does_not_say_the_image_says() -> None:
    own = HealthCheck(("/bin/true",), retries=9)
    assert healthcheck_of(service(healthcheck=own), APP) == HealthCheck(("/bin/true",), 7.0, 30.0, 9, 0.0, 5.0)
    assert healthcheck_of(service(healthcheck=own), HOST) == HealthCheck(("/bin/true",), 30.0, 30.0, 9, 0.0, 5.0)


def test_an_image_may_say_that_it_has_no_health_check() -> None:
    none = with_config(APP, healthcheck=HealthCheck(disabled=True))
    assert healthcheck_of(service(), none) is None
    assert healthcheck_of(service(healthcheck=HealthCheck(interval_s=1.0)), none) is None
    own = HealthCheck(("/bin/true",))
    assert healthcheck_of(service(healthcheck=own), none) == own.with_defaults()


def test_the_text_of_a_health_check_is_run_by_the_image_s_shell() -> None:
    bash = with_config(APP, shell=("/bin/bash", "-ec"))
    text = HealthCheck(("/bin/sh", "-c", "probe x"), shell=True)
    found = [healthcheck_of(service(healthcheck=text), image) for image in (APP, bash)]
    assert [check.test for check in found if check] == [("/bin/sh", "-c", "probe x"), ("/bin/bash", "-ec", "probe x")]
    exact = healthcheck_of(service(healthcheck=HealthCheck(("/bin/sh", "-c", "probe x"))), bash)
    assert exact is not None
    assert exact.test == ("/bin/sh", "-c", "probe x")


def test_labels_of_the_image_stand_below_those_of_the_service_and_are_never_orders() -> None:
    labels = {"tier": "back", "maker": "me", "pystack.init": "true", "com.docker.compose.project": "x"}
    labelled = with_config(APP, labels=labels)
    notes = config(service(labels={"tier": "front"}), labelled, volume_paths=FULL_PATHS)["annotations"]
    assert (notes["tier"], notes["maker"]) == ("front", "me")
    assert notes["com.docker.compose.project"] == "shop"
    assert "pystack.init" not in notes


def test_a_volume_of_the_image_is_where_it_says_unless_the_stack_mounts_something_there() -> None:
    slash = with_config(APP, volumes=("/var/cache/",))
    assert mount_at(config(service(), slash, volume_paths={"/var/cache": "/v/anon"}), "/var/cache")["source"] == "/v/anon"
    tmpfs = service(volumes=(Mount(MountKind.TMPFS, "/var/cache"),))
    assert mount_at(config(tmpfs, slash), "/var/cache")["type"] == "tmpfs"


@pytest.mark.parametrize("target", ["/", "/proc", "/proc/sys", "/dev"])
def test_a_volume_of_an_image_that_would_undo_the_confinement_is_refused(target: str) -> None:
    with pytest.raises(InputError, match='volume of the image "rootfs:app": nothing can be mounted at'):
        compiled(service(), with_config(APP, volumes=(target,)), volume_paths={target: "/v"})


def test_a_missing_volume_directory_is_a_bug_and_not_an_error() -> None:
    with pytest.raises(AssertionError, match="/data"):
        compiled(service(volumes=(Mount(MountKind.VOLUME, "/data", "data"),)))


def test_a_folder_of_a_volume_or_an_image_is_named_to_the_runtime() -> None:
    mounts = (
        Mount(MountKind.VOLUME, "/part/", "data", subpath="a//b/"),
        Mount(MountKind.VOLUME, "/whole", "data", subpath="."),
        Mount(MountKind.IMAGE, "/image", "tools:1", True, subpath="usr/share"),
    )
    made = compiled(
        service(volumes=mounts),
        APP,
        volume_paths={"/part/": "/v/data", "/whole": "/v/data", "/var/cache": "/v/anon"},
        mounted_images={"tools:1": replace(APP, lowers=("/l/2", "/l/1"))},
    )
    found = {mount["destination"]: mount for mount in made.config["mounts"]}
    assert (found["/part"]["source"], found["/whole"]["source"]) == ("/v/data/a/b", "/v/data")
    assert found["/image"]["type"] == "overlay"
    assert found["/image"]["options"] == ["ro", "nodev", "lowerdir+=/l/2", "lowerdir+=/l/1"]
    assert json.loads(made.config["annotations"]["pystack.mount.subpath"]) == {"/part": "a/b", "/image": "usr/share"}
    assert {fill.image_path for fill in made.fills} == {"/var/cache"}


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ({}, 'the image "tools:1" is gone'),
        ({"tools:1": HOST}, 'the image "tools:1" is parts of this machine, and cannot be mounted'),
    ],
)
def test_an_image_that_cannot_be_mounted_is_an_error_with_its_place(images: dict[str, Image], said: str) -> None:
    mount = Mount(MountKind.IMAGE, "/image", "tools:1", True, place="services.web.volumes[0]")
    with pytest.raises(InputError) as caught:
        compiled(service(volumes=(mount,)), APP, volume_paths={"/var/cache": "/v/anon"}, mounted_images=images)
    assert (caught.value.message, caught.value.place) == (said, "services.web.volumes[0]")


def test_a_granted_file_of_the_hosts_is_bound_read_only_and_others_are_made() -> None:
    files = (
        GrantedFile("/run/secrets/s", source="/home/me/s"),
        GrantedFile("/run/secrets/e", variable="E", content="t\udc80", uid=7, gid=8, mode=0o400),
        GrantedFile("/etc/hosts", content="mine"),
        GrantedFile("/kept", variable="K"),
        GrantedFile("/mine"),
    )
    spec = compiled(service(files=files, volumes=(Mount(MountKind.BIND, "/mine", "/srv"),)))
    bound = mount_at(spec.config, "/run/secrets/s")
    assert (bound["type"], bound["source"]) == ("bind", "/home/me/s")
    assert {"ro", "idmap"} <= set(bound["options"])
    assert [file.path for file in spec.files[:2]] == ["/etc/hostname", "/etc/resolv.conf"]
    assert spec.files[2:] == (
        GeneratedFile("/run/secrets/e", b"t\x80", 0o400, 7, 8),
        GeneratedFile("/etc/hosts", b"mine", 0o444),
        GeneratedFile("/kept", None, 0o444),
    )


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (GrantedFile("/", 'config "c"', place="P"), 'P: the config "c": nothing can be mounted at "/"'),
        (GrantedFile("/proc/x", 'config "c"', "/x", place="P"), 'P: the config "c": nothing can be mounted at "/proc/x"'),
        (
            GrantedFile("/c", gid=2**31 - 1, place="P"),
            "P: id 2147483647 is above 2147483646, the highest that a container has",
        ),
    ],
)
def test_a_granted_file_that_cannot_be_is_an_error_at_its_place(file: GrantedFile, message: str) -> None:
    with pytest.raises(InputError) as caught:
        compiled(service(files=(file,)))
    assert str(caught.value) == message


def shared(**namespaces: Namespace) -> Service:
    return Service(ServiceName("web"), "host", command=("x",), namespaces=replace(Namespaces(), **namespaces))


def types(spec: SandboxSpec) -> set[str]:
    return {item["type"] for item in spec.config["linux"]["namespaces"]}


HOSTS = Namespace(Sharing.HOST)
BOX = ContainerId("shop-web-1")


@pytest.mark.parametrize(("key", "value"), [("user", "2147483647"), ("group_add", ("5", "2147483647"))])
def test_an_id_that_no_container_has_is_an_error_at_the_attribute_that_names_it(key: str, value: object) -> None:
    changes: dict[str, Any] = {key: value}
    service = replace(shared(), **changes)
    with pytest.raises(InputError, match="id 2147483647 is above 2147483646") as caught:
        compile_sandbox(SandboxInputs(SITE, BOX, service, HOST))
    assert caught.value.place == f"{service.place}.{key}"


def test_the_hosts_user_namespace_has_no_ids_of_its_own() -> None:
    service = replace(shared(user=HOSTS), user="70000:7", volumes=(Mount(MountKind.BIND, "/t", "/s"),))
    spec = compile_sandbox(SandboxInputs(SITE, BOX, service, HOST))
    linux = spec.config["linux"]
    assert types(spec) == {"network", "pid", "mount", "uts", "ipc", "cgroup"}
    assert not {"uidMappings", "gidMappings"} & linux.keys()
    assert linux["sysctl"]["net.ipv4.ping_group_range"] == "0 2147483647"
    assert not any("idmap" in mount["options"] for mount in spec.config["mounts"])
    assert spec.config["process"]["user"]["uid"] == 70_000


@pytest.mark.parametrize("kind", ["network", "pid", "ipc"])
def test_what_is_of_use_to_the_machines_root_alone_brings_its_user_namespace(kind: str) -> None:
    spec = compile_sandbox(SandboxInputs(SITE, BOX, shared(**{kind: HOSTS}), HOST))
    assert not {"user", kind} & types(spec)
    validate(spec.config, SITE.ids, cgroup_path(SITE.key, BOX))


def test_the_hosts_network_has_the_hosts_names_and_its_own_kernel_parameters() -> None:
    files = {"/etc/hosts": b"10.0.0.1 machine\n", "/etc/resolv.conf": b"nameserver 10.0.0.2\n"}
    inputs = SandboxInputs(SITE, BOX, shared(network=HOSTS), HOST, host_name="machine", host_files=files)
    spec = compile_sandbox(inputs)
    assert {file.path: file.content for file in spec.files} == {**files, "/etc/hostname": b"machine\n"}
    assert "sysctl" not in spec.config["linux"]
    assert "HOSTNAME=machine" in spec.config["process"]["env"]


def test_beside_the_hosts_names_and_resolver_stand_those_that_the_service_says() -> None:
    files = {
        "/etc/hosts": b"10.0.0.1 machine",
        "/etc/resolv.conf": b"domain lan\nnameserver 10.0.0.2\nsearch a b\noptions rotate\n",
        "/etc/hostname": b"machine\n",
    }
    hosts = (("out", "1.2.3.4"), ("here", HOST_GATEWAY))

    def made(resolving: Resolving, hostname: str | None = None) -> list[bytes | None]:
        service = replace(shared(network=HOSTS), resolving=resolving, hostname=hostname)
        spec = compile_sandbox(SandboxInputs(SITE, BOX, service, HOST, host_name="machine", host_files=files))
        by_path = {file.path: file.content for file in spec.files}
        return [by_path[path] for path in files]

    assert made(Resolving(hosts=hosts), "own") == [
        b"10.0.0.1 machine\n1.2.3.4\tout\n127.0.0.1\there\n",
        files["/etc/resolv.conf"],
        b"own\n",
    ]
    assert made(Resolving(servers=("9.9.9.9",), search=("c",)))[1] == b"options rotate\nnameserver 9.9.9.9\nsearch c\n"
    assert made(Resolving(options=("use-vc",), search=(".",)))[1] == b"nameserver 10.0.0.2\noptions use-vc\n"


def test_anothers_network_has_its_names() -> None:
    inputs = SandboxInputs(SITE, BOX, shared(network=Namespace(Sharing.SERVICE, "db")), HOST)
    spec = compile_sandbox(replace(inputs, shares={"network": ContainerId("shop-db-1")}, host_name="db"))
    assert {file.path: file.content for file in spec.files} == dict.fromkeys(
        ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
    )
    assert spec.shares == {"network": "shop-db-1"}
    assert (types(spec), spec.config["hostname"], "sysctl" in spec.config["linux"]) == (set(NAMESPACES), "db", False)


def test_ipc_says_what_dev_shm_is() -> None:
    def shm(namespace: Namespace) -> list[dict[str, Any]]:
        spec = compile_sandbox(SandboxInputs(SITE, BOX, shared(ipc=namespace), HOST))
        return [mount for mount in spec.config["mounts"] if mount["destination"] == "/dev/shm"]

    assert [mount["type"] for mount in shm(Namespace())] == ["tmpfs"]
    assert [(mount["type"], mount["source"]) for mount in shm(HOSTS)] == [("bind", "/dev/shm")]
    assert shm(Namespace(Sharing.NONE)) == []


def test_the_hosts_uts_namespace_keeps_its_name_and_a_parent_cgroup_comes_first() -> None:
    service = replace(shared(uts=HOSTS, cgroup=HOSTS), cgroup_parent="apps/web")
    spec = compile_sandbox(SandboxInputs(SITE, BOX, service, HOST))
    assert "hostname" not in spec.config
    assert types(spec) == set(NAMESPACES) - {"uts", "cgroup"}
    assert spec.config["linux"]["cgroupsPath"] == f"/apps/web/pystack/{SITE.key}/{BOX}"
    validate(spec.config, SITE.ids, cgroup_path(SITE.key, BOX))
    spec.config["linux"]["cgroupsPath"] = f"/apps/../pystack/{SITE.key}/{BOX}"
    with pytest.raises(InputError, match="cgroupsPath"):
        validate(spec.config, SITE.ids, cgroup_path(SITE.key, BOX))
