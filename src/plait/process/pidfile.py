"""The file that holds the process's number, for scripts and for those who start two of a kind by mistake.

Rules: the file is locked for as long as the process lives, so a number in it that is stale, or that another program has
got meanwhile, keeps nobody from starting: what counts is the lock, which the system takes back whatever way the process
ends. The lock is the process's own (fcntl): a forked child does not have it. It is removed at the end, but only if it
is still ours. Who reads it sees a number and a newline, or, for a moment at the start, nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct

from plait.errors import UsageError

_FLOCK = "hhqqi4x"
"""struct flock of Linux on 64 bits: type, whence, start, length, pid."""


class PidFile:
    """Taken when it is made, until `close`. UsageError if another process has it, or if it cannot be written."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        self._owner = os.getpid()
        try:
            self._fd = self._locked()
        except OSError as error:
            raise UsageError(f"pidfile {self.path!r} cannot be written: {error.strerror}") from error
        found = os.read(self._fd, 32).decode("ascii", "replace").strip()
        self.stale = f"pidfile {self.path!r} was left behind by process {found}, which has ended" if found else ""
        """What is to be said of the file that was there."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % self._owner, 0)

    def _locked(self) -> int:
        """The file, locked; again if whoever had it has removed it just now."""
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(fd, self.path):
                    return fd
            except BlockingIOError:
                holder = self._holder(fd)
                os.close(fd)
                raise UsageError(
                    f"pidfile {self.path!r} is held by {holder}, which is running; stop it, or name another file"
                ) from None
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _holder(self, fd: int) -> str:
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        with contextlib.suppress(OSError, struct.error):
            pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, wanted))[4]
            if pid > 0:  # it is 0 where the process is out of our sight, in another container
                return f"process {pid}"
        return "another process"

    def close(self) -> None:
        """Remove it, if it is ours; legal twice."""
        if self._fd < 0 or os.getpid() != self._owner:
            return
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            if _is_at(fd, self.path):
                os.unlink(self.path)
        os.close(fd)


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
