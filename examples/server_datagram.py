"""A server of datagrams: a function is called with each, and with where it came from.

    plait run examples/server_datagram.py
    bash -c "(echo hello >&3; head -1 <&3) 3<>/dev/udp/127.0.0.1/8012"

It answers with the same in capitals. Datagrams that wait in the socket when it stops are answered before it closes.
"""

from __future__ import annotations

from plait import Options
from plait.net import Datagram, DatagramServer


class ShoutOptions(Options):
    """Send back in capitals what comes."""

    listen: str = "udp://127.0.0.1:8012"


def shout(datagram: Datagram) -> None:
    """One datagram. An `async def` would do as well."""
    datagram.reply(datagram.data.upper())


def make_app(options: ShoutOptions) -> DatagramServer:
    """One service is an application as well."""
    return DatagramServer(options.listen, shout)
