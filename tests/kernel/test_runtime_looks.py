"""Looks at real containers from outside, also at those that do not want to be seen as they are."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.runtime import Run
from orchestrator.model.health import DeclaredPort, Look, LookKind, ProbeResult
from orchestrator.values import replace
from tests.kernel.place import Place, place
from tests.kernel.registry_lab import make_certificates

pytestmark = pytest.mark.kernel


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


async def begin(here: Place, script: str) -> Run:
    run = await here.begin(["sh", "-c", script])
    subprocess.run(["nsenter", f"--net=/proc/{run.pid}/ns/net", "ip", "link", "set", "lo", "up"], check=True)
    return run


async def look(here: Place, run: Run, wanted: Look, timeout_s: float = 10) -> ProbeResult:
    return await here.runtime.look(run.container, wanted, timeout_s)


def http(path: str = "/") -> Look:
    return Look(LookKind.HTTP, (DeclaredPort(80),), path=path, host="localhost")


TCP = Look(LookKind.TCP, (DeclaredPort(80),))


async def until_listening(here: Place, run: Run) -> None:
    assert (await look(here, run, Look(LookKind.LISTENING, (DeclaredPort(80),)))).ok


async def test_all_of_the_ports_or_one_of_them_tcp_or_udp(here: Place) -> None:
    run = await begin(here, "sleep 0.3; nc -l -p 80 & sleep 1000")
    ports = (DeclaredPort(80), DeclaredPort(53, "udp"))
    bind = "import socket, time; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 53)); time.sleep(1000)"
    with subprocess.Popen(["nsenter", f"--net=/proc/{run.pid}/ns/net", sys.executable, "-c", bind]) as server:
        try:
            for wanted in (Look(LookKind.LISTENING, ports, any=True), Look(LookKind.LISTENING, any=True)):
                assert (await look(here, run, wanted)).ok
            assert not (await look(here, run, Look(LookKind.LISTENING, (*ports, DeclaredPort(443))), 0.5)).ok
            assert (await look(here, run, Look(LookKind.LISTENING, ports))).ok
        finally:
            server.kill()


async def test_in_anothers_network_only_its_own_sockets_count(here: Place) -> None:
    first = await begin(here, "nc -l -p 80 & sleep 1000")
    await until_listening(here, first)
    spec = here.spec(["sh", "-c", "sleep 0.3; nc -l -p 81 & sleep 1000"], "rt-b-1")
    spec = replace(spec, shares={"network": first.container})
    await here.runtime.create(spec)
    other = await here.runtime.start(spec.container)
    assert (await look(here, other, Look(LookKind.LISTENING, (DeclaredPort(80),)), 0.3)).exit_code is None
    assert (await look(here, other, TCP)).output == "nothing listens on 80"
    assert (await look(here, other, Look(LookKind.LISTENING, (DeclaredPort(81),)))).ok


async def test_a_request_is_answered_well_or_with_its_status(here: Place) -> None:
    run = await begin(here, "mkdir /w; echo hi > /w/index.html; httpd -f -p 80 -h /w")
    await until_listening(here, run)
    assert (await look(here, run, http())).ok
    assert (await look(here, run, TCP)).ok
    missing = await look(here, run, http("/nothing"))
    assert (missing.exit_code, missing.output) == (1, "it answers /nothing with status 404")


async def test_where_nothing_listens_the_answer_comes_at_once(here: Place) -> None:
    run = await begin(here, "sleep 1000")
    for wanted in (http(), TCP):
        result = await look(here, run, wanted)
        assert (result.exit_code, result.output) == (1, "nothing listens on 80")


@pytest.mark.parametrize(
    ("server", "output"),
    [
        ("yes", "what it answers is not HTTP"),
        ("printf 'HTTP/1.1 2000000000000000000000 OK\\r\\n'", "what it answers is not HTTP"),
        ("printf 'HTTP/1.1 -20 OK\\r\\n'", "what it answers is not HTTP"),
        ("true", "what it answers is not HTTP"),
        ("sleep 1000", "does not answer / on 80"),
        ("while :; do printf x; sleep 0.01; done", "does not answer / on 80"),
    ],
)
async def test_a_server_that_answers_strangely_holds_nobody_up(here: Place, server: str, output: str) -> None:
    run = await begin(here, f'nc -ll -p 80 -e sh -c "{server}"')
    await until_listening(here, run)
    began_s = time.monotonic()
    result = await look(here, run, http(), 2)
    assert not result.ok
    assert result.output in (output, "it broke the connection off")
    assert time.monotonic() - began_s < 10


TLS_SERVER = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{sys.argv[1]}/server.crt", f"{sys.argv[1]}/server.key")
context.sni_callback = lambda sock, name, context: print(name, flush=True)
listener = socket.create_server(("", 80))
while True:
    connection, _ = listener.accept()
    try:
        with context.wrap_socket(connection, server_side=True) as secured:
            line = secured.recv(4096).split(b"\\r\\n")[0]
            secured.sendall(b"HTTP/1.1 %d x\\r\\n\\r\\nhi" % (200 if line == b"GET /health HTTP/1.1" else 503))
    except OSError:
        pass
"""


def https(path: str, host: str) -> Look:
    return replace(http(path), host=host, tls=True)


async def test_a_request_by_tls_takes_any_certificate_and_says_whom_it_is_for(here: Place, tmp_path: Path) -> None:
    make_certificates(tmp_path)  # For 127.0.0.1, by an authority that nobody knows.
    run = await begin(here, "sleep 1000")
    argv = ["nsenter", f"--net=/proc/{run.pid}/ns/net", sys.executable, "-c", TLS_SERVER, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        try:
            with trio.fail_after(30):
                while (await look(here, run, TCP)).output == "nothing listens on 80":
                    await trio.sleep(0.01)
            assert (await look(here, run, https("/health", "shop.example:8443"))).ok
            assert (await look(here, run, https("/health", "127.0.0.1"))).ok
            refused = await look(here, run, https("/x", "shop.example"))
            assert (refused.exit_code, refused.output) == (1, "it answers /x with status 503")
            assert not (await look(here, run, http("/health"))).ok
        finally:
            server.kill()
            assert server.stdout is not None
            asked = server.stdout.read().split()
    assert asked == ["shop.example", "None", "shop.example"], "an address is no name"


@pytest.mark.parametrize(
    ("server", "output"),
    [
        ("printf 'HTTP/1.1 400 x\\r\\n\\r\\n'; sleep 1000", "TLS: wrong version number"),
        ("yes", "TLS: wrong version number"),
        ("true", "TLS: it broke the connection off"),
        ("sleep 1000", "does not answer / on 80 by TLS"),
    ],
    ids=["http", "noise", "nothing", "silence"],
)
async def test_what_speaks_no_tls_is_told_and_holds_nobody_up(here: Place, server: str, output: str) -> None:
    run = await begin(here, f'nc -ll -p 80 -e sh -c "{server}"')
    await until_listening(here, run)
    result = await look(here, run, https("/", "localhost"), 2)
    assert not result.ok
    assert result.output == output


async def test_an_endless_answer_is_read_to_a_limit(here: Place) -> None:
    run = await begin(here, "nc -ll -p 80 -e sh -c \"printf 'HTTP/1.0 204 x\\r\\n'; yes\"")
    await until_listening(here, run)
    assert (await look(here, run, http(), 5)).ok


async def test_links_stay_in_the_container_and_nothing_that_waits_is_opened(here: Place, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("")
    run = await begin(
        here, f"mkfifo /fifo; ln -s {tmp_path}/outside /out; ln -s ../../../../bin/sh /in; ln -s /loop /loop; "
        "ln -s /proc/1/root/etc /magic; mkdir /kept; touch /kept/x; chmod 0 /kept; sleep 1000"
    )  # fmt: skip
    with trio.fail_after(10):
        while not (await look(here, run, Look(LookKind.FILE, path="/kept/x"))).ok:
            await trio.sleep(0.01)
    for path, there in {"/fifo": True, "/in": True, "/out": False, "/loop": False, "/magic": False, "/no": False}.items():
        assert (await look(here, run, Look(LookKind.FILE, path=path))).ok is there, path


async def test_a_line_counts_in_the_run_that_wrote_it(here: Place) -> None:
    script = "test -e /again || echo 'ready in 12 ms'; touch /again; echo ready in no ms; sleep 0.3; echo is over; sleep 99"
    run = await begin(here, script)
    wanted = Look(LookKind.LOG, pattern="^ready in [0-9]+ ms$")
    assert (await look(here, run, wanted)).ok
    assert (await look(here, run, Look(LookKind.LOG, pattern="over"))).ok
    await here.runtime.kill(run.container)
    await here.runtime.wait(run)
    again = await here.runtime.start(run.container)
    assert (await look(here, again, Look(LookKind.LOG, pattern="over"))).ok
    assert (await look(here, again, wanted, 0.3)).exit_code is None


async def test_who_writes_without_end_does_not_hold_others_up(here: Place) -> None:
    run = await begin(here, "yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
    longest_s = 0.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look, here, run, Look(LookKind.LOG, pattern="(a+)+b"), 1.5)
        for _ in range(100):
            began_s = time.monotonic()
            await trio.sleep(0.01)
            longest_s = max(longest_s, time.monotonic() - began_s)
    assert longest_s < 0.5
