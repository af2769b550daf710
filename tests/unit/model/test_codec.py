"""What is written to disk and sent over the socket comes back as the same value."""

from __future__ import annotations

import json

import pytest

from orchestrator.contracts.events import Event, EventKind
from orchestrator.contracts.network import Endpoint
from orchestrator.contracts.runtime import Exit
from orchestrator.contracts.state import ContainerRecord
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.health import HealthCheck
from orchestrator.model.names import NetworkName, ProjectName, ServiceName
from orchestrator.model.network import Attachment, PortMapping
from orchestrator.model.project import Place, Project
from orchestrator.model.restart import RestartKind, RestartPolicy
from orchestrator.model.service import Condition, Dependency, Service
from orchestrator.model.volume import Mount, MountKind


def stack() -> Project:
    db = ServiceName("db")
    web = Service(
        ServiceName("web"),
        "host",
        command=(),
        environment={"A": "1", "B": "ü"},
        depends_on={db: Dependency(db, Condition.HEALTHY, required=False)},
        healthcheck=HealthCheck(("true",), interval_s=1),
        restart=RestartPolicy(RestartKind.ON_FAILURE, 3),
        ports=(PortMapping(80, (8080, 8090), "127.0.0.1", place="services.web.ports[0]"),),
        volumes=(Mount(MountKind.TMPFS, "/tmp", tmpfs_mode=0o1777),),
        networks={NetworkName("default"): Attachment(NetworkName("default"), ("www",))},
    )
    return Project(
        ProjectName("p"),
        "/srv/p",
        {db: Service(db, "host"), web.name: web},
        places={"services.web": Place("compose.yaml", 3, 5)},
    )


def test_a_project_survives_the_way_to_json_and_back() -> None:
    project = stack()
    assert from_json(Project, json.loads(json.dumps(to_json(project)))) == project


def test_an_event_with_nested_detail_survives() -> None:
    detail: dict[str, bool | tuple[str, ...]] = {"blocked": ("a", "b"), "oom": False}
    event = Event(EventKind.SERVICE_FAILED, "db failed", 1.5, ServiceName("db"), detail=detail)
    assert from_json(Event, json.loads(json.dumps(to_json(event)))) == event


def test_defaults_are_left_out() -> None:
    assert to_json(Exit(code=0)) == {"code": 0}
    assert to_json(RestartPolicy()) == {}


def test_keys_of_a_later_version_are_ignored_and_missing_ones_take_the_default() -> None:
    record = from_json(Attachment, {"network": "back", "aliases": ["db"], "invented": 1})
    assert record == Attachment(NetworkName("back"), ("db",))


ADDRESS: dict[str, object] = {"ip": "10.0.0.2", "prefix": 24, "gateway": "10.0.0.1"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"addresses": [ADDRESS | {"prefix": "24"}]}, r"\$\.addresses\[0\]\.prefix: expected int, not str"),
        ({"addresses": [ADDRESS | {"prefix": True}]}, r"\$\.addresses\[0\]\.prefix: expected int, not bool"),
        ({"names": "web"}, r"\$\.names: expected a list"),
        ({"names": [1]}, r"\$\.names\[0\]: expected str"),
        ([], r"\$: expected an object"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(data: object, message: str) -> None:
    good = {"network": "n", "addresses": [ADDRESS], "mac": "", "interface": "eth0"}
    with pytest.raises(ValueError, match=message):
        from_json(Endpoint, {**good, **data} if isinstance(data, dict) else data)


def test_a_missing_field_without_a_default_is_named() -> None:
    with pytest.raises(ValueError, match=r"\$\.instance is missing"):
        from_json(ContainerRecord, {"container": "c", "config_hash": ""})


def test_a_place_is_found_by_the_longest_known_prefix() -> None:
    assert stack().where("services.web.ports[0].published") == "compose.yaml:3:5: services.web.ports[0].published"
    assert stack().where("services.db") == "services.db"
