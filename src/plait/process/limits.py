"""What the process may use at most: open files, memory.

Rules: limits are the system's own (setrlimit), set before the application is imported, and what a child process
inherits. `memory` limits what the process has for data, mapped or allocated, which is what grows when it leaks: past
it Python raises MemoryError. The address space as a whole is left alone, since threads and libraries reserve far more
of it than they use.
"""

from __future__ import annotations

import resource

from plait.errors import UsageError


def limit_files(count: int) -> None:
    """At most `count` descriptors. UsageError if the hard limit is lower, and may not be raised."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    needed = hard if hard == resource.RLIM_INFINITY else max(hard, count)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, needed))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--nofile {count} is above the system's limit of {hard}; ask for less, or raise that "
            "(LimitNOFILE= of the unit, 'ulimit -Hn' of the shell)"
        ) from error


def limit_memory(size: int) -> None:
    """At most `size` bytes of data. UsageError if the hard limit is lower."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (size, hard))
    except (OSError, ValueError) as error:
        raise UsageError(f"--memory {size} is above the system's limit of {hard} bytes; ask for less") from error
