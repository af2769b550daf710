"""The shape of the source tree as rules that can be checked: layers, homes of third-party packages, purity, names.

`violations(modules)` takes module names with their source text and returns one sentence per broken rule. It needs nothing
but the standard library and reads text only: nothing is imported, so a broken module is still checked. The table below is
the one in the design; change it only with a decision record (docs/decisions/).
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = "orchestrator"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("values", "errors"),
    ("units", "kernel"),
    ("model",),
    ("compose", "graph", "policy", "contracts"),
    ("plan", "oci", "launch"),
    ("scheduler", "runtime", "network", "images", "state"),
    ("testing", "build"),
    ("supervisor", "client", "standalone"),
    ("cli",),
)
"""Lowest first. A part imports only from rows below its own; parts of the same row never import each other."""

ROW = {part: number for number, row in enumerate(LAYERS) for part in row}

HOMES: Mapping[str, frozenset[str]] = {
    "yaml": frozenset({"compose"}),
    "networkx": frozenset({"graph"}),
    "cronsim": frozenset({"compose", "scheduler"}),
    "trio": frozenset({"build", "scheduler", "runtime", "network", "images", "state", "supervisor", "testing"}),
    "pyroute2": frozenset({"network"}),
    "httpx": frozenset({"images", "build"}),
    "anyio": frozenset({"images"}),
    "backports": frozenset({"images"}),
    "compression": frozenset({"images"}),
    "isal": frozenset({"images"}),
    "e2b_dockerfile_utils": frozenset({"build"}),
    "h11": frozenset({"supervisor"}),
    "click": frozenset({"cli"}),
    "rich": frozenset({"cli"}),
}
"""Where a third-party package may be imported. One that is not listed has no home yet, and may be imported nowhere."""

FLOORS: Mapping[str, tuple[str, ...]] = {
    "compose": (
        "folder", "text", "discovery", "identity", "kinds", "schema", "merge", "model", "advice", "load", "queries"
    ),
}
"""The floors of a part that has some, lowest first: one imports only from those below it, and every module is on one."""

STDLIB_ONLY = frozenset(
    {"values", "kernel", "client", "units", "errors", "model", "launch", "policy", "contracts", "plan", "oci", "standalone"}
)
"""Parts that import no third-party package whatever `HOMES` says."""

PURE = frozenset({"model", "compose", "graph", "policy", "plan", "oci", "contracts"})
IMPURE_MODULES = frozenset({"trio", "time", "random", "subprocess", "socket", "threading", "asyncio", "multiprocessing"})

NOTHING_OF_COMPOSE = frozenset({"names", "keys", "health", "codec", "linepattern"})
"""What `runtime` may import of `model`: names, the result of a probe, what is looked for, and how values are stored. Not a
project, a service or a mount, so that a front end without any project can stand on it (pystack-oci)."""

SPAWN = f"{PACKAGE}.kernel.spawn"
"""Hands the environment on, unread, to the programs that it starts."""
MONITOR = f"{PACKAGE}.runtime.monitor"
BANNED_NAMES = frozenset({"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"})
FRONT_ENDS = frozenset({"cli", "standalone"})
"""What people and programs start: these print, and read the environment. `standalone` has no other front end above it."""
IMPORTERS = frozenset({"importlib.import_module", "import_module", "__import__"})
_MARKS = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b")


def read_package(root: Path) -> dict[str, str]:
    """Module name -> source text of every Python file below `root`, the directory of the package."""
    modules = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        if "_stacks" in parts:  # the demo stacks are packaged beside the code; they are programs of containers
            continue
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = path.read_text(encoding="utf-8")
    return modules


def violations(modules: Mapping[str, str]) -> list[str]:
    """Every broken rule, as ``module:line: sentence``, in the order of the modules' names."""
    found = []
    for name in sorted(modules):
        for line, sentence in sorted(_check(name, modules[name], modules)):
            found.append(f"{name}:{line}: {sentence}")
    return found


def part_of(module: str) -> str | None:
    """``orchestrator.cli.main`` -> ``cli``; None for the package itself and for a part that is in no row."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 and pieces[1] in ROW else None


def closure(modules: Mapping[str, str], package: str) -> set[str]:
    """The modules of ours that are imported with `package`, directly or not, itself included."""
    reached: set[str] = set()
    ahead = [name for name in modules if (name + ".").startswith(package + ".")]
    while ahead:
        name = ahead.pop()
        if name in reached:
            continue
        reached.add(name)
        is_package = any(other.startswith(name + ".") for other in modules)
        for _, target in _imports(ast.parse(modules[name]), name, is_package):
            ahead += [found for found in (target, target.rpartition(".")[0]) if found in modules and found != PACKAGE]
    return reached


def _check(name: str, source: str, modules: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    for number, text in enumerate(source.splitlines(), start=1):
        if _MARKS.search(text):
            yield number, "leaves work for later in a comment"
    banned = BANNED_NAMES.intersection(name.split("."))
    if banned:
        yield 1, f"{min(banned)!r} is not the name of a subject"
    if name == PACKAGE:
        part = None
    else:
        part = part_of(name)
        if part is None:
            yield 1, "belongs to no row of the layer table"
            return
        if part in FLOORS and name != f"{PACKAGE}.{part}" and _floor(name) not in FLOORS[part]:
            yield 1, f"is on no floor of {part}"
            return
    tree = ast.parse(source, filename=name)
    is_package = any(other.startswith(name + ".") for other in modules)
    for line, target in _imports(tree, name, is_package):
        yield from ((line, sentence) for sentence in _check_import(name, part, target))
    if part not in FRONT_ENDS and name != SPAWN:
        yield from _check_process(tree, name)


def _imports(tree: ast.Module, name: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, absolute module) for every import statement, also those inside functions and under TYPE_CHECKING.

    ``from a import b`` gives ``a.b``: for the rules, which look at prefixes, it does not matter whether b is a module.
    """
    package = name if is_package else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - (node.level - 1)]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and _callee(node) in IMPORTERS and node.args:
            argument = node.args[0]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield node.lineno, argument.value


def _check_import(name: str, part: str | None, target: str) -> Iterator[str]:
    top = target.split(".")[0]
    if top == PACKAGE:
        yield from _check_own_import(name, part, target)
        return
    if part in PURE and top in IMPURE_MODULES:
        yield f"pure code imports {top}"
        return
    if top in sys.stdlib_module_names:
        return
    if name == MONITOR or name.startswith(MONITOR + "."):
        yield f"the monitor imports {top}, and may import the standard library and {PACKAGE}.kernel alone"
    elif part in STDLIB_ONLY or part is None:
        yield f"{part or PACKAGE} imports {top}, and may import the standard library alone"
    elif part not in HOMES.get(top, frozenset()):
        homes = ", ".join(sorted(HOMES.get(top, ()))) or "nowhere yet"
        yield f"{top} is imported outside its home ({homes})"


def _check_own_import(name: str, part: str | None, target: str) -> Iterator[str]:
    other = part_of(target)
    if name == MONITOR or name.startswith(MONITOR + "."):
        if other != "kernel" and not (target + ".").startswith(MONITOR + "."):
            yield f"the monitor imports {target}, and may import the standard library and {PACKAGE}.kernel alone"
        return
    if other is None:
        if target.split(".")[1:2] and target.split(".")[1] != "__version__":
            yield f"imports {target}, which is in no row of the layer table"
        return
    if part is None:
        yield f"{PACKAGE} itself imports {target}"
    elif part == "runtime" and (other == "plan" or (other == "model" and not _known_to_runtime(target))):
        yield f"runtime imports {target}, and may know nothing of Compose"
    elif part == other:
        yield from _check_floor(name, part, target)
    elif part == "kernel" and other != "values":
        yield f"kernel imports {target}, and may import the standard library, `values` and itself alone"
    elif ROW[other] == ROW[part]:
        yield f"{part} imports its sibling {other}"
    elif ROW[other] > ROW[part]:
        yield f"{part} imports {other}, which is in a row above"


def _known_to_runtime(target: str) -> bool:
    return target.split(".")[2] in NOTHING_OF_COMPOSE


def _floor(module: str) -> str:
    return module.split(".")[2] if module.count(".") > 1 else ""


def _check_floor(name: str, part: str, target: str) -> Iterator[str]:
    floors = FLOORS.get(part)
    if floors is None or name == f"{PACKAGE}.{part}":
        return
    own, other = (_floor(module) for module in (name, target))
    if other not in floors:
        yield f"{target} is on no floor of {part}"
    elif own != other and floors.index(own) < floors.index(other):
        yield f"{part}.{own} imports {part}.{other}, which is not on a floor below"


def _check_process(tree: ast.Module, name: str) -> Iterator[tuple[int, str]]:
    """Only cli prints, ends the process or reads the environment; a ``__main__`` module may raise SystemExit."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            callee = _callee(node)
            if callee == "print":
                yield node.lineno, "prints outside cli"
            elif callee in {"sys.exit", "exit", "quit", "os.getenv", "os.putenv"}:
                yield node.lineno, f"calls {callee} outside cli"
        elif isinstance(node, ast.Attribute) and _dotted(node) in {"os.environ", "os.environb"}:
            yield node.lineno, "uses os.environ outside cli"
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                if (node.module, alias.name) in {("os", "environ"), ("os", "environb"), ("os", "getenv"), ("sys", "exit")}:
                    yield node.lineno, f"imports {node.module}.{alias.name} outside cli"
        elif isinstance(node, ast.Raise) and node.exc is not None and not name.endswith(".__main__"):
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if _dotted(raised) == "SystemExit":
                yield node.lineno, "raises SystemExit outside cli"


def _callee(node: ast.Call) -> str:
    return _dotted(node.func)


def _dotted(node: ast.expr) -> str:
    """``a.b.c`` for a chain of names, "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (left := _dotted(node.value)):
        return f"{left}.{node.attr}"
    return ""
