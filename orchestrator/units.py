"""Durations, byte sizes, rates, shares and signals: the only parsers and formatters of such text.

Durations are Go's (``1h30m``, ``1.5s``, ``-2ms``) with ``d`` (24 h) and ``w`` (7 d) as the compose format has them; a
number without a unit is an error, but ``0`` is not. Byte sizes are binary (``64m``, ``64MB`` and ``64MiB`` are all
64 * 1024 * 1024), as docker/go-units reads them; ``1Ki`` is an error. Their parsers raise ValueError with a sentence that
names the text. Signals are Linux's (signal(7)); the numbers are those of x86, ARM and RISC-V, and of glibc.
"""

from __future__ import annotations

from orchestrator.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

NS_PER_SECOND = 1_000_000_000
MAX_NS = 2**63 - 1

_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": NS_PER_SECOND,
    "m": 60 * NS_PER_SECOND,
    "h": 3600 * NS_PER_SECOND,
    "d": 24 * 3600 * NS_PER_SECOND,
    "w": 7 * 24 * 3600 * NS_PER_SECOND,
}
_PART = r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h|d|w)"
_DURATION_HINT = "write a number and a unit, such as 500ms, 30s, 1m30s, 2h or 1d"

_SIZE = r"(?s)(.*[0-9. ])([^0-9. ]*)"
_NUMBER = r"\+?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?"
_SIZE_FACTORS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
_SIZE_HINT = "write bytes, or a number with b, k, m, g or t, such as 512k, 64m or 2g"

_SIGNALS = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR",
    "SYS",
)  # fmt: skip
"""From 1 up. (Not the module `signal`: its enumerations cost a quick command a millisecond.)"""
_RTMIN, _RTMAX = 34, 64
"""glibc keeps 32 and 33 to itself."""
_SIGNAL_NUMBERS = {name: number for number, name in enumerate(_SIGNALS, 1)} | {
    "IOT": 6, "CLD": 17, "POLL": 29, "RTMIN": _RTMIN, "RTMAX": _RTMAX
}  # fmt: skip
_SIGNAL = r"(?ia)(?:SIG)?(?:([A-Z]+[12]?)|RTMIN\+([0-9]{1,2})|RTMAX-([0-9]{1,2}))"
_SIGNAL_HINT = "write a name such as SIGTERM, SIGINT or SIGRTMIN+3, or a number from 1 to 64"


def _pattern(text: str) -> re.Pattern[str]:
    """Compiled when it is first needed: most commands only format, and `re` costs them more than that."""
    import re

    return re.compile(text)


def parse_duration_ns(text: str) -> int:
    """The duration in nanoseconds, exact. Raises ValueError."""
    rest = text
    negative = rest.startswith("-")
    if rest[:1] in ("+", "-"):
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f'"{text}" is not a duration ({_DURATION_HINT})')
    part = _pattern(_PART)
    total = 0
    at = 0
    while at < len(rest):
        match = part.match(rest, at)
        if match is None or not (match[1] or match[2]):
            if _pattern(r"[0-9]*\.?[0-9]+").fullmatch(rest[at:]):
                raise ValueError(f'"{text}" has no unit ({_DURATION_HINT})')
            raise ValueError(f'"{text}" is not a duration ({_DURATION_HINT})')
        unit = _UNIT_NS[match[3]]
        total += int(match[1] or "0") * unit
        if match[2]:
            total += int(match[2]) * unit // 10 ** len(match[2])
        if total > MAX_NS:
            raise ValueError(f'"{text}" is too long a duration (at most about 292 years)')
        at = match.end()
    return -total if negative else total


def parse_duration(text: str) -> float:
    """The duration in seconds. Raises ValueError."""
    return parse_duration_ns(text) / NS_PER_SECOND


def parse_bytes(text: str) -> int:
    """The size in bytes; fractions are allowed (``1.5g``) and cut to whole bytes. Raises ValueError."""
    match = _pattern(_SIZE).fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a size ({_SIZE_HINT})')
    number, suffix = match[1].removesuffix(" "), match[2].lower()
    if _pattern(_NUMBER).fullmatch(number) is None:
        raise ValueError(f'"{text}" is not a size ({_SIZE_HINT})')
    factor = 1
    if suffix and suffix != "b":
        if suffix[0] not in _SIZE_FACTORS or suffix[1:] not in ("", "b", "ib"):
            raise ValueError(f'"{text}" is not a size ("{match[2]}" is not a unit; {_SIZE_HINT})')
        factor = _SIZE_FACTORS[suffix[0]]
    exact = len(number) < 32 and number.lstrip("+").isdecimal()
    size = int(number) * factor if exact else float(number) * factor
    if size > 2**63 - 1:
        raise ValueError(f'"{text}" is too large a size')
    return int(size)


_RATE_FACTORS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_RATE_HINT = "write a number and bit, kbit, mbit or gbit, such as 500kbit or 1.5mbit"
LEAST_RATE, MOST_RATE = 1000, 30 * 10**9
"""Bits a second."""


def parse_bit_rate(text: str) -> int:
    """Bits a second, of ``1mbit`` (tc(8): the factors are powers of ten). Raises ValueError."""
    match = _pattern(r"([0-9]+(?:\.[0-9]+)?)([kmg]?bit)").fullmatch(text.lower())
    if match is None:
        raise ValueError(f'"{text}" is not a rate ({_RATE_HINT})')
    rate = float(match[1]) * _RATE_FACTORS[match[2]]
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise ValueError(f'"{text}" is out of range: from 1kbit to 30gbit')
    return round(rate)


def format_bit_rate(rate: int) -> str:
    """``1mbit``, ``2.5gbit``."""
    unit = max((unit for unit, factor in _RATE_FACTORS.items() if rate >= factor), key=_RATE_FACTORS.__getitem__)
    return f"{rate / _RATE_FACTORS[unit]:g}{unit}"


def parse_share(text: str) -> float:
    """Of ``20%``: 0.2. Raises ValueError for what is no percentage from 0.01% to 100%."""
    match = _pattern(r"([0-9]+(?:\.[0-9]+)?)%").fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a percentage (write it as 20%)')
    share = float(match[1]) / 100
    if not 0.0001 <= share <= 1:
        raise ValueError(f'"{text}" is out of range: from 0.01% to 100%')
    return share


def parse_signal(text: str) -> int:
    """The number of ``SIGTERM``, ``term``, ``15``, ``SIGRTMIN+3``, ``RTMAX-2``. Raises InputError for what is no signal, 0
    and SIGRTMIN+31 among it."""
    number: int | None = None
    if text.isascii() and text.isdecimal():
        number = int(text) if len(text) <= 4 else None
    elif (match := _pattern(_SIGNAL).fullmatch(text)) is not None:
        if match[2] or match[3]:
            number = _RTMIN + int(match[2]) if match[2] else _RTMAX - int(match[3])
            number = number if _RTMIN <= number <= _RTMAX else None
        else:
            number = _SIGNAL_NUMBERS.get(match[1].upper())
    if number is None or not 1 <= number <= _RTMAX:
        raise InputError(f'"{text}" is not a signal', hint=_SIGNAL_HINT)
    return number


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9, ``SIGRTMIN+3`` for 37; ``signal 33`` for one without a name. `parse_signal` reads the names."""
    if 1 <= number <= len(_SIGNALS):
        return f"SIG{_SIGNALS[number - 1]}"
    if number in (_RTMIN, _RTMAX):
        return "SIGRTMIN" if number == _RTMIN else "SIGRTMAX"
    if _RTMIN < number < _RTMAX:
        return f"SIGRTMIN+{number - _RTMIN}" if number < _RTMIN + 16 else f"SIGRTMAX-{_RTMAX - number}"
    return f"signal {number}"


def format_duration(seconds: float) -> str:
    """Short, for people: ``0.4s``, ``12s``, ``3m``, ``1m30s``, ``2h05m``, ``3d4h``."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds < 0.0995:
        return f"{round(seconds * 1000)}ms" if seconds else "0s"
    if seconds < 9.95:
        text = f"{seconds:.1f}"
        return f"{text.removesuffix('.0')}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes}m{rest:02d}s" if rest else f"{minutes}m"
    minutes = whole // 60
    if minutes < 24 * 60:
        hours, rest = divmod(minutes, 60)
        return f"{hours}h{rest:02d}m" if rest else f"{hours}h"
    days, rest = divmod(minutes // 60, 24)
    return f"{days}d{rest}h" if rest else f"{days}d"


def format_duration_go(nanoseconds: int) -> str:
    """Exact, as Go prints a duration and the canonical model has it: ``1m30s``, ``24h0m0s``, ``1.5s``, ``250ms``."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 0:
        return "-" + format_duration_go(-nanoseconds)
    if nanoseconds < 1_000:
        return f"{nanoseconds}ns"
    if nanoseconds < 1_000_000:
        return _fraction(nanoseconds, 1_000) + "µs"
    if nanoseconds < NS_PER_SECOND:
        return _fraction(nanoseconds, 1_000_000) + "ms"
    minutes, rest = divmod(nanoseconds, 60 * NS_PER_SECOND)
    text = _fraction(rest, NS_PER_SECOND) + "s"
    if not minutes:
        return text
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"


def _fraction(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"


def format_bytes(size: int) -> str:
    """Short, binary: ``512B``, ``64MiB``, ``1.5GiB``."""
    if size < 0:
        return "-" + format_bytes(-size)
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1023.95 or unit == "TiB":
            break
        value /= 1024
    text = f"{value:.0f}" if unit == "B" or value >= 99.95 else f"{value:.1f}".removesuffix(".0")
    return f"{text}{unit}"
