"""Letting no newcomer in, while those who have connected already are still accepted.

Rules: between the last `accept` and the `close` of a listening socket somebody may connect and send, and be reset. So
before it closes, a TCP socket is given a filter (classic BPF) that drops the first packet of a connection, SYN without
ACK, and lets those pass that are under way. A client whose packet was dropped sends it again after a second, and is
refused by then. The filter belongs to the socket and not to the descriptor: it may be used only where nobody else holds
the socket, and is taken off when somebody does after all. Connections that are accepted meanwhile inherit it, in which
no such packet comes. Where the system has no filters, all is as without one.
Source: socket(7), SO_ATTACH_FILTER; Documentation/networking/filter.rst of Linux.
"""

from __future__ import annotations

import array
import contextlib
import socket
import struct
import sys

LOOPBACK_GRACE = 0.01
CONNECT_GRACE = 0.2
"""Seconds in which TCP's handshakes that are under way have ended: from this machine, and from elsewhere."""

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27

_DROP_FIRST_PACKETS = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte of the TCP flags
        (0x54, 0, 0, 0x12),  # of which only SYN and ACK are looked at
        (0x15, 0, 1, 0x02),  # SYN alone?
        (0x06, 0, 0, 0),  # then drop the packet
        (0x06, 0, 0, 0xFFFFFFFF),  # else let all of it pass
    )
)


def refuse_newcomers(sock: socket.socket) -> bool:
    """Drop the first packet of each new TCP connection; False where that cannot be done."""
    if not sys.platform.startswith("linux") or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    program = array.array("B", _DROP_FIRST_PACKETS)
    described = struct.pack("HP", len(_DROP_FIRST_PACKETS) // 8, program.buffer_info()[0])  # struct sock_fprog
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
    except OSError:
        return False
    return True


def admit_newcomers(sock: socket.socket) -> None:
    """Take the filter off, if there is one."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def grace_of(sock: socket.socket) -> float:
    """Seconds in which whoever is connecting to it has connected."""
    host = sock.getsockname()[0]
    return LOOPBACK_GRACE if host.startswith("127.") or host == "::1" else CONNECT_GRACE
