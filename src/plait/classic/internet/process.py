"""Processes: their start, their pipes, and their end.

Rules: a process's end is heard of through a descriptor of the system's (pidfd), or a thread that waits where there is
none; never by asking. `processExited` comes with it, `processEnded` when each pipe is closed too. A program that cannot
be run does not raise: its protocol sees what a shell would show, an error line on descriptor 2 and exit code 1.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zope.interface import implementer

from plait.classic.internet import abstract, error, interfaces, main
from plait.classic.internet.address import _ProcessAddress
from plait.classic.python import log
from plait.classic.python.failure import Failure

READ_SIZE = 2**16
_STANDARD: Mapping[int, Any] = {0: "w", 1: "r", 2: "r"}

reapProcessHandlers: dict[Any, Any] = {}
"""The processes that run, by their ids."""


def set_nonblocking(fd: int) -> None:
    """Let no read or write of this descriptor wait."""
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)


def _write(fd: int, data: bytes) -> Any:
    try:
        return os.write(fd, data)
    except (BlockingIOError, InterruptedError):
        return 0
    except OSError:
        return main.CONNECTION_LOST


class Writer(abstract.FileDescriptor):
    """Our end of a descriptor that the process reads."""

    def __init__(self, reactor: Any, process: Any, name: int, fd: int, watched: bool = True) -> None:
        super().__init__(reactor)
        set_nonblocking(fd)
        self.connected = 1
        self.process = process
        self.name = name
        self.fd = fd
        if watched:  # a pipe whose reader has gone is readable, and that is all that can be read of it
            self.startReading()

    def fileno(self) -> int:
        """Its descriptor."""
        return self.fd

    def writeSomeData(self, data: bytes) -> Any:
        """Write some of it."""
        return _write(self.fd, data)

    def doRead(self) -> Any:
        """The process has closed its end."""
        try:
            os.read(self.fd, 1)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:  # it is the writing end: what can be heard here is its error state
            pass
        return main.CONNECTION_LOST if not self.disconnecting else main.CONNECTION_DONE

    def connectionLost(self, reason: Failure) -> None:
        """Close it, and tell the process."""
        if not self.disconnected:
            super().connectionLost(reason)
            os.close(self.fd)
            self.process.childConnectionLost(self.name, reason)

    def readConnectionLost(self, reason: Failure) -> None:
        """The process has closed its end."""
        self.connectionLost(reason)

    def pauseProducing(self) -> None:
        """It produces nothing."""

    def resumeProducing(self) -> None:
        """It produces nothing."""


class Reader(abstract.FileDescriptor):
    """Our end of a descriptor that the process writes."""

    def __init__(self, reactor: Any, process: Any, name: int, fd: int) -> None:
        super().__init__(reactor)
        set_nonblocking(fd)
        self.connected = 1
        self.process = process
        self.name = name
        self.fd = fd
        self.startReading()

    def fileno(self) -> int:
        """Its descriptor."""
        return self.fd

    def writeSomeData(self, data: bytes) -> Any:
        """Nothing can be written there."""
        return main.CONNECTION_LOST

    def doRead(self) -> Any:
        """Read once."""
        try:
            data = os.read(self.fd, READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as raised:
            return main.CONNECTION_DONE if raised.errno == errno.EIO else main.CONNECTION_LOST  # EIO: end of a pty
        if not data:
            return main.CONNECTION_DONE
        self.process.childDataReceived(self.name, data)
        return None

    def loseConnection(self, *_: Any) -> None:
        """Close, in the loop's next turn."""
        if self.connected and not self.disconnecting:
            self.disconnecting = 1
            self.stopReading()
            self.reactor.callLater(0, self.connectionLost, Failure(main.CONNECTION_DONE))

    def readConnectionLost(self, reason: Failure) -> None:
        """The process has closed its end."""
        self.connectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        """Close it, and tell the process."""
        if not self.disconnected:
            super().connectionLost(reason)
            os.close(self.fd)
            self.process.childConnectionLost(self.name, reason)


class _Ended(abstract.FileDescriptor):
    """The descriptor by which the system tells that a process has ended."""

    def __init__(self, reactor: Any, fd: int, tell: Callable[[], None]) -> None:
        super().__init__(reactor)
        self.connected = 1
        self.fd = fd
        self._tell = tell
        self.startReading()

    def fileno(self) -> int:
        """Its descriptor."""
        return self.fd

    def doRead(self) -> Any:
        """It has ended."""
        self.connectionLost(Failure(main.CONNECTION_DONE))
        self._tell()

    def connectionLost(self, reason: Failure) -> None:
        """Close it."""
        if not self.disconnected:
            super().connectionLost(reason)
            os.close(self.fd)


class _Base:
    """What a process with pipes and one on a terminal have in common: the child, and its end."""

    pid: int | None
    status = -1
    lostProcess = False

    def __init__(self, reactor: Any, protocol: Any) -> None:
        self.reactor = reactor
        self.proto = protocol
        self.pipes: dict[int, Any] = {}

    def _watch(self) -> None:
        assert self.pid is not None
        reapProcessHandlers[self.pid] = self
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # the system has none, or none left
            threading.Thread(target=self._wait, name=f"wait-{self.pid}", daemon=True).start()
        else:
            _Ended(self.reactor, descriptor, self.reapProcess)

    def _wait(self) -> None:
        assert self.pid is not None
        _, status = os.waitpid(self.pid, 0)
        self.reactor.callFromThread(self._exited, status)

    def reapProcess(self) -> None:
        """Ask once whether it has ended."""
        if self.pid is None:
            return
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else has asked: how it ended is not to be known
            pid, status = self.pid, 0
        if pid:
            self._exited(status)

    def _exited(self, status: int) -> None:
        self.status = status
        reapProcessHandlers.pop(self.pid, None)
        self.pid = None
        self.lostProcess = True
        self._tell(self.proto.processExited, self._reason())
        self.maybeCallProcessEnded()

    def _reason(self) -> Failure:
        status = self.status
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return Failure(error.ProcessDone(status))
        if os.WIFSIGNALED(status):
            return Failure(error.ProcessTerminated(None, os.WTERMSIG(status), status))
        return Failure(error.ProcessTerminated(os.WEXITSTATUS(status), None, status))

    def maybeCallProcessEnded(self) -> None:
        """Tell the protocol of the end, if it has come and each pipe is closed."""
        if not self.pipes and self.lostProcess:
            self.lostProcess = False
            self._tell(self.proto.processEnded, self._reason())

    def _tell(self, method: Callable[..., Any], *args: Any) -> None:
        try:
            method(*args)
        except BaseException:
            log.err()

    def _connected(self) -> None:
        self._tell(self.proto.makeConnection, self)

    def signalProcess(self, signalID: Any) -> None:
        """Send a signal: a number, or its name with or without SIG. `ProcessExitedAlready`."""
        if self.pid is None:
            raise error.ProcessExitedAlready()
        if isinstance(signalID, str):
            name = signalID if signalID.startswith("SIG") else f"SIG{signalID}"
            try:
                signalID = signal.Signals[name]
            except KeyError:
                raise ValueError(f"there is no signal {signalID!r}") from None
        try:
            os.kill(self.pid, signalID)
        except ProcessLookupError:
            raise error.ProcessExitedAlready() from None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} pid={self.pid} status={self.status}>"


@implementer(interfaces.IProcessTransport, interfaces.IConsumer, interfaces.IPushProducer)
class Process(_Base):
    """A process with pipes, by its own descriptors' numbers."""

    def __init__(
        self,
        reactor: Any,
        protocol: Any,
        start: Callable[[Mapping[int, int]], int],
        childFDs: Mapping[int, Any],
    ) -> None:
        super().__init__(reactor, protocol)
        ours: dict[int, tuple[type, int]] = {}
        theirs: dict[int, int] = {}
        opened: list[int] = []
        try:
            for name, kind in childFDs.items():
                if kind in ("r", "w"):
                    reading, writing = os.pipe()
                    opened.append(writing if kind == "r" else reading)
                    theirs[name] = opened[-1]
                    ours[name] = (Reader, reading) if kind == "r" else (Writer, writing)
                elif isinstance(kind, int):
                    theirs[name] = kind
                else:
                    raise TypeError(f"a child's descriptor is 'r', 'w' or a number, not {kind!r}")
            self.pid = start(theirs)
        except BaseException:
            for _, fd in ours.values():
                os.close(fd)
            raise
        finally:
            for fd in opened:
                os.close(fd)
        for name, (make, fd) in ours.items():
            self.pipes[name] = make(reactor, self, name, fd)
        self._watch()
        self._connected()

    def childDataReceived(self, name: int, data: bytes) -> None:
        """It wrote to one of its descriptors."""
        self.proto.childDataReceived(name, data)

    def childConnectionLost(self, name: int, reason: Failure) -> None:
        """One pipe is closed."""
        self.pipes.pop(name, None)
        self._tell(self.proto.childConnectionLost, name)
        self.maybeCallProcessEnded()

    def closeChildFD(self, descriptor: int) -> None:
        """Close our end of this descriptor of its, once what was written is out."""
        if descriptor in self.pipes:
            self.pipes[descriptor].loseConnection()

    def closeStdin(self) -> None:
        """Close its standard input, once what was written is out."""
        self.closeChildFD(0)

    def closeStdout(self) -> None:
        """Read its standard output no more."""
        self.closeChildFD(1)

    def closeStderr(self) -> None:
        """Read its standard error no more."""
        self.closeChildFD(2)

    def loseConnection(self) -> None:
        """Close all three."""
        self.closeStdin()
        self.closeStderr()
        self.closeStdout()

    def writeToChild(self, childFD: int, data: Any) -> None:
        """Write to this descriptor of its. KeyError if there is no such pipe."""
        self.pipes[childFD].write(data)

    def write(self, data: Any) -> None:
        """Write to its standard input; dropped when that is closed."""
        if 0 in self.pipes:
            self.pipes[0].write(data)

    def writeSequence(self, seq: Any) -> None:
        """Write several to its standard input."""
        if 0 in self.pipes:
            self.pipes[0].writeSequence(seq)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let this producer write its standard input."""
        if 0 in self.pipes:
            self.pipes[0].registerProducer(producer, streaming)
        else:
            producer.stopProducing()

    def unregisterProducer(self) -> None:
        """No more."""
        if 0 in self.pipes:
            self.pipes[0].unregisterProducer()

    def pauseProducing(self) -> None:
        """Read nothing of what it writes, until resumeProducing."""
        for pipe in list(self.pipes.values()):
            if isinstance(pipe, Reader):
                pipe.stopReading()

    def resumeProducing(self) -> None:
        """Read on."""
        for pipe in list(self.pipes.values()):
            if isinstance(pipe, Reader):
                pipe.startReading()

    def stopProducing(self) -> None:
        """Close all three."""
        self.loseConnection()

    def getHost(self) -> Any:
        """A process has no address: what stands for it."""
        return _ProcessAddress()

    def getPeer(self) -> Any:
        """A process has no address: what stands for it."""
        return _ProcessAddress()


@implementer(interfaces.IProcessTransport, interfaces.IConsumer, interfaces.IPushProducer)
class PTYProcess(_Base, abstract.FileDescriptor):
    """A process on a terminal: what it writes, to whichever descriptor, comes as from descriptor 1."""

    def __init__(self, reactor: Any, protocol: Any, start: Callable[[int], int], usePTY: Any) -> None:
        abstract.FileDescriptor.__init__(self, reactor)
        _Base.__init__(self, reactor, protocol)
        is_given = isinstance(usePTY, (tuple, list))
        master, slave = usePTY[:2] if is_given else pty.openpty()
        try:
            self.pid = start(slave)
        except BaseException:
            if not is_given:
                os.close(master)
            raise
        finally:
            if not is_given:
                os.close(slave)
        set_nonblocking(master)
        self.fd = master
        self.connected = 1
        self.pipes[1] = self
        self.startReading()
        self._watch()
        self._connected()

    def fileno(self) -> int:
        """The terminal's descriptor."""
        fd: int = self.fd
        return fd

    def writeSomeData(self, data: bytes) -> Any:
        """Type some of it."""
        return _write(self.fd, data)

    def doRead(self) -> Any:
        """Read once."""
        try:
            data = os.read(self.fd, READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:  # the last of its descriptors on the terminal is closed
            return main.CONNECTION_LOST
        self.proto.childDataReceived(1, data)
        return None

    def connectionLost(self, reason: Failure) -> None:
        """The terminal is closed."""
        if not self.disconnected:
            abstract.FileDescriptor.connectionLost(self, reason)
            os.close(self.fd)
            self.pipes.clear()
            self.maybeCallProcessEnded()

    def readConnectionLost(self, reason: Failure) -> None:
        """The terminal is closed."""
        self.connectionLost(reason)

    def closeStdin(self) -> None:
        """A terminal is not closed by halves."""

    def closeStdout(self) -> None:
        """A terminal is not closed by halves."""

    def closeStderr(self) -> None:
        """A terminal is not closed by halves."""

    def closeChildFD(self, descriptor: int) -> None:
        """A terminal is not closed by halves."""
        raise NotImplementedError("a process on a terminal has no descriptors of its own to close")

    def writeToChild(self, childFD: int, data: Any) -> None:
        """Type it."""
        self.write(data)

    def __repr__(self) -> str:
        return _Base.__repr__(self)


# -- the start --------------------------------------------------------------------------------------------------


def _text(value: Any, what: str) -> bytes:
    if not isinstance(value, (str, bytes)):
        raise TypeError(f"{what} is text or bytes, not {value!r}")
    data = os.fsencode(value)
    if b"\0" in data:
        raise TypeError(f"{what} cannot hold a null character: {value!r}")
    return data


def spawn(
    reactor: Any,
    protocol: Any,
    executable: Any,
    args: Sequence[Any],
    env: Mapping[Any, Any] | None,
    path: Any,
    uid: int | None,
    gid: int | None,
    usePTY: Any,
    childFDs: Mapping[int, Any] | None,
) -> Any:
    """Start a program; its transport. TypeError for arguments and variables that no process can be given."""
    if usePTY and childFDs is not None:
        raise ValueError("Using childFDs is not supported with usePTY.")
    arguments = [_text(argument, "an argument") for argument in args]
    variables = os.environb if env is None else {_text(k, "a name"): _text(v, "a value") for k, v in env.items()}
    child = _Child(executable, arguments, dict(variables), path or None, uid, gid)
    reactor._bind()
    if usePTY:
        return PTYProcess(reactor, protocol, child.start_on_terminal, usePTY)
    return Process(reactor, protocol, child.start, _STANDARD if childFDs is None else childFDs)


class _Child:
    """What a process is started with."""

    def __init__(
        self, executable: Any, args: list[bytes], env: dict[bytes, bytes], path: Any, uid: int | None, gid: int | None
    ) -> None:
        self._executable = executable
        self._args = args or [os.fsencode(executable)]
        self._env = env
        self._path = path
        self._uid = uid
        self._gid = gid

    def start(self, fds: Mapping[int, int]) -> int:
        """Run it with these descriptors, theirs to ours; its process id."""
        standard = {name: fds.get(name, -1) for name in (0, 1, 2)}
        if fds.keys() == standard.keys():
            return self._popen(standard, _heed_signals if _ignored_signals() else None)

        def prepare() -> None:
            _arrange(fds)
            _heed_signals()

        return self._popen(standard, prepare, close_fds=False)

    def start_on_terminal(self, slave: int) -> int:
        """Run it in a session of its own, on this terminal; its process id."""

        def take_terminal() -> None:
            import termios

            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            _heed_signals()

        return self._popen({0: slave, 1: slave, 2: slave}, take_terminal, start_new_session=True)

    def _popen(self, standard: Mapping[int, int], prepare: Callable[[], None] | None, **how: Any) -> int:
        how["preexec_fn"] = prepare
        fds = {name: fd if fd >= 0 else subprocess.DEVNULL for name, fd in standard.items()}
        if self._uid is not None:
            how |= {"user": self._uid, "extra_groups": []}
        if self._gid is not None:
            how["group"] = self._gid

        def popen(executable: Any, args: list[Any], path: Any, env: Any) -> int:
            child = subprocess.Popen(
                args, executable=executable, cwd=path, env=env, stdin=fds[0], stdout=fds[1], stderr=fds[2], **how
            )
            child.returncode = 0  # we wait for it ourselves
            return int(child.pid)

        try:
            return popen(self._executable, self._args, self._path, self._env)
        except (OSError, subprocess.SubprocessError) as raised:
            said = f"cannot run {os.fsdecode(self._executable)!r}: {raised}\n"
            code = f"import sys; sys.stderr.write({said!r}); raise SystemExit(1)"
            how.pop("user", None)
            how.pop("group", None)
            how.pop("extra_groups", None)
            return popen(sys.executable, [sys.executable, "-I", "-S", "-c", code], None, dict(os.environ))


def _ignored_signals() -> list[int]:
    """Those that this process ignores, and a program that it starts should not, but for those that subprocess resets
    itself."""
    own = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, getattr(signal, "SIGXFSZ", signal.SIGPIPE)}
    return [number for number in signal.valid_signals() - own if signal.getsignal(number) is signal.SIG_IGN]


def _heed_signals() -> None:
    """In the child: what was ignored is not."""
    for number in _ignored_signals():
        signal.signal(number, signal.SIG_DFL)


def _arrange(fds: Mapping[int, int]) -> None:
    """In the child: make our descriptors theirs, and close those of the first three that it is not to have."""
    highest = max([2, *fds, *fds.values()]) + 1
    kept = {name: fcntl.fcntl(fd if name > 2 else name, fcntl.F_DUPFD, highest) for name, fd in fds.items()}
    for name, fd in kept.items():
        os.dup2(fd, name)
        os.close(fd)
    for fd in {0, 1, 2, *map(int, os.listdir("/dev/fd"))} - fds.keys():
        try:
            if fd <= 2 or os.get_inheritable(fd):  # the others close themselves
                os.close(fd)
        except OSError:  # it was the listing's own
            pass


__all__ = ["PTYProcess", "Process"]
