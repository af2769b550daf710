"""``python -m tests.fuzz.loader --minutes M --seed S``: mutated stacks through the loader until the time is up.

Anything but a model or a ComposeError is a finding, and so is a case that takes more than 2 s or lets the process
grow beyond 500 MB. A finding is saved as a folder under tests/fuzz/findings/, which the tests replay.

The work is done in a child, so that a crash, a hang in C code or a memory bomb is seen as well: the child writes each case
to its folder before it loads it, and the case found there after a death is the finding.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import FrameType

from orchestrator.compose.load import ComposeError, LoadRequest, load
from tests.fuzz.measure import ADDRESS_SPACE_BYTES, ENVIRONMENT
from tests.fuzz.mutate import Case, mutate, seeds

FINDINGS = Path(__file__).parent / "findings"
LIMIT_S = 2.0
LIMIT_MB = 500.0
HANG_S = 20.0
KEEP = 4000


class TooSlow(BaseException):
    """Not an Exception, so that nothing in the loader takes it for one of its own."""


def write(case: Case, folder: Path) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for name, data in case.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def request(folder: Path) -> LoadRequest:
    """The stack of a case: its own compose file, or the first one there is."""
    if any((folder / name).exists() for name in ("compose.yaml", "compose.yml", "docker-compose.yml")):
        return LoadRequest(str(folder), ENVIRONMENT, profiles=("*",))
    files = tuple(str(path.relative_to(folder)) for path in sorted(folder.rglob("*.y*ml")))
    return LoadRequest(str(folder), ENVIRONMENT, files[:1], profiles=("*",))


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Processor seconds, so that a busy machine makes no finding."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def trouble(folder: Path) -> tuple[str, str] | None:
    """(what is wrong, where) with loading the stack in `folder`, or None."""
    try:
        with _alarm(LIMIT_S):
            load(request(folder))
    except ComposeError as exc:
        shown = str(exc)
        return ("a control character in the message", repr(shown[:300])) if "\x1b" in shown or "\0" in shown else None
    except TooSlow:
        return f"more than {LIMIT_S:g} s", traceback.format_exc()[-1500:]
    except BaseException as exc:  # whatever it is, it is the finding
        if isinstance(exc, KeyboardInterrupt | SystemExit):
            raise
        frame = traceback.extract_tb(exc.__traceback__)[-1]
        return f"{type(exc).__name__} in {Path(frame.filename).name}:{frame.name}", traceback.format_exc()[-1500:]
    return None


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(folder: Path, seed: int, until_s: float) -> int:
    """The child: cases until `until_s` (monotonic); prints a JSON line for each finding, and the count at the end."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    r = Random(seed)
    pool = seeds()
    count = loaded = 0
    seen: set[str] = set()
    while time.monotonic() < until_s:
        case = mutate(r, pool)
        write(case, folder)
        before = peak_mb()
        found = trouble(folder)
        count += 1
        if found is None and peak_mb() > max(before, LIMIT_MB):
            found = (f"more than {LIMIT_MB:g} MB", f"{peak_mb():.0f} MB")
        if found is None:
            loaded += 1
            # Cases that are still understood are worth mutating further.
            if len(pool) < KEEP and r.random() < 0.1:
                pool.append(case)
        elif found[0] not in seen:
            seen.add(found[0])
            print(json.dumps({"what": found[0], "detail": found[1], "saved": str(save(case, found[0]))}), flush=True)
        if count % 200 == 0:
            print(json.dumps({"count": count}), flush=True)
    print(json.dumps({"count": count, "clean": loaded}), flush=True)
    return 0


def save(case: Case, what: str) -> Path:
    """Keep the case as a regression, made smaller while it shows the same."""
    small = _smaller(case, what)
    digest = hashlib.sha256(b"\0".join(name.encode() + data for name, data in sorted(small.items()))).hexdigest()[:10]
    folder = FINDINGS / digest
    folder.mkdir(parents=True, exist_ok=True)
    write(small, folder)
    (folder / "finding.txt").write_text(what + "\n")
    return folder


def _smaller(case: Case, what: str, budget_s: float = 20.0) -> Case:
    """`case` with files and pieces of files left out, as long as the trouble stays the same and the time lasts."""
    until = time.monotonic() + budget_s

    def same(attempt: Case) -> bool:
        with tempfile.TemporaryDirectory(prefix="pst-fuzz-") as folder:
            write(attempt, Path(folder))
            found = trouble(Path(folder))
        return found is not None and found[0] == what

    for name in sorted(case):
        without = {key: data for key, data in case.items() if key != name}
        if without and time.monotonic() < until and same(without):
            case = without
    for name in sorted(case):
        size = max(len(case[name]) // 2, 1)
        while size >= 1 and time.monotonic() < until:
            at = 0
            while at < len(case[name]) and time.monotonic() < until:
                attempt = {**case, name: case[name][:at] + case[name][at + size :]}
                if same(attempt):
                    case = attempt
                else:
                    at += size
            size //= 2
    return case


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "SECONDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(Path(options.worker[0]), options.seed, time.monotonic() + float(options.worker[1]))
    end = time.monotonic() + options.minutes * 60
    total = findings = 0
    seed = options.seed
    while time.monotonic() < end - 1:
        count, bad = _supervise(seed, end - time.monotonic())
        total, findings, seed = total + count, findings + bad, seed + 1
    print(f"{total} cases in {options.minutes:g} minutes, {findings} findings")
    return 1 if findings else 0


def _supervise(seed: int, seconds: float) -> tuple[int, int]:
    """Run one child; (cases, findings). A child that dies or goes silent leaves its last case as a finding."""
    count = findings = 0
    with tempfile.TemporaryDirectory(prefix="pst-fuzz-") as folder:
        arguments = ["--seed", str(seed), "--worker", folder, f"{seconds:.1f}"]
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.loader", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        )
        assert child.stdout is not None
        with child:
            signal.signal(signal.SIGALRM, lambda *_: child.kill())
            signal.alarm(int(seconds + HANG_S))
            for line in child.stdout:
                record = json.loads(line)
                count = max(count, record.get("count", 0))
                if "what" in record:
                    findings += 1
                    print(f"{record['what']}\n{record['detail']}\nsaved in {record['saved']}", flush=True)
            signal.alarm(0)
        if child.returncode:
            paths = [path for path in Path(folder).rglob("*") if path.is_file()]
            case = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
            what = f"the process ended with {child.returncode}"
            digest = hashlib.sha256(os.urandom(8)).hexdigest()[:10]
            write_to = FINDINGS / digest
            write_to.mkdir(parents=True)
            write(case, write_to)
            (write_to / "finding.txt").write_text(what + "\n")
            print(f"{what}\nsaved in {write_to}", flush=True)
            findings += 1
    return count, findings


if __name__ == "__main__":
    sys.exit(main())
