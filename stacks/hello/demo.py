"""``make demo``: bring the stack up, watch it heal itself twice, take it down; ends with 1 if anything is not as promised.

It works in a temporary directory of its own and leaves nothing on the machine. Needs root, and no image and no network.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DEADLINE_S = 60.0
MISHAPS = {"greeter": "crashed", "web": "became unhealthy"}


def main() -> int:
    if os.geteuid() != 0:
        print("error: the demo needs root\nhint: sudo make demo", file=sys.stderr)
        return 125
    place = Path(tempfile.mkdtemp(prefix="pystack-demo-", dir="/tmp"))
    demo = Demo(place, free_port(8000))
    try:
        demo.play()
    except Broken as exc:
        print(f"\ndemo failed: {exc}", file=sys.stderr)
        demo.pystack("down", "-v", "-t", "1", check=False)
        return 1
    except KeyboardInterrupt:
        demo.pystack("down", "-v", "-t", "1", check=False)
        return 130
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return 0


class Broken(Exception):
    """Something is not as the demo promises."""


class Demo:
    def __init__(self, place: Path, port: int) -> None:
        self.place = place
        self.url = f"http://127.0.0.1:{port}/"
        self.environment = {
            **os.environ,
            "HELLO_PORT": str(port),
            "PYSTACK_DATA_DIR": str(place / "data"),
            "PYSTACK_RUN_DIR": str(place / "run"),
        }

    def play(self) -> None:
        say("Three services; each waits until the one it needs is healthy.")
        began = time.monotonic()
        self.pystack("up", "-d", "--wait")
        healthy_s = time.monotonic() - began
        say(f"All healthy after {healthy_s:.1f} s. A request from this machine, by the published port:")
        print(f"$ curl {self.url}\n{self.fetch()}", end="", flush=True)

        say("Now the greeter will crash once, and web will turn unhealthy once. Nobody touches anything:")
        healed = self.watch(began)
        self.pystack("ps")
        for service in MISHAPS:
            self.pystack("why", service)
        print(f"$ curl {self.url}\n{self.fetch()}", end="", flush=True)

        say("And away with it:")
        stop_began = time.monotonic()
        self.pystack("down")
        down_s = time.monotonic() - stop_began
        self.check_that_nothing_is_left()
        print(f"\nup and healthy {healthy_s:.1f} s")
        for service, seconds in healed.items():
            print(f"{service} {MISHAPS[service]} and was healthy again {seconds:.1f} s after the start")
        print(f"down {down_s:.1f} s, nothing left behind")

    def pystack(self, *args: str, check: bool = True, quiet: bool = False) -> str:
        """Run it as a user would; what it prints is shown, unless `quiet`."""
        if not quiet:
            print(f"$ pystack {' '.join(args)}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", *args],
            cwd=HERE,
            env=self.environment,
            stdout=subprocess.PIPE if quiet else None,
            text=True,
        )
        if check and done.returncode != 0:
            raise Broken(f"pystack {' '.join(args)} ended with {done.returncode}")
        return done.stdout or ""

    def fetch(self) -> str:
        try:
            with urllib.request.urlopen(self.url, timeout=10) as reply:
                text: str = reply.read().decode()
        except (urllib.error.URLError, OSError) as exc:
            raise Broken(f"{self.url} does not answer: {exc}") from exc
        if not text.startswith("Hello, visitor"):
            raise Broken(f"{self.url} answered {text!r}")
        return text

    def watch(self, began: float) -> dict[str, float]:
        """Print every change of state until both services have been restarted and are healthy: seconds since `began`."""
        healed: dict[str, float] = {}
        shown: dict[str, str] = {}
        while len(healed) < len(MISHAPS):
            now = time.monotonic() - began
            if now > DEADLINE_S:
                raise Broken(f"after {DEADLINE_S:.0f} s not healed: {sorted(set(MISHAPS) - set(healed))}")
            for row in self.rows():
                service, restarts, health = row["service"], row.get("restarts", 0), row.get("health", "none")
                line = f"{row['phase']}, {health}, restarted {restarts} times"
                if shown.get(service, line) != line:
                    print(f"  {now:5.1f} s  {service:8} {line}  {row.get('reason', '')}".rstrip(), flush=True)
                shown[service] = line
                if service in MISHAPS and restarts >= 1 and health == "healthy":
                    healed.setdefault(service, now)
            time.sleep(0.05)
        return healed

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.pystack("ps", "--format", "json", quiet=True))
        return rows

    def check_that_nothing_is_left(self) -> None:
        """No supervisor, no monitor and no container of ours; nothing of the project on disk."""
        deadline = time.monotonic() + 5
        while left := self.left():
            if time.monotonic() > deadline:
                raise Broken("left behind: " + ", ".join(left))
            time.sleep(0.02)

    def left(self) -> list[str]:
        found = [str(path) for path in (self.place / "run").rglob("*") if not path.is_dir()]
        found += [str(path) for path in (self.place / "data" / "projects").rglob("*") if not path.is_dir()]
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if str(self.place).encode() in command:
                    found.append(command.replace(b"\0", b" ").decode(errors="replace"))
        return found


def free_port(wanted: int) -> int:
    """`wanted` if nobody listens there, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            number: int = probe.getsockname()[1]
            return number
    raise Broken("no free port")


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
