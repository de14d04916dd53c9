"""A store of sockets: who comes after a process that was killed listens where that did, and nobody was refused."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from plait.net.endpoints import Endpoint
from plait.net.refusing import refuse_newcomers
from plait.net.sockets import Registry


class Kept:
    """What systemd does, in a dictionary."""

    def __init__(self) -> None:
        self.sockets: dict[str, socket.socket] = {}

    def take(self, name: str) -> socket.socket | None:
        return self.sockets[name].dup() if name in self.sockets else None

    def keep(self, name: str, sock: socket.socket) -> None:
        self.drop(name)
        self.sockets[name] = sock.dup()

    def drop(self, name: str) -> None:
        if name in self.sockets:
            self.sockets.pop(name).close()


@pytest.fixture
def kept() -> Iterator[Kept]:
    """Emptied at the end."""
    store = Kept()
    yield store
    for name in list(store.sockets):
        store.drop(name)


async def _killed(store: Kept, url: str) -> tuple[object, ...]:
    """A process listened there, and was killed: its descriptors are closed, and nothing else was done."""
    registry = Registry(store)
    lease = await registry.listen(Endpoint.parse(url), path="web", tree="one")
    address = lease.sockets[0].getsockname()
    for sock in (*lease.sockets, *(held.sock for held in registry._held.values())):
        sock.close()
    return address


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:0", "tcp://[::1]:0", "unix"])
async def test_who_connects_meanwhile_is_served_by_the_next(kept: Kept, tmp_path: Path, url: str) -> None:
    """On the very address, also where the system had chosen the port; a clean end leaves nothing behind."""
    url = f"unix://{tmp_path}/s" if url == "unix" else url
    address = await _killed(kept, url)
    endpoint = Endpoint.parse(url)
    family = socket.AF_UNIX if url.startswith("unix") else socket.AF_INET6 if "[" in url else socket.AF_INET
    with socket.socket(family) as client:
        client.connect(address)
        lease = await Registry(kept).listen(endpoint, path="web", tree="two")
        assert lease.sockets[0].getsockname() == address
        lease.sockets[0].accept()[0].close()
        assert len(kept.sockets) == 1
        lease.close()
    assert kept.sockets == {}
    assert not (tmp_path / "s").exists()
    with socket.socket(family) as client, pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        client.connect(address)


async def test_killed_while_it_let_nobody_in(kept: Kept) -> None:
    """The filter is the socket's and outlived the process: the next one takes it off."""
    address = await _killed(kept, "tcp://127.0.0.1:0")
    (sock,) = kept.sockets.values()
    assert refuse_newcomers(sock)
    with await Registry(kept).listen(Endpoint.parse("tcp://127.0.0.1:0"), path="web", tree="two"):
        socket.create_connection(address, 5).close()


async def test_a_unix_socket_whose_file_is_gone(kept: Kept, tmp_path: Path) -> None:
    """Nobody can reach it: another is bound in its place, and kept."""
    await _killed(kept, f"unix://{tmp_path}/s")
    (tmp_path / "s").unlink()
    lease = await Registry(kept).listen(Endpoint.parse(f"unix://{tmp_path}/s"), path="web", tree="two")
    with lease, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        lease.sockets[0].accept()[0].close()


async def test_sockets_that_were_passed_are_not_ours_to_keep(kept: Kept) -> None:
    """Who passed them has them."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        lease = await Registry(kept).listen(Endpoint.parse(f"fd://{sock.fileno()}"), path="web", tree="one")
        assert kept.sockets == {}
        lease.close()


async def test_a_pause_that_refuses_leaves_the_store_as_well(kept: Kept) -> None:
    """What is kept there would let newcomers connect, and wait for ever."""
    registry = Registry(kept)
    lease = await registry.listen(Endpoint.parse("tcp://127.0.0.1:0"), path="web", tree="one")
    lease.leave()
    assert kept.sockets == {}
    await lease.listen()
    assert len(kept.sockets) == 1
    lease.close()
