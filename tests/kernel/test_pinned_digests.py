"""`config --resolve-image-digests` and `--lock-image-digests`, with a real registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from orchestrator.cli.main import main
from tests.kernel.registry_lab import docker_registry, skopeo, umoci

pytestmark = [pytest.mark.kernel, pytest.mark.servers]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


def test_tags_become_what_they_mean_in_their_registry_now(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    umoci("init", "--layout", "oci")
    umoci("new", "--image", "oci:app")
    skopeo("copy", "-q", "--dest-tls-verify=false", "oci:oci:app", f"docker://{server}/team/app:1")
    digest = json.loads(Path("oci/index.json").read_text())["manifests"][0]["digest"]
    Path("compose.yaml").write_text(
        f"services:\n  web: {{image: '{server}/team/app:1', ports: ['80']}}\n  own: {{image: 'rootfs:/srv'}}\n"
        f"  pinned: {{image: '{server}/team/app@{digest}'}}\n"
    )
    assert main(["config", "--lock-image-digests"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {
        "services": {
            "web": {"image": f"{server}/team/app:1@{digest}"},
            "own": {"image": "rootfs:/srv"},
            "pinned": {"image": f"{server}/team/app@{digest}"},
        }
    }
    assert main(["config", "--resolve-image-digests", "--format", "json", "web"]) == 0
    whole = json.loads(capsys.readouterr().out)
    web = whole["services"]["web"]
    assert (web["image"], len(web["ports"])) == (f"{server}/team/app:1@{digest}", 1)
    assert main(["config", "--lock-image-digests", "-o", "lock.yaml"]) == 0
    capsys.readouterr()
    assert main(["-f", "compose.yaml", "-f", "lock.yaml", "config", "--images"]) == 0
    assert f"{server}/team/app:1@{digest}" in capsys.readouterr().out.splitlines()
    Path("compose.yaml").write_text(f"services: {{web: {{image: '{server}/team/nosuch:1'}}}}\n")
    assert main(["config", "--lock-image-digests"]) == 1
    assert f"cannot resolve {server}/team/nosuch:1" in capsys.readouterr().err
