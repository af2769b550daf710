"""Loading stacks written as text, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from orchestrator.compose.load import ComposeError, Loaded, LoadRequest, load, load_canonical


class Stack:
    """A folder with files in it. `environment` is the process's, empty unless given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        return path

    def request(self, environment: Mapping[str, str] | None = None, **more: Any) -> LoadRequest:
        return LoadRequest(str(self.folder), dict(environment or {}), **more)

    def load(self, text: str, environment: Mapping[str, str] | None = None, **more: Any) -> Loaded:
        self.write("compose.yaml", text)
        return load(self.request(environment, **more))

    def canonical(self, text: str, environment: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
        self.write("compose.yaml", text)
        return load_canonical(self.request(environment, **more))[0]

    def service(self, text: str, environment: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
        """The canonical form of the service ``a`` whose attributes are `text`."""
        body = "".join(f"    {line}\n" for line in dedent(text).strip("\n").split("\n"))
        model = self.canonical(f"services:\n  a:\n    image: i\n{body}", environment, **more)
        service: dict[str, Any] = model["services"]["a"]
        return service

    def refuses(self, attributes: str, at: str, complaint: str) -> None:
        """A service with these attributes is one error, which is told where `at` stands among them."""
        line = f"  a: {{image: host, {attributes}}}"
        messages = self.messages(f"services:\n{line}\n")
        assert len(messages) == 1, messages
        assert complaint in messages[0]
        assert f"compose.yaml:2:{line.rindex(at) + 1}:" in messages[0]

    def errors(self, text: str, environment: Mapping[str, str] | None = None, **more: Any) -> ComposeError:
        """What loading for ``up`` complains about."""
        self.write("compose.yaml", text)
        with pytest.raises(ComposeError) as caught:
            load(self.request(environment, **more))
        return caught.value

    def messages(self, text: str, environment: Mapping[str, str] | None = None, **more: Any) -> list[str]:
        """The first lines of the errors."""
        return [item.text().split("\n")[0] for item in self.errors(text, environment, **more).diagnostics]
