"""A service's secrets and configs as the runtime gets them, and where what is wrong with them is written."""

from __future__ import annotations

import hashlib

import pytest

from orchestrator.cli.selection import check_files
from orchestrator.errors import InputError
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.granted import MOST_BYTES, GrantedFile, granted_values, with_granted_values
from orchestrator.model.names import ServiceName
from orchestrator.model.project import Project
from orchestrator.plan.hashing import config_hash
from orchestrator.values import replace
from tests.unit.compose.stacks import Stack

TOP = """\
secrets: {s: {file: ./s.txt}, e: {environment: TOKEN}}
configs: {c: {content: 'x=${X}'}, f: {file: /etc/f}, v: {environment: TOKEN}}
"""


def granted(stack: Stack, text: str, **environment: str) -> tuple[GrantedFile, ...]:
    loaded = stack.load(f"services: {{a: {{image: host, {text}}}}}\n{TOP}", {"X": "", "TOKEN": "t0ken", **environment})
    assert loaded.warnings == ()
    return loaded.project.services[ServiceName("a")].files


def test_what_is_said_in_short_has_its_usual_place_owner_and_mode(stack: Stack) -> None:
    digest = hashlib.sha256(b"t0ken").hexdigest()
    assert granted(stack, "secrets: [s, e], configs: [c, f]", X="1") == (
        GrantedFile("/run/secrets/s", 'secret "s"', f"{stack.folder}/s.txt", place="services.a.secrets[0]"),
        GrantedFile("/run/secrets/e", 'secret "e"', "", "TOKEN", "t0ken", digest, place="services.a.secrets[1]"),
        GrantedFile(
            "/c", 'config "c"', content="x=1", digest=hashlib.sha256(b"x=1").hexdigest(), place="services.a.configs[0]"
        ),
        GrantedFile("/f", 'config "f"', "/etc/f", place="services.a.configs[1]"),
    )


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("secrets: [{source: e, target: sub/x}]", "/run/secrets/sub/x"),
        ("secrets: [{source: e, target: /etc//x/}]", "/etc/x"),
        ("configs: [{source: c, target: etc/x}]", "/etc/x"),
        ("configs: [{source: c, target: /x}]", "/x"),
    ],
)
def test_a_relative_target_is_below_run_secrets_or_the_root(stack: Stack, text: str, target: str) -> None:
    (file,) = granted(stack, text)
    assert file.target == target


@pytest.mark.parametrize(("mode", "bits"), [("0400", 0o400), ("'0440'", 0o440), ("0o444", 0o444)])
def test_owner_and_mode_count_for_what_is_copied(stack: Stack, mode: str, bits: int) -> None:
    (file,) = granted(stack, f"configs: [{{source: v, uid: '103', gid: '7', mode: {mode}}}]")
    assert (file.uid, file.gid, file.mode, file.content) == (103, 7, bits, "t0ken")


def test_owner_and_mode_of_a_file_of_the_hosts_are_ignored_with_a_warning(stack: Stack) -> None:
    text = "services:\n  a:\n    image: host\n    secrets:\n    - source: s\n      uid: '1'\n      mode: 0400\n"
    loaded = stack.load(text + TOP, {"X": ""})
    (file,) = loaded.project.services[ServiceName("a")].files
    assert (file.uid, file.mode) == (0, 0o444)
    assert [(item.line, item.path) for item in loaded.warnings] == [
        (6, "services.a.secrets[0].uid"),
        (7, "services.a.secrets[0].mode"),
    ]
    assert loaded.warnings[0].message == "ignored: the secret is a file of the host's, and keeps what that has"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("secrets: [{source: e, uid: root}]", 'a.secrets[0].uid: "root" is not the number of a user or a group'),
        ("configs: [{source: c, mode: '9'}]", 'a.configs[0].mode: "9" is not a file mode (write 0440)'),
        (
            "secrets: [e], tmpfs: /run/secrets/e",
            "a.secrets[0]: something is mounted at /run/secrets/e already: services.a.tmpfs[0]",
        ),
        (
            "secrets: [{source: e, target: /c}], configs: [c]",
            "a.configs[0]: something is mounted at /c already: services.a.secrets[0]",
        ),
        ("configs: [c, v]", "a.configs[1]: something is mounted at /c already"),
    ],
)
def test_what_cannot_be_is_an_error_at_its_place(stack: Stack, text: str, message: str) -> None:
    text = text.replace("[c, v]", "[c, {source: v, target: //c}]")
    (found,) = stack.messages(f"services: {{a: {{image: host, {text}}}}}\n{TOP}", {"X": "", "TOKEN": "t"})
    assert message in found
    assert found.startswith("compose.yaml:1:")


def test_a_content_that_is_too_large_is_an_error(stack: Stack) -> None:
    values = {"X": "", "TOKEN": "t" * (MOST_BYTES + 1)}
    (found,) = stack.messages(f"services: {{a: {{image: host, secrets: [e]}}}}\n{TOP}", values)
    assert 'the secret "e" has 1048577 bytes, and 1048576 is the most' in found


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("{external: true}", "compose.yaml:2:16: secrets.s.external: external: true means the store of a Swarm"),
        ("{file: x, driver: d}", "compose.yaml:2:25: secrets.s.driver: not supported yet"),
        ("{file: x, template_driver: d}", "compose.yaml:2:25: secrets.s.template_driver: not supported yet"),
    ],
)
def test_what_only_a_swarm_has_is_one_error(stack: Stack, definition: str, message: str) -> None:
    text = "services: {{a: {{image: host, secrets: [s], build: {{secrets: [s]}}}}}}\nsecrets: {{s: {}}}\n"
    (found,) = stack.errors(text.format(definition)).diagnostics
    assert message.partition(": ")[2] in found.text().split("\n")[0]
    assert (found.file, found.line) == ("compose.yaml", 2)


def test_nobody_complains_of_an_external_secret_that_no_service_has(stack: Stack) -> None:
    stack.load("services: {a: {image: host}}\nsecrets: {s: {external: true}}\nconfigs: {c: {external: true}}\n")


def test_what_is_not_there_is_an_error_once_it_is_to_run(stack: Stack) -> None:
    def wrong(text: str, **environment: str) -> str:
        project = stack.load(f"services:\n  a:\n    image: host\n    {text}\n{TOP}", {"X": "", **environment}).project
        check_files(project, [])
        with pytest.raises(InputError) as caught:
            check_files(project, ["a"])
        return str(caught.value)

    assert wrong("secrets: [s]") == (
        f'compose.yaml:4:15: services.a.secrets[0]: the file of the secret "s" does not exist: "{stack.folder}/s.txt"'
    )
    assert wrong("configs: [v]") == (
        'compose.yaml:4:15: services.a.configs[0]: the variable of the config "v" is not set: "TOKEN"'
    )
    assert wrong("volumes: [{type: bind, source: ./d, target: /d, bind: {create_host_path: false}}]") == (
        f'compose.yaml:4:15: services.a.volumes[0]: the host path "{stack.folder}/d" does not exist'
    )
    check_files(stack.load("services: {a: {image: host, volumes: ['./d:/d']}}").project, ["a"])
    stack.write("s.txt", "")
    project = stack.load(f"services: {{a: {{image: host, secrets: [s, e]}}}}\n{TOP}", {"X": "", "TOKEN": ""}).project
    check_files(project, ["a"])


def test_the_hash_counts_content_target_and_path_and_not_what_is_in_a_file(stack: Stack) -> None:
    def hashed(text: str, **environment: str) -> str:
        values = {"X": "", "TOKEN": "t", **environment}
        project = stack.load(f"services: {{a: {{image: host, {text}}}}}\n{TOP}", values).project
        return hash_of(project)

    def hash_of(project: Project) -> str:
        return config_hash(project, project.services[ServiceName("a")], "")

    stack.write("s.txt", "one")
    first = hashed("secrets: [s]")
    stack.write("s.txt", "two")
    assert hashed("secrets: [s]") == first
    texts = ["secrets: [s]", "secrets: [{source: s, target: t}]", "configs: [f]", "secrets: [e]", "configs: [c]"]
    hashes = [hashed("init: false"), *map(hashed, texts), hashed("secrets: [e]", TOKEN="u"), hashed("configs: [c]", X="u")]
    assert len(set(hashes)) == len(hashes)
    project = stack.load(f"services: {{a: {{image: host, secrets: [e]}}}}\n{TOP}", {"X": "", "TOKEN": "t"}).project
    service = project.services[ServiceName("a")]
    bare = replace(service, files=with_granted_values(service.files, {}))
    recorded = from_json(Project, to_json(replace(project, services={service.name: bare})))
    assert hash_of(recorded) == hash_of(project)
    assert with_granted_values(bare.files, granted_values(service.files)) == service.files


def test_a_variable_means_what_it_does_in_the_file_that_names_it(stack: Stack) -> None:
    """compose-spec, "include": an included file has the variables of its `env_file`, under those of the environment."""
    stack.write("child/compose.yaml", "services: {b: {image: i, secrets: [t]}}\nsecrets: {t: {environment: TOKEN}}\n")
    stack.write("own.env", "TOKEN=of-include\nELSE=of-include\n")
    text = (
        "include: [{path: child/compose.yaml, env_file: own.env}]\n"
        "services: {a: {image: i, secrets: [u]}}\nsecrets: {u: {environment: ELSE}}\n"
    )

    def contents(environment: dict[str, str]) -> dict[str, str | None]:
        services = stack.load(text, environment).project.services
        return {name: services[ServiceName(name)].files[0].content for name in ("a", "b")}

    assert contents({}) == {"a": None, "b": "of-include"}
    assert contents({"TOKEN": "of-shell", "ELSE": "of-shell"}) == {"a": "of-shell", "b": "of-shell"}
