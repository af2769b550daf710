"""An OCI config becomes a flat list of steps, in an order that keeps the promises of the security page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.contracts.runtime import GeneratedFile, OciConfig, SandboxSpec
from orchestrator.errors import InputError, OperationError
from orchestrator.model.names import ContainerId
from orchestrator.oci.terms import NAMESPACES
from orchestrator.runtime.monitor.steps import STEPS
from orchestrator.runtime.monitor.wire import VERSION
from orchestrator.runtime.program import Program
from orchestrator.runtime.programs import Context, Hierarchy, compile_exec, compile_start
from orchestrator.values import fields, replace

MEMORY = Hierarchy("memory", ("memory",))
CONTEXT = Context("/data/containers/box", 100_000, (7, 3), True, (MEMORY,), 40, lambda profile: b"\x06" * 8)
PROCESS: dict[str, Any] = {
    "user": {"uid": 5, "gid": 6, "additionalGids": [6, 7]},
    "args": ["serve", "--now"],
    "env": ["A=1"],
    "cwd": "/srv",
    "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
}
OWN = [{"type": kind} for kind in NAMESPACES]
MOUNTS = [
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
    {"destination": "/data", "type": "bind", "source": "/host/data", "options": ["rbind", "idmap", "ro", "rro"]},
]


def spec(linux: dict[str, Any] | None = None, process: dict[str, Any] | None = None, **config: Any) -> SandboxSpec:
    linux = {"namespaces": OWN} | (linux or {})
    oci = OciConfig({"process": process or PROCESS, "mounts": MOUNTS, "linux": linux, "hostname": "h", **config})
    return SandboxSpec(ContainerId("box"), ("/a", "/b"), oci, files=(GeneratedFile("/etc/hosts", b""),))


def names(program: Program) -> list[str]:
    return [step.name for step in program.steps]


def find(program: Program, name: str) -> tuple[Any, ...]:
    (step,) = (step for step in program.steps if step.name == name)
    return step.arguments


def test_every_step_is_known_to_the_monitor_and_survives_json() -> None:
    everything = {"seccomp": {"x": 1}, "sysctl": {"net.ipv4.x": "1"}, "maskedPaths": ["/m"], "readonlyPaths": ["/r"]}
    program = compile_start(
        spec(everything, root={"readonly": True}, annotations={"pystack.init": "true"}), CONTEXT
    )
    assert set(names(program)) <= STEPS.keys()
    assert json.loads(program.encode()) == [[step.name, *map(_listed, step.arguments)] for step in program.steps]
    assert all(step.describe() for step in program.steps)


def _listed(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_host_operations_come_before_the_namespaces_and_the_program_comes_last() -> None:
    order = names(compile_start(spec(), CONTEXT))
    assert order.index("overlay") < order.index("to_host") < order.index("bind") < order.index("to_home")
    assert order.index("to_home") < order.index("enter") < order.index("take_root") < order.index("pivot")
    assert order[-1] == "execute"


def test_the_cgroups_are_entered_before_they_are_mounted_and_in_any_case() -> None:
    order = names(compile_start(spec(), CONTEXT))
    cgroup = next(n for n, step in enumerate(compile_start(spec(), CONTEXT).steps) if step.arguments[:1] == ("cgroup",))
    assert order.index("joined") < cgroup
    assert names(compile_start(spec(mounts=[]), CONTEXT)).count("joined") == 1


def test_the_filter_is_installed_while_it_is_allowed() -> None:
    """Without no_new_privs it needs a capability, so it comes before the identity; with it, as late as possible."""
    plain = names(compile_start(spec({"seccomp": {}}), CONTEXT))
    strict = names(compile_start(spec({"seccomp": {}}, {**PROCESS, "noNewPrivileges": True}), CONTEXT))
    assert plain.index("seccomp") < plain.index("identity") < plain.index("capabilities")
    assert strict.index("no_new_privileges") < strict.index("capabilities") < strict.index("seccomp")


def test_the_root_is_made_of_the_layers_by_number() -> None:
    assert find(compile_start(spec(), CONTEXT), "overlay") == (0, [7, 3], "box")


def test_capabilities_are_masks_of_those_the_kernel_knows() -> None:
    process = {**PROCESS, "capabilities": {"bounding": ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"], "effective": ["CAP_KILL"]}}
    program = compile_start(spec(process=process), Context(**{**_fields(CONTEXT), "last_capability": 39}))
    assert find(program, "bounding") == ([0], 39)
    assert find(program, "capabilities") == (1 << 5, 0, 0, 0)
    with pytest.raises(InputError, match="no capability CAP_TYPO"):
        compile_start(spec(process={**PROCESS, "capabilities": {"bounding": ["CAP_TYPO"]}}), CONTEXT)


def _fields(context: Context) -> dict[str, Any]:
    return {name: getattr(context, name) for name in [item.name for item in fields(Context)]}


def test_the_command_s_step_is_the_one_that_means_126_and_127() -> None:
    program = compile_start(spec(), CONTEXT)
    assert program.is_command(len(program.steps) - 1)
    assert not program.is_command(0)
    assert not program.is_command(-1)


def test_an_environment_without_a_path_gets_one() -> None:
    assert find(compile_start(spec(), CONTEXT), "execute")[1][-1].startswith("PATH=/usr/local/sbin")


def test_an_older_monitor_is_asked_for_what_it_knows_and_failures_keep_their_names() -> None:
    program = compile_start(spec(), CONTEXT, terminal=True)
    assert program.known_to(VERSION) is program
    older = program.known_to(1)
    assert {"console", "default_limits"} == set(names(program)) - set(names(older))
    assert older.is_command(len(older.steps) - 1)
    assert "default_limits" not in names(compile_exec(PROCESS, spec().config, CONTEXT, terminal=False).known_to(1))


def test_files_are_read_only_where_the_root_is_and_the_monitor_knows_how() -> None:
    program = compile_start(spec(root={"readonly": True}), CONTEXT)
    order = names(program)
    assert order.index("files_read_only") == order.index("files") - 1
    assert set(order) - set(names(program.known_to(7))) == {"files_read_only"}
    assert "files_read_only" not in names(compile_start(spec(), CONTEXT))
    assert "files_read_only" not in names(compile_start(replace(spec(root={"readonly": True}), files=()), CONTEXT))


@pytest.mark.parametrize("file", [GeneratedFile("/key", b"k", 0o400, gid=7), GeneratedFile("/large", b"x" * 2**20)])
def test_an_older_monitor_makes_no_file_that_would_not_be_as_it_was_asked_for(file: GeneratedFile) -> None:
    plain = spec()
    program = compile_start(replace(plain, files=(*plain.files, file)), CONTEXT)
    assert "files" not in names(program)
    assert [(made[0], *made[3:]) for made in find(program, "owned_files")[0]] == [
        ("/etc/hosts", 0, 0),
        (file.path, file.uid, file.gid),
    ]
    assert program.known_to(4) is program
    with pytest.raises(OperationError, match=f"cannot make /etc/hosts, {file.path}: the monitor of"):
        program.known_to(3)


def test_an_exec_joins_and_does_not_mount() -> None:
    order = names(compile_exec(PROCESS, spec().config, CONTEXT, terminal=False))
    assert order[:5] == ["default_limits", "join", "joined", "session", "stdio"]
    assert "overlay" not in order
    assert "terminal" in names(compile_exec(PROCESS, spec().config, CONTEXT, terminal=True))


def test_a_v2_machine_has_one_cgroup_mount() -> None:
    program = compile_start(spec(), Context(**{**_fields(CONTEXT), "hierarchies": ()}))
    kinds = [step.arguments[0] for step in program.steps if step.name == "filesystem"]
    assert kinds == ["proc", "cgroup2"]


def test_a_mount_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(InputError, match="a mount of type nfs at /x is not supported"):
        compile_start(spec(mounts=[{"destination": "/x", "type": "nfs", "source": "s"}]), CONTEXT)


def test_namespaces_of_others_are_entered_by_steps_of_their_own() -> None:
    def entered(own: tuple[str, ...], **shares: str) -> tuple[str, tuple[Any, ...]]:
        linux = {"namespaces": [{"type": kind} for kind in own]}
        box = replace(spec(linux), shares={kind: ContainerId(name) for kind, name in shares.items()})
        program = compile_start(box, CONTEXT)
        (step,) = (step for step in program.steps if step.name.startswith("enter"))
        return step.name, step.arguments

    kinds = {"pid": 0x2000_0000, "mount": 0x0002_0000, "uts": 0x0400_0000, "ipc": 0x0800_0000, "cgroup": 0x0200_0000}
    everything = sum(kinds.values())
    assert entered(NAMESPACES) == entered(NAMESPACES, network="other") == ("enter", ())
    assert entered(NAMESPACES[1:]) == ("enter_some", (False, True, everything, []))
    joined = ("enter_some", (True, True, everything - kinds["pid"], [["pid", kinds["pid"]]]))
    assert entered(NAMESPACES, pid="other") == joined
    assert entered(("mount",)) == ("enter_some", (False, False, kinds["mount"], []))


def test_an_exec_joins_what_is_the_containers_own() -> None:
    host = spec({"namespaces": [{"type": "mount"}, {"type": "pid"}]}).config
    assert find(compile_exec(PROCESS, host, CONTEXT, terminal=False), "join_some") == (0x2002_0000,)
    assert find(compile_exec(PROCESS, spec().config, CONTEXT, terminal=False), "join") == ()


def test_the_host_maps_no_ids_and_an_older_monitor_is_not_asked_for_any_of_it() -> None:
    program = compile_start(spec({"namespaces": OWN[1:]}), replace(CONTEXT, host_base=0))
    assert find(program, "bind")[-1] is False
    assert find(program, "devices")[3] == 0
    with pytest.raises(OperationError, match="cannot enter the namespaces: the monitor"):
        program.known_to(4)
