"""Looking for failures after which a stack does not come to rest as it should, and for the smallest such.

Each try is a simulation with one to three failures at moments of the first minute, in an order of tasks of its own. What is
found is made smaller, as property tests do: failures are left out, moments made rounder and earlier, as long as it still
does not converge.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from orchestrator.testing.failures import Failure, FailureKind
from orchestrator.values import frozen, replace

WINDOW_S = 60.0
SLOWEST_S = 10.0
"""A start that is slower than its health check allows never comes up: that needs no search."""
MOST_FAILURES = 3
_KINDS = (FailureKind.KILL, FailureKind.KILL, FailureKind.ILL, FailureKind.KILL_SUPERVISOR, FailureKind.SLOW)


@frozen
class Try:
    seed: int
    failures: tuple[Failure, ...]

    @property
    def options(self) -> str:
        """What makes `pystack simulate` do the same."""
        return " ".join([f"--seed {self.seed}", *(failure.option for failure in self.failures)])


Converges = Callable[[Try], bool]


def search(
    converges: Converges, services: Sequence[str], tries: int, seed: int, given: Sequence[Failure] = ()
) -> tuple[Try | None, int]:
    """The smallest try that was found not to converge, or None, and how many were made until one was found. `given`:
    failures that are in each."""
    for number in range(tries):
        chance = random.Random(f"{seed} {number}")
        one = Try(seed + number, (*given, *_failures(chance, services)))
        if not converges(one):
            return _shrunk(converges, one, given), number + 1
    return None, tries


def _failures(chance: random.Random, services: Sequence[str]) -> Iterator[Failure]:
    for _ in range(chance.randint(1, MOST_FAILURES)):
        kind = chance.choice(_KINDS)
        service = "" if kind is FailureKind.KILL_SUPERVISOR else chance.choice(services)
        most_s = SLOWEST_S if kind is FailureKind.SLOW else WINDOW_S
        yield Failure(kind, service, round(chance.uniform(0, most_s), 1))


def _shrunk(converges: Converges, found: Try, given: Sequence[Failure]) -> Try:
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(found, len(given)):
            if not converges(candidate):
                found, smaller = candidate, True
                break
    return found


def _smaller(found: Try, given: int) -> Iterator[Try]:
    """Each is smaller in one respect, so that this comes to an end."""
    failures = found.failures
    for at in range(given, len(failures)):
        yield replace(found, failures=(*failures[:at], *failures[at + 1 :]))
    if found.seed:
        yield replace(found, seed=0)
    for at in range(given, len(failures)):
        seconds = failures[at].seconds
        for less in (0.0, 1.0, float(int(seconds / 2)), float(int(seconds)), float(int(seconds - 1))):
            if less < seconds:
                yield replace(found, failures=(*failures[:at], replace(failures[at], seconds=less), *failures[at + 1 :]))
