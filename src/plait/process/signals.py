"""The watchdog: a thread that hears signals whatever the main thread is doing, and sees that a stop ends.

Rules:
- The thread is blocked on a socket that the interpreter writes every signal to (`signal.set_wakeup_fd`); it never
  polls. So a signal is heard while the main thread is in C that has released the GIL, where Python's own handlers
  wait. Event loops set a wake-up descriptor of their own; what is heard is passed on to it.
- The first TERM or INT asks for a stop in order, and arms two ends for it: this thread ends the process with exit
  code 70 if `timeout` passes, and `faulthandler` does a little later, for the case that the GIL is held and no thread
  can run. A second one ends the process at once, with 128 + its number.
- All other signals that Plait knows are handed to the loop, and mean what the runner says they mean.
- An end that is forced says what was still there, and runs the last rites (unix sockets are unlinked), each within
  a bounded time: a log that is stuck cannot hold it up.
- Before there is a loop, TERM and INT interrupt what is being imported, and others wait.
- Everything is put back by `close`. A forked child hears nothing.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

log = logging.getLogger("plait")

STOPPING = (signal.SIGTERM, signal.SIGINT)
OTHERS = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU") if hasattr(signal, name)
)
HEARD = frozenset((*STOPPING, *OTHERS))

DID_NOT_STOP = 70
STOP_TIMEOUT = 25.0
"""Until an application says what its own is."""
MARGIN = 2.0
"""How much later than the application itself this thread gives up; and faulthandler again later than this thread."""
ANSWER_TIMEOUT = 2.0
"""How long the loop may leave a signal unanswered before people are told what it is doing instead."""
LAST_WORDS_TIMEOUT = 1.0
"""How long each step of a forced end may take."""

Deliver = Callable[[signal.Signals], None]


class Interrupted(KeyboardInterrupt):
    """TERM or INT came before there was a loop to stop; raised in the main thread."""


class Watchdog:
    """Hears signals from its making, in the main thread, until `close`."""

    def __init__(self) -> None:
        self.timeout = STOP_TIMEOUT
        """Seconds from the first TERM or INT to the end of the process."""
        self.last_rites: list[Callable[[], None]] = []
        """What must be done before a forced end; each is tried once."""
        self.still_there: Callable[[], str] = str
        """What has not stopped yet, in words; called in the watchdog's thread."""
        self.on_overdue: Callable[[str], None] = _nothing
        """Called before a stop that takes too long is forced, with what was there and the stacks; in its thread."""
        self.stop_asked: signal.Signals | None = None
        """The first TERM or INT."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deliver: Deliver | None = None
        self._pending: list[signal.Signals] = []
        self._answered = threading.Event()
        self._interruptible = False
        self._next: int = -1
        """The wake-up descriptor of whoever had set one before us; it hears what we hear."""
        self._ours, self._heard = socket.socketpair()
        self._ours.setblocking(False)
        self._handlers = {one: signal.signal(one, self._handle) for one in HEARD}
        self._found = signal.set_wakeup_fd(self._ours.fileno(), warn_on_full_buffer=False)
        self._next = self._found
        self._thread = threading.Thread(target=self._listen, name="plait-signals", daemon=True)
        _here.append(self)
        self._thread.start()

    # -- in the main thread ------------------------------------------------------------------------------------------

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within, a TERM or INT raises Interrupted, as nothing can be stopped in order yet."""
        self._interruptible = True
        try:
            if self.stop_asked is not None:
                raise Interrupted
            yield
        finally:
            self._interruptible = False

    def attach(self, deliver: Deliver) -> None:
        """From now on the running loop gets the signals, by `deliver`, and first those that have waited."""
        self._take_over()
        with self._lock:
            self._loop, self._deliver = asyncio.get_running_loop(), deliver
            pending, self._pending = self._pending, []
        for one in pending:
            self._loop.call_soon(self._answer, one)

    def detach(self) -> None:
        """The loop is about to end, and gets its own wake-up descriptor back. Signals are still heard."""
        with self._lock:
            self._loop = self._deliver = None
        if self._next != self._found:
            signal.set_wakeup_fd(self._next, warn_on_full_buffer=False)
            self._next = self._found

    def unlooped(self) -> None:
        """The loop has ended; whatever it did to the wake-up descriptor is undone."""
        self._take_over()
        self._next = self._found

    def close(self) -> None:
        """Put back what was there before, and end the thread."""
        for one, handler in self._handlers.items():
            signal.signal(one, handler if handler is not None else signal.SIG_DFL)
        before = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(self._found if before in (self._ours.fileno(), -1) else before)
        if self.stop_asked is not None:
            faulthandler.cancel_dump_traceback_later()
        self._ours.send(b"\0")
        self._thread.join()
        self._ours.close()
        self._heard.close()
        _here.remove(self)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Python's handler: runs when the main thread next can. The thread has heard the signal already, unless
        somebody else has set a wake-up descriptor since; then it is taken back.
        """
        if self._take_over():
            with suppress(BlockingIOError):
                self._ours.send(bytes([number]))
        if self._interruptible and number in STOPPING:
            self._interruptible = False
            raise Interrupted

    def _take_over(self) -> bool:
        """Whether the wake-up descriptor was somebody else's, who now hears through us."""
        ours = self._ours.fileno()
        before = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        if before == ours:
            return False
        self._next = before
        return True

    def _answer(self, one: signal.Signals) -> None:
        """On the loop."""
        self._answered.set()
        if self._deliver is not None:
            self._deliver(one)

    # -- in the watchdog's thread ------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while True:
            try:
                data = self._heard.recv(64)
            except TimeoutError:
                self._overdue()
                continue
            self._pass_on(data)
            for number in data:
                if number == 0:
                    return
                if number in HEARD:
                    self._hear(signal.Signals(number))
            self._set_alarm()

    def _pass_on(self, data: bytes) -> None:
        if self._next >= 0:
            with suppress(OSError):  # full, or closed meanwhile: a loop that is woken already, or gone
                os.write(self._next, data.replace(b"\0", b""))

    def _hear(self, one: signal.Signals) -> None:
        if one in STOPPING:
            if self.stop_asked is not None:
                self._end(128 + one, f"{one.name} again: forced to end{self._what_is_there()}")
            self.stop_asked = one
            self._since = time.monotonic()
            self._answered.clear()
            seconds = self.timeout + 2 * MARGIN
            faulthandler.dump_traceback_later(seconds, exit=True, file=2)
        with self._lock:
            if self._loop is None:
                self._pending.append(one)
                return
            with suppress(RuntimeError):  # the loop was closed without a word
                self._loop.call_soon_threadsafe(self._answer, one)

    def _set_alarm(self) -> None:
        """The socket's time-out is the thread's one clock; without a stop it waits for ever."""
        if self.stop_asked is None:
            return
        left = self._since + self.timeout + MARGIN - time.monotonic()
        if not self._answered.is_set() and self._loop is not None:
            left = min(left, self._since + ANSWER_TIMEOUT - time.monotonic())
        self._heard.settimeout(max(left, 0.001))

    def _overdue(self) -> None:
        assert self.stop_asked is not None
        if time.monotonic() - self._since >= self.timeout + MARGIN:
            text = f"did not stop within {self.timeout:g} s{self._what_is_there()}\n{stacks()}"
            _within(LAST_WORDS_TIMEOUT, self.on_overdue, text)
            self._end(DID_NOT_STOP, text)
        if not self._answered.is_set():
            self._answered.set()
            name = self.stop_asked.name
            _within(LAST_WORDS_TIMEOUT, log.warning, "%s: the loop does not answer; %s", name, _main_thread_at())
        self._set_alarm()

    def _what_is_there(self) -> str:
        words: list[str] = []
        _within(LAST_WORDS_TIMEOUT, lambda: words.append(self.still_there()))
        return f"; {words[0]}" if words and words[0] else ""

    def _end(self, code: int, text: str) -> None:
        if not _within(LAST_WORDS_TIMEOUT, log.critical, "%s", text):
            _within(LAST_WORDS_TIMEOUT, faulthandler.dump_traceback, 2)
        for rite in self.last_rites:
            _within(LAST_WORDS_TIMEOUT, rite)
        _within(LAST_WORDS_TIMEOUT, flush)
        os._exit(code)


# -- forked children ---------------------------------------------------------------------------------------------------

_here: list[Watchdog] = []
_masks: dict[int, set[int]] = {}


def _before_fork() -> None:
    """A signal that reaches the child before its handlers are put back must wait: it would be written to our socket,
    and be lost to the child.
    """
    if _here:
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)


def _in_parent() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_child() -> None:
    """A forked child's signals are its own."""
    for watchdog in _here:
        signal.set_wakeup_fd(-1)
        for one, handler in watchdog._handlers.items():
            signal.signal(one, handler if handler is not None else signal.SIG_DFL)
    _here.clear()
    _in_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)


# -- last words --------------------------------------------------------------------------------------------------------


def flush() -> None:
    """Write out what waits in buffers: those of logging's handlers, stdout and stderr."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()


def _within(timeout: float, call: Callable[..., Any], *args: Any) -> bool:
    """Whether the call came back in time. It runs in a thread of its own, which is left behind if not."""
    thread = threading.Thread(target=_quietly, args=(call, *args), name="plait-last-words", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no more threads
        _quietly(call, *args)
        return True
    thread.join(timeout)
    return not thread.is_alive()


def _nothing(_: str) -> None:
    pass


def _quietly(call: Callable[..., Any], *args: Any) -> None:
    try:
        call(*args)
    except Exception:
        log.exception("%r failed at a forced end", call)


def _main_thread_at() -> str:
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return "its thread has ended"
    where = traceback.extract_stack(frame)[-1]
    return f"it is at {where.filename}:{where.lineno} ({where.name})"


def stacks() -> str:
    """Where every thread is, for people."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            where = "".join(traceback.format_stack(frame)).rstrip("\n")
            parts.append(f"thread {names.get(ident, ident)!r}:\n{where}")
    return "\n".join(parts)
