"""``pystack doctor``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.settings import Settings
from orchestrator.errors import EXIT_RUNTIME, HostError

if TYPE_CHECKING:
    from orchestrator.runtime.host_check import Check


def doctor(settings: Settings, shape: str) -> int:
    """Check what this machine can do. Ends with 125 when something that is needed is missing."""
    from orchestrator.runtime.host_check import check_host
    from orchestrator.state.directory import DEFAULT_DATA

    checks = [*check_host(settings.data_root or DEFAULT_DATA), *_subnets()]
    missing = [check for check in checks if check.needed and not check.ok]
    if shape == "json":
        keys = ("name", "ok", "needed", "detail", "hint")
        print(json.dumps([{key: getattr(check, key) for key in keys} for check in checks], indent=2))
    else:
        name_width = max((len(check.name) for check in checks), default=0)
        for check in checks:
            word = "ok" if check.ok else "MISSING" if check.needed else "warning"
            print(f"{word.ljust(7)}  {check.name.ljust(name_width)}  {escape_line(check.detail)}".rstrip())
            if not check.ok and check.hint:
                print(f"{' ' * (name_width + 11)}hint: {escape_line(check.hint)}")
        if missing:
            noun = "thing is" if len(missing) == 1 else "things are"
            print(f"{len(missing)} {noun} missing: pystack cannot run containers here")
        else:
            print("this machine can run containers")
    return EXIT_RUNTIME if missing else 0


def _subnets() -> list[Check]:
    """Whether something else claims a network of ours: a VPN that came up later, say."""
    from orchestrator.network.discovery import find_conflicts
    from orchestrator.runtime.host_check import Check

    hint = "containers, or the hosts behind that route, may not be reached: `pystack down` and `up` take another subnet"
    try:
        found = find_conflicts()
    except HostError as exc:
        return [Check("subnets", False, False, exc.message)]
    if not found:
        return [Check("subnets", True, False, "no route overlaps a network of a project that is up")]
    if all(conflict.harmless for conflict in found):
        wider = ", ".join(dict.fromkeys(str(conflict.other.network) for conflict in found))
        detail = f"all networks of projects that are up are reached; they are parts of wider routes ({wider})"
        return [Check("subnets", True, False, detail)]
    return [Check("subnets", False, False, str(conflict), hint) for conflict in found if not conflict.harmless]
