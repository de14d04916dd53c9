"""TLS contexts from an endpoint's files, renewed when the files are.

Rules: the files are read when the server starts, so that a wrong one fails the start. Each new connection looks at
their modification times (one `stat` a file): a renewed certificate is taken up by the next connection, and one that
cannot be read is reported once and leaves the old in force.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable

from plait.errors import EndpointError
from plait.net.endpoints import Endpoint

log = logging.getLogger("plait.net")

Stamp = tuple[tuple[float, int, int] | None, ...]


def server_context(endpoint: Endpoint) -> ssl.SSLContext:
    """The context of a listening tls:// endpoint; with `ca`, clients must show a certificate it signed."""
    if not endpoint.cert:
        raise EndpointError(f"endpoint {str(endpoint)!r}: a TLS server needs a certificate; add cert=FILE&key=FILE")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_chain(context, endpoint)
    if endpoint.ca:
        _load_ca(context, endpoint)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(endpoint: Endpoint) -> ssl.SSLContext:
    """The context of a tls:// endpoint to connect to; the server's name is checked, against `ca` if there is one."""
    context = ssl.create_default_context()
    if endpoint.ca:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load_ca(context, endpoint)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if endpoint.cert:
        _load_chain(context, endpoint)
    return context


def _load_chain(context: ssl.SSLContext, endpoint: Endpoint) -> None:
    files = f"certificate {endpoint.cert!r}" + (f" with key {endpoint.key!r}" if endpoint.key else "")
    try:
        context.load_cert_chain(endpoint.cert, endpoint.key or None)
    except ssl.SSLError as error:
        reason = "the key is not this certificate's" if error.reason == "KEY_VALUES_MISMATCH" else str(error)
        raise EndpointError(f"endpoint {endpoint.address!r}: {files}: {reason}; both must be PEM files") from error
    except OSError as error:
        raise EndpointError(f"endpoint {endpoint.address!r}: {files}: {error.strerror}") from error


def _load_ca(context: ssl.SSLContext, endpoint: Endpoint) -> None:
    try:
        context.load_verify_locations(endpoint.ca)
    except (ssl.SSLError, OSError) as error:
        raise EndpointError(f"endpoint {endpoint.address!r}: ca {endpoint.ca!r}: {error}") from error


class RenewingContext:
    """The server context of an endpoint, as its files are now."""

    def __init__(self, endpoint: Endpoint, make: Callable[[Endpoint], ssl.SSLContext] = server_context) -> None:
        self._endpoint = endpoint
        self._make = make
        self._stamp = self._look()
        self._context = make(endpoint)

    def get(self) -> ssl.SSLContext:
        """The context for a new connection."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context = self._make(self._endpoint)
                log.info("the certificate of %s was renewed", self._endpoint.address)
            except EndpointError as error:
                log.error("%s; the certificate in use stays in force", error)
        return self._context

    def _look(self) -> Stamp:
        return tuple(_stamp(path) for path in (self._endpoint.cert, self._endpoint.key, self._endpoint.ca) if path)


def _stamp(path: str) -> tuple[float, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime, found.st_ino, found.st_size
