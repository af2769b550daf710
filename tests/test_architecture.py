"""The source tree keeps the shape of the design, and the check that says so notices when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import structure
from tests.architecture import LAYERS, closure, read_package, violations

ROOT = Path(__file__).resolve().parent.parent


def test_the_source_tree_keeps_every_rule() -> None:
    assert violations(read_package(ROOT / "orchestrator")) == []


def test_every_part_of_the_table_exists() -> None:
    parts = {path.stem for path in (ROOT / "orchestrator").iterdir()}
    assert {part for row in LAYERS for part in row} - parts == set()


def test_modules_and_functions_are_short_and_nothing_is_parsed_out_of_names_or_prose() -> None:
    assert structure.violations(read_package(ROOT / "orchestrator")) == []


def test_a_word_of_the_vocabulary_is_one_class() -> None:
    assert structure.defined_twice(read_package(ROOT / "orchestrator")) == []


def test_most_modules_have_one_small_subject() -> None:
    assert structure.median_lines(read_package(ROOT / "orchestrator")) <= structure.MEDIAN_MODULE


def test_who_we_are_is_asked_in_one_place() -> None:
    sources = read_package(ROOT / "orchestrator")
    asking = {name for name, source in sources.items() if "os.geteuid" in source or "os.getuid" in source}
    assert asking == {"orchestrator.kernel.identity"}


def test_the_runtime_reaches_nothing_of_compose_through_what_it_imports_either() -> None:
    reached = closure(read_package(ROOT / "orchestrator"), "orchestrator.runtime")
    of_compose = {"model.project", "model.service", "model.volume", "model.network", "plan", "compose", "policy"}
    assert {name for name in reached if name.removeprefix("orchestrator.").startswith(tuple(of_compose))} == set()
    assert "orchestrator.oci.terms" in reached


PLANTED = [
    ("orchestrator.model.a", "import orchestrator.scheduler.executor", "model imports scheduler, which is in a row above"),
    ("orchestrator.model.a", "from orchestrator.plan import plan", "model imports plan, which is in a row above"),
    ("orchestrator.model.a", "from ..plan import plan", "model imports plan, which is in a row above"),
    ("orchestrator.scheduler.a", "from orchestrator.runtime import client", "scheduler imports its sibling runtime"),
    ("orchestrator.scheduler.a", "from orchestrator import runtime", "scheduler imports its sibling runtime"),
    ("orchestrator.scheduler.a", "def f():\n    import orchestrator.network", "scheduler imports its sibling network"),
    ("orchestrator.client", "import orchestrator.supervisor.api", "client imports its sibling supervisor"),
    ("orchestrator.client", "import trio", "client imports trio, and may import the standard library alone"),
    ("orchestrator.graph.a", "import yaml", "yaml is imported outside its home (compose)"),
    ("orchestrator.cli.a", "import trio", "trio is imported outside its home"),
    ("orchestrator.cli.a", "import requests", "requests is imported outside its home (nowhere yet)"),
    ("orchestrator.runtime.a", "import importlib as i\nimport_module('rich.live')", "rich is imported outside its home"),
    ("orchestrator.kernel.a", "from orchestrator.errors import HostError", "kernel imports orchestrator.errors.HostError"),
    ("orchestrator.kernel.a", "from orchestrator.model import names", "kernel imports orchestrator.model.names"),
    ("orchestrator.kernel.a", "import trio", "kernel imports trio, and may import the standard library alone"),
    ("orchestrator.runtime.monitor.a", "import trio", "the monitor imports trio"),
    ("orchestrator.runtime.monitor.a", "import orchestrator.model.names", "the monitor imports orchestrator.model.names"),
    ("orchestrator.runtime.monitor.a", "import orchestrator.runtime.logs", "the monitor imports orchestrator.runtime.logs"),
    ("orchestrator.runtime.a", "from orchestrator.model.service import Service", "may know nothing of Compose"),
    ("orchestrator.runtime.a", "from orchestrator.model import project", "may know nothing of Compose"),
    ("orchestrator.runtime.a", "import orchestrator.plan.plan", "plan.plan, and may know nothing of Compose"),
    ("orchestrator.oci.a", "from orchestrator.plan import plan", "oci imports its sibling plan"),
    ("orchestrator.oci.a", "import time", "pure code imports time"),
    ("orchestrator.plan.a", "import time", "pure code imports time"),
    ("orchestrator.policy.a", "from random import random", "pure code imports random"),
    ("orchestrator.compose.text.a", "import subprocess", "pure code imports subprocess"),
    ("orchestrator.contracts.a", "import trio", "pure code imports trio"),
    ("orchestrator.state.a", "print('hello')", "prints outside cli"),
    ("orchestrator.state.a", "import sys\nsys.exit(1)", "calls sys.exit outside cli"),
    ("orchestrator.state.a", "raise SystemExit(1)", "raises SystemExit outside cli"),
    ("orchestrator.state.a", "from sys import exit", "imports sys.exit outside cli"),
    ("orchestrator.state.a", "import os\nos.environ['A']", "uses os.environ outside cli"),
    ("orchestrator.state.a", "from os import environ", "imports os.environ outside cli"),
    ("orchestrator.state.a", "import os\nos.getenv('A')", "calls os.getenv outside cli"),
    ("orchestrator.state.utils", "", "'utils' is not the name of a subject"),
    ("orchestrator.billing.a", "", "belongs to no row of the layer table"),
    ("orchestrator.compose.text.a", "import orchestrator.compose.kinds.b", "compose.text imports compose.kinds"),
    ("orchestrator.compose.load", "from orchestrator.compose import queries", "compose.load imports compose.queries"),
    ("orchestrator.compose.a", "", "is on no floor of compose"),
    ("orchestrator.plan.a", "x = 1  # " + "TODO: later", "leaves work for later in a comment"),
    ("orchestrator", "import trio", "orchestrator imports trio"),
    ("orchestrator", "from orchestrator.model import names", "orchestrator itself imports orchestrator.model.names"),
]


@pytest.mark.parametrize(("module", "source", "expected"), PLANTED, ids=[f"{m}-{s[:30]}" for m, s, _ in PLANTED])
def test_a_planted_violation_is_found(module: str, source: str, expected: str) -> None:
    found = violations({module: source})
    assert len(found) == 1
    assert expected in found[0]


ALLOWED = [
    ("orchestrator.cli.a", "import os, sys\nimport click, rich.live\nprint(os.environ)\nsys.exit(2)"),
    ("orchestrator.scheduler.a", "import trio\nfrom orchestrator.plan import plan\nimport orchestrator.errors"),
    ("orchestrator.runtime.monitor.a", "import os, ctypes\nfrom orchestrator.kernel import mounts\nfrom . import protocol"),
    ("orchestrator.kernel.a", "import ctypes\nfrom orchestrator.kernel import constants\nfrom . import syscalls"),
    ("orchestrator.supervisor.__main__", "raise SystemExit(1)"),
    ("orchestrator.compose.merge.a", "import yaml\nfrom orchestrator.model import names\nfrom orchestrator import units"),
    ("orchestrator.compose.merge.a", "from orchestrator.compose.text import tree\nfrom . import b"),
    ("orchestrator.client", "import json\nfrom orchestrator.contracts import events\nfrom orchestrator import __version__"),
    ("orchestrator.supervisor.a", "import trio\nfrom orchestrator.runtime import client\nimport orchestrator.scheduler"),
]


@pytest.mark.parametrize(("module", "source"), ALLOWED, ids=[m for m, _ in ALLOWED])
def test_what_the_rules_allow_is_left_alone(module: str, source: str) -> None:
    assert violations({module: source}) == []


def test_a_violation_names_its_module_and_line() -> None:
    assert violations({"orchestrator.plan.hashing": "\n\nimport socket\n"}) == [
        "orchestrator.plan.hashing:3: pure code imports socket"
    ]


IN_FUNCTION = "def f():\n" + "    x = 1\n" * 61
SHAPES = [
    ("x = 1\n" * 451, "has 451 lines, more than 450"),
    (IN_FUNCTION, "f has 62 lines, more than 60"),
    ("async " + IN_FUNCTION, "f has 62 lines, more than 60"),
    ("def f():\n" + "    x = 1\n" * 61 + "    return {}\n", "f has 63 lines"),
    ("class ContainerKeeper: ...", "ContainerKeeper: say Container, Run and Request"),
    ("def hire_all(): ...", "hire_all: say make or adopt"),
    ("number = record.container.rpartition('-')[2]", "parses record.container"),
    ("number = x.rsplit('-', 1)[1]", "splits x at dashes"),
    ("number = name.split('-')[-1]", "splits name at dashes"),
    ("number = container_id[len(project) + 1:]", "cuts container_id"),
    ("service = x.removeprefix(f'{site.project}-')", "takes the project's name from x"),
    ("re.fullmatch(PATTERN, container)", "matches a container's id"),
    ("PATTERN.match(record.container)", "matches a container's id"),
    ("if container.endswith('-1'): pass", "parses container"),
    ("re.search('no such', error.message)", "matches a sentence"),
    ("_BUSY.match(str(exc))", "matches a sentence"),
    ("if 'out of memory' in report.reason: pass", "looks into report.reason"),
    ("if status.reason == 'stopped': pass", "looks into status.reason"),
    ("if 'busy' in str(error): pass", "looks into str(error)"),
    ("left = decision.reason.partition('; ')[2]", "parses decision.reason"),
    ("left = x.split('; ')", "splits a sentence"),
    ("if event.text.startswith('a'): pass", "parses event.text"),
]


@pytest.mark.parametrize(("source", "expected"), SHAPES, ids=[expected for _, expected in SHAPES])
def test_a_planted_shape_is_found(source: str, expected: str) -> None:
    (found,) = structure.violations({"orchestrator.plan.a": source})
    assert found.startswith("orchestrator.plan.a:")
    assert expected in found


FINE = [
    "def table():\n    'Rows.'\n    return [\n" + "        1,\n" * 100 + "    ]\n",
    "TABLE = [\n" + "    1,\n" * 400 + "]\n",
    "first, dash, last = published.partition('-')",
    "cpus = file.read().strip().split('-')",
    "hostname = container[:63].rstrip('-')",
    "assert record.instance.number == 1",
    "if error.kind is Kind.BUSY: pass",
    "if 'event' in message: pass",
    "if status.reason: pass\nif status.reason != '': pass",
    "path.startswith(f'{site.data_dir}/')",
    "name = f'{project}-{service}-1'",
]


@pytest.mark.parametrize("source", FINE, ids=[source[:40] for source in FINE])
def test_a_shape_that_is_fine_is_left_alone(source: str) -> None:
    assert structure.violations({"orchestrator.plan.a": source}) == []


def test_a_word_that_two_modules_define_is_found() -> None:
    once = {"orchestrator.model.a": "class Place: ..."}
    assert structure.defined_twice(once) == []
    assert structure.defined_twice({**once, "orchestrator.oci.b": "class Place: ..."}) == [
        "Place: orchestrator.model.a, orchestrator.oci.b"
    ]
