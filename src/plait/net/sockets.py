"""The registry of listening sockets: it binds once per address, and lends duplicates.

Rules:
- A socket is known by family, type and bound address; one asked for with port 0 by the path of the service that asks.
- The registry keeps the original. Each tree (generation) that listens on the address has a duplicate of its own, so
  two generations share one queue of connections and none is lost between them. The original is closed, and a unix
  socket's file unlinked, when no tree holds it any more.
- Two services of one tree may not listen on one address: the second is refused by name.
- A lease may be left and taken up again: it then binds the very addresses that it had. A service that asks for port 0
  again, in a later incarnation or generation, has the port that it had, unless somebody took it meanwhile.
- A stale unix socket is removed; one that answers is not stolen.
- A store, if there is one, keeps the sockets for the next process of this kind, should this one be killed: systemd's.
- A service asks for a lease, by which it listens, leaves and listens again: all that an arbiter has to stand behind to
  own the sockets of many processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NoReturn, Protocol

from plait.errors import ListenError
from plait.net import inherited
from plait.net.endpoints import BACKLOG, Endpoint
from plait.net.refusing import admit_newcomers, grace_of, refuse_newcomers

Key = tuple[Any, ...]

_PORT_TRIES = 8


@dataclass(eq=False)
class _Held:
    """One bound socket, and which service of which tree listens on it."""

    sock: socket.socket
    unlink: Callable[[], None]
    users: dict[object, str] = field(default_factory=dict)
    is_refusing: bool = False
    """Nobody can connect any more, while those who have are still accepted."""

    def admit(self) -> None:
        """Somebody listens after all."""
        if self.is_refusing:
            admit_newcomers(self.sock)
            self.is_refusing = False


Bind = Callable[[], tuple[socket.socket, Callable[[], None]]]


class Lease:
    """What one service is lent: `sockets`, listening and non-blocking, once it has called `listen`.

    Its holder closes it, as a context manager. The list of sockets is one object for its whole life.
    """

    def __init__(self, registry: Registry, endpoint: Endpoint, path: str, tree: object) -> None:
        self.endpoint = endpoint
        self.path = path
        self.tree = tree
        self.keys: list[Key] = []
        self.sockets: list[socket.socket] = []
        self.is_unix = False
        """Whether what it listens on, or did last, is a unix socket."""
        self._registry = registry
        self._left: list[Any] = []
        """Where it listened before it was left, as `getaddrinfo` would tell it."""

    @property
    def subject(self) -> str:
        """How an error about it begins."""
        endpoint = self.endpoint
        if self._left:
            endpoint = replace(endpoint, port=self._left[0][4][1])
        return f"service {self.path!r} cannot listen on {endpoint.address}"

    @property
    def is_shared(self) -> bool:
        """Whether another generation listens on the same sockets, and takes what this one leaves."""
        return any(self._registry.is_shared(key) for key in self.keys)

    @property
    def is_inherited(self) -> bool:
        """Whether the sockets were passed to this process: whoever passed them may hold them too."""
        return self.endpoint.scheme in ("fd", "systemd")

    async def listen(self) -> None:
        """Bind and listen, or join the generation that does; at the very addresses that were left, if it was.

        ListenError, with the system's errno, says what is in the way and what to do; nothing is left open then.
        """
        try:
            await self._registry.bind(self, self._left)
            for key in self.keys:
                self.sockets.append(self._registry.duplicate(key))
            self.is_unix = self.sockets[0].family == socket.AF_UNIX
        except BaseException:
            self.close()
            raise

    def demand(self, *, stream: bool) -> None:
        """ListenError if a socket that was inherited is not of this kind: connections, or else datagrams."""
        for sock in self.sockets:
            if (sock.type == socket.SOCK_STREAM) != stream:
                kinds = ("connections", "datagrams") if stream else ("datagrams", "connections")
                raise ListenError(errno.EPROTOTYPE, f"{self.subject}: it carries {kinds[1]}, and not {kinds[0]}")

    def refuse(self) -> float:
        """Let no newcomer in, where no other generation listens; those who have connected can still be accepted.

        The seconds in which whoever is connecting just now has connected, and queues; 0 where that is not known.
        """
        return max((self._registry.refuse(key) for key in self.keys), default=0.0)

    def leave(self) -> None:
        """Give the sockets back for now: where no other generation listens, clients are refused at once."""
        if self.sockets and self.endpoint.scheme != "unix":
            self._left = [(sock.family, sock.type, sock.proto, "", sock.getsockname()) for sock in self.sockets]
        self.close()

    def close(self) -> None:
        """Give the sockets back; legal at any time, and twice."""
        for sock in self.sockets:
            sock.close()
        for key in self.keys:
            self._registry.release(key, self.tree)
        self.sockets.clear()
        self.keys.clear()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Store(Protocol):
    """Keeps sockets, by name, beyond the life of the process."""

    def take(self, name: str) -> socket.socket | None:
        """The one that an earlier process has kept; None if there is none."""

    def keep(self, name: str, sock: socket.socket) -> None:
        """Keep it."""

    def drop(self, name: str) -> None:
        """Keep it no more."""


class Registry:
    """The listening sockets of a process. One for an application, or shared by its generations."""

    def __init__(self, store: Store | None = None) -> None:
        self._store = store
        self._held: dict[Key, _Held] = {}
        self._ports: dict[Key, int] = {}
        """Which port the system chose, last time, where port 0 was asked for."""

    async def listen(self, endpoint: Endpoint, *, path: str, tree: object) -> Lease:
        """Sockets that listen on `endpoint`; a host name may give several. ListenError as `Lease.listen` has it.

        `path` is the service that asks, `tree` the generation it is in.
        """
        lease = self.lease(endpoint, path=path, tree=tree)
        await lease.listen()
        return lease

    def lease(self, endpoint: Endpoint, *, path: str, tree: object) -> Lease:
        """A lease of what `endpoint` names, for one who listens later; nothing is bound yet."""
        return Lease(self, endpoint, path, tree)

    def duplicate(self, key: Key) -> socket.socket:
        """One more descriptor of a socket that is held."""
        sock = self._held[key].sock.dup()
        sock.setblocking(False)
        return sock

    def is_shared(self, key: Key) -> bool:
        """Whether more than one tree holds the socket."""
        return key in self._held and len(self._held[key].users) > 1

    def refuse(self, key: Key) -> float:
        """Let no newcomer in, and say for how long some may still be on their way; see refusing.py.

        A unix socket is taken from its path, where another can be bound from now on. An inherited one is left alone.
        """
        held = self._held.get(key)
        if held is None or len(held.users) > 1 or key[0] == "fd" or held.sock.type != socket.SOCK_STREAM:
            return 0.0
        if held.sock.family == socket.AF_UNIX:
            self._drop(key)
            return 0.0
        held.is_refusing = held.is_refusing or refuse_newcomers(held.sock)
        return grace_of(held.sock) if held.is_refusing else 0.0

    def release(self, key: Key, tree: object) -> None:
        """A tree listens there no more; the last one closes the socket."""
        held = self._held.get(key)
        if held is not None:
            held.users.pop(tree, None)
            if not held.users:
                self._drop(key)

    def _drop(self, key: Key) -> None:
        held = self._held.pop(key)
        held.unlink()
        if self._store is not None and key[0] != "fd":
            self._store.drop(_name(key))
        held.sock.close()

    def unlink_all(self) -> None:
        """Remove the files of all unix sockets at once, for a process that is about to be ended by force."""
        for held in self._held.values():
            held.unlink()

    async def bind(self, lease: Lease, left: list[Any]) -> None:
        """Hold what `lease` asks for, at the addresses it has `left` if there are any."""
        endpoint = lease.endpoint
        if endpoint.scheme == "unix":
            self._hold(lease, (socket.AF_UNIX, endpoint.path), partial(_bind_unix, endpoint, lease.subject))
            _set_mode(endpoint, lease.subject)  # also where another generation has bound it, with another mode
        elif endpoint.scheme == "fd":
            self._hold(lease, ("fd", endpoint.fd), partial(_adopt, endpoint.fd, lease.subject))
        elif endpoint.scheme == "systemd":
            for fd in _passed(endpoint.name, lease.subject):
                self._hold(lease, ("fd", fd), partial(_adopt, fd, lease.subject))
        elif left:
            self._bind_all(lease, left)
        else:
            await self._bind_host(lease)

    async def _bind_host(self, lease: Lease) -> None:
        infos = await _resolve(lease.endpoint, lease.subject)
        for remaining in reversed(range(_PORT_TRIES)):
            try:
                self._bind_all(lease, infos)
                return
            except ListenError as error:
                # Port 0 on two families: the port the first was given may be taken in the second.
                if lease.endpoint.port or error.errno != errno.EADDRINUSE or not remaining:
                    raise
                lease.close()
                for family, kind, _, _, address in infos:
                    self._ports.pop(_key(lease, family, kind, address), None)

    def _bind_all(self, lease: Lease, infos: list[Any]) -> None:
        port, last = 0, None
        for family, kind, _, _, address in infos:
            key = _key(lease, family, kind, address)
            port = address[1] or port or self._ports.get(key, 0)
            bind = partial(_bind_one, family, kind, (address[0], port, *address[2:]), lease)
            try:
                self._hold(lease, key, bind)
            except ListenError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                last = error  # a name may resolve to an address family that this machine has switched off
                continue
            port = self._held[key].sock.getsockname()[1]
            if not lease.endpoint.port:
                self._ports[key] = port
        if not lease.keys and last is not None:
            raise last

    def _hold(self, lease: Lease, key: Key, bind: Bind) -> None:
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = self._kept(key) or _Held(*bind())
            if self._store is not None and key[0] != "fd":
                self._store.keep(_name(key), held.sock)
        elif held.users.get(lease.tree, lease.path) != lease.path:
            other = held.users[lease.tree]
            text = f"{lease.subject}: service {other!r} does already; give one of them another address"
            raise ListenError(errno.EADDRINUSE, text)
        held.admit()
        held.users[lease.tree] = lease.path
        if key not in lease.keys:
            lease.keys.append(key)
        if held.sock.type == socket.SOCK_STREAM and not (lease.is_inherited and lease.endpoint.backlog == BACKLOG):
            held.sock.listen(lease.endpoint.backlog)  # a changed backlog; who passed a socket has chosen its own

    def _kept(self, key: Key) -> _Held | None:
        """The socket that a process before this one has left in the store, unless it cannot be reached any more."""
        sock = self._store.take(_name(key)) if self._store is not None and key[0] != "fd" else None
        if sock is None:
            return None
        sock.setblocking(False)
        unlink = _nothing
        if sock.family == socket.AF_UNIX:
            path = key[1]
            try:
                made = os.stat(path)
            except OSError:
                sock.close()
                return None
            unlink = partial(_unlink, path, made)
        return _Held(sock, unlink, is_refusing=True)  # it may have a filter: the other was killed


def _name(key: Key) -> str:
    """A key as a text."""
    return "/".join(map(str, (int(key[0]), *key[1:])))


def _key(lease: Lease, family: int, kind: int, address: tuple[Any, ...]) -> Key:
    """By which a bound socket is known."""
    return (family, kind, *(address if lease.endpoint.port else (address[0], "of", lease.path)))


async def _resolve(endpoint: Endpoint, subject: str) -> list[Any]:
    kind = socket.SOCK_STREAM if endpoint.is_stream else socket.SOCK_DGRAM
    loop = asyncio.get_running_loop()
    try:
        infos = await loop.getaddrinfo(endpoint.host or None, endpoint.port, type=kind, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        code = error.errno if isinstance(error, socket.gaierror) else errno.EINVAL
        raise ListenError(code, f"{subject}: host {endpoint.host!r} does not resolve ({error})") from error
    return list(dict.fromkeys(infos))


def _bind_one(family: int, kind: int, where: tuple[Any, ...], lease: Lease) -> tuple[socket.socket, Callable[[], None]]:
    try:
        sock = socket.socket(family, kind)
    except OSError as error:
        raise ListenError(error.errno, f"{lease.subject}: {error.strerror}") from error
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(where)
        if kind == socket.SOCK_STREAM:
            sock.listen(lease.endpoint.backlog)  # only now is a port that another listens on refused
    except OSError as error:
        sock.close()
        _explain(error, where[1], lease.subject)
    return sock, _nothing


def _explain(error: OSError, port: int, subject: str) -> NoReturn:
    cures = {
        errno.EADDRINUSE: "the port is in use; stop what listens there ('ss -lntup' shows it), or choose another port",
        errno.EACCES: "not permitted",
        errno.EADDRNOTAVAIL: "this machine has no such address; 'ip addr' shows those it has",
    }
    cure = cures.get(error.errno or 0, error.strerror or str(error))
    if error.errno == errno.EACCES and 0 < port < 1024:
        cure = "ports below 1024 need rights; choose a higher port, or grant CAP_NET_BIND_SERVICE"
    raise ListenError(error.errno, f"{subject}: {cure}") from error


def _nothing() -> None:
    pass


# -- unix sockets ------------------------------------------------------------------------------------------------------


def _bind_unix(endpoint: Endpoint, subject: str) -> tuple[socket.socket, Callable[[], None]]:
    path = endpoint.path
    _remove_stale(path, subject)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(path)
        made = os.stat(path)
        _set_mode(endpoint, subject)  # before anybody can connect
        sock.listen(endpoint.backlog)
    except OSError as error:
        sock.close()
        what = {
            errno.ENOENT: f"there is no directory {os.path.dirname(path)!r}; make it first",
            errno.EACCES: f"no permission to make a file in {os.path.dirname(path)!r}",
        }.get(error.errno or 0, error.strerror)
        raise ListenError(error.errno, f"{subject}: {what}") from error
    return sock, lambda: _unlink(path, made)


def _set_mode(endpoint: Endpoint, subject: str) -> None:
    if endpoint.mode is not None:
        try:
            os.chmod(endpoint.path, endpoint.mode)
        except OSError as error:
            raise ListenError(error.errno, f"{subject}: cannot set its mode: {error.strerror}") from error


def _remove_stale(path: str, subject: str) -> None:
    try:
        found = os.stat(path)
    except OSError:
        return  # not there, or not to be seen: bind says which
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(
            errno.EADDRINUSE, f"{subject}: a file that is no socket is there; move it, or choose another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            _unlink(path, found)
            return
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            if error.errno not in (errno.EAGAIN, errno.EINPROGRESS):  # its queue is full, so it lives
                raise ListenError(
                    error.errno, f"{subject}: a socket is there, and does not say whose: {error}"
                ) from error
    raise ListenError(errno.EADDRINUSE, f"{subject}: another process listens there; stop it, or choose another path")


def _unlink(path: str, made: os.stat_result) -> None:
    """Remove a socket's file if it is still that socket's: another process may have put its own there."""
    with contextlib.suppress(OSError):
        found = os.stat(path)
        if all(getattr(found, name) == getattr(made, name) for name in ("st_dev", "st_ino", "st_mtime_ns")):
            os.unlink(path)  # the time too, since numbers of inodes are used again


# -- inherited sockets -------------------------------------------------------------------------------------------------


def _adopt(fd: int, subject: str) -> tuple[socket.socket, Callable[[], None]]:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        sock = socket.socket(fileno=os.dup(fd))
    except OSError as error:
        raise ListenError(
            error.errno, f"{subject}: descriptor {fd} is not an open socket; pass a listening one"
        ) from error
    try:
        if sock.type == socket.SOCK_STREAM and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ListenError(errno.EINVAL, f"{subject}: the socket at descriptor {fd} does not listen")
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock, _nothing


def _passed(name: str, subject: str) -> list[int]:
    """The descriptors that systemd passed under a name."""
    passed = inherited.passed()
    found = [fd for known, fd in passed if known == name]
    if not found:
        have = f"it passed {', '.join(sorted({known for known, _ in passed}))}" if passed else "it passed none"
        raise ListenError(
            errno.ENOENT,
            f"{subject}: systemd passed no socket of that name ({have}); "
            f"set FileDescriptorName={name} in the .socket unit",
        )
    return found
