"""Definitions are stored once: records hold their hash. A hundred containers of a service share one, and a journal line for
each of their restarts would repeat it."""

from __future__ import annotations

import json

from orchestrator.contracts.state import Definition
from orchestrator.kernel.sealed import Data
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.names import short_hash

_HASH_DIGITS = 32


class Definitions:
    """A table of definitions by hash. `table`: their JSON."""

    def __init__(self) -> None:
        self.table: dict[str, Data] = {}
        self._hashes: dict[int, tuple[Definition, str]] = {}
        """By identity, which is quick to ask for; the definition is kept so that its id stays its own."""
        self._values: dict[str, Definition] = {}

    def put(self, definition: Definition) -> tuple[str, bool]:
        """Its hash, and whether the table did not have it."""
        if (known := self._hashes.get(id(definition))) is not None:
            return known[1], False
        data = to_json(definition)
        digest = short_hash(json.dumps(data), _HASH_DIGITS)
        self._hashes[id(definition)] = definition, digest
        new = digest not in self.table
        self.table[digest] = data
        return digest, new

    def put_from(self, before: Definitions, definition: Definition) -> str:
        """Its hash, taken from `before` where that has it: most definitions outlive a commit."""
        known = before._hashes.get(id(definition))
        if known is None or known[1] not in before.table:
            return self.put(definition)[0]
        self._hashes[id(definition)] = known
        self.table[known[1]] = before.table[known[1]]
        return known[1]

    def get(self, digest: str) -> Definition | None:
        """The definition, the same object each time; None if it is unknown or unreadable."""
        if digest not in self._values:
            try:
                value = from_json(Definition, self.table[digest])
            except (KeyError, ValueError):
                return None
            self._values[digest] = value
            self._hashes[id(value)] = value, digest
        return self._values[digest]
