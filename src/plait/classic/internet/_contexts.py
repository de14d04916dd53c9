"""The options of TLS connections, and the contexts of the standard library's that they stand for.

Rules: nothing older than TLS 1.2 is spoken unless asked for. A context is made once, with the first connection. Whom
a client speaks to is verified, unless options that say otherwise were given by hand.
"""

from __future__ import annotations

import enum
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from zope.interface import implementer

from plait.classic.internet import interfaces
from plait.classic.internet._certificates import Certificate, PrivateCertificate, pem_of


class TLSVersion(enum.Enum):
    """A version of the protocol."""

    SSLv3 = ssl.TLSVersion.SSLv3
    TLSv1_0 = ssl.TLSVersion.TLSv1
    TLSv1_1 = ssl.TLSVersion.TLSv1_1
    TLSv1_2 = ssl.TLSVersion.TLSv1_2
    TLSv1_3 = ssl.TLSVersion.TLSv1_3


_METHODS = {4: ssl.TLSVersion.TLSv1, 5: ssl.TLSVersion.TLSv1_1, 6: ssl.TLSVersion.TLSv1_2}
"""What pyOpenSSL's numbers of methods that fix a version mean."""


# -- trust ------------------------------------------------------------------------------------------------------


class OpenSSLDefaultPaths:
    """Trust whom the system trusts."""

    def _addCACertsToContext(self, context: ssl.SSLContext) -> None:
        context.load_default_certs()


def platformTrust() -> OpenSSLDefaultPaths:
    """Trust whom the system trusts."""
    return OpenSSLDefaultPaths()


class OpenSSLCertificateAuthorities:
    """Trust these certificates."""

    def __init__(self, caCerts: Iterable[Any]) -> None:
        self._pems = [pem_of(certificate) for certificate in caCerts]

    def _addCACertsToContext(self, context: ssl.SSLContext) -> None:
        context.load_verify_locations(cadata=b"\n".join(self._pems).decode("ascii"))


def trustRootFromCertificates(certificates: Iterable[Any]) -> OpenSSLCertificateAuthorities:
    """Trust these certificates, which are `Certificate`s. TypeError for what is none."""
    trusted = []
    for certificate in certificates:
        if not isinstance(certificate, Certificate):
            raise TypeError(f"trust roots are `Certificate`s, not {certificate!r}")
        trusted.append(certificate)
    return OpenSSLCertificateAuthorities(trusted)


# -- ciphers and the rest -----------------------------------------------------------------------------------------


@implementer(interfaces.ICipher)
class OpenSSLCipher:
    """A cipher suite, by its full name."""

    def __init__(self, fullName: str) -> None:
        self.fullName = fullName

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpenSSLCipher) and self.fullName == other.fullName

    def __hash__(self) -> int:
        return hash(self.fullName)

    def __repr__(self) -> str:
        return f"OpenSSLCipher({self.fullName!r})"


@implementer(interfaces.IAcceptableCiphers)
class AcceptableCiphers:
    """Those suites that are in a list, in its order."""

    def __init__(self, ciphers: Iterable[Any]) -> None:
        self._ciphers = list(ciphers)

    def selectCiphers(self, availableCiphers: Iterable[Any]) -> list[Any]:
        """Those of them that there are."""
        available = set(availableCiphers)
        return [cipher for cipher in self._ciphers if cipher in available]

    @classmethod
    def fromOpenSSLCipherString(cls, cipherString: str) -> AcceptableCiphers:
        """Those that OpenSSL means by a text."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.set_ciphers(cipherString)
        except ssl.SSLError:  # it means none
            return cls([])
        return cls(_ciphers_of(context))


def _ciphers_of(context: ssl.SSLContext) -> list[OpenSSLCipher]:
    return [OpenSSLCipher(cipher["name"]) for cipher in context.get_ciphers()]


class DiffieHellmanParameters:
    """Parameters of key exchange, of a PEM file."""

    def __init__(self, parameters: Any) -> None:
        self._dhFile = parameters

    @classmethod
    def fromFile(cls, filePath: Any) -> DiffieHellmanParameters:
        """Those of a file: a path."""
        return cls(filePath)


# -- options ----------------------------------------------------------------------------------------------------


@contextmanager
def _file_of(data: bytes) -> Iterator[str]:
    """The name of a file with these contents, in memory where the system can: they may be a secret."""
    if hasattr(os, "memfd_create") and os.path.exists("/proc/self/fd"):
        fd = os.memfd_create("pem")
        try:
            os.write(fd, data)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield file.name


@implementer(
    interfaces.IOpenSSLContextFactory,
    interfaces.IOpenSSLServerConnectionCreator,
    interfaces.IOpenSSLClientConnectionCreator,
)
class CertificateOptions:
    """What a server shows and asks for, or a client that knows what it does; else see `optionsForClientTLS`.

    `privateKey` and `certificate` (with `extraCertChain`) are what is shown: `KeyPair` and `Certificate`, PEM or DER
    in bytes, or pyOpenSSL's or cryptography's objects. `trustRoot` (or `verify` with `caCerts`) is whom to trust, and
    makes the other end show a certificate.
    """

    def __init__(
        self,
        privateKey: Any = None,
        certificate: Any = None,
        method: int | None = None,
        verify: bool = False,
        caCerts: Sequence[Any] | None = None,
        verifyDepth: int = 9,
        requireCertificate: bool = True,
        verifyOnce: bool = True,
        enableSingleUseKeys: bool = True,
        enableSessions: bool = False,
        fixBrokenPeers: bool = False,
        enableSessionTickets: bool = False,
        extraCertChain: Sequence[Any] | None = None,
        acceptableCiphers: Any = None,
        dhParameters: DiffieHellmanParameters | None = None,
        trustRoot: Any = None,
        acceptableProtocols: Sequence[bytes] | None = None,
        raiseMinimumTo: TLSVersion | None = None,
        insecurelyLowerMinimumTo: TLSVersion | None = None,
        lowerMaximumSecurityTo: TLSVersion | None = None,
    ) -> None:
        if (privateKey is None) != (certificate is None):
            raise ValueError("Specify neither or both of privateKey and certificate")
        if extraCertChain and privateKey is None:
            raise ValueError(
                "A private key and a certificate are required when adding a supplemental certificate chain."
            )
        if verify and not caCerts and trustRoot is None:
            raise ValueError(
                "Specify client CA certificate information if and only if enabling certificate verification"
            )
        if trustRoot is not None and (caCerts is not None or verify):
            raise TypeError("Please don't pass both trustRoot and verify or caCerts: they say the same.")
        self.privateKey = privateKey
        self.certificate = certificate
        self.extraCertChain = list(extraCertChain or ())
        self.verify = verify
        self.verifyDepth = verifyDepth
        self.requireCertificate = requireCertificate
        self.enableSessions = enableSessions
        self.enableSessionTickets = enableSessionTickets
        self.dhParameters = dhParameters
        self.acceptableCiphers = acceptableCiphers
        self.acceptableProtocols = list(acceptableProtocols or ())
        self.trustRoot = OpenSSLCertificateAuthorities(caCerts) if verify and caCerts else trustRoot
        if isinstance(self.trustRoot, (list, tuple)):
            self.trustRoot = OpenSSLCertificateAuthorities(self.trustRoot)
        self._versions = _versions(method, raiseMinimumTo, insecurelyLowerMinimumTo, lowerMaximumSecurityTo)
        self._made: dict[bool, ssl.SSLContext] = {}

    def getContext(self) -> ssl.SSLContext:
        """The context, the same each time: a server's, if there is a certificate to show, else a client's."""
        return self._context(self.certificate is None)

    def _context(self, isClient: bool) -> ssl.SSLContext:
        if isClient not in self._made:
            self._made[isClient] = self._make(isClient)
        return self._made[isClient]

    def _make(self, isClient: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if isClient else ssl.PROTOCOL_TLS_SERVER)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version, context.maximum_version = self._versions
        self._show(context)
        self._trust(context)
        if self.acceptableCiphers is not None:
            chosen = self.acceptableCiphers.selectCiphers(_ciphers_of(context))
            context.set_ciphers(":".join(cipher.fullName for cipher in chosen))
        if self.dhParameters is not None:
            path = self.dhParameters._dhFile
            context.load_dh_params(getattr(path, "path", path))
        if self.acceptableProtocols:
            context.set_alpn_protocols([name.decode("ascii") for name in self.acceptableProtocols])
        if not self.enableSessionTickets:
            context.options |= ssl.OP_NO_TICKET
        return context

    def _show(self, context: ssl.SSLContext) -> None:
        if self.privateKey is not None:
            parts = [self.privateKey, self.certificate, *self.extraCertChain]
            with _file_of(b"\n".join(map(pem_of, parts))) as name:
                context.load_cert_chain(name)

    def _trust(self, context: ssl.SSLContext) -> None:
        if self.trustRoot is None:
            return
        root = self.trustRoot
        if isinstance(root, Certificate):
            root = trustRootFromCertificates([root])
        if not hasattr(root, "_addCACertsToContext"):
            raise TypeError(f"{root!r} is no trust root: see trustRootFromCertificates and platformTrust")
        context.verify_mode = ssl.CERT_REQUIRED if self.requireCertificate else ssl.CERT_OPTIONAL
        root._addCACertsToContext(context)

    def serverConnectionForTLS(self, protocol: Any) -> ssl.SSLObject:
        """The server's side of one connection."""
        return protocol.wrap(self._context(False), server_side=True)  # type: ignore[no-any-return]

    def clientConnectionForTLS(self, protocol: Any) -> ssl.SSLObject:
        """The client's side of one connection."""
        return protocol.wrap(self._context(True), server_side=False)  # type: ignore[no-any-return]


PrivateCertificate._options = CertificateOptions


def _versions(
    method: int | None, raised: TLSVersion | None, lowered: TLSVersion | None, most: TLSVersion | None
) -> tuple[ssl.TLSVersion, ssl.TLSVersion]:
    """The oldest and the newest that are spoken."""
    if method is not None:
        if raised or lowered or most:
            raise TypeError("method says which versions are spoken: give no bounds beside it")
        fixed = _METHODS.get(method)
        return (fixed, fixed) if fixed is not None else (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED)
    if raised is not None and lowered is not None:
        raise TypeError("raiseMinimumTo and insecurelyLowerMinimumTo are exclusive")
    least = ssl.TLSVersion.TLSv1_2
    if raised is not None:
        if most is not None and raised.value > most.value:
            raise ValueError("raiseMinimumTo needs to be lower than lowerMaximumSecurityTo")
        least = max(least, raised.value)
    elif lowered is not None:
        if most is not None and lowered.value > most.value:
            raise ValueError("insecurelyLowerMinimumTo needs to be lower than lowerMaximumSecurityTo")
        least = lowered.value
    elif most is not None and most.value < least:
        raise ValueError("insecurelyLowerMinimumTo is needed to speak nothing newer than an insecure version")
    return least, most.value if most is not None else ssl.TLSVersion.MAXIMUM_SUPPORTED


@implementer(interfaces.IOpenSSLClientConnectionCreator)
class ClientTLSOptions:
    """What a client asks of the server of one name."""

    def __init__(self, hostname: str, options: CertificateOptions, sends: bool = True) -> None:
        self._hostname = hostname
        self._options = options
        self._sends = sends or _is_address(hostname)  # which is never sent, and checked all the same
        self._context().check_hostname = self._sends

    def _context(self, isClient: bool = True) -> ssl.SSLContext:
        return self._options._context(True)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> ssl.SSLObject:
        """The client's side of one connection."""
        if self._sends:
            name, verify = self._hostname, None
        else:
            name, verify = None, self._verify
        return tlsProtocol.wrap(  # type: ignore[no-any-return]
            self._context(), server_side=False, server_hostname=name, verify=verify
        )

    def _verify(self, connection: ssl.SSLObject) -> None:
        """What the ssl module does by itself where it sends the name."""
        shown: Any = connection.getpeercert() or {}
        names = [name for kind, name in shown.get("subjectAltName", ()) if kind == "DNS"]
        if not any(_is_for(name, self._hostname) for name in names):
            raise ssl.CertificateError(
                f"certificate verify failed: it is for {', '.join(names) or 'nobody'}, not for {self._hostname!r}"
            )


def _is_address(hostname: str) -> bool:
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        return False
    return True


def _is_for(pattern: str, hostname: str) -> bool:
    """Whether a name of a certificate is that of a host: letter for letter, or with a "*" for its first label."""
    wanted = hostname.encode("idna").decode() if not hostname.isascii() else hostname
    wanted, pattern = wanted.rstrip(".").lower(), pattern.lower()
    first, _, rest = wanted.partition(".")
    return pattern == wanted or (pattern == f"*.{rest}" and "." in rest and bool(first))


def optionsForClientTLS(
    hostname: str,
    trustRoot: Any = None,
    clientCertificate: Any = None,
    acceptableProtocols: Sequence[bytes] | None = None,
    *,
    extraCertificateOptions: dict[str, Any] | None = None,
    sendServerName: bool | None = None,
) -> ClientTLSOptions:
    """What a client asks of the server of this name or address: a certificate for it, from somebody it trusts.

    `trustRoot` is whom to trust, whom the system trusts if left out; `clientCertificate`, a `PrivateCertificate`, is
    what to show. `sendServerName` is False where the name is not to be sent to the server, which an address never is.
    TypeError for a name in bytes.
    """
    if not isinstance(hostname, str):
        raise TypeError(
            f"optionsForClientTLS requires text for host names, not {type(hostname).__name__}: decode it first"
        )
    more = dict(extraCertificateOptions or {})
    if clientCertificate is not None:
        more.update(privateKey=clientCertificate.privateKey, certificate=clientCertificate)
    options = CertificateOptions(
        trustRoot=platformTrust() if trustRoot is None else trustRoot,
        acceptableProtocols=acceptableProtocols,
        **more,
    )
    return ClientTLSOptions(hostname, options, sendServerName is not False)
