"""``config`` as YAML: what either tool prints, both read back as the same model; it shows models, as Docker's does."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.render.yamltext import to_yaml
from orchestrator.compose.load import ConfigOptions, load_canonical
from orchestrator.compose.text.files import Source
from orchestrator.compose.text.tree import parse, plain
from tests.differential.oracle import (
    BASE_ENVIRONMENT,
    Stack,
    ask_oracle,
    ask_ours,
    binary,
    equal,
    model_difference,
    request,
    tidy,
    written,
)

CORPUS = Path(__file__).parents[1] / "corpus"
WORDS = """\
services:
  s:
    image: i
    command: ["a$$b", "x: y", "- z", "yes", "1e3", "0o17", "0x1F", "2001-01-01", "null", "", " lead", "trail ", "~", "a #b"]
    environment: {A: "1", B: "true", C: , D: "0x10", E: "1_000", F: "12:30",
      G: "multi\\nline\\n", H: "tab\\tx", I: "\\u0085"}
    labels: {"yes": "no", "1": "é", "a b": "*x", "!t": "&a", "%d": "`", "q'": '"', "[": "{", "é": "\\U0001F600"}
    healthcheck: {test: [CMD, "x"], interval: 1m30s, retries: 3}
    ports: ["8080:80", "127.0.0.1:9090:90/udp"]
    deploy: {resources: {limits: {cpus: "0.5", memory: 64m}}}
    models: [m]
models: {m: {model: ai/x, context_size: 10, runtime_flags: [a]}}
x-a: {b: [1, 1.5, 1e3, true, null, "no"]}
"""


def stack_of(name: str) -> Stack:
    if name == "words":
        return Stack({"compose.yaml": WORDS})
    files = {
        str(path.relative_to(CORPUS / name)): path.read_bytes() for path in (CORPUS / name).rglob("*") if path.is_file()
    }
    return Stack(files)


def yaml_of_the_oracle(stack: Stack, folder: Path) -> str:
    environment = {**BASE_ENVIRONMENT, "PWD": str(folder)}
    command = [binary(), *(word for word in stack.arguments() if word not in ("--format", "json"))]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True, text=True).stdout


def model_of(text: str) -> Any:
    (tree,) = parse(Source("out.yaml", "/out.yaml", text))
    return plain(tree)


@pytest.mark.parametrize("name", ["words", "wordpress", "models", "swarm-deploy", "lamp"])
def test_what_either_prints_as_yaml_both_read_back(name: str) -> None:
    stack = stack_of(name)
    with written(stack) as folder:
        canonical, _ = load_canonical(request(stack, folder), ConfigOptions(models=True))
        ours, theirs = to_yaml(canonical), yaml_of_the_oracle(stack, folder)
        assert equal(model_of(ours), canonical)
        assert model_difference(tidy(model_of(theirs)), tidy(model_of(ours))) is None
        model = tidy(ask_oracle(stack, folder).model)
        printed = replace(stack, compose=("printed.yaml",))
        for text in (ours, theirs):
            (folder / "printed.yaml").write_text(text)
            for answer in (ask_oracle(printed, folder), ask_ours(printed, folder)):
                assert answer.error is None
                assert model_difference(model, tidy(answer.model)) is None


def test_our_yaml_of_jobs_reads_back_where_the_oracle_refuses_its_own() -> None:
    """It prints each job's name as an attribute, which no job has."""
    stack = stack_of("jobs-cron")
    with written(stack) as folder:
        canonical, _ = load_canonical(request(stack, folder), ConfigOptions(models=True))
        printed = replace(stack, compose=("printed.yaml",))
        (folder / "printed.yaml").write_text(yaml_of_the_oracle(stack, folder))
        assert "jobs" in (ask_oracle(printed, folder).error or "")
        (folder / "printed.yaml").write_text(to_yaml(canonical))
        for answer in (ask_oracle(printed, folder), ask_ours(printed, folder)):
            assert model_difference(tidy(canonical), tidy(answer.model)) is None


def test_models_show_in_yaml_and_not_in_json() -> None:
    with written(stack_of("words")) as folder:
        in_yaml, _ = load_canonical(request(stack_of("words"), folder), ConfigOptions(models=True))
        in_json, _ = load_canonical(request(stack_of("words"), folder))
    assert in_yaml["models"] == {"m": {"model": "ai/x", "context_size": 10, "runtime_flags": ["a"]}}
    assert "models" not in in_json
