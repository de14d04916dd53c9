"""The registry: one socket an address, lent to generations, closed by the last; and errors that say what to do."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from plait.errors import ListenError
from plait.net import Endpoint
from plait.net.sockets import Lease, Registry

ANY = Endpoint.parse("tcp://127.0.0.1:0")


def port(lease: Lease) -> int:
    """Where it listens."""
    return int(lease.sockets[0].getsockname()[1])


async def test_generations_share_one_socket() -> None:
    """Each has a duplicate; it is closed when the last one gives it back."""
    registry = Registry()
    first = await registry.listen(ANY, path="web", tree="old")
    second = await registry.listen(ANY, path="web", tree="new")
    assert port(first) == port(second)
    assert first.is_shared
    assert second.is_shared
    address = first.sockets[0].getsockname()
    first.close()
    assert not second.is_shared
    socket.create_connection(address).close()
    second.close()
    second.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_port_0_is_anothers_for_another_service() -> None:
    """It is known by the path of the service that asked."""
    registry = Registry()
    with await registry.listen(ANY, path="a", tree=1) as one, await registry.listen(ANY, path="b", tree=1) as other:
        assert port(one) != port(other)


async def test_a_second_service_of_one_tree_is_refused_by_name() -> None:
    """Both are named; the first goes on listening."""
    registry = Registry()
    with await registry.listen(ANY, path="web", tree=1) as lease:
        taken = Endpoint.parse(f"tcp://127.0.0.1:{port(lease)}")
    with await registry.listen(taken, path="web", tree=1):
        with pytest.raises(ListenError, match=r"service 'api' cannot listen on .*: service 'web' does already"):
            await registry.listen(taken, path="api", tree=1)
        socket.create_connection(("127.0.0.1", taken.port)).close()


async def test_a_port_in_use_is_said_with_its_errno() -> None:
    """And what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = Endpoint.parse(f"tcp://127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(ListenError, match="the port is in use; stop what listens there") as caught:
            await Registry().listen(taken, path="web", tree=1)
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tcp://192.0.2.1:0", "this machine has no such address"),
        ("tcp://no-such-host.invalid:80", "does not resolve"),
        ("unix:///no/such/directory/x.sock", "there is no directory"),
        ("fd://987", "not an open socket"),
        ("systemd://web", "systemd passed no socket of that name"),
    ],
)
async def test_other_addresses_that_cannot_be_listened_on(text: str, message: str) -> None:
    """Each with its reason and the service's name; nothing is left open."""
    with pytest.raises(ListenError, match="service 'web' cannot listen on") as caught:
        await Registry().listen(Endpoint.parse(text), path="web", tree=1)
    assert message in str(caught.value)


async def test_a_name_may_give_several_sockets_on_one_port() -> None:
    """localhost, where it has both families; port 0 is the same in both."""
    with await Registry().listen(Endpoint.parse("tcp://localhost:0"), path="web", tree=1) as lease:
        assert len({sock.getsockname()[1] for sock in lease.sockets}) == 1


async def test_a_unix_socket_has_its_mode_and_is_unlinked_at_the_end(tmp_path: Path) -> None:
    """By the last generation."""
    registry, path = Registry(), tmp_path / "app.sock"
    endpoint = Endpoint.parse(f"unix://{path}?mode=600")
    first = await registry.listen(endpoint, path="web", tree=1)
    second = await registry.listen(endpoint, path="web", tree=2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first.close()
    assert path.exists()
    second.close()
    assert not path.exists()


async def test_a_stale_unix_socket_is_removed_and_a_live_one_is_not_stolen(tmp_path: Path) -> None:
    """Stale: nobody answers. What is no socket at all is left alone."""
    path = tmp_path / "app.sock"
    endpoint = Endpoint.parse(f"unix://{path}")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with await Registry().listen(endpoint, path="web", tree=1):
        with pytest.raises(ListenError, match="another process listens there"):
            await Registry().listen(endpoint, path="web", tree=1)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    path.write_text("precious")
    with pytest.raises(ListenError, match="a file that is no socket is there"):
        await Registry().listen(endpoint, path="web", tree=1)
    assert path.read_text() == "precious"


async def test_a_socket_that_another_process_put_there_meanwhile_is_not_unlinked(tmp_path: Path) -> None:
    """Only our inode is ours."""
    path = tmp_path / "app.sock"
    lease = await Registry().listen(Endpoint.parse(f"unix://{path}"), path="web", tree=1)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        lease.close()
        assert path.exists()


async def test_an_inherited_socket_serves_generations_and_is_left_open() -> None:
    """fd://N is duplicated; who passed it still has it."""
    registry = Registry()
    with socket.create_server(("127.0.0.1", 0)) as passed:
        endpoint = Endpoint.parse(f"fd://{passed.fileno()}")
        for tree in (1, 2):
            with await registry.listen(endpoint, path="web", tree=tree) as lease:
                assert port(lease) == passed.getsockname()[1]
        socket.create_connection(passed.getsockname()).close()


async def test_a_socket_that_does_not_listen_is_refused() -> None:
    """It would never be readable."""
    with socket.socket() as idle, pytest.raises(ListenError, match="does not listen"):
        await Registry().listen(Endpoint.parse(f"fd://{idle.fileno()}"), path="web", tree=1)


def test_systemd_passes_sockets_by_name() -> None:
    """As sd_listen_fds_with_names(3) has it: from descriptor 3 on, for this process alone."""
    code = (
        "import asyncio, os\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "from plait.net import Endpoint\n"
        "from plait.net.sockets import Registry\n"
        "async def main():\n"
        "    with await Registry().listen(Endpoint.parse('systemd://web'), path='web', tree=1) as lease:\n"
        "        print([sock.getsockname()[1] for sock in lease.sockets])\n"
        "asyncio.run(main())\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as admin, socket.create_server(("127.0.0.1", 0)) as web:
        numbers = (admin.getsockname()[1], web.getsockname()[1])
        script = f'exec 3<&{admin.fileno()} 4<&{web.fileno()}; exec {sys.executable} -c "$CODE"'
        env = {**os.environ, "CODE": code, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "admin:web"}
        done = subprocess.run(
            ["bash", "-c", script], env=env, pass_fds=(admin.fileno(), web.fileno()),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.stdout.strip() == f"[{numbers[1]}]", done.stderr
