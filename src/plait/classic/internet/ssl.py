"""TLS: certificates, and what connections ask of them.

Rules: everything stands on the standard library's ssl: a context factory's getContext() gives an `ssl.SSLContext`,
and a context itself will do wherever a context factory is asked for.
"""

from __future__ import annotations

import ssl as _ssl
from typing import Any

from zope.interface import implementer

from plait.classic.internet import interfaces
from plait.classic.internet._certificates import (
    DN,
    Certificate,
    CertificateRequest,
    DistinguishedName,
    KeyPair,
    PrivateCertificate,
)
from plait.classic.internet._contexts import (
    AcceptableCiphers,
    CertificateOptions,
    DiffieHellmanParameters,
    TLSVersion,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)

VerificationError = _ssl.SSLCertVerificationError
"""What a connection ends with when the other end is not who it should be."""

supported = True


@implementer(interfaces.IOpenSSLContextFactory)
class ContextFactory:
    """Gives a context; override getContext."""

    isClient = 0

    def getContext(self) -> _ssl.SSLContext:
        """An `ssl.SSLContext`."""
        raise NotImplementedError


class DefaultOpenSSLContextFactory(ContextFactory):
    """Gives a server's context, of a key and a certificate in PEM files."""

    def __init__(self, privateKeyFileName: Any, certificateFileName: Any, sslmethod: int | None = None) -> None:
        self.privateKeyFileName = privateKeyFileName
        self.certificateFileName = certificateFileName
        self.sslmethod = sslmethod
        self._context: _ssl.SSLContext | None = None
        self.cacheContext()

    def cacheContext(self) -> None:
        """Read the files, once."""
        if self._context is None:
            context = _ssl.SSLContext(_ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = _ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(self.certificateFileName, self.privateKeyFileName)
            self._context = context

    def getContext(self) -> _ssl.SSLContext:
        """The context, the same each time."""
        assert self._context is not None
        return self._context

    def __getstate__(self) -> dict[str, Any]:
        """What to pickle: the names of the files."""
        state = self.__dict__.copy()
        state["_context"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self.cacheContext()


class ClientContextFactory(ContextFactory):
    """Gives a client's context that verifies nothing: see `optionsForClientTLS` for one that does."""

    isClient = 1

    def getContext(self) -> _ssl.SSLContext:
        """A new context."""
        context = _ssl.SSLContext(_ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = _ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.verify_mode = _ssl.CERT_NONE
        return context


__all__ = [
    "DN",
    "AcceptableCiphers",
    "Certificate",
    "CertificateOptions",
    "CertificateRequest",
    "ClientContextFactory",
    "ContextFactory",
    "DefaultOpenSSLContextFactory",
    "DiffieHellmanParameters",
    "DistinguishedName",
    "KeyPair",
    "PrivateCertificate",
    "TLSVersion",
    "VerificationError",
    "optionsForClientTLS",
    "platformTrust",
    "trustRootFromCertificates",
]
