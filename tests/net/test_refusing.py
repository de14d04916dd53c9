"""Before a listening socket closes nobody new gets in, and whoever has is still accepted."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plait.net import Endpoint, refusing
from plait.net.sockets import Lease, Registry
from test_server import close, connect, echo, running

ANY = Endpoint.parse("tcp://127.0.0.1:0")
SIX = Endpoint.parse("tcp://[::1]:0")


@contextmanager
def connecting(lease: Lease) -> Iterator[socket.socket]:
    """A client on its way, which waits for nothing."""
    listener = lease.sockets[0]
    with socket.socket(listener.family) as client:
        client.setblocking(False)
        assert client.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS)
        yield client


def is_connected(client: socket.socket) -> bool:
    """Now: on loopback a handshake is over when `connect` returns."""
    try:
        client.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        return False
    return True


@pytest.mark.parametrize("endpoint", [ANY, SIX], ids=["IPv4", "IPv6"])
async def test_newcomers_are_dropped_and_who_queues_is_accepted(endpoint: Endpoint) -> None:
    """And talked to: the filter that an accepted connection inherits drops nothing of it."""
    with await Registry().listen(endpoint, path="web", tree=1) as lease, connecting(lease) as queued:
        assert is_connected(queued)
        assert lease.refuse() == refusing.LOOPBACK_GRACE
        with connecting(lease) as newcomer:
            assert not is_connected(newcomer)
            conn, _ = lease.sockets[0].accept()
            with conn:
                queued.send(b"hello")
                assert conn.recv(10) == b"hello"
                conn.send(b"bye")
                assert queued.recv(10) == b"bye"
            with pytest.raises(BlockingIOError):
                lease.sockets[0].accept()


async def test_a_generation_that_listens_after_all_lets_them_in_again() -> None:
    """The filter belongs to the socket that both have."""
    registry = Registry()
    with await registry.listen(ANY, path="web", tree=1) as old:
        assert old.refuse() > 0
        with await registry.listen(ANY, path="web", tree=2) as new, connecting(new) as newcomer:
            assert is_connected(newcomer)
            assert old.refuse() == 0  # two listen: newcomers are not for one to refuse
            with connecting(new) as another:
                assert is_connected(another)


async def test_a_unix_socket_is_taken_from_its_path_where_another_may_be_bound(tmp_path: Path) -> None:
    """Who queues at the old one is still accepted there; its end does not touch the new one's file."""
    registry, path = Registry(), tmp_path / "s"
    endpoint = Endpoint.parse(f"unix://{path}")
    with await registry.listen(endpoint, path="web", tree=1) as old, connecting(old) as queued:
        assert old.refuse() == 0
        assert not path.exists()
        with await registry.listen(endpoint, path="web", tree=2) as new:
            old.sockets[0].accept()[0].close()
            assert queued.recv(1) == b""
            old.close()
            with connecting(new) as newcomer:
                assert is_connected(newcomer)
        assert not path.exists()


async def test_an_inherited_socket_is_left_alone() -> None:
    """Whoever passed it may go on listening."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        with await Registry().listen(Endpoint.parse(f"fd://{passed.fileno()}"), path="web", tree=1) as lease:
            assert lease.refuse() == 0
        socket.create_connection(passed.getsockname()).close()


def test_elsewhere_than_on_loopback_handshakes_take_longer() -> None:
    """The answer to an accepted connection's first packet has a way to go."""
    for host, grace in (("127.0.0.1", refusing.LOOPBACK_GRACE), ("0.0.0.0", refusing.CONNECT_GRACE)):
        with socket.create_server((host, 0)) as sock:
            assert refusing.grace_of(sock) == grace


@pytest.mark.parametrize("how", ["no filters", "not permitted"])
async def test_where_the_system_has_no_filters_all_is_as_without(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who queues is served, and the socket closes."""
    if how == "no filters":
        monkeypatch.setattr(refusing.sys, "platform", "other")
    else:
        monkeypatch.setattr(refusing, "_SO_ATTACH_FILTER", 9999)
    async with running(echo, max_connections=1, drain_timeout=30) as server:
        clients = [await connect(server) for _ in range(3)]
        for number, (_, writer) in enumerate(clients):
            writer.write(b"%d\n" % number)
        assert await clients[0][0].readline() == b"0\n"
        lease = server._Server__lease  # type: ignore[attr-defined]
        assert not refusing.refuse_newcomers(lease.sockets[0])
        assert lease.refuse() == 0
        await server.stop()
    for number, (reader, writer) in enumerate(clients):
        assert await reader.read() == (b"" if number == 0 else b"%d\n" % number)
        await close(writer)


async def test_who_is_connecting_when_newcomers_are_refused_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handshake is over a moment later: it is accepted and served, then they close; a cut waits for none."""
    for cut in (False, True):
        monkeypatch.setattr(refusing, "LOOPBACK_GRACE", 30.0 if cut else 1.0)
        async with running(echo, drain_timeout=0.1 if cut else 30) as server:
            reader, writer = await connect(server)
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            address = server.endpoints[0].host, server.endpoints[0].port
            stopping = asyncio.create_task(server.stop())
            await asyncio.sleep(0.01)
            refusing.admit_newcomers(server._Server__lease.sockets[0])  # type: ignore[attr-defined]
            late_reader, late_writer = await asyncio.open_connection(*address)
            late_writer.write(b"late\n")
            assert await late_reader.readline() == b"late\n"
            assert server.stats.accepted == 2
            await stopping
            for one in (writer, late_writer):
                await close(one)
