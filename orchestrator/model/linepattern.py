"""Whether a pattern is found in a line, in time that grows with the line and not faster: the line is a stranger's.

Python's own `re` goes back and tries again: ``(a+)+$`` takes for ever on a line of forty letters, and holds up the whole
process meanwhile. What is here is read as POSIX has extended regular expressions (regex(7)), with ``\\d \\w \\s`` and their
opposites, ``(?:...)``, lazy repetitions, which find the same, and a ``(?i)`` in front. There are no back references and no
looking around. A pattern becomes an automaton of `MOST_STATES` at most; sets of its states are states of another, which is
made as lines come and thrown away when it gets big.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from orchestrator.values import entity, field

MOST_STATES = 400
_MOST_TIMES = 100
_MOST_DEEP = 30
_MOST_KNOWN = 1 << 14
"""Steps from a set of states by a character that are remembered."""
Test = Callable[[str], bool]


@entity
class _State:
    """`test`: which character it takes. Without one: it is passed at once, at the line's begin or end alone where it says
    so. `then`: where it leads; nowhere: the pattern is found."""

    test: Test | None = None
    then: list[int] = field(default_factory=list)
    at_begin: bool = False
    at_end: bool = False


class LinePattern:
    """Raises ValueError, with a sentence, for what is no such pattern."""

    def __init__(self, text: str) -> None:
        parser = _Parser(text)
        self._states = parser.states
        self._first = parser.first
        self._found = parser.found
        self._anywhere = self._closure([self._first], begin=False)
        self._steps: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def found_in(self, line: str) -> bool:
        now = self._closure([self._first], begin=True)
        steps, found = self._steps, self._found
        for character in line:
            if found in now:
                return True
            if (after := steps.get((now, character))) is None:
                after = self._step(now, character)
            now = after
        return found in now or found in self._closure(now, begin=not line, end=True)

    def _step(self, now: frozenset[int], character: str) -> frozenset[int]:
        reached = [target for number in now if self._takes(number, character) for target in self._states[number].then]
        after = self._closure(reached, begin=False) | self._anywhere
        if len(self._steps) >= _MOST_KNOWN:
            self._steps.clear()
        self._steps[now, character] = after
        return after

    def _takes(self, number: int, character: str) -> bool:
        test = self._states[number].test
        return test is not None and test(character)

    def _closure(self, numbers: Iterable[int], *, begin: bool, end: bool = False) -> frozenset[int]:
        """These and all that can be passed at once. What waits for the line's end stays in it."""
        seen: set[int] = set()
        waiting = list(numbers)
        while waiting:
            number = waiting.pop()
            state = self._states[number]
            if number in seen:
                continue
            seen.add(number)
            if state.test is None and (begin or not state.at_begin) and (end or not state.at_end):
                waiting.extend(state.then)
        return frozenset(seen)


class _Parser:
    """Recursive descent. A part of the pattern is made as its first state and its loose ends."""

    def __init__(self, text: str) -> None:
        self.states: list[_State] = []
        self._folded = text.startswith("(?i)")
        self._text = text[4:] if self._folded else text
        self._at = 0
        self._depth = 0
        first, ends = self._branches()
        if self._at < len(self._text):
            raise ValueError('there is a ")" too many')
        self.found = self._new(_State())
        self._lead(ends, self.found)
        self.first = first

    def _new(self, state: _State) -> int:
        if len(self.states) >= MOST_STATES:
            raise ValueError("the pattern is too long, or repeats too much")
        self.states.append(state)
        return len(self.states) - 1

    def _lead(self, ends: list[int], to: int) -> None:
        for number in ends:
            self.states[number].then.append(to)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        character = self._peek()
        if not character:
            raise ValueError("the pattern ends too early")
        self._at += 1
        return character

    def _branches(self) -> tuple[int, list[int]]:
        first = self._new(_State())
        ends: list[int] = []
        while True:
            begin, found = self._pieces()
            self.states[first].then.append(begin)
            ends += found
            if self._peek() != "|":
                return first, ends
            self._at += 1

    def _pieces(self) -> tuple[int, list[int]]:
        first = self._new(_State())
        ends = [first]
        while self._peek() not in ("", "|", ")"):
            begin, found = self._piece()
            self._lead(ends, begin)
            ends = found
        return first, ends

    def _piece(self) -> tuple[int, list[int]]:
        begun = self._at
        made = self._atom()
        ended = self._at
        least, most = self._times()
        if (least, most) == (1, 1):
            return made
        # The part is read again for each time that it may be there.
        after = self._at
        first = self._new(_State())
        ends, out = [first], []
        for number in range(most if most is not None else max(least, 1)):
            if number:
                self._at = begun
                made = self._atom()
                assert self._at == ended
            if number >= least:
                out += ends
            self._lead(ends, made[0])
            ends = made[1]
        if most is None:
            self._lead(ends, made[0])
            if not least:
                out.append(first)
        self._at = after
        return first, out + ends if most != 0 else [first]

    def _times(self) -> tuple[int, int | None]:
        found: tuple[int, int | None] = 1, 1
        match self._peek():
            case "*":
                found = 0, None
            case "+":
                found = 1, None
            case "?":
                found = 0, 1
            case "{":
                found = self._counted()
            case _:
                return found
        self._at += 1
        if self._peek() == "?":
            self._at += 1
        if self._peek() in ("*", "+", "{"):
            raise ValueError(f'"{self._peek()}" repeats a repetition')
        return found

    def _counted(self) -> tuple[int, int | None]:
        end = self._text.find("}", self._at)
        least, comma, most = self._text[self._at + 1 : max(end, 0)].partition(",")
        numbers = [number for number in (least, most) if number]
        if end < 0 or not least or not all(number.isascii() and number.isdecimal() for number in numbers):
            raise ValueError('after "{" come a number or two, and "}"; a "{" itself is written \\{')
        if any(len(number) > 3 or int(number) > _MOST_TIMES for number in numbers):
            raise ValueError(f"nothing may be repeated more than {_MOST_TIMES} times")
        self._at = end
        found = int(least), (int(most) if most else None) if comma else int(least)
        if found[1] is not None and found[1] < found[0]:
            raise ValueError("the numbers of a repetition are the wrong way round")
        return found

    def _atom(self) -> tuple[int, list[int]]:
        character = self._take()
        match character:
            case "(":
                return self._group()
            case "^":
                return self._one(_State(at_begin=True))
            case "$":
                return self._one(_State(at_end=True))
            case ".":
                return self._one(_State(lambda _: True))
            case "[":
                return self._one(_State(self._set()))
            case "\\":
                return self._one(_State(self._escaped()))
            case "*" | "+" | "?" | "{":
                raise ValueError(f'there is nothing before "{character}" to repeat')
        return self._one(_State(self._is(character)))

    def _one(self, state: _State) -> tuple[int, list[int]]:
        number = self._new(state)
        return number, [number]

    def _group(self) -> tuple[int, list[int]]:
        if self._peek() == "?":
            if self._text[self._at : self._at + 2] != "?:":
                raise ValueError('"(?" is followed by a ":" here; there is no looking around')
            self._at += 2
        self._depth += 1
        if self._depth > _MOST_DEEP:
            raise ValueError(f"there are more than {_MOST_DEEP} brackets in one another")
        made = self._branches()
        self._depth -= 1
        if self._peek() != ")":
            raise ValueError('a "(" is not closed')
        self._at += 1
        return made

    def _is(self, character: str) -> Test:
        if self._folded:
            return partial(_is_folded, character.lower())
        return character.__eq__

    def _escaped(self) -> Test:
        letter = self._take()
        if letter in _CLASSES:
            return _CLASSES[letter]
        if letter in _CONTROLS:
            return self._is(_CONTROLS[letter])
        if letter.isalnum():
            raise ValueError(f'"\\{letter}" means nothing here')
        return self._is(letter)

    def _set(self) -> Test:
        opposite = self._peek() == "^"
        self._at += opposite
        tests: list[Test] = []
        while not tests or self._peek() != "]":
            low = self._take()
            if low == "\\":
                tests.append(self._escaped())
                continue
            if low == "[" and self._peek() == ":":
                raise ValueError("named classes such as [:digit:] are not known here: write \\d")
            if self._text[self._at : self._at + 1] == "-" and self._text[self._at + 1 : self._at + 2] not in ("", "]"):
                self._at += 1
                high = self._take()
                if high == "\\" or high < low:
                    raise ValueError(f'"{low}-{high}" is no range')
                tests.append(partial(_within, low, high, self._folded))
            else:
                tests.append(self._is(low))
        self._at += 1
        return partial(_any_of, tuple(tests), opposite)


def _is_folded(wanted: str, character: str) -> bool:
    return character.lower() == wanted


def _within(low: str, high: str, folded: bool, character: str) -> bool:
    return low <= character <= high or (folded and (low <= character.lower() <= high or low <= character.upper() <= high))


def _any_of(tests: tuple[Test, ...], opposite: bool, character: str) -> bool:
    return any(test(character) for test in tests) is not opposite


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


_CLASSES: dict[str, Test] = {
    "d": str.isdecimal,
    "D": lambda character: not character.isdecimal(),
    "w": _is_word,
    "W": lambda character: not _is_word(character),
    "s": str.isspace,
    "S": lambda character: not character.isspace(),
}
_CONTROLS = {"t": "\t", "r": "\r", "n": "\n", "f": "\f", "v": "\v", "0": "\0"}
