"""Servers and clients: endpoints, TCP, TLS, UDP and unix sockets, as services. Each name is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait._lazy import importer

if TYPE_CHECKING:
    from plait.net.client import Client as Client
    from plait.net.client import Connection as Connection
    from plait.net.datagram import Datagram as Datagram
    from plait.net.datagram import DatagramServer as DatagramServer
    from plait.net.endpoints import Endpoint as Endpoint
    from plait.net.server import Handler as Handler
    from plait.net.server import Server as Server

_HOMES = {
    "Client": "plait.net.client",
    "Connection": "plait.net.client",
    "Datagram": "plait.net.datagram",
    "DatagramServer": "plait.net.datagram",
    "Endpoint": "plait.net.endpoints",
    "Handler": "plait.net.server",
    "Server": "plait.net.server",
}

__all__ = list(_HOMES)
__getattr__ = importer(__name__, _HOMES)
