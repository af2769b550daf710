"""``python -m benchmarks.watch [--rounds N] [--files N]``: how long a change takes until it is in the container.

From the end of write(2) until a reader in the container's root sees it: one file (p50, p99, most), and a storm of files in
a hundred folders until the last is there; the processor time of the watch for both, and while nothing happens. As root.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.machine import Pystack, make_busybox_rootfs

STACK = """
services:
  app:
    image: rootfs:{image}
    command: [sleep, "3600"]
    stop_grace_period: 0s
    develop: {{watch: [{{path: ./src, action: sync, target: /srv/src}}]}}
"""
_TICKS = os.sysconf("SC_CLK_TCK")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _wait(path: Path, text: str) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            if path.read_text() == text:
                return
        except OSError:
            pass
        if time.monotonic() > end:
            sys.exit(f"{path} did not come")
        time.sleep(0.0005)


def _single(source: Path, target: Path, rounds: int) -> list[float]:
    took = []
    for number in range(rounds):
        (source / "file").write_text(str(number))
        begin = time.perf_counter()
        _wait(target / "file", str(number))
        took.append((time.perf_counter() - begin) * 1000)
    return sorted(took)


def _storm(source: Path, target: Path, count: int) -> tuple[float, float]:
    """Seconds until all were written, and until all had come."""
    begin = time.perf_counter()
    for number in range(count):
        folder = source / f"{number % 100}"
        folder.mkdir(exist_ok=True)
        (folder / f"file-{number}").write_text("x")
    written_s = time.perf_counter() - begin
    last = {number: target / f"{number % 100}" / f"file-{number}" for number in range(count)}
    while last and time.perf_counter() - begin < 120:
        last = {number: path for number, path in last.items() if not path.exists()}
        time.sleep(0.01)
    return written_s, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="psb-", dir="/tmp"))
    pystack = Pystack(root)
    stack = pystack.stack(STACK.format(image=make_busybox_rootfs(root / "image")), files={"src/file": ""})
    command = pystack.command("-p", stack.name, "watch")
    environment = pystack.child_environment()
    watch = subprocess.Popen(command, cwd=stack.directory, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert watch.stderr is not None
        said = ""
        while "enabled" not in said:
            said = watch.stderr.readline() or sys.exit("the watch did not begin")
        pid = json.loads(stack.must("ps", "--format", "json").stdout.splitlines()[0])["Pid"]
        source, target = stack.directory / "src", Path(f"/proc/{pid}/root/srv/src")
        begin_s = _cpu_s(watch.pid)
        took = _single(source, target, options.rounds)
        single_s = _cpu_s(watch.pid) - begin_s
        p99 = took[min(len(took) - 1, len(took) * 99 // 100)]
        print(f"one file: p50 {statistics.median(took):.0f} ms, p99 {p99:.0f} ms, most {took[-1]:.0f} ms")
        print(f"          {single_s / options.rounds * 1000:.1f} ms of processor time each")
        begin_s = _cpu_s(watch.pid)
        written_s, all_s = _storm(source, target, options.files)
        print(f"{options.files} files: written in {written_s:.2f} s, all there after {all_s:.2f} s")
        print(f"          {_cpu_s(watch.pid) - begin_s:.2f} s of processor time")
        time.sleep(3)
        begin_s = _cpu_s(watch.pid)
        time.sleep(10)
        print(f"idle: {(_cpu_s(watch.pid) - begin_s) * 10:.2f}% of a processor")
    finally:
        watch.send_signal(signal.SIGINT)
        watch.communicate()
        pystack.close()
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
