"""Server: what happens seldom, and must not go wrong then."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any, cast

import pytest

from plait import Application
from plait.errors import ListenError, StartFailed
from plait.net import Server
from plait.net.sockets import Registry
from test_server import Echo, close, connect, echo, running


async def until(condition: Any) -> None:
    """Turn the loop until it holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


# -- the drain ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("serve", [echo, Echo], ids=["handler", "protocol"])
async def test_who_queues_when_the_stop_begins_is_served(serve: Any) -> None:
    """They connected and sent while the loop was busy; nobody has accepted them yet."""
    async with running(serve, drain_timeout=30) as server:
        endpoint = server.endpoints[0]
        clients = [socket.create_connection((endpoint.host, endpoint.port)) for _ in range(100)]
        for number, client in enumerate(clients):
            client.sendall(b"%d\n" % number)
        assert server.stats.accepted == 0
    for number, client in enumerate(clients):
        with client:
            assert client.recv(100) == b"%d\n" % number
    assert (server.stats.accepted, server.stats.cut) == (100, 0)


async def test_all_that_a_silent_handlers_client_sent_before_the_stop_is_read() -> None:
    """As syslog over TCP: sent while the process did nothing, and never answered."""
    seen = bytearray()

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            seen.extend(data)
            await asyncio.sleep(0)

    async with running(collect, drain_timeout=30) as server:
        endpoint = server.endpoints[0]
        with socket.create_connection((endpoint.host, endpoint.port)) as client:
            client.sendall(b"first")
            await until(lambda: seen)
            client.setblocking(False)
            sent = 0
            try:
                while True:
                    sent += client.send(b"x" * 10_000)
            except BlockingIOError:
                pass  # both buffers are full, and the loop has not turned
            began = time.monotonic()
            await server.stop()
            assert time.monotonic() - began < 5
    assert len(seen) == len(b"first") + sent


@pytest.mark.parametrize("greeting", [b"", b"hello\n"], ids=["silent", "after a greeting"])
async def test_a_sender_that_never_pauses_does_not_hold_up_the_stop(greeting: bytes) -> None:
    """What it had sent when the stop began is read; then the stream ends, long before the deadline."""
    seen = bytearray()

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        while data := await reader.read(1000):
            seen.extend(data)

    sent = 0

    async def send(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            while True:
                writer.write(b"%9d\n" % sent)
                sent += 10
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass

    async with running(collect, drain_timeout=10) as server:
        _, writer = await connect(server)
        sending = asyncio.create_task(send(writer))
        await until(lambda: len(seen) > 1000)
        before, began = sent, time.monotonic()
        await server.stop()
        assert time.monotonic() - began < 3
        assert len(seen) >= before
        await sending
        await close(writer)
    assert server.stats.cut == 0


async def test_a_request_in_the_sockets_buffer_is_no_end_between_requests() -> None:
    """A pipeline: the handler has answered the first, and the second is there, though not yet read."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.write(line)
            sock = writer.get_extra_info("socket")
            if line == b"one\n":
                client.sendall(b"two\n")
                while not fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0")[0]:
                    pass  # the loop does not turn: it cannot have been read

    async with running(slow, drain_timeout=30) as server:
        endpoint = server.endpoints[0]
        with socket.create_connection((endpoint.host, endpoint.port)) as client:
            await until(lambda: server.stats.open)
            stopping = asyncio.create_task(server.stop())
            await asyncio.sleep(0.05)
            client.sendall(b"one\n")
            await stopping
            got = b""
            while data := client.recv(100):
                got += data
    assert got == b"one\ntwo\n"


async def test_a_handler_that_outlives_its_client_is_waited_for() -> None:
    """It may be storing what its client sent; it is part of the server until it returns."""
    stored: list[bytes] = []

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        with_reset = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.05, with_reset.set_result, None)
        await with_reset
        stored.append(line)

    async with running(store, drain_timeout=30) as server:
        endpoint = server.endpoints[0]
        with socket.create_connection((endpoint.host, endpoint.port)) as client:
            client.sendall(b"line\n")
            await asyncio.sleep(0.01)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(0.01)
        assert server.stats.open == 1
    assert stored == [b"line\n"]
    assert server.stats.cut == 0


async def test_at_the_deadline_nobody_else_is_let_in() -> None:
    """One is cut; the place that this gives is not filled again."""
    served = 0

    async def stubborn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        await asyncio.sleep(60)

    async with running(stubborn, max_connections=1, drain_timeout=0.1) as server:
        clients = [await connect(server) for _ in range(3)]
        await until(lambda: served)
    assert (served, server.stats.cut) == (1, 1)
    for _, writer in clients:
        await close(writer)


async def test_one_who_is_accepted_during_the_drain_is_told_too() -> None:
    """A protocol's drain() is called, once, for those who queued for a place as for the others."""
    drained: list[Any] = []

    class Polite(Echo):
        def drain(self) -> None:
            drained.append(self)
            self.transport.close()

    async with running(Polite, max_connections=1, drain_timeout=30) as server:
        clients = [await connect(server) for _ in range(3)]
    assert len(drained) == len(set(map(id, drained))) == 3
    assert server.stats.cut == 0
    for _, writer in clients:
        await close(writer)


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(1)])
async def test_a_drain_that_raises_ends_its_connection(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Logged and counted."""

    class Impolite(Echo):
        def drain(self) -> None:
            raise error

    async with running(Impolite, drain_timeout=30) as server:
        _, writer = await connect(server)
        await until(lambda: server.stats.open)
    assert (server.stats.failed, server.stats.cut) == (1, 0)
    assert "drain() of a connection failed" in caplog.text
    await close(writer)


async def test_a_generation_that_comes_during_the_last_drain_lets_newcomers_in_again() -> None:
    """The old one has begun to refuse them; the socket is the same."""
    registry, applications = Registry(), [Application("one"), Application("two")]
    let_go = asyncio.Event()

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"here\n")
        await let_go.wait()

    servers = []
    for app in applications:
        app.provide(Registry, registry)
        servers.append(app.add(Server("tcp://127.0.0.1:0", busy, max_connections=1), name="s", drain_timeout=30))
    await applications[0].start()
    clients = [await connect(servers[0]) for _ in range(2)]  # the second queues, so the socket stays open
    assert await clients[0][0].readline() == b"here\n"
    stopping = asyncio.create_task(applications[0].stop())
    await asyncio.sleep(0.05)
    await applications[1].start()
    assert await asyncio.wait_for(clients[1][0].readline(), 5) == b"here\n"
    newcomer = await asyncio.wait_for(connect(servers[1]), 0.5)
    let_go.set()
    assert await asyncio.wait_for(newcomer[0].readline(), 5) == b"here\n"
    await stopping
    await applications[1].stop()
    for _, writer in (*clients, newcomer):
        await close(writer)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


async def test_a_handlers_own_trouble_is_not_taken_for_its_clients(caplog: pytest.LogCaptureFixture) -> None:
    """A database that refuses a connection is a failure, though it is a ConnectionError too."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline() == b"refused\n":
            raise ConnectionRefusedError("the database is down")
        raise asyncio.IncompleteReadError(b"half", 10)

    async with running(handler) as server:
        for number, word in enumerate((b"refused\n", b"incomplete\n")):
            reader, writer = await connect(server)
            writer.write(word)
            assert await reader.read() == b""
            await close(writer)
            assert server.stats.failed == number + 1
    assert "the database is down" in caplog.text


async def test_a_handler_that_fails_when_its_client_is_gone_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Its peer cannot be asked for any more, and the task's failure must not be lost for that."""
    ended = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            while server.stats.open and not writer.is_closing():
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            ended.set()
            raise ValueError("too late")

    async with running(handler) as server:
        endpoint = server.endpoints[0]
        with socket.create_connection((endpoint.host, endpoint.port)) as client:
            client.sendall(b"x")
            await asyncio.sleep(0.01)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.wait_for(ended.wait(), 5)
    assert server.stats.failed == 1
    assert "too late" in caplog.text


async def test_a_subclass_whose_start_fails_after_ours_leaves_nothing() -> None:
    """What the server holds was entered; on_stop is not called then."""

    class Failing(Server):
        async def on_start(self) -> None:
            await super().on_start()
            endpoint = self.endpoints[0]
            self.client = socket.create_connection((endpoint.host, endpoint.port))
            self.client.sendall(b"x\n")
            await until(lambda: self.stats.open == 1)
            raise ValueError("no")

    app = Application("test")
    server = app.add(Failing("tcp://127.0.0.1:0", echo))
    with pytest.raises(StartFailed):
        await app.start()
    assert server.endpoints == ()
    assert server.stats.open == 0
    server.client.close()


async def test_a_class_that_wants_no_subclasses_is_counted_all_the_same() -> None:
    """By a relay in front of it."""

    class Final(Echo):
        def __init_subclass__(cls) -> None:
            raise TypeError("no subclasses")

    async with running(Final) as server:
        for _ in range(2):
            reader, writer = await connect(server)
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            assert server.stats.open == 1
            await close(writer)
            await until(lambda: server.stats.open == 0)


EXHAUSTED = """
import asyncio, resource, socket, sys
from plait import Application
from plait.net import Server, accepting
import {loop}

accepting.EXHAUSTED_DELAY = 0.05

async def echo(reader, writer):
    async for line in reader:
        writer.write(line)

async def main():
    app = Application("test")
    server = app.add(Server("tcp://127.0.0.1:0", echo), name="s", drain_timeout=10)
    async with app:
        address = ("127.0.0.1", server.endpoints[0].port)
        clients = [socket.create_connection(address) for _ in range(4)]
        for client in clients:
            client.sendall(b"hello\\n")
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
        try:
            while True:
                taken.append(socket.socket())
        except OSError:
            pass
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert server.stats.accepted == 0, server.stats
        if {drains}:
            asyncio.get_running_loop().call_later(0.2, taken.clear)
        else:
            taken.clear()
            while server.stats.accepted < 4:
                await asyncio.sleep(0.01)
    print([client.recv(10) for client in clients], server.stats.cut)

with asyncio.Runner(loop_factory={loop}.new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("drains", [False, True])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_out_of_descriptors_it_rests_and_nobody_is_lost(loop: str, drains: bool) -> None:
    """The kernel queues until there are some again; also if the stop comes first."""
    done = subprocess.run(
        [sys.executable, "-c", EXHAUSTED.format(loop=loop, drains=drains)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == str([b"hello\n"] * 4) + " 0", done.stderr
    assert "cannot accept: " in done.stderr
    assert done.stderr.count("cannot accept") < 20


# -- sockets and transports --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nodelay", [True, False])
async def test_nodelay_is_as_the_endpoint_says(nodelay: bool) -> None:
    """On every loop."""
    found: list[int] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        found.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async with running(handler, f"tcp://127.0.0.1:0?nodelay={'yes' if nodelay else 'no'}") as server:
        _, writer = await connect(server)
        writer.write(b"x\n")
        await until(lambda: found)
        await close(writer)
    assert bool(found[0]) is nodelay


async def test_a_socket_of_another_kind_is_refused_at_the_start() -> None:
    """An inherited one cannot be told by its URL."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        app = Application("test")
        app.add(Server(f"fd://{sock.fileno()}", echo), name="web")
        with pytest.raises(StartFailed) as caught:
            await app.start()
    assert isinstance(caught.value.exceptions[0], ListenError)
    assert "service 'web' cannot listen on fd://" in str(caught.value.exceptions[0])
    assert "it carries datagrams, and not connections" in str(caught.value.exceptions[0])


async def test_an_inherited_socket_is_never_made_to_refuse() -> None:
    """Whoever passed it has it still, systemd for one, and starts us again for who comes next."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        for _ in range(2):
            async with running(echo, f"fd://{passed.fileno()}") as server:
                reader, writer = await asyncio.wait_for(connect(server), 0.5)
                writer.write(b"hello\n")
                assert await reader.readline() == b"hello\n"
            await close(writer)
        with socket.create_connection(passed.getsockname(), timeout=0.5):
            pass


async def test_a_protocol_may_put_tls_in_between_and_is_told_of_the_drain(tmp_path: Path) -> None:
    """loop.start_tls gives the transport to a protocol of asyncio's own, and the connection is still its own."""
    import ssl

    import trustme

    authority = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(serving)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(asking)
    drained: list[Any] = []

    class Upgrading(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)

        def data_received(self, data: bytes) -> None:
            if data == b"STARTTLS\n":
                self.transport.write(b"go\n")
                self.upgrading = asyncio.create_task(self.upgrade())
            else:
                self.transport.write(data)

        async def upgrade(self) -> None:
            transport = await asyncio.get_running_loop().start_tls(self.transport, self, serving, server_side=True)
            self.transport = cast(asyncio.Transport, transport)
            self.transport.write(b"ready\n")

        def drain(self) -> None:
            drained.append(self)
            self.transport.close()

    async with running(Upgrading, drain_timeout=30) as server:
        reader, writer = await connect(server)
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go\n"
        await writer.start_tls(asking, server_hostname="localhost")
        assert await reader.readline() == b"ready\n"
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
    assert len(drained) == 1
    assert server.stats.cut == 0
    assert await reader.read() == b""
    await close(writer)


# -- rights ------------------------------------------------------------------------------------------------------------

NOBODY = """
import asyncio, os, sys
from plait.net import Endpoint
from plait.net.sockets import Registry
async def warm_up():  # what is imported on use, while it can be read
    await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 7)
asyncio.run(warm_up())
os.setgid(65534); os.setuid(65534)
async def main():
    before = len(os.listdir("/proc/self/fd"))
    try:
        await Registry().listen(Endpoint.parse(sys.argv[1]), path="web", tree=1)
    except OSError as error:
        print(error.errno, error)
    assert len(os.listdir("/proc/self/fd")) == before
asyncio.run(main())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ("tcp://127.0.0.1:7", "ports below 1024 need rights; choose a higher port, or grant CAP_NET_BIND_SERVICE"),
        ("unix:///plait.sock", "no permission to make a file in '/'"),
    ],
)
def test_without_rights_it_says_which_are_needed(listen: str, message: str, tmp_path: Path) -> None:
    """And leaves nothing open."""
    limit = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
    if listen.startswith("tcp") and int(limit) <= 7:
        pytest.skip("this system has no privileged ports")
    done = subprocess.run(
        [sys.executable, "-c", NOBODY, listen], cwd="/", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith("13 "), done.stderr
    assert "service 'web' cannot listen on" in done.stdout
    assert message in done.stdout
