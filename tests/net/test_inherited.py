"""Sockets that systemd passed: what the environment says of them, and to whom."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from plait.net import inherited


@pytest.fixture(autouse=True)
def _taken() -> Iterator[None]:
    """What a process has taken is its own for good; here it is put back."""
    before = list(inherited._taken)
    yield
    inherited._taken[:] = before


def told(**more: str) -> dict[str, str]:
    """An environment with sockets for this process."""
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "web::web", "HOME": "/", **more}


def test_what_is_taken_is_known_and_gone_from_the_environment() -> None:
    """Names may be missing or given twice; descriptors count from 3."""
    environ = told()
    inherited.take(environ)
    assert inherited.passed() == (("web", 3), ("unknown", 4), ("web", 5))
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize("more", [{"LISTEN_PID": "1"}, {"LISTEN_FDS": "many"}, {"LISTEN_FDS": "0"}])
def test_what_is_another_process_s_or_nonsense_is_nothing(more: dict[str, str]) -> None:
    """A child that inherited the variables was passed nothing."""
    environ = told(**more)
    inherited.take(environ)
    assert inherited.passed() == ()
    assert environ == {"HOME": "/"}


def test_children_do_not_get_them() -> None:
    """What is open there is closed when a program is executed."""
    read, write = os.pipe()
    spare = os.dup(3) if _is_open(3) else None
    try:
        os.dup2(read, 3, inheritable=True)
        inherited.take(told(LISTEN_FDS="1"))
        assert not os.get_inheritable(3)
    finally:
        if spare is not None:
            os.dup2(spare, 3, inheritable=False)
            os.close(spare)
        else:
            os.close(3)
        for fd in (read, write):
            if fd != 3:
                os.close(fd)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_who_takes_nothing_asks_the_environment_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application in somebody else's process."""
    inherited._taken.clear()
    for name, value in told(LISTEN_FDS="1").items():
        monkeypatch.setenv(name, value)
    assert inherited.passed() == (("web", 3),)
    monkeypatch.delenv("LISTEN_PID")
    assert inherited.passed() == ()
