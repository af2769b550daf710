"""`logging`: what each driver of Docker means here, and what is refused, accepted and told."""

from __future__ import annotations

import pytest

from orchestrator.model.log_policy import Logging
from orchestrator.model.names import ServiceName
from tests.unit.compose.stacks import Stack

MIB = 1 << 20


def text_of(logging: str) -> str:
    return f"services:\n  a:\n    image: host\n    logging: {logging}\n"


@pytest.mark.parametrize(
    ("logging", "means"),
    [
        ("{}", Logging()),
        ("{driver: json-file}", Logging()),
        ("{driver: ''}", Logging()),
        ("{driver: json-file, options: {max-file: '5'}}", Logging()),
        ("{options: {max-size: 10m, max-file: 3}}", Logging(max_bytes=10 * MIB, max_files=3)),
        ("{options: {max-size: 1.5k}}", Logging(max_bytes=1536, max_files=1)),
        ("{options: {max-size: '-1', max-file: 3}}", Logging()),
        ("{options: {max-size: , max-file: }}", Logging()),
        ("{driver: local}", Logging(max_bytes=20 * MIB, max_files=5)),
        ("{driver: local, options: {max-size: 1m}}", Logging(max_bytes=MIB, max_files=5)),
        ("{driver: none}", Logging(kept=False)),
        ("{driver: none, options: {max-size: 1m}}", Logging(kept=False)),
        ("{options: {mode: non-blocking, max-buffer-size: 4m, compress: 'false'}}", Logging()),
    ],
)
def test_what_is_kept_follows_from_driver_and_options(stack: Stack, logging: str, means: Logging) -> None:
    loaded = stack.load(text_of(logging))
    assert loaded.warnings == ()
    assert loaded.project.services[ServiceName("a")].logging == means


def test_without_logging_all_is_kept(stack: Stack) -> None:
    loaded = stack.load("services: {a: {image: host}}\n")
    assert loaded.project.services[ServiceName("a")].logging == Logging(kept=True, max_bytes=0)


@pytest.mark.parametrize(
    ("logging", "at", "message"),
    [
        ("{driver: json-flie}", "driver", 'there is no log driver "json-flie" (did you mean "json-file"?)'),
        ("{options: {max-size: lots}}", "options.max-size", '"lots" is not a size'),
        ("{options: {max-size: '0'}}", "options.max-size", '"0" is not a size that a file can have'),
        ("{options: {max-size: 10x}}", "options.max-size", '"10x" is not a size'),
        ("{options: {max-file: '0'}}", "options.max-file", '"0" is not a number of files from 1 to 1000'),
        ("{options: {max-file: many}}", "options.max-file", '"many" is not a number of files from 1 to 1000'),
        ("{options: {max-fiel: '3'}}", "options.max-fiel", 'has no option "max-fiel" (did you mean "max-file"?)'),
        ("{driver: none, options: {speed: fast}}", "options.speed", 'the log driver none has no option "speed"'),
        ("{options: {mode: lazy}}", "options.mode", '"lazy" is not one of blocking, non-blocking'),
        ("{options: {max-buffer-size: x}}", "options.max-buffer-size", '"x" is not a size'),
        ("{options: {compress: perhaps}}", "options.compress", "perhaps"),
    ],
)
def test_what_is_wrong_is_refused_at_its_place(stack: Stack, logging: str, at: str, message: str) -> None:
    (error,) = stack.errors(text_of(logging)).diagnostics
    assert error.path == f"services.a.logging.{at}"
    assert error.line == 4
    assert message in error.message


@pytest.mark.parametrize("driver", ["syslog", "journald", "fluentd", "gelf", "grafana/loki-docker-driver:latest"])
def test_what_would_be_sent_elsewhere_is_kept_here_and_that_is_told(stack: Stack, driver: str) -> None:
    loaded = stack.load(text_of(f"{{driver: '{driver}', options: {{address: 'udp://x', max-size: lots}}}}"))
    (warning,) = loaded.warnings
    assert warning.path == "services.a.logging.driver"
    assert warning.message == f"ignored: output is not sent to {driver}, but kept here as by the driver local"
    assert loaded.project.services[ServiceName("a")].logging == Logging(max_bytes=20 * MIB, max_files=5)


def test_options_without_effect_are_told(stack: Stack) -> None:
    options = "{compress: 'true', labels: a, env: B, tag: t, max-size: 1m, max-file: '2'}"
    loaded = stack.load(text_of(f"{{options: {options}}}"))
    assert {warning.path.rpartition(".")[2] for warning in loaded.warnings} == {"compress", "labels", "env", "tag"}
    assert loaded.project.services[ServiceName("a")].logging == Logging(max_bytes=MIB, max_files=2)
