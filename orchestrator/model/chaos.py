"""Faults on purpose as a user says them, on the command line and in a stack (docs/chaos.md): ``cut api db --one-way``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from orchestrator.errors import InputError
from orchestrator.units import (
    LEAST_RATE,
    MOST_RATE,
    format_bit_rate,
    format_duration,
    parse_bit_rate,
    parse_duration,
    parse_share,
    parse_signal,
    signal_name,
)
from orchestrator.values import frozen

OUTSIDE = "outside"
"""In place of B: what is not of the project."""
USUAL_S = 60.0
MAX_S = 1e9
_LONGEST_S = 3600.0
_SIGKILL = 9


class FaultKind(Enum):
    CUT = "cut"
    LOSS = "loss"
    LAG = "lag"
    RATE = "rate"
    DNS_FAIL = "dns-fail"
    PAUSE = "pause"
    KILL = "kill"
    OOM = "oom"

    @property
    def lasts(self) -> bool:
        """It has an end, and can be undone."""
        return self not in (FaultKind.KILL, FaultKind.OOM)

    @property
    def of_network(self) -> bool:
        return self not in (FaultKind.PAUSE, FaultKind.KILL, FaultKind.OOM)

    @property
    def has_two_ends(self) -> bool:
        """Or may have."""
        return self in (FaultKind.CUT, FaultKind.LOSS, FaultKind.LAG, FaultKind.RATE)


@frozen
class Injection:
    """A fault that is wanted. `on`, `to`: a service or a container; `to` may be `OUTSIDE`, or "": everybody, where that
    makes sense. `for_s` 0: until it is undone. `share`: of LOSS, above 0 and at most 1. `name`, `silent`: of DNS_FAIL."""

    kind: FaultKind
    on: str
    to: str = ""
    one_way: bool = False
    for_s: float = USUAL_S
    share: float = 1.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bits_per_s: int = 0
    name: str = ""
    silent: bool = False
    signal: int = _SIGKILL

    def __str__(self) -> str:
        """``cut api from db``, ``20% loss between api and db``."""
        way = " one way" if self.one_way else ""
        match self.kind:
            case FaultKind.CUT:
                return f"cut {self.on} from {self.to}{way}"
            case FaultKind.LOSS | FaultKind.LAG | FaultKind.RATE:
                ends = f"between {self.on} and {self.to}" if self.to else f"of {self.on}"
                return f"{self._amount()} {ends}{way}"
            case FaultKind.DNS_FAIL:
                return f"name {self.name} fails for {self.on}" if self.name else f"names fail for {self.on}"
            case FaultKind.PAUSE:
                return f"pause {self.on}"
            case FaultKind.KILL:
                return f"send {signal_name(self.signal)} to {self.on}"
            case FaultKind.OOM:
                return f"let {self.on} run out of memory"

    def mark(self, service: str, container: str) -> str:
        """What it means for a container, in a word or two."""
        other = self.to if self.on in (service, container) else self.on
        match self.kind:
            case FaultKind.CUT:
                return f"cut from {other}"
            case FaultKind.LOSS | FaultKind.LAG | FaultKind.RATE:
                return f"{self._amount()} to {other}" if other else self._amount()
            case FaultKind.DNS_FAIL:
                return f"name {self.name} fails" if self.name else "names fail"
            case FaultKind.PAUSE | FaultKind.KILL | FaultKind.OOM:
                return str(self.kind.value)

    def concerns(self, service: str, container: str) -> bool:
        """Whether the container is one of its ends."""
        return self.on in (service, container) or self.to in (service, container)

    def _amount(self) -> str:
        match self.kind:
            case FaultKind.LOSS:
                return f"{self.share * 100:g}% loss"
            case FaultKind.LAG:
                return f"{format_duration(self.delay_s)} lag"
            case _:
                return format_bit_rate(self.bits_per_s)


@frozen
class ChaosStep:
    """A line of a stack's script: at `at_s` from its beginning, or (`every_s`) then and again and again."""

    injection: Injection
    at_s: float = 0.0
    every_s: float = 0.0
    place: str = ""


Options = Mapping[str, str | bool]
"""By name, without dashes: a text, or True for a flag."""


@frozen
class Form:
    """How a kind is written. `words`: what follows the verb, in brackets what may be left out. `options`: by name, with
    what its value is called; "": a flag."""

    words: str
    options: Mapping[str, str]

    @property
    def least(self) -> int:
        return sum(not word.startswith("[") for word in self.words.split())

    @property
    def most(self) -> int:
        return len(self.words.split())


_FOR = {"for": "TIME"}
_WAYS = {**_FOR, "one-way": ""}
FORMS: Mapping[FaultKind, Form] = {
    FaultKind.CUT: Form("A B", _WAYS),
    FaultKind.LOSS: Form("A B SHARE%", _WAYS),
    FaultKind.LAG: Form("A [B] TIME", {**_WAYS, "jitter": "TIME"}),
    FaultKind.RATE: Form("A [B] RATE", _WAYS),
    FaultKind.DNS_FAIL: Form("A [NAME]", {**_FOR, "timeout": ""}),
    FaultKind.PAUSE: Form("A", _FOR),
    FaultKind.KILL: Form("A", {"signal": "SIGNAL"}),
    FaultKind.OOM: Form("A", {}),
}
_SHORT = {"-s": "signal"}


def parse_injection(text: str) -> Injection:
    """What is written in a stack. Raises ValueError with a sentence."""
    words, options = text.split(), dict[str, str | bool]()
    kind = next((kind for kind in FaultKind if words and words[0] == kind.value), None)
    if kind is None:
        known = ", ".join(kind.value for kind in FaultKind)
        raise ValueError(f'"{text}" begins with no fault: they are {known}')
    rest, said = iter(words[1:]), list[str]()
    for word in rest:
        flag, given, value = word.partition("=")
        name = _SHORT.get(flag, flag[2:] if flag[:2] == "--" else "")
        if not word.startswith("-"):
            said.append(word)
        elif name not in FORMS[kind].options:
            raise ValueError(f'{kind.value} has no option "{flag}"')
        elif not FORMS[kind].options[name]:
            options[name] = True
        else:
            options[name] = value if given else next(rest, "")
    return injection_of(kind, said, options)


def injection_of(kind: FaultKind, words: Sequence[str], options: Options) -> Injection:
    """The fault of these words and options. Raises ValueError with a sentence."""
    form = FORMS[kind]
    if not form.least <= len(words) <= form.most:
        raise ValueError(f"it is written as: {kind.value} {form.words}")
    on, *more = words
    if on == OUTSIDE:
        raise ValueError(f'"{OUTSIDE}" can only be the other end: {kind.value} {form.words}')
    fields: dict[str, object] = {}
    if kind in _AMOUNTS:
        field, parse = _AMOUNTS[kind]
        fields[field] = parse(more.pop())
    if kind is FaultKind.DNS_FAIL:
        fields["name"] = more.pop().lower().rstrip(".") if more else ""
        fields["silent"] = "timeout" in options
    if kind is FaultKind.KILL and "signal" in options:
        fields["signal"] = _signal(str(options["signal"]))
    if "jitter" in options:
        fields["jitter_s"] = _time(str(options["jitter"]))
    if "for" in options:
        fields["for_s"] = _time(str(options["for"]))
    if not kind.lasts:
        fields["for_s"] = 0.0
    made = Injection(kind, on, more[0] if more else "", "one-way" in options, **fields)  # type: ignore[arg-type]
    check_injection(made)
    return made


def check_injection(wanted: Injection) -> None:
    """That it can be made, wherever it came from. Raises ValueError with a sentence."""
    needs_other = wanted.kind in (FaultKind.CUT, FaultKind.LOSS)
    complaints = (
        (not wanted.on or wanted.on == OUTSIDE, f'"{wanted.on}" is no service'),
        (needs_other and not wanted.to, "it has no other end"),
        (bool(wanted.to) and not wanted.kind.has_two_ends, "it has no other end"),
        (not 0 <= wanted.for_s < MAX_S, f"{wanted.for_s!r} is no number of seconds"),
        (not 0.0001 <= wanted.share <= 1, f"{wanted.share!r} is no share"),
        (not 0 <= wanted.delay_s <= _LONGEST_S, f"{wanted.delay_s!r} is no lag"),
        (wanted.kind is FaultKind.LAG and not wanted.delay_s, "a lag takes time"),
        (not 0 <= wanted.jitter_s <= wanted.delay_s, "the jitter is at most as long as the lag"),
        (not 0 <= wanted.bits_per_s <= MOST_RATE, f"{wanted.bits_per_s!r} is no rate"),
        (wanted.kind is FaultKind.RATE and wanted.bits_per_s < LEAST_RATE, f"{wanted.bits_per_s!r} is no rate"),
        (not 1 <= wanted.signal <= 64, f"{wanted.signal!r} is no signal"),
    )
    for is_so, complaint in complaints:
        if is_so:
            raise ValueError(complaint)


def _time(text: str) -> float:
    seconds = parse_duration(text)
    if seconds < 0:
        raise ValueError(f'"{text}" is a negative duration')
    return seconds


def _lag(text: str) -> float:
    seconds = _time(text)
    if not 0 < seconds <= _LONGEST_S:
        raise ValueError(f'"{text}" is no lag: more than nothing, and an hour at most')
    return seconds


def _signal(text: str) -> int:
    try:
        return parse_signal(text)
    except InputError as error:
        raise ValueError(error.message) from None


_AMOUNTS: Mapping[FaultKind, tuple[str, Callable[[str], object]]] = {
    FaultKind.LOSS: ("share", parse_share),
    FaultKind.LAG: ("delay_s", _lag),
    FaultKind.RATE: ("bits_per_s", parse_bit_rate),
}
"""The last word of those that have an amount."""
