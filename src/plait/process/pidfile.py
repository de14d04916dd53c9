"""The file that holds the process's number, for scripts and for those who start two of a kind by mistake.

Rules: the file is locked for as long as the process lives, so a number in it that is stale, or that another program has
got meanwhile, keeps nobody from starting: what counts is the lock, which the system takes back whatever way the process
ends. A forked child lets go of it at once. The file is removed at the end, but only if it is still ours. Who reads it
sees a number and a newline, or, for a moment at the start, nothing.
(The lock is flock(2): those of fcntl(2) end when the process closes the file anywhere else, after reading it, say.)
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from plait.errors import UsageError


class PidFile:
    """Taken when it is made, until `close`. UsageError if another process has it, or if it cannot be written."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        try:
            self._fd = self._locked()
        except OSError as error:
            raise UsageError(f"pidfile {self.path!r} cannot be written: {error.strerror}") from error
        found = _number(self._fd)
        self.stale = f"pidfile {self.path!r} was left behind by process {found}, which has ended" if found else ""
        """What is to be said of the file that was there."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
        _here.append(self)

    def _locked(self) -> int:
        """The file, locked; again if whoever had it has removed it just now."""
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(fd, self.path):
                    return fd
            except BlockingIOError:
                holder = f"process {_number(fd)}".strip()
                os.close(fd)
                raise UsageError(
                    f"pidfile {self.path!r} is held by {holder}, which is running; stop it, or name another file"
                ) from None
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def close(self) -> None:
        """Remove it, if it is ours; legal twice."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            if _is_at(self._fd, self.path):
                os.unlink(self.path)
        _here.remove(self)
        self._let_go()

    def _let_go(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)


def _number(fd: int) -> str:
    return os.pread(fd, 32, 0).decode("ascii", "replace").strip()


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


_here: list[PidFile] = []


def _in_child() -> None:
    """The lock lasts as long as anybody has the file open."""
    while _here:
        _here.pop()._let_go()


os.register_at_fork(after_in_child=_in_child)
