"""The runtime directory, in which the control sockets of running applications are found by name and number.

Rules:
- It is the first of: what the operator names; systemd's RUNTIME_DIRECTORY; `plait` in XDG_RUNTIME_DIR; /run/plait for
  root; `plait-UID` in the folder for temporary files. It is made for its user alone, and one that another user owns,
  or may write to, is refused.
- Who has made the folder removes it at its end, if no other application is there by then.
- A socket is `NAME-PID.sock`, for its user alone. A file whose process was killed stays until another application
  starts there; whoever looks for an application passes it over, as nobody listens.
- A path may be longer than the address of a unix socket: it is reached through a descriptor of its folder then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from plait.errors import ControlError

_FILE = re.compile(r"(?P<name>.+)-(?P<pid>[0-9]+)\.sock")
_LONGEST_NAME = 64
"""Of an application's name that much is in the name of its file, which must fit into an address."""
_LONGEST_ADDRESS = 100
BACKLOG = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where one application is, or was, to be found."""

    folder: Path
    name: str
    pid: int

    @property
    def path(self) -> Path:
        """Of its socket."""
        return self.folder / f"{self.name}-{self.pid}.sock"

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"

    @classmethod
    def own(cls, folder: Path, name: str) -> Place:
        """This process's."""
        return cls(folder, name[:_LONGEST_NAME], os.getpid())

    def answers_to(self, named: str) -> bool:
        """Whether this is what an operator calls by name or number."""
        return named in (self.name, str(self.pid)) or named[:_LONGEST_NAME] == self.name


def runtime_folder(environ: Mapping[str, str], named: str | os.PathLike[str] | None = None) -> Path:
    """The runtime directory by the module's rules; it need not exist."""
    if named is not None:
        return Path(named).absolute()
    if of_systemd := environ.get("RUNTIME_DIRECTORY"):
        return Path(of_systemd.split(":")[0])
    if of_user := environ.get("XDG_RUNTIME_DIR"):
        return Path(of_user, "plait")
    if os.geteuid() == 0:
        return Path("/run/plait")
    return Path(environ.get("TMPDIR") or tempfile.gettempdir(), f"plait-{os.geteuid()}")


def make(folder: Path) -> bool:
    """See that the folder is there; whether it was made. ControlError if it cannot be, or is not safe."""
    try:
        is_new = not folder.exists()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_safe(folder)
    except OSError as error:
        raise ControlError(f"runtime directory {str(folder)!r} cannot be had: {error.strerror}") from error
    return is_new


def check_safe(folder: Path) -> None:
    """ControlError if others could put sockets of their own there. OSError if it cannot be looked at."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise ControlError(f"runtime directory {str(folder)!r} is no directory; name another")
    ours = os.geteuid()
    if ours and found.st_uid not in (ours, 0):
        raise ControlError(f"runtime directory {str(folder)!r} belongs to user {found.st_uid}; name another")
    if found.st_mode & 0o022:
        raise ControlError(f"runtime directory {str(folder)!r} may be written to by others; chmod go-w it")


def places(folder: Path) -> list[Place]:
    """Where applications are, or were, by name and number; none if the folder is not there. ControlError."""
    try:
        check_safe(folder)
        found = [match for name in os.listdir(folder) if (match := _FILE.fullmatch(name))]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ControlError(f"runtime directory {str(folder)!r} cannot be read: {error.strerror}") from error
    return sorted((Place(folder, one["name"], int(one["pid"])) for one in found), key=lambda p: (p.name, p.pid))


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    fd = os.open(path.parent, getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC)
    try:
        # The address alone is short; a file's name that is too long is told by the system.
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


def connected(place: Place, timeout: float) -> socket.socket:
    """A connection to whoever listens there. OSError: ConnectionRefusedError, FileNotFoundError if nobody does."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        with _address(place.path) as address:
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def listening(place: Place) -> socket.socket:
    """A socket that listens there, for this user alone. OSError if it cannot; ControlError if somebody else does."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _bind(sock, place)
        os.chmod(place.path, 0o600)  # before it listens, so nobody has come
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, place: Place) -> None:
    with _address(place.path) as address:
        try:
            sock.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if not _is_abandoned(place):
                raise ControlError(
                    f"control socket {str(place.path)!r} is another process's, in a container perhaps; "
                    "name another runtime directory"
                ) from error
            place.path.unlink(missing_ok=True)
            sock.bind(address)


def _is_abandoned(place: Place) -> bool:
    try:
        connected(place, timeout=1.0).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except OSError:
        return False  # somebody who is slow
    return False


def clean(folder: Path) -> None:
    """Remove the files of processes that are gone."""
    for place in places(folder):
        if place.pid != os.getpid() and not _lives(place.pid) and _is_abandoned(place):
            with contextlib.suppress(OSError):
                place.path.unlink()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
