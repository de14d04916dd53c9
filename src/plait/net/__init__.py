"""Servers and clients: endpoints, TCP, TLS, UDP and unix sockets, as services."""

from __future__ import annotations

from plait.net.client import Client as Client
from plait.net.client import Connection as Connection
from plait.net.datagram import Datagram as Datagram
from plait.net.datagram import DatagramServer as DatagramServer
from plait.net.endpoints import Endpoint as Endpoint
from plait.net.server import Server as Server

__all__ = ["Client", "Connection", "Datagram", "DatagramServer", "Endpoint", "Server"]
