"""What a program holds at one moment: tasks, timers, threads, descriptors, child processes.

Rules: to look is cheap, some hundred microseconds, for it is done twice a test; to say what a thing is may cost more,
for it is done only when one was left. What an event loop makes for itself when it likes is not the program's: its idle
threads, the sockets by which uvloop hears of signals, and the descriptor that libuv keeps in reserve.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from plait._kernel.incarnation import where

_POSIX = os.name == "posix"
_LINUX = sys.platform == "linux"
_LIBRARY = os.path.dirname(threading.__file__)

REST = 0.01

Descriptor = tuple[int, str]
"""Its number, and what the system says it is."""


class Holdings:
    """What is held now; with a loop, also what it holds. `since` gives what another moment did not have, in words."""

    __slots__ = ("children", "descriptors", "loop", "tasks", "threads", "timers")

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop
        self.tasks = asyncio.all_tasks(loop) if loop is not None else set()
        self.timers = timers(loop) if loop is not None else {}
        self.threads = busy_threads(loop)
        self.descriptors = descriptors()
        self.children = children()

    def since(self, before: Holdings) -> tuple[list[str], list[str]]:
        """What has come since `before`: of the loop, and of the system, which may take a moment to be rid of it."""
        mine = asyncio.current_task() if self.loop is not None else None
        tasks = sorted(self.tasks - before.tasks - {mine}, key=lambda task: task.get_name())
        of_loop = [f"task {task.get_name()!r} at {where(task)}" for task in tasks]
        of_loop += [f"timer {handle!r}" for key, handle in self.timers.items() if key not in before.timers]
        threads = sorted(filter(_lasts, self.threads - before.threads), key=lambda thread: thread.name)
        of_system = [thread_text(thread) for thread in threads]
        of_system += [descriptor_text(*one) for one in self._descriptors(before)]
        of_system += [child_text(pid) for pid in self.children - before.children]
        return of_loop, of_system

    def _descriptors(self, before: Holdings) -> list[Descriptor]:
        new = sorted(self.descriptors - before.descriptors)
        if self.loop is None or not is_uvloop(self.loop):
            return new
        own = [thing.fileno() for thing in gc.get_referents(self.loop) if isinstance(thing, socket.socket)]
        reserve = [one for one in new if one[1] == os.devnull][:1]
        return [one for one in new if one not in reserve and one[0] not in own]


def is_uvloop(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether it stands on libuv."""
    return type(loop).__module__.partition(".")[0] == "uvloop"


# -- of the loop -----------------------------------------------------------------------------------------------------


def timers(loop: asyncio.AbstractEventLoop) -> dict[int, asyncio.TimerHandle]:
    """The timers that are set, by identity: of asyncio's loops, and of uvloop's, which shows them to the collector."""
    handles: Iterable[Any] = getattr(loop, "_scheduled", None) or ()
    if is_uvloop(loop):
        sets = [thing for thing in gc.get_referents(loop) if type(thing) is set]
        handles = [thing for things in sets for thing in things if type(thing).__name__ == "TimerHandle"]
    return {id(handle): handle for handle in handles if not handle.cancelled()}


def busy_threads(loop: asyncio.AbstractEventLoop | None) -> set[threading.Thread]:
    """All but those of the loop's default executor that have nothing to do."""
    threads = set(threading.enumerate())
    for pool in _pools(loop):
        threads -= pool._threads - _at_work(pool)
    return threads


def let_rest(loop: asyncio.AbstractEventLoop) -> None:
    """Give threads whose function has just returned, and been seen to, the moment until they wait for another."""
    end = time.monotonic() + REST
    while any(map(_at_work, _pools(loop))) and time.monotonic() < end:
        time.sleep(REST / 50)


def _pools(loop: asyncio.AbstractEventLoop | None) -> set[ThreadPoolExecutor]:
    """The loop's default executor; uvloop shows it to the collector alone."""
    found = [getattr(loop, "_default_executor", None), *gc.get_referents(loop)] if loop is not None else []
    return {pool for pool in found if isinstance(pool, ThreadPoolExecutor)}


def _at_work(pool: ThreadPoolExecutor) -> set[Any]:
    """Its threads that call a function; all of them if one has yet to take the function it is to call."""
    if pool._idle_semaphore._value >= len(pool._threads) and pool._work_queue.empty():
        return set()
    frames = sys._current_frames()
    tops = {thread: frames.get(thread.ident or 0) for thread in pool._threads}
    calling = {thread for thread, top in tops.items() if top is not None and top.f_code.co_name != "_worker"}
    return calling or set(pool._threads)


def _lasts(thread: threading.Thread) -> bool:
    """Whether it is one that somebody started, and has not ended."""
    return thread.is_alive() and not isinstance(thread, threading._DummyThread)


# -- of the system ---------------------------------------------------------------------------------------------------


def thread_text(thread: threading.Thread) -> str:
    """Its name, and the line it is at: the innermost that is not the standard library's, if there is one."""
    innermost = frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and os.path.dirname(frame.f_code.co_filename).startswith(_LIBRARY):
        frame = frame.f_back
    frame = frame or innermost
    place = f" at {frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_qualname})" if frame else ""
    return f"thread {thread.name!r}{place}"


def descriptors() -> set[Descriptor]:
    """The open ones; standard input, output and error are whose the program is, pytest's for one."""
    found = set()
    for name in set(os.listdir("/dev/fd") if _POSIX else ()) - {"0", "1", "2"}:
        with contextlib.suppress(OSError):  # that of the listing itself is closed by now
            found.add((int(name), _link(name)))
    return found


def _link(name: str) -> str:
    if _LINUX:
        return os.readlink(f"/proc/self/fd/{name}")
    status = os.fstat(int(name))
    return f"{stat.filemode(status.st_mode)[0]}:[{status.st_dev}:{status.st_ino}]"


def descriptor_text(number: int, link: str) -> str:
    """What it is: a file's path, a socket's kind and addresses."""
    what = link
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.fstat(number).st_mode):
            with socket.socket(fileno=os.dup(number)) as sock:
                what = f"socket {_KINDS.get((sock.family, sock.type), link)} {_address(sock)}"
    return f"descriptor {number}: {what}"


_KINDS = {
    (socket.AF_INET, socket.SOCK_STREAM): "tcp",
    (socket.AF_INET6, socket.SOCK_STREAM): "tcp",
    (socket.AF_INET, socket.SOCK_DGRAM): "udp",
    (socket.AF_INET6, socket.SOCK_DGRAM): "udp",
    (socket.AF_UNIX, socket.SOCK_STREAM): "unix",
    (socket.AF_UNIX, socket.SOCK_DGRAM): "unix datagram",
}


def _address(sock: socket.socket) -> str:
    own = _host_port(sock.getsockname())
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return f"{own}, listening"
    with contextlib.suppress(OSError):
        return f"{own}, connected to {_host_port(sock.getpeername())}"
    return own


def _host_port(address: Any) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address) or "without a name"


def children() -> frozenset[int]:
    """The processes that are this one's children, ended ones that nobody waited for among them; on POSIX."""
    if not _POSIX:
        return frozenset()
    if hasattr(os, "waitid"):  # the short way to know that there are none
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return frozenset()
    tracker = sys.modules.get("multiprocessing.resource_tracker")  # lives as long as the program, on purpose
    return frozenset(_children()) - {tracker._resource_tracker._pid if tracker is not None else None}


def _children() -> Iterator[int]:
    if not _LINUX:
        yield from map(int, _output("pgrep", "-P", str(os.getpid())).split())
        return
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
            if int(file.read().rpartition(")")[2].split()[1]) == os.getpid():
                yield int(name)


def child_text(pid: int) -> str:
    """Its number and command line."""
    return f"child process {pid}: {_command(pid) or 'ended, and nobody waited for it'}"


def _command(pid: int) -> str:
    if not _LINUX:
        return _output("ps", "-o", "args=", "-p", str(pid)).strip()
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
