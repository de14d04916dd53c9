"""A machine with a running systemd, for tests: a container over the file system of this one.

Rules: what is written in it goes to memory and is gone with it; mounts, processes and network are its own. It takes
root, Debian's systemd and its package systemd-container, which is fetched and unpacked beside the test if it is not
installed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

BOOT_TIMEOUT = 60.0
MASKED = ("postgresql.service", "cron.service", "exim4.service", "systemd-logind.service")
"""What the machine of a developer may start by itself, and no test needs."""

_BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs {folder}
mkdir {folder}/upper {folder}/work {folder}/root
mount -t overlay overlay -o lowerdir=/,upperdir={folder}/upper,workdir={folder}/work {folder}/root
mkdir -p {folder}/root/etc/systemd/system
for unit in {masked}; do ln -sf /dev/null {folder}/root/etc/systemd/system/$unit; done
rm -f {folder}/root/etc/machine-id; cat /proc/sys/kernel/random/uuid | tr -d - > {folder}/root/etc/machine-id
exec {nspawn} -D {folder}/root -b --register=no --keep-unit --private-network --console=pipe {binds}
"""


VOLATILE = ("/tmp", "/var/tmp", "/run", "/dev/shm")
"""Where the machine has memory of its own, and sees of this one's only what is bound."""


class NoMachine(Exception):
    """It cannot be had here; the message says why."""


class Machine:
    """Boots when it is made, until `close`."""

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0:
            raise NoMachine("a machine with systemd takes root")
        if not Path("/lib/systemd/systemd").exists():
            raise NoMachine("systemd is not installed")
        self._root = folder / "machine"
        self._root.mkdir()
        script = _BOOT.format(
            folder=self._root, masked=" ".join(MASKED), nspawn=_nspawn(folder), binds=" ".join(_binds())
        )
        self._log = open(folder / "boot.log", "w+")  # noqa: SIM115  # closed by close
        self._process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        try:
            self._init = self._booted()
        except BaseException:
            self.close()
            raise

    def _booted(self) -> int:
        deadline = time.monotonic() + BOOT_TIMEOUT
        while time.monotonic() < deadline and self._process.poll() is None:
            found = _children(self._process.pid)
            if found:
                self._init = found[0]
                state = self.run("systemctl", "is-system-running", check=False)
                if state.strip() in ("running", "degraded"):
                    return found[0]
            time.sleep(0.1)
        self._log.seek(0)
        raise NoMachine(f"no systemd came up: {self._log.read()[-2000:]}")

    def run(self, *command: str, check: bool = True, timeout: float = 60.0) -> str:
        """What a command in the machine prints."""
        enter = ["nsenter", "-t", str(self._init), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"]
        done = subprocess.run(
            [*enter, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
        if check:
            assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """A file in the machine."""
        there = Path(f"/proc/{self._init}/root{path}")
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(text)

    def property(self, unit: str, name: str) -> str:
        """What systemd knows of a unit."""
        return self.run("systemctl", "show", unit, "--value", "-p", name).strip()

    def until(self, unit: str, name: str, *values: str) -> str:
        """Wait for a property of a unit to have one of these values."""
        deadline = time.monotonic() + 20
        while (value := self.property(unit, name)) not in values:
            assert time.monotonic() < deadline, f"{unit}: {name} is {value!r}\n{self.journal(unit)}"
            time.sleep(0.02)
        return value

    def journal(self, unit: str, *options: str) -> str:
        """What the journal has of a unit."""
        return self.run("journalctl", "--no-pager", "-u", unit, *options, check=False)

    def close(self) -> None:
        """Switch it off; the mounts go with the last process."""
        if self._process.poll() is None:
            for child in _children(self._process.pid):
                os.kill(child, signal.SIGKILL)  # the first process of a namespace takes all others with it
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(20)
        self._log.close()


def _binds() -> list[str]:
    """What of the tests and their Python the machine would not see."""
    needed = {str(Path(__file__).parents[3]), sys.prefix, sys.base_prefix}
    return [f"--bind-ro={folder}" for folder in sorted(needed) if folder.startswith(VOLATILE)]


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _nspawn(folder: Path) -> str:
    """The program, of the same version as the systemd that is installed."""
    installed = shutil.which("systemd-nspawn")
    if installed is not None:
        return installed
    asked = ["dpkg-query", "-W", "-f", "${Version}", "systemd"]
    version = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    (folder / "deb").mkdir()
    fetch = ["apt-get", "download", "-o", "APT::Sandbox::User=root", f"systemd-container={version}"]
    done = subprocess.run(fetch, cwd=folder / "deb", capture_output=True, text=True, check=False, timeout=100)
    packages = list((folder / "deb").glob("*.deb"))
    if not packages:
        raise NoMachine(f"Debian's package systemd-container {version} is not to be had: {done.stderr.strip()[-300:]}")
    subprocess.run(["dpkg", "-x", str(packages[0]), str(folder / "x")], check=True)
    return str(folder / "x" / "usr/bin/systemd-nspawn")
