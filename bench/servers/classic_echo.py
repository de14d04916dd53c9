"""A classic Protocol on Plait's reactor: the same program as twisted_echo.py."""

from __future__ import annotations

import sys

from plait.classic.internet import reactor
from plait.classic.internet.protocol import Factory, Protocol


class Echo(Protocol):
    """Sends back what it reads."""

    def connectionMade(self) -> None:  # noqa: N802
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.transport.write(data)


if __name__ == "__main__":
    factory = Factory.forProtocol(Echo)
    factory.noisy = False
    reactor.listenTCP(int(sys.argv[1]), factory, backlog=1024, interface="127.0.0.1")
    reactor.run()
