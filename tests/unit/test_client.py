"""`orchestrator.client` against a scripted control server, and against stand-ins for the supervisor's process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator import launch
from orchestrator.client import (
    Client,
    EventMessage,
    Patience,
    ResultMessage,
    SupervisorGone,
    Unanswered,
    connect,
    ensure_supervisor,
)
from orchestrator.client.connection import PATIENT
from orchestrator.client.handover import hand_over
from orchestrator.client.messages import OtherProtocol, error_from
from orchestrator.contracts.protocol import VERSION
from orchestrator.contracts.site import Site
from orchestrator.errors import (
    BugReport,
    BusyError,
    CommandError,
    HostError,
    InputError,
    OperationError,
    PystackError,
)
from orchestrator.model.names import ProjectName
from orchestrator.state.directory import site_of
from orchestrator.values import replace
from tests.unit.cli.supervisor import Exchange, FakeSupervisor, Script, after, fails, ok

Serve = Callable[..., FakeSupervisor]
StandIn = Callable[[str], None]


@pytest.fixture
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="psc-", dir="/tmp") as root:
        yield site_of(f"{root}/data", f"{root}/run", ProjectName("demo"))


def connected(server: FakeSupervisor, patience: Patience = PATIENT) -> Client:
    run_root = os.path.dirname(server.run_dir)
    site = replace(site_of(f"{run_root}/../data", run_root, ProjectName("demo")), run_dir=server.run_dir)
    client = Client.connect(site, patience=patience)
    assert client is not None
    return client


@pytest.fixture
def serve(site: Site) -> Iterator[Serve]:
    servers: list[FakeSupervisor] = []

    def start(**scripts: Script) -> FakeSupervisor:
        servers.append(FakeSupervisor(site.run_dir, scripts))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_there_is_no_client_when_nothing_listens(site: Site) -> None:
    assert Client.connect(site) is None
    os.makedirs(site.run_dir)
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(os.path.join(site.run_dir, "control.sock"))
    dead.close()
    assert Client.connect(site) is None


def test_a_request_returns_its_result_and_passes_events_on(serve: Serve) -> None:
    server = serve(up=after([{"kind": "warning"}, {"kind": "volume.created"}], {"changed": 2}))
    got: list[object] = []
    with connected(server) as client:
        result = client.request("up", {"services": ["web"]}, lambda event: got.append(event.value))
    assert result == {"changed": 2}
    assert got == [{"kind": "warning"}, {"kind": "volume.created"}]
    assert server.asked == [("up", {"services": ["web"]})]


def test_one_connection_carries_several_requests_in_turn(serve: Serve) -> None:
    with connected(serve(ps=ok([]), why=ok({"status": {}}))) as client:
        assert client.request("ps") == []
        assert client.request("why", {"service": "db"}) == {"status": {}}
        assert client.request("ps") == []


@pytest.mark.parametrize(
    ("kind", "exit_code", "error"),
    [
        ("operation", 1, OperationError),
        ("input", 2, InputError),
        ("host", 125, HostError),
        ("bug", 125, BugReport),
        ("command", 126, CommandError),
        ("command", 127, CommandError),
        ("operation", 130, OperationError),
        ("busy", 1, BusyError),
        ("of the future", 3, OperationError),
    ],
)
def test_an_error_object_becomes_the_error_it_was(
    serve: Serve, kind: str, exit_code: int, error: type[PystackError]
) -> None:
    with connected(serve(up=fails("no", hint="do this", exit_code=exit_code, kind=kind))) as client:
        with pytest.raises(PystackError) as caught:
            client.request("up")
    assert type(caught.value) is error
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == ("no", "do this", exit_code)


def test_a_broken_error_object_is_still_an_error() -> None:
    error = error_from("nonsense")
    assert (type(error), error.exit_code) == (OperationError, 1)
    assert error_from({"message": "m", "exit_code": 0}).exit_code == 1


def test_descriptors_travel_both_ways(serve: Serve) -> None:
    def script(exchange: Exchange) -> None:
        os.write(exchange.fds[1], b"to the client's stdout")
        reader, writer = os.pipe()
        exchange.event({"tty": True}, (reader,))
        os.write(writer, b"from the master")
        os.close(reader)
        os.close(writer)
        exchange.ok({"status": 3})

    got: list[EventMessage] = []
    out_reader, out_writer = os.pipe()
    with connected(serve(exec=script)) as client:
        result = client.request("exec", {}, got.append, fds=(0, out_writer, 2))
    assert result == {"status": 3}
    assert os.read(out_reader, 100) == b"to the client's stdout"
    (event,) = got
    assert os.read(event.fds[0], 100) == b"from the master"
    assert not any(os.get_inheritable(fd) for fd in event.fds)
    for fd in (out_reader, out_writer, *event.fds):
        os.close(fd)


def test_messages_split_anywhere_are_put_together(serve: Serve) -> None:
    gate = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.connection.sendall(b'{"event": {"kind": "warning"}}\n{"event": {"ki')
        gate.wait(10)
        exchange.connection.sendall(b'nd": "x"}}\n{"ok": 1}\n')

    with connected(serve(up=script)) as client:
        client.send("up")
        assert client.receive() == EventMessage({"kind": "warning"})
        assert client.receive(0) is None
        gate.set()
        assert client.receive() == EventMessage({"kind": "x"})
        assert client.receive() == ResultMessage(1)


def test_a_supervisor_that_dies_in_a_request_is_an_error_with_a_hint(serve: Serve) -> None:
    with connected(serve(up=lambda exchange: exchange.connection.shutdown(socket.SHUT_RDWR))) as client:
        with pytest.raises(SupervisorGone, match="ended before its answer") as caught:
            client.request("up")
    assert caught.value.exit_code == 125
    assert caught.value.hint


def test_an_answer_that_does_not_come_is_an_error_with_what_the_supervisor_does_instead(serve: Serve) -> None:
    server = serve(ps=lambda exchange: exchange.wait_closed(), events=lambda exchange: exchange.wait_closed())
    with connected(server, Patience(silence_s=0.05)) as client:
        with pytest.raises(Unanswered, match=rf"project demo \(process {os.getpid()}\) does not answer: it is ") as caught:
            client.request("ps")
    assert f"`kill -9 {os.getpid()}` ends it" in str(caught.value.hint)
    with connected(server, Patience(silence_s=0.05)) as client:
        client.send("events")
        assert client.receive(0.2) is None  # Nobody waits for the end of events.
        assert client.left_s() is None


def test_signs_of_life_are_waited_for_anew_each_time(serve: Serve) -> None:
    gates = [threading.Event() for _ in range(3)]

    def script(exchange: Exchange) -> None:
        for gate in gates:
            gate.wait(10)
            exchange.send({"beat": True})
        exchange.ok(1)

    with connected(serve(up=script), Patience(silence_s=60)) as client:
        client.send("up")
        assert client.receive(0.1) is None
        for gate in gates:
            before = client.left_s()
            gate.set()
            assert before is not None
            assert 0 < before <= 60
        assert client.receive() == ResultMessage(1)
        assert client.left_s() is None


@pytest.mark.parametrize(("answer", "version"), [({}, 1), ({"v": 3}, 3)])
def test_a_supervisor_of_another_version_is_known_by_what_it_answers(
    site: Site, answer: dict[str, int], version: int
) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(json.dumps({**answer, "error": {"message": "not spoken here", "exit_code": 2}}).encode() + b"\n")
    with Client(ours, site) as client, theirs:
        with pytest.raises(OtherProtocol, match="not spoken here") as caught:
            client.request("hello")
    assert caught.value.version == version


def test_a_supervisor_of_our_version_may_refuse_before_it_has_taken_the_request(site: Site) -> None:
    ours, theirs = socket.socketpair()
    fault = {"kind": "host", "message": "out of file descriptors", "exit_code": 125}
    theirs.sendall(json.dumps({"v": VERSION, "error": fault}).encode() + b"\n")
    theirs.close()
    with Client(ours, site) as client:
        with pytest.raises(HostError, match="out of file descriptors"):
            client.request("hello")


def test_a_supervisor_that_lets_nobody_in_is_one_that_does_not_answer(site: Site) -> None:
    os.makedirs(site.run_dir)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(os.path.join(site.run_dir, "control.sock"))
        listener.listen(0)
        waiting.connect(os.path.join(site.run_dir, "control.sock"))
        with pytest.raises(Unanswered, match="the supervisor of project demo does not answer"):
            Client.connect(site, patience=Patience(ack_s=0.05))
        os.makedirs(site.data_dir)
        Path(site.data_dir, "lock").write_text(f"{os.getpid()}\n")
        with pytest.raises(Unanswered, match=rf"\(process {os.getpid()}\) does not answer"):
            Client.connect(site, patience=Patience(ack_s=0.05))


OLD_VERSION = """
import json, os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("ready", flush=True)
busy = int(sys.argv[2])
while True:
    connection, _ = listener.accept()
    for line in connection.makefile("rb"):
        request = json.loads(line)
        if request["v"] != 1:
            answer = {"error": {"message": "version 2 is not spoken here, only 1", "hint": "h", "exit_code": 2}}
        elif request["verb"] == "kill":
            busy -= 1
            error = {"message": "project demo is busy", "exit_code": 1} if busy >= 0 else {"message": "?", "exit_code": 2}
            answer = {"error": error}
        else:
            answer = {"ok": {}}
        connection.sendall(json.dumps(answer).encode() + b"\\n")
        if request["v"] == 1 and request["verb"] == "shutdown":
            os._exit(0)
"""


def old_supervisor(site: Site, busy: int) -> subprocess.Popen[bytes]:
    os.makedirs(site.run_dir, exist_ok=True)
    path = os.path.join(site.run_dir, "control.sock")
    process = subprocess.Popen([sys.executable, "-c", OLD_VERSION, path, str(busy)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


@pytest.mark.parametrize("busy", [0, 2])
def test_an_older_supervisor_hands_over_once_its_operation_has_ended(site: Site, busy: int) -> None:
    process = old_supervisor(site, busy)
    assert connect(site) is None
    assert process.wait(10) == 0


def test_an_older_supervisor_that_is_busy_is_left_alone(site: Site) -> None:
    process = old_supervisor(site, 10**6)
    with pytest.raises(BusyError, match="an older version of pystack, which cannot hand over now: project demo is busy"):
        hand_over(site, 1, patience_s=0.1)
    assert process.poll() is None
    process.kill()
    process.wait()


@pytest.mark.parametrize("line", [b"not json\n", b"[]\n", b'{"neither": 1}\n'])
def test_what_is_no_message_is_an_error(serve: Serve, line: bytes) -> None:
    with connected(serve(ps=lambda exchange: exchange.connection.sendall(line))) as client:
        with pytest.raises(HostError, match="the supervisor sent"):
            client.request("ps")


def test_a_request_that_is_too_long_is_refused_before_it_is_sent(serve: Serve) -> None:
    server = serve()
    with connected(server) as client:
        with pytest.raises(InputError, match="the limit is 8388608"):
            client.send("up", {"project": "x" * 8388608})
    assert server.asked == []


STAND_IN = """
import json, os, socket, sys, threading
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
ready = int(arguments["--ready-fd"])
go = int(arguments["--go-fd"])
sys.path.insert(0, os.environ["REPOSITORY"])
from orchestrator.kernel.spawn import born
born((go, ready))
assert os.getcwd() == "/"
if os.read(go, 1) == b"":
    os._exit(0)
os.close(go)
from orchestrator.state.directory import site_of
from orchestrator.values import replace
site = site_of(arguments["--data-dir"], arguments["--run-dir"], arguments["--project"])
os.makedirs(site.data_dir, exist_ok=True)
log = os.open(os.path.join(site.data_dir, "supervisor.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.dup2(log, 1)
os.dup2(log, 2)
counter = os.path.join(site.data_dir, "starts")
with open(counter, "a") as file:
    file.write("x")
starts = os.path.getsize(counter)
assert os.getsid(0) == os.getpid()
assert os.read(0, 1) == b""
print("a line for the log", flush=True)
def serve():
    os.makedirs(site.run_dir, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.join(site.run_dir, "control.sock"))
    listener.listen()
    os.write(ready, b"ready\\n")
    os.close(ready)
    while True:
        threading.Thread(target=answer, args=listener.accept()).start()
def answer(connection, _):
    while line := connection.makefile("rb").readline():
        result = {"pid": os.getpid(), "fds": sorted(os.listdir("/proc/self/fd"))}
        answers = ({"v": 2, "ack": True}, {"ok": result})
        connection.sendall(b"".join(json.dumps(answer).encode() + b"\\n" for answer in answers))
        if json.loads(line)["verb"] == "shutdown":
            os.unlink(os.path.join(site.run_dir, "control.sock"))
            os._exit(0)
def refuse(message, code, kind):
    error = {"kind": kind, "message": message, "hint": "h", "exit_code": code}
    os.write(ready, json.dumps({"error": error}).encode() + b"\\n")
    sys.exit(code)
"""


@pytest.fixture
def stand_in(site: Site, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """`stand_in(BODY)` makes `ensure_supervisor` start a process that does BODY instead of a supervisor."""
    program = Path(site.data_dir).parents[2] / "stand_in.py"

    def install(body: str) -> None:
        program.write_text(STAND_IN + body)
        monkeypatch.setenv("REPOSITORY", str(Path(__file__).parents[2]))
        monkeypatch.setattr(launch, "PROGRAM", str(program))

    return install


def end(client: Client) -> None:
    pid = client.request("shutdown")["pid"]
    client.close()
    os.waitpid(pid, 0)


def starts(site: Site) -> int:
    return os.path.getsize(os.path.join(site.data_dir, "starts"))


def test_a_supervisor_is_started_once_and_then_found(site: Site, stand_in: StandIn) -> None:
    stand_in("serve()")
    first, started = ensure_supervisor(site, timeout_s=20)
    first.close()
    second, again = ensure_supervisor(site, timeout_s=20)
    assert (started, again, starts(site)) == (True, False, 1)
    assert Path(site.data_dir, "supervisor.log").read_text() == "a line for the log\n"
    assert os.stat(os.path.join(site.data_dir, "supervisor.log")).st_mode & 0o777 == 0o600
    end(second)


def test_a_supervisor_gets_no_descriptor_of_its_client_but_the_ready_pipe(site: Site, stand_in: StandIn) -> None:
    stand_in("serve()")
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    client, _ = ensure_supervisor(site, timeout_s=20)
    os.close(leak)
    # stdin, stdout, stderr, the listener, the connection, and the directory being listed; the ready pipe is closed.
    assert len(client.request("hello")["fds"]) <= 7
    assert str(leak) not in client.request("hello")["fds"][3:] or leak < 7
    end(client)


def test_the_error_of_a_supervisor_that_cannot_start_is_the_commands_error(site: Site, stand_in: StandIn) -> None:
    stand_in("refuse('overlayfs is missing', 125, 'host')")
    with pytest.raises(HostError, match="overlayfs is missing") as caught:
        ensure_supervisor(site, timeout_s=20)
    assert caught.value.hint == "h"


def test_a_supervisor_that_dies_before_it_is_ready_is_told_with_the_end_of_its_log(site: Site, stand_in: StandIn) -> None:
    stand_in("print('Fatal: no disk', flush=True); os._exit(3)")
    with pytest.raises(HostError, match="ended with code 3 before it was ready") as caught:
        ensure_supervisor(site, timeout_s=20)
    assert "supervisor.log" in str(caught.value.hint)
    assert "Fatal: no disk" in str(caught.value.hint)


def test_a_supervisor_killed_by_a_signal_is_told_so(site: Site, stand_in: StandIn) -> None:
    stand_in("os.kill(os.getpid(), 9)")
    with pytest.raises(HostError, match="ended by signal 9"):
        ensure_supervisor(site, timeout_s=20)


def test_a_supervisor_that_is_never_ready_is_killed(site: Site, stand_in: StandIn) -> None:
    stand_in("open(os.path.join(site.data_dir, 'pid'), 'w').write(str(os.getpid())); import signal; signal.pause()")
    with pytest.raises(HostError, match="was not ready in time"):
        ensure_supervisor(site, timeout_s=2)
    pid = int(Path(site.data_dir, "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_loser_of_a_race_connects_to_the_winner(site: Site, stand_in: StandIn) -> None:
    stand_in("refuse('project demo already has a supervisor (process 5)', 1, 'busy') if starts == 1 else serve()")
    client, started = ensure_supervisor(site, timeout_s=20)
    assert (started, starts(site)) == (True, 2)
    end(client)


def test_a_lock_that_is_never_released_is_an_error(site: Site, stand_in: StandIn) -> None:
    stand_in("refuse('project demo already has a supervisor (process 5)', 1, 'busy')")
    with pytest.raises(BusyError, match="already has a supervisor"):
        ensure_supervisor(site, timeout_s=1)


def test_two_commands_at_once_get_one_supervisor(site: Site, stand_in: StandIn) -> None:
    stand_in(
        "import fcntl\n"
        "held = open(os.path.join(site.data_dir, 'lock'), 'a')\n"
        "try:\n    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError:\n    refuse('project demo already has a supervisor (process 5)', 1, 'busy')\n"
        "serve()"
    )
    clients: list[Client] = []
    threads = [threading.Thread(target=lambda: clients.append(ensure_supervisor(site, timeout_s=30)[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(clients) == 3
    clients[1].close()
    clients[2].close()
    end(clients[0])


def test_the_end_of_a_supervisor_can_be_waited_for(site: Site, stand_in: StandIn) -> None:
    stand_in("serve()")
    client, _ = ensure_supervisor(site, timeout_s=20)
    pid = client.request("shutdown")["pid"]
    assert client.close_and_wait_end(10)
    os.waitpid(pid, 0)


def test_the_client_needs_only_the_standard_library() -> None:
    names = {name.split(".")[0] for name in sys.modules["orchestrator.client.connection"].__dict__}
    assert names.isdisjoint({"trio", "click", "rich", "yaml"})
