"""``python -m tests.differential.run_random --count N --seed S --jobs J``: random whole stacks, both loaders.

A stack is one draft of `strategies.random_draft`, seeded with S, S+1...: one to six services with up to seven attributes
each, in one to five files, and one call of the oracle. Nothing is batched, so a difference is a stack's own. With --keep, a
seed that shows one is appended to seeds.txt, and the stack, made small, to found.jsonl; the tests replay both files.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random

from tests.differential.drafts import Draft, smaller
from tests.differential.oracle import Stack, answers, difference_of
from tests.differential.strategies import random_draft

HERE = Path(__file__).parent
SEEDS = HERE / "seeds.txt"
FOUND = HERE / "found.jsonl"
CHUNK = 20
KIND = 15
"""So many characters of a difference say who refuses, or that the models differ."""


def check(seed: int) -> tuple[str | None, bool]:
    """(how the loaders differ on the stack of `seed`, whether the oracle refused it)."""
    oracle, ours = answers(random_draft(Random(seed)).stack())
    return difference_of(oracle, ours), oracle.failed


def reduced(seed: int) -> tuple[Stack, str]:
    """The stack of `seed`, made small, and how the loaders differ on what is left: in the same way as before."""
    draft = random_draft(Random(seed))
    kind = (difference_of(*answers(draft.stack())) or "")[:KIND]

    def differs(attempt: Draft) -> bool:
        return (difference_of(*answers(attempt.stack())) or "").startswith(kind)

    stack = smaller(draft, differs).stack() if kind else draft.stack()
    return stack, difference_of(*answers(stack)) or "no longer differs"


def to_json(stack: Stack, note: str) -> str:
    """A line of found.jsonl."""
    files = {name: text for name, text in stack.files.items() if isinstance(text, str)}
    record = {"note": note, "files": files, "compose": stack.compose, "environment": dict(stack.environment)}
    return json.dumps({**record, "profiles": stack.profiles, "services": stack.services}, ensure_ascii=False)


def from_json(line: str) -> Stack:
    record = json.loads(line)
    return Stack(
        record["files"],
        tuple(record["compose"]),
        record["environment"],
        tuple(record["profiles"]),
        services=tuple(record["services"]),
    )


def kept_seeds() -> list[int]:
    """The seeds of seeds.txt."""
    lines = SEEDS.read_text().splitlines() if SEEDS.exists() else []
    return [int(line) for line in lines if line.strip() and not line.startswith("#")]


def kept_stacks() -> list[tuple[str, Stack]]:
    """(what once differed, the stack) of found.jsonl."""
    lines = FOUND.read_text().splitlines() if FOUND.exists() else []
    return [(json.loads(line)["note"], from_json(line)) for line in lines if line.strip()]


def run(count: int, seed: int, jobs: int) -> Iterator[tuple[int, str | None, bool]]:
    with ProcessPoolExecutor(jobs) as pool:
        seeds = range(seed, seed + count)
        for number, (difference, refused) in zip(seeds, pool.map(check, seeds, chunksize=CHUNK)):
            yield number, difference, refused


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="append what differs to seeds.txt and found.jsonl")
    parser.add_argument("--most", type=int, default=30, help="stop making differences small after so many")
    options = parser.parse_args()
    start = time.monotonic()
    bad: list[int] = []
    refused = done = 0
    for seed, difference, failed in run(options.count, options.seed, options.jobs):
        done += 1
        refused += failed
        if difference is not None:
            bad.append(seed)
            print(f"seed {seed}: {difference}", flush=True)
    seconds = time.monotonic() - start
    for seed in bad[: options.most]:
        stack, note = reduced(seed)
        print(f"\n=== seed {seed}: {note}\n{stack.show()}", flush=True)
        if options.keep:
            with SEEDS.open("a") as seeds, FOUND.open("a") as found:
                seeds.write(f"{seed}\n")
                found.write(to_json(stack, note.replace("\n", " ")[:200]) + "\n")
    print(f"{done} stacks in {seconds:.0f} s: the oracle loads {done - refused} and refuses {refused}, {len(bad)} differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
