"""The programs of docs/classic.md run."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

from running import Running, plait

PAGE = Path(__file__).parents[2] / "docs" / "classic.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_the_handbooks_program_echoes(tmp_path: Path) -> None:
    """As it stands there, under `plait run`."""
    (tmp_path / "echo.py").write_text(PROGRAMS[0])
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    with Running("echo.py", "--port", str(port), cwd=tmp_path) as running:
        running.expect("ready in")
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
        running.send(signal.SIGTERM)
        assert running.wait() == 0


def test_the_mixed_application_is_right(tmp_path: Path) -> None:
    """Its classic services have names, needs and their own classes."""
    (tmp_path / "shop.py").write_text(PROGRAMS[1])
    said = plait("check", "shop.py", cwd=tmp_path).stdout
    assert "tock  plait.classic.application.internet:TimerService  needs /tick" in said
