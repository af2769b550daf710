"""How a service's image is had: ``build``, ``image``, ``platform`` and ``pull_policy`` as the runtime gets them."""

from __future__ import annotations

import pytest

from orchestrator.model.build import BuildSecret, BuildSpec, PullPolicy, Ulimit
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.names import ServiceName
from orchestrator.model.service import Service
from orchestrator.plan.hashing import config_hash
from orchestrator.values import replace
from tests.unit.compose.stacks import Stack


def service(stack: Stack, text: str, extra: str = "", **environment: str) -> Service:
    loaded = stack.load(f"services: {{a: {{{text}}}}}\n{extra}", environment)
    assert loaded.warnings == ()
    return loaded.project.services[ServiceName("a")]


def build(stack: Stack, text: str, extra: str = "", **environment: str) -> BuildSpec:
    found = service(stack, f"build: {{{text}}}", extra, **environment).build
    assert found is not None
    return found


@pytest.mark.parametrize("text", ["build: .", "build: {context: .}", "build: {}", "build: {context: ./}"])
def test_a_build_without_an_image_is_named_after_project_and_service(stack: Stack, text: str) -> None:
    found = service(stack, text)
    assert found.image == "shop-a"
    assert found.build == BuildSpec(str(stack.folder))


def test_an_image_names_what_a_build_makes(stack: Stack) -> None:
    found = service(stack, "image: team/app:1, build: web")
    assert (found.image, found.build) == ("team/app:1", BuildSpec(f"{stack.folder}/web"))


def test_a_service_with_an_image_alone_has_no_build(stack: Stack) -> None:
    assert service(stack, "image: redis").build is None


@pytest.mark.parametrize(
    "context",
    ["https://github.com/x/y.git#main:sub", "git@github.com:x/y.git", "github.com/x/y", "https://example.org/x.tar.gz"],
)
def test_a_remote_context_stays_as_written(stack: Stack, context: str) -> None:
    assert build(stack, f'context: "{context}"').context == context


def test_arguments_without_a_value_take_it_from_the_environment_or_go(stack: Stack) -> None:
    assert build(stack, "args: [A=1, B, C, D=]", B="2").args == (("A", "1"), ("B", "2"), ("D", ""))
    assert build(stack, "args: {A: 1.5, B: null, C: true}").args == (("A", "1.5"), ("C", "true"))


def test_an_inline_dockerfile_is_its_text(stack: Stack) -> None:
    found = build(stack, 'dockerfile_inline: "FROM host\\nRUN true\\n"')
    assert found.dockerfile_inline == "FROM host\nRUN true\n"
    assert build(stack, "dockerfile: other/Dockerfile.web").dockerfile == "other/Dockerfile.web"


def test_named_contexts_are_absolute_where_they_are_directories(stack: Stack) -> None:
    text = 'additional_contexts: {a: ./x, b: "docker-image://alpine:3", c: "oci-layout://l:v1", d: "https://e.org/r.git"}'
    assert build(stack, text).additional_contexts == (
        ("a", f"{stack.folder}/x"),
        ("b", "docker-image://alpine:3"),
        ("c", f"oci-layout://{stack.folder}/l:v1"),
        ("d", "https://e.org/r.git"),
    )


def test_the_image_of_another_service_is_a_context(stack: Stack) -> None:
    found = service(stack, "build: {additional_contexts: {base: 'service:b'}}}, b: {build: b")
    assert found.build is not None
    assert found.build.additional_contexts == (("base", "service:b"),)


def test_ssh_is_the_agent_of_who_loads_the_stack_or_a_key(stack: Stack) -> None:
    found = build(stack, "ssh: [default, deploy=./key, own=~/k]", SSH_AUTH_SOCK="/run/agent", HOME="/home/me")
    assert found.ssh == (("default", "/run/agent"), ("deploy", f"{stack.folder}/key"), ("own", "/home/me/k"))
    assert build(stack, "ssh: [default]").ssh == (("default", ""),)


def test_secrets_are_files_or_values_of_the_environment_and_their_target_is_their_id(stack: Stack) -> None:
    text = "secrets: [f, {source: e, target: token, uid: '7', gid: '8', mode: 0400}, {source: u, mode: '0444'}]"
    found = build(stack, text, "secrets: {f: {file: ./s}, e: {environment: TOKEN}, u: {environment: UNSET}}", TOKEN="t")
    assert found.secrets == (
        BuildSecret("f", f"{stack.folder}/s"),
        BuildSecret("token", environment="TOKEN", value="t", uid=7, gid=8, mode=0o400),
        BuildSecret("u", environment="UNSET", mode=0o444),
    )
    assert "'t'" not in repr(found), "a secret's value in a trace"


def test_everything_else_arrives_typed(stack: Stack) -> None:
    text = (
        "no_cache: true, no_cache_filter: [x], pull: 'true', privileged: true, network: none, shm_size: 2m, target: t, "
        "tags: [a:1, b], platforms: [linux/arm64], provenance: mode=max, sbom: false, entitlements: [network.host], "
        "labels: [k=v, l], cache_from: [r], cache_to: ['type=local,dest=d'], extra_hosts: ['h:10.0.0.1', 'i=[::1]'], "
        "ulimits: {nofile: 9, core: {soft: 0, hard: -1}}"
    )
    assert build(stack, text) == BuildSpec(
        str(stack.folder),
        no_cache=True,
        no_cache_filter=("x",),
        pull=True,
        privileged=True,
        network="none",
        shm_size_bytes=2 << 20,
        target="t",
        tags=("a:1", "b"),
        platforms=("linux/arm64",),
        provenance="mode=max",
        sbom="false",
        entitlements=("network.host",),
        labels=(("k", "v"), ("l", "")),
        cache_from=("r",),
        cache_to=("type=local,dest=d",),
        extra_hosts=(("h", "10.0.0.1"), ("i", "::1")),
        ulimits=(Ulimit("nofile", 9, 9), Ulimit("core", 0, -1)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("build: {isolation: hyperv}", 'services.a.build.isolation: "hyperv" is a mode of Windows containers'),
        ("build: {shm_size: x}", 'services.a.build.shm_size: "x" is not a size'),
        (
            "build: {ulimits: {nofile: {soft: 9, hard: 3}}}",
            "services.a.build.ulimits.nofile: the soft limit, 9, is above the hard limit, 3",
        ),
        (
            "build: {secrets: [{source: s, uid: me}]}",
            'services.a.build.secrets[0].uid: "me" is not the number of a user or a group',
        ),
        (
            "build: {secrets: [{source: s, mode: '9'}]}",
            'services.a.build.secrets[0].mode: "9" is not a file mode (write 0440)',
        ),
        ("build: {secrets: [t]}", "secrets.t.external: external: true means the store of a Swarm"),
        ("image: x, pull_policy: refresh", "services.a.pull_policy: refresh needs pull_refresh_after"),
        ("image: x, pull_policy: refresh, pull_refresh_after: x", 'services.a.pull_refresh_after: "x" is not a duration'),
        ("image: x, pull_policy: refresh, pull_refresh_after: -1h", "services.a.pull_refresh_after: must not be negative"),
        ("image: x, pull_policy: every_999999w", 'services.a.pull_policy: "999999w" is too long a duration'),
    ],
)
def test_what_cannot_be_is_one_error_at_its_place(stack: Stack, text: str, message: str) -> None:
    found = stack.messages(f"services: {{a: {{{text}}}}}\nsecrets: {{s: {{file: ./s}}, t: {{external: true}}}}")
    assert any(message in line for line in found), found


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("always", PullPolicy("always")),
        ("never", PullPolicy("never")),
        ("missing", PullPolicy("missing")),
        ("if_not_present", PullPolicy("missing")),
        ("build", PullPolicy("build")),
        ("daily", PullPolicy("refresh", 86_400.0)),
        ("weekly", PullPolicy("refresh", 604_800.0)),
        ("every_1h30m", PullPolicy("refresh", 5_400.0)),
        ("every_2w", PullPolicy("refresh", 1_209_600.0)),
        ("refresh, pull_refresh_after: 36h", PullPolicy("refresh", 129_600.0)),
    ],
)
def test_a_pull_policy_has_all_its_forms(stack: Stack, text: str, policy: PullPolicy) -> None:
    assert service(stack, f"image: x, pull_policy: {text}").pull_policy == policy


def test_without_one_an_image_is_pulled_when_it_is_missing_for_this_machine(stack: Stack) -> None:
    found = service(stack, "image: x")
    assert (found.pull_policy, found.platform) == (PullPolicy("missing"), "")
    assert service(stack, "image: x, platform: linux/arm/v7").platform == "linux/arm/v7"


def test_a_build_can_be_hashed_and_stored(stack: Stack) -> None:
    text = "args: {A: 1}, secrets: [s], ulimits: {nofile: 9}, labels: {k: v}"
    found = build(stack, text, "secrets: {s: {file: ./s}}")
    assert from_json(BuildSpec, to_json(found)) == found
    assert hash(found) == hash(from_json(BuildSpec, to_json(found)))


def test_how_an_image_is_had_replaces_no_container_and_what_it_is_does(stack: Stack) -> None:
    project = stack.load("services: {a: {image: x, build: ., pull_policy: build}}").project
    made = project.services[ServiceName("a")]
    other = replace(made, build=BuildSpec("/elsewhere"), pull_policy=PullPolicy("never"))
    assert config_hash(project, made, "sha256:1") == config_hash(project, other, "sha256:1")
    assert config_hash(project, made, "sha256:1") != config_hash(project, made, "sha256:2")
    assert config_hash(project, made, "i") != config_hash(project, replace(made, platform="linux/arm64"), "i")
