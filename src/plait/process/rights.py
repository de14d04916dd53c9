"""Giving up root: another user, its groups, no capabilities, and a root directory of its own.

Rules: who the user is and where the directory leads is found out before anything is given up, while the system's
databases can still be read. Then it is done in the one order that works: root directory, groups, user, capabilities. It
cannot be taken back, and that is tried: a process that could become root again ends rather than go on. Nothing of the
application may be imported before. Programs that the process starts, and that the system gives rights of their own
(sendmail), keep those.
Source: credentials(7), capabilities(7), chroot(2).
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import struct
from dataclasses import dataclass

from plait.errors import UsageError

_PR_CAP_AMBIENT, _CLEAR_ALL = 47, 4
_CAPABILITY_VERSION = 0x20080522


@dataclass(frozen=True, slots=True)
class Rights:
    """Whom a process becomes: numbers, as the system takes them."""

    user: int
    group: int
    groups: tuple[int, ...]
    root: str | None = None

    @classmethod
    def of(cls, user: str | None, group: str | None, root: str | None = None) -> Rights:
        """From names, or numbers as text; without a group the user's own. UsageError, also if we may not do it."""
        if os.geteuid() != 0:
            raise UsageError("--user, --group and --chroot take root; start as root, or leave them out")
        if root is not None and not os.path.isdir(root):
            raise UsageError(f"--chroot {root!r} is no folder")
        entry = _user(user) if user is not None else None
        number = _group(group) if group is not None else None
        if user is not None and entry is None:
            if number is None:
                raise UsageError(f"--user {user} is in no database, so it has no group of its own; add --group")
            return cls(int(user), number, (number,), root)
        uid, gid = (entry.pw_uid, entry.pw_gid) if entry is not None else (os.getuid(), os.getgid())
        gid = number if number is not None else gid
        groups = tuple(os.getgrouplist(entry.pw_name, gid)) if entry is not None else (gid,)
        return cls(uid, gid, groups, root)

    def drop(self) -> None:
        """Become that, for good. OSError says what could not be done; the process must end then."""
        if self.root is not None:
            os.chroot(self.root)
            os.chdir("/")
        os.setgroups(self.groups)
        os.setresgid(self.group, self.group, self.group)
        if self.user == 0:
            return
        os.setresuid(self.user, self.user, self.user)
        _drop_capabilities()
        self._check()

    def _check(self) -> None:
        try:
            os.setresuid(0, 0, 0)
        except PermissionError:
            return
        raise PermissionError("rights were given up, and could be taken back")


def _user(text: str) -> pwd.struct_passwd | None:
    """None for a number that nobody has."""
    try:
        return pwd.getpwuid(int(text)) if text.isdecimal() else pwd.getpwnam(text)
    except KeyError:
        if text.isdecimal():
            return None
        raise UsageError(f"there is no user {text!r}") from None


def _group(text: str) -> int:
    try:
        return int(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
    except KeyError:
        raise UsageError(f"there is no group {text!r}") from None


def _drop_capabilities() -> None:
    """Also those that setresuid leaves, as where a process is told to keep them, and those it could give on."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    if libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0) != 0 or libc.capset(header, bytes(24)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capabilities cannot be given up: {os.strerror(number)}")
