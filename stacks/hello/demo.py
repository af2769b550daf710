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
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEADLINE_S = 60.0
PYSTACK = [sys.executable, "-m", "orchestrator.cli"]
SHOWN = {"container.exited", "health.changed", "restart.scheduled", "container.started"}
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
            print(f"{service} {MISHAPS[service]}, and was restarted and healthy {seconds:.1f} s after the start")
        print(f"down {down_s:.1f} s, nothing left behind")

    def pystack(self, *args: str, check: bool = True) -> None:
        """Run it as a user would."""
        print(f"$ pystack {' '.join(args)}", flush=True)
        done = subprocess.run([*PYSTACK, *args], cwd=HERE, env=self.environment, stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise Broken(f"pystack {' '.join(args)} ended with {done.returncode}")

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
        """Show what happens until both services have been restarted and are healthy: seconds since `began` for each."""
        print("$ pystack events --since 10m", flush=True)
        restarted: set[str] = set()
        healed: dict[str, float] = {}
        with subprocess.Popen(
            [*PYSTACK, "events", "--since", "10m", "--format", "json"],
            cwd=HERE,
            env=self.environment,
            stdout=subprocess.PIPE,
        ) as events:
            assert events.stdout is not None
            timer = threading.Timer(DEADLINE_S, events.terminate)
            timer.start()
            for line in events.stdout:
                event = json.loads(line)
                at_s, service, kind = time.monotonic() - began, event.get("service", ""), event["kind"]
                if kind in SHOWN:
                    print(f"  {at_s:5.1f} s  {service:8}  {event['text']}", flush=True)
                if kind == "restart.scheduled":
                    restarted.add(service)
                if service in restarted and event.get("detail", {}).get("health") == "healthy":
                    healed.setdefault(service, at_s)
                if len(healed) == len(MISHAPS):
                    break
            timer.cancel()
            events.terminate()
        if missing := sorted(set(MISHAPS) - set(healed)):
            raise Broken(f"after {DEADLINE_S:.0f} s not restarted and healthy: {', '.join(missing)}")
        return healed

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
