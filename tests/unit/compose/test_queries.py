from __future__ import annotations

import json

import pytest

from orchestrator.compose import queries
from orchestrator.compose.advice.lint import BY_CODE
from orchestrator.compose.advice.lint_report import as_json, as_sarif
from orchestrator.compose.load import ComposeError, ConfigOptions, load_canonical
from tests.unit.compose.stacks import Stack

TEXT = """\
name: my-${V:-x}
services:
  web: {image: "w:${TAG:?needed}", volumes: ["data:/d"], networks: [front], depends_on: [db], env_file: e.env}
  db: {build: ./db, healthcheck: {test: x}}
  debug: {image: "d:1", profiles: [tools]}
networks: {front: , back: }
volumes: {data: , other: }
"""


@pytest.fixture
def written(stack: Stack) -> Stack:
    stack.write("compose.yaml", TEXT)
    stack.write("e.env", "E=1\n")
    return stack


def test_names_of_the_parts_that_take_part(written: Stack) -> None:
    request = written.request({"TAG": "1"})
    assert queries.names(request, "services") == ["db", "web"]
    assert queries.names(request, "networks") == ["default", "front"]
    assert queries.names(request, "volumes") == ["data"]
    assert queries.profiles(request) == ["tools"]
    assert queries.images(request) == ["my-x-db", "w:1"]
    assert queries.environment(request) == {"TAG": "1", "COMPOSE_PROJECT_NAME": "my-x"}


def test_variables_have_defaults_and_requirements(written: Stack) -> None:
    (tag,) = queries.config_variables(written.request({"TAG": "1"}))
    assert (tag.name, tag.default, tag.required) == ("TAG", "", True)


def test_a_hash_changes_with_the_configuration_and_not_with_build_or_profiles(stack: Stack) -> None:
    def hash_of(text: str) -> str:
        stack.write("compose.yaml", f"services: {{a: {{{text}}}, b: {{image: i}}}}")
        return queries.hashes(stack.request(), "a")["a"]

    plain = hash_of("image: i")
    assert plain == "b5503d15e9dfd8640ebae91969f22360eac34b863c420e1f1dfaa304737b96ce"
    for same in ("image: i, build: .", "image: i, scale: 3", "image: i, depends_on: [b]", "image: i, pull_policy: always"):
        assert hash_of(same) == plain
    assert hash_of("image: j") != plain
    assert hash_of("image: i, environment: {A: '<&>'}") != plain


def test_a_hash_of_an_unknown_service_is_an_error(written: Stack) -> None:
    with pytest.raises(ComposeError, match=r'no such service: wbe .did you mean "web"'):
        queries.hashes(written.request({"TAG": "1"}), "web,wbe")


def test_phases_may_be_left_out(written: Stack) -> None:
    request = written.request({"TAG": "1"})
    raw, _ = load_canonical(request, ConfigOptions(interpolate=False))
    assert raw["services"]["web"]["image"] == "w:${TAG:?needed}"
    assert "debug" in raw["services"]
    paths, _ = load_canonical(request, ConfigOptions(resolve_paths=False))
    assert paths["services"]["db"]["build"]["context"] == "./db"
    plain, _ = load_canonical(request, ConfigOptions(normalize=False))
    assert "networks" not in plain["services"]["db"]
    files, _ = load_canonical(request, ConfigOptions(resolve_environment=False))
    assert files["services"]["web"]["env_file"] == [{"path": f"{written.folder}/e.env"}]
    assert "environment" not in files["services"]["web"]


LINT = """\
version: "3"
services:
  a:
    image: nginx
    command: a && b
    ports: ["80:80", "127.0.0.1:81:81"]
    depends_on: [b, c]
    environment: {DB_PASSWORD: hunter2, OTHER_PASSWORD: $PW, TOKEN_FILE: /x}
    volumes: ["v:/d", "./x", /var/run/docker.sock:/s]
    privileged: "yes"
    links: [b]
  b: {image: "x:latest", healthcheck: {test: x}}
  c: {image: "x@sha256:0", profiles: [p], networks: [outer]}
networks: {unused: , outer: {external: {name: theirs}}}
"""


def test_every_rule_finds_its_mistake_at_its_place(stack: Stack) -> None:
    stack.write("compose.yaml", LINT)
    found = queries.lint(stack.request(profiles=("p", "zz")))
    assert [(item.code, item.line, item.path) for item in found] == [
        ("PS106", 0, ""),
        ("PS115", 1, "version"),
        ("PS102", 4, "services.a.image"),
        ("PS101", 5, "services.a.command"),
        ("PS103", 6, "services.a.ports[0]"),
        ("PS104", 7, "services.a.depends_on.b"),
        ("PS105", 7, "services.a.depends_on.c"),
        ("PS107", 8, "services.a.environment.DB_PASSWORD"),
        ("PS116", 8, "services.a.environment.OTHER_PASSWORD"),
        ("PS109", 9, "services.a.volumes[0]"),
        ("PS110", 9, "services.a.volumes[1]"),
        ("PS111", 9, "services.a.volumes[2]"),
        ("PS112", 10, "services.a.privileged"),
        ("PS114", 10, "services.a.privileged"),
        ("PS113", 11, "services.a.links"),
        ("PS102", 12, "services.b.image"),
        ("PS108", 14, "networks.unused"),
        ("PS117", 14, "networks.outer.external.name"),
    ]
    assert {item.code for item in found} == set(BY_CODE)


@pytest.mark.parametrize("code", BY_CODE)
def test_every_rule_finds_its_example(stack: Stack, code: str) -> None:
    example = BY_CODE[code].example
    if example.startswith("pystack"):
        profiles, text = tuple(example.split()[2:3]), "services: {a: {image: 'i:1'}}"
    else:
        profiles = ()
        sections = ("services:", "{services:", "volumes: {", "version:")
        image = "" if "image:" in example else "image: 'i:1', "
        text = example if example.startswith(sections) else f"services: {{a: {{{image}{example}}}, b: {{image: 'i:1'}}}}"
        if "services:" not in text:
            text += "\nservices: {a: {image: 'i:1'}}"
    stack.write("compose.yaml", text)
    assert code in {item.code for item in queries.lint(stack.request(profiles=profiles or ("*",)))}


@pytest.mark.parametrize(
    ("attribute", "path"),
    [
        ("links: [b]", "links"),
        ("external_links: [b]", "external_links"),
        ("develop: {watch: [{path: ., action: restart, x-initialSync: true}]}", "develop.watch[0].x-initialSync"),
    ],
)
def test_what_is_of_the_past_is_deprecated(stack: Stack, attribute: str, path: str) -> None:
    stack.write("compose.yaml", f"services: {{a: {{image: 'i:1', {attribute}}}, b: {{image: 'i:1'}}}}")
    assert [(item.code, item.path) for item in queries.lint(stack.request())] == [("PS113", f"services.a.{path}")]


def test_further_places_of_a_finding_come_as_json_and_as_sarif(stack: Stack) -> None:
    stack.write("compose.yaml", "services:\n  a: {image: i, network_mode: none, networks: [x]}\nnetworks: {x: }\n")
    found = queries.lint(stack.request())
    assert as_json(found)[0]["related"] == ["compose.yaml:2:37: networks"]
    (result,) = as_sarif(found, "1")["runs"][0]["results"]
    assert result["relatedLocations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "compose.yaml"},
                "region": {"startLine": 2, "startColumn": 37},
            },
            "message": {"text": "networks"},
        }
    ]


def test_a_clean_stack_gets_no_advice(stack: Stack) -> None:
    stack.write("compose.yaml", "services: {a: {image: 'i:1', command: [a, '&&'], ports: ['127.0.0.1:1:1']}}")
    assert queries.lint(stack.request()) == []


def test_a_stack_that_does_not_load_gives_its_errors(stack: Stack) -> None:
    stack.write("compose.yaml", "services: {a: {imag: i}}")
    (error,) = queries.lint(stack.request())
    assert (error.code, error.line) == ("", 1)


def test_findings_come_as_json_and_as_sarif(stack: Stack) -> None:
    stack.write("compose.yaml", LINT)
    found = queries.lint(stack.request(profiles=("p",)))
    rows = as_json(found)
    assert json.loads(json.dumps(rows))[0]["code"] == "PS115"
    log = json.loads(json.dumps(as_sarif(found, "1.2")))
    (run,) = log["runs"]
    known = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in run["results"]} <= known
    assert all(result["locations"][0]["physicalLocation"]["region"]["startLine"] >= 1 for result in run["results"])


def test_a_command_that_is_cut_is_a_warning_of_up_too(stack: Stack) -> None:
    loaded = stack.load("services: {a: {image: host, command: sleep 1; echo done}}")
    (warning,) = loaded.warnings
    assert warning.text().startswith('compose.yaml:1:38: services.a.command: the command ends at ";"')
