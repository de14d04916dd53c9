"""The runtime directory: which it is, that it is safe, who is found there."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from plait.control import folder as folders
from plait.control.client import find
from plait.control.folder import Place, connected, listening, places, runtime_folder
from plait.errors import ControlError, NotRunning


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("environ", "named", "folder"),
    [
        ({"RUNTIME_DIRECTORY": "/run/edge:/run/more", "XDG_RUNTIME_DIR": "/run/user/7"}, "/srv/run", "/srv/run"),
        ({"RUNTIME_DIRECTORY": "/run/edge:/run/more", "XDG_RUNTIME_DIR": "/run/user/7"}, None, "/run/edge"),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, None, "/run/user/7/plait"),
    ],
)
def test_which_folder_it_is(environ: dict[str, str], named: str | None, folder: str) -> None:
    """What the operator names goes before systemd's, that before the session's."""
    assert runtime_folder(environ, named) == Path(folder)


def test_without_any_it_is_root_s_or_the_user_s_own_in_the_folder_for_temporary_files() -> None:
    """Never one that two users share."""
    expected = "/run/plait" if os.geteuid() == 0 else f"/var/spool/plait-{os.geteuid()}"
    assert runtime_folder({"TMPDIR": "/var/spool"}) == Path(expected)


def test_the_folder_and_the_socket_are_for_their_user_alone(tmp_path: Path) -> None:
    """0700 and 0600, whatever the umask."""
    folder = tmp_path / "run"
    before = os.umask(0)
    try:
        assert folders.make(folder)
        place = Place.own(folder, "echo")
        listening(place).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o600
    assert not folders.make(folder)


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    """Somebody else's socket in it would be told what is for the application; that holds for both sides."""
    tmp_path.chmod(0o777)
    for use in (folders.make, places):
        with pytest.raises(ControlError, match="may be written to by others; chmod go-w"):
            use(tmp_path)


def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    """In a folder for temporary files anybody may have put it there."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(ControlError, match="is no directory"):
        folders.make(tmp_path / "link")


def test_a_path_longer_than_an_address_is_reached(tmp_path: Path) -> None:
    """The address of a unix socket has room for 107 bytes, a path for more."""
    folder = tmp_path / ("d" * 120)
    folders.make(folder)
    place = Place.own(folder, "echo")
    with listening(place) as sock, connected(place, 5) as client:
        client.send(b"x")
        served, _ = sock.accept()
        with served:
            assert served.recv(1) == b"x"


def test_a_long_name_is_found(tmp_path: Path) -> None:
    """Of 300 letters a file's name holds as many as it can."""
    place = Place.own(tmp_path, "n" * 300)
    with listening(place), find(tmp_path, "n" * 300) as client:
        assert client.place == place


def test_an_application_is_found_by_name_by_number_or_alone(tmp_path: Path) -> None:
    """A name with a dash and digits is told from the number after it."""
    mine = Place.own(tmp_path, "edge-1")
    with listening(mine):
        for named in ("edge-1", str(os.getpid()), None):
            with find(tmp_path, named) as client:
                assert client.place == mine
        with pytest.raises(NotRunning, match=r"number 'edge'; running there: edge-1 \(process"):
            find(tmp_path, "edge")


def test_of_several_none_is_taken(tmp_path: Path) -> None:
    """They are named, so that one can be."""
    places = [Place(tmp_path, "edge", 11), Place(tmp_path, "edge", 22), Place(tmp_path, "mail", 33)]
    with listening(places[0]), listening(places[1]), listening(places[2]):
        with pytest.raises(
            NotRunning, match=r"2 applications are named 'edge': edge \(process 11\), edge \(process 22\)"
        ):
            find(tmp_path, "edge")
        with pytest.raises(NotRunning, match="3 applications are running"):
            find(tmp_path)
        with find(tmp_path, "33") as client:
            assert client.place == places[2]


def test_what_a_killed_process_left_is_passed_over_and_removed_by_the_next_that_starts(tmp_path: Path) -> None:
    """But never the socket of one that lives, nor of one in a container, whose number means nothing here."""
    left = Place(tmp_path, "edge", dead_pid())
    elsewhere = Place(tmp_path, "edge", left.pid + 1_000_000_000)
    not_yet = Place(tmp_path, "soon", os.getppid())
    listening(left).close()
    listening(not_yet).close()  # bound, and not listening yet
    with listening(elsewhere):
        with find(tmp_path, "edge") as client:
            assert client.place == elsewhere
        folders.clean(tmp_path)
        assert places(tmp_path) == sorted([elsewhere, not_yet], key=lambda place: place.name)


def test_the_file_of_an_earlier_process_of_the_same_number_is_replaced(tmp_path: Path) -> None:
    """As in a container, where every start is number 1; one that somebody listens on is not."""
    place = Place.own(tmp_path, "edge")
    listening(place).close()
    with listening(place), pytest.raises(ControlError, match="is another process's"):
        listening(place)


def test_a_folder_that_is_not_there_has_nobody(tmp_path: Path) -> None:
    """It is not made by looking."""
    with pytest.raises(NotRunning, match="no application is running whose control socket is in"):
        find(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_other_files_are_no_applications(tmp_path: Path) -> None:
    """Only what is named as a socket of ours is looked at."""
    (tmp_path / "notes.txt").touch()
    sock = socket.socket(socket.AF_UNIX)
    with sock:
        sock.bind(str(tmp_path / "other.sock"))
        assert places(tmp_path) == []
