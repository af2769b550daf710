"""Bundles of busybox, and `pystack-oci` on them, as whoever drives an OCI runtime does it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.standalone.default_config import default_config

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "orchestrator.standalone")
Config = dict[str, Any]


class Lab:
    """A bundle and a state directory below `top`. `runtime`: the command line of another runtime."""

    def __init__(self, top: Path, rootfs: Path, runtime: tuple[str, ...] = COMMAND) -> None:
        self.top, self.runtime = top, runtime
        self.root, self.bundle = top / "state", top / "bundle"
        self.bundle.mkdir()
        shutil.copytree(rootfs, self.bundle / "rootfs", symlinks=True)
        self.made: set[str] = set()

    def config(self, *argv: str, **changes: Any) -> Config:
        """`spec`'s, without a terminal. `changes`: of ``process``."""
        config = default_config(rootless=False)
        config["process"] |= {"terminal": False, "args": list(argv) or ["true"], **changes}
        config["process"].pop("rlimits")
        return config

    def oci(self, *words: str, given: str = "", check: bool = True, env: dict[str, str] | None = None) -> str:
        """Its stdout. Files and not pipes: a container would keep those open."""
        return self.ran(*words, given=given, check=check, env=env)[1]

    def ran(
        self,
        *words: str,
        given: str = "",
        check: bool = False,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> tuple[int, str, str]:
        out, err = self.top / "out", self.top / "err"
        command = [*self.runtime, "--root", str(self.root), *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # As installed: compiling takes longer than all that it does.
        with open(out, "w") as stdout, open(err, "w") as stderr:
            done = subprocess.run(
                command,
                input=given,
                text=True,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd or self.bundle,
                env=environment,
                timeout=60,
            )
        assert not check or done.returncode == 0, err.read_text()
        return done.returncode, out.read_text(), err.read_text()

    def write(self, config: Config) -> None:
        (self.bundle / "config.json").write_text(json.dumps(config))

    def run(self, config: Config, *options: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
        """`run` of it: exit code, stdout, stderr."""
        self.write(config)
        self.made.add("box")
        return self.ran("run", *options, "box", env=env)

    def shell(self, script: str, config: Config | None = None) -> str:
        """What a script prints in a container that must end well."""
        config = self.config() if config is None else config
        config["process"]["args"] = ["sh", "-c", script]
        code, out, err = self.run(config)
        assert code == 0, (code, out, err)
        return out

    def refused(self, config: Config, *words: str) -> str:
        """`create` of it fails with one error that has `words`, and nothing is left."""
        self.write(config)
        code, _, err = self.ran("create", "box")
        assert code == 1, (code, err)
        assert err.startswith("error: "), err
        for word in words:
            assert word in err
        assert self.oci("list", "-q") == ""
        return err

    def create(self, config: Config, name: str = "box", *options: str) -> str:
        self.write(config)
        self.made.add(name)
        self.oci("create", *options, name)
        return name

    def state(self, name: str = "box") -> dict[str, Any]:
        found = json.loads(self.oci("state", name))
        assert isinstance(found, dict)
        return found

    def status(self, name: str = "box") -> str:
        return str(self.state(name)["status"])


@contextmanager
def lab(top: Path, rootfs: Path) -> Iterator[Lab]:
    opened = Lab(top, rootfs)
    try:
        yield opened
    finally:
        for name in sorted(opened.made):
            opened.oci("delete", "--force", name)
        assert opened.oci("list", "-q") == ""
