"""Giving up root, in processes that really do."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from plait.errors import UsageError
from plait.process.rights import Rights

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes root")


def as_other(code: str, *, setup: str = "") -> str:
    """What a process prints that has become nobody."""
    program = f"import os\n{setup}\nfrom plait.process.rights import Rights\n{textwrap.dedent(code)}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_root
def test_nothing_is_left_of_root() -> None:
    """User, group and groups are nobody's, no capability is left, and none of it comes back."""
    seen = as_other(
        """
        Rights.of("nobody", None).drop()
        print(open("/proc/self/status").read())
        for back in (lambda: os.setuid(0), lambda: os.setgroups([0]), lambda: open("/etc/shadow")):
            try:
                back()
                print("it came back")
            except PermissionError:
                pass
        """
    )
    nobody = pwd.getpwnam("nobody")
    lines = dict(line.split(":\t", 1) for line in seen.splitlines() if ":\t" in line)
    assert lines["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert lines["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert lines["Groups"].split() == [str(nobody.pw_gid)]
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(lines[name], 16) == 0, name
    assert "it came back" not in seen


@needs_root
def test_capabilities_that_were_kept_on_purpose_go_too() -> None:
    """PR_SET_KEEPCAPS lets them outlive the change of user."""
    setup = "import ctypes; ctypes.CDLL(None).prctl(8, 1, 0, 0, 0)"
    seen = as_other('Rights.of("nobody", None).drop(); print(open("/proc/self/status").read())', setup=setup)
    assert "CapPrm:\t0000000000000000" in seen


@needs_root
def test_another_root_directory(tmp_path: Path) -> None:
    """The names are looked up before; what is outside is not there any more."""
    (tmp_path / "inside").write_text("in")
    tmp_path.chmod(0o755)
    seen = as_other(
        f"""
        Rights.of("nobody", "nogroup", {str(tmp_path)!r}).drop()
        print(os.getcwd(), open("/inside").read(), os.path.exists("/etc"), os.getuid())
        """
    )
    assert seen.split() == ["/", "in", "False", str(pwd.getpwnam("nobody").pw_uid)]


@needs_root
def test_numbers_need_no_entry() -> None:
    """As in a container, whose users are numbers; the group must be said then."""
    assert Rights.of("12345", "54321") == Rights(12345, 54321, (54321,))
    with pytest.raises(UsageError, match="add --group"):
        Rights.of("12345", None)


@needs_root
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("no-such-user", None), "no user 'no-such-user'"),
        (("nobody", "no-such-group"), "no group 'no-such-group'"),
        (("nobody", None, "/no/such"), "'/no/such' is no folder"),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_given_up(arguments: tuple[str, ...], text: str) -> None:
    """A misspelt user is an error of who typed it."""
    with pytest.raises(UsageError, match=text):
        Rights.of(*arguments)


@needs_root
def test_who_is_not_root_is_told() -> None:
    """Rather than left with what it has."""
    seen = as_other(
        """
        os.setuid(65534)
        try:
            Rights.of("nobody", None)
        except Exception as error:
            print(error)
        """
    )
    assert "take root" in seen
