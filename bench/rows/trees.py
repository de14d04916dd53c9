"""How the programs in trees/ are run: one measurement, one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.setting import HERE, Setting, environment, on_core

TIMEOUT = 120.0


def run(setting: Setting, what: str, library: str, shape: str, count: int, *, python: Path | None = None) -> Any:
    """What one tree program says: see trees/common.py. `python` is the peers', else that of the bench."""
    done = subprocess.run(
        [python or sys.executable, HERE / "trees" / f"{library}_tree.py", what, shape, str(count)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env=environment(),
        preexec_fn=on_core(setting.load_core),
    )
    if done.returncode:
        raise RuntimeError(f"{library} with {count} services of shape {shape} failed:\n{done.stderr}")
    return json.loads(done.stdout)
