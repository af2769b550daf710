"""The source tree keeps the shape of the design, and the check that says so notices when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture import LAYERS, closure, read_package, violations

ROOT = Path(__file__).resolve().parent.parent
LONGEST_MODULE = 600
"""Lines. Nearly all modules are under 400; one that reaches this has more than one subject."""


def test_the_source_tree_keeps_every_rule() -> None:
    assert violations(read_package(ROOT / "orchestrator")) == []


def test_every_part_of_the_table_exists() -> None:
    parts = {path.stem for path in (ROOT / "orchestrator").iterdir()}
    assert {part for row in LAYERS for part in row} - parts == set()


def test_who_we_are_is_asked_in_one_place() -> None:
    sources = read_package(ROOT / "orchestrator")
    asking = {name for name, source in sources.items() if "os.geteuid" in source or "os.getuid" in source}
    assert asking == {"orchestrator.kernel.identity"}


def test_no_module_has_outgrown_its_subject() -> None:
    lengths = {name: source.count("\n") for name, source in read_package(ROOT / "orchestrator").items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


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
    ("orchestrator.compose.a", "import subprocess", "pure code imports subprocess"),
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
    ("orchestrator.compose.a", "import yaml\nfrom orchestrator.model import names\nfrom orchestrator import units"),
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
