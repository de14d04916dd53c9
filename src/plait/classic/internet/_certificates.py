"""Certificates and keys, as far as they need no cryptography but the standard library's.

Rules: a certificate is kept as its DER, and what is asked of it is read from there: a certificate is a tree of values
with a type, a length and contents (X.690), of which few matter here (RFC 5280). What is loaded here can be shown,
compared and given to `CertificateOptions`; making keys and signing needs `cryptography`, see _signing.py.
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from plait.classic.internet import _signing, error

FILETYPE_PEM = 1
FILETYPE_ASN1 = 2

_NAMES = {
    "2.5.4.3": "commonName",
    "2.5.4.4": "surname",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "countryName",
    "2.5.4.7": "localityName",
    "2.5.4.8": "stateOrProvinceName",
    "2.5.4.10": "organizationName",
    "2.5.4.11": "organizationalUnitName",
    "1.2.840.113549.1.9.1": "emailAddress",
}
_SHORT = {
    "CN": "commonName",
    "O": "organizationName",
    "OU": "organizationalUnitName",
    "L": "localityName",
    "ST": "stateOrProvinceName",
    "C": "countryName",
}


# -- DER --------------------------------------------------------------------------------------------------------


def _elements(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The values that follow one another: tag, contents, and the whole. ValueError for what is cut short."""
    at = 0
    while at < len(data):
        start = at
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[at : at + count], "big")
            at += count
        contents = data[at : at + length]
        if len(contents) < length:
            raise ValueError("a certificate is cut short")
        at += length
        yield tag, contents, data[start:at]


def _identifier(data: bytes) -> str:
    numbers, value = [data[0] // 40, data[0] % 40], 0
    for byte in data[1:]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    return ".".join(map(str, numbers))


def _name(contents: bytes) -> DistinguishedName:
    name = DistinguishedName()
    for _, pairs, _ in _elements(contents):
        for _, pair, _ in _elements(pairs):
            (_, identifier, _), (tag, value, _) = _elements(pair)
            key = _NAMES.get(_identifier(identifier))
            if key is not None:
                name[key] = value.decode("utf-16-be" if tag == 0x1E else "utf-8", "replace").encode()
    return name


# -- names ------------------------------------------------------------------------------------------------------


class DistinguishedName(dict[str, bytes]):
    """Whom a certificate is about: a mapping, in bytes, whose keys are attributes too, under long and short names."""

    __slots__ = ()

    def __init__(self, **kw: Any) -> None:
        super().__init__()
        for key, value in kw.items():
            setattr(self, key, value)

    def __setattr__(self, key: str, value: Any) -> None:
        self[_long(key)] = value if isinstance(value, bytes) else str(value).encode()

    def __getattr__(self, key: str) -> bytes:
        try:
            return self[_long(key)]
        except KeyError:
            raise AttributeError(key) from None

    def __repr__(self) -> str:
        return f"<DN {dict.__repr__(self)[1:-1]}>"

    def inspect(self) -> str:
        """It, a line an attribute."""
        width = max(map(len, self), default=0)
        return "\n".join(f"{key:>{width}}: {value.decode()}" for key, value in self.items())


DN = DistinguishedName


def _long(key: str) -> str:
    long = _SHORT.get(key, key)
    if long not in _NAMES.values():
        raise AttributeError(key)
    return long


# -- keys -------------------------------------------------------------------------------------------------------


def _pem_to_der(data: bytes, kind: str) -> bytes:
    """The first block of this kind, whatever else the file holds. ValueError for none."""
    block = re.search(rb"-----BEGIN [A-Z ]*?%b-----([^-]+)-----END " % kind.encode(), data)
    if block is None:
        raise ValueError(f"the PEM holds no {kind.lower()}")
    return base64.b64decode(block[1])


def _pem(kind: str, data: bytes) -> bytes:
    text = base64.encodebytes(data).replace(b"\n", b"")
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return b"\n".join([f"-----BEGIN {kind}-----".encode(), *lines, f"-----END {kind}-----".encode(), b""])


def _key_kind(der: bytes) -> str:
    """What a PEM file calls a private key of this form."""
    ((_, contents, _),) = _elements(der)
    (_, version, _), (tag, _, _), *_ = _elements(contents)
    if tag == 0x30:
        return "PRIVATE KEY"
    return "EC PRIVATE KEY" if version == b"\1" else "RSA PRIVATE KEY"


class PublicKey:
    """A public key, as its DER (SubjectPublicKeyInfo)."""

    def __init__(self, der: bytes) -> None:
        self.original = der

    def matches(self, otherKey: PublicKey) -> bool:
        """Whether it is the same."""
        return self.original == otherKey.original

    def keyHash(self) -> str:
        """What tells it from others, in hexadecimal."""
        return hashlib.md5(self.original, usedforsecurity=False).hexdigest()

    def inspect(self) -> str:
        """It, in a line."""
        return f"Public Key with Hash: {self.keyHash()}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.keyHash()}>"


class KeyPair(PublicKey):
    """A private key, as its DER."""

    @classmethod
    def load(cls, data: bytes, format: int = FILETYPE_ASN1) -> KeyPair:
        """One of a file's contents."""
        return cls(_pem_to_der(data, "PRIVATE KEY") if format == FILETYPE_PEM else data)

    def dump(self, format: int = FILETYPE_ASN1) -> bytes:
        """What to write to a file."""
        return _pem(_key_kind(self.original), self.original) if format == FILETYPE_PEM else self.original

    def inspect(self) -> str:
        """It, in a line."""
        return f"Key Pair with Hash: {self.keyHash()}"

    @classmethod
    def generate(cls, kind: int = 6, size: int = 2048) -> KeyPair:
        """A new RSA key of `size` bits."""
        return cls(_signing.new_key(size))

    def requestObject(
        self, distinguishedName: DistinguishedName, digestAlgorithm: str = "sha256"
    ) -> CertificateRequest:
        """A request for a certificate of this key about this name."""
        return CertificateRequest(_signing.request(self.original, distinguishedName, digestAlgorithm))

    def certificateRequest(
        self, distinguishedName: DistinguishedName, format: int = FILETYPE_ASN1, digestAlgorithm: str = "sha256"
    ) -> bytes:
        """The same, to be written to a file."""
        return self.requestObject(distinguishedName, digestAlgorithm).dump(format)

    def signRequestObject(
        self,
        issuerDistinguishedName: DistinguishedName,
        requestObject: CertificateRequest,
        serialNumber: int,
        secondsToExpiry: float = 60 * 60 * 24 * 365,
        digestAlgorithm: str = "sha256",
    ) -> Certificate:
        """The certificate that is requested, signed by this key as its issuer's."""
        return Certificate(
            _signing.sign(
                self.original,
                issuerDistinguishedName,
                requestObject.original,
                serialNumber,
                secondsToExpiry,
                digestAlgorithm,
            )
        )

    def signCertificateRequest(
        self,
        issuerDistinguishedName: DistinguishedName,
        requestData: bytes,
        verifyDNCallback: Callable[[DistinguishedName], Any],
        serialNumber: int,
        requestFormat: int = FILETYPE_ASN1,
        certificateFormat: int = FILETYPE_ASN1,
        secondsToExpiry: float = 60 * 60 * 24 * 365,
        digestAlgorithm: str = "sha256",
    ) -> Any:
        """The same, of a file's contents and for a file, if the callback finds the name good; it may be asked to wait
        for with a Deferred, and so is this then. `VerifyError` if it does not."""
        requested = CertificateRequest.load(requestData, requestFormat)

        def signed(is_good: Any) -> bytes:
            if not is_good:
                raise error.VerifyError(
                    f"DN callback {verifyDNCallback!r} rejected request DN {requested.getSubject()!r}"
                )
            return self.signRequestObject(
                issuerDistinguishedName, requested, serialNumber, secondsToExpiry, digestAlgorithm
            ).dump(certificateFormat)

        answer = verifyDNCallback(requested.getSubject())
        return answer.addCallback(signed) if hasattr(answer, "addCallback") else signed(answer)

    def selfSignedCert(self, serialNumber: int, **kw: Any) -> PrivateCertificate:
        """A certificate of this key about the name of these attributes, signed by itself."""
        name = DistinguishedName(**kw)
        signed = self.signRequestObject(name, self.requestObject(name), serialNumber)
        return PrivateCertificate.fromCertificateAndKeyPair(signed, self)

    def newCertificate(self, newCertData: bytes, format: int = FILETYPE_ASN1) -> PrivateCertificate:
        """A certificate of this key."""
        return PrivateCertificate.load(newCertData, self, format)


class CertificateRequest:
    """A request for a certificate, as its DER."""

    def __init__(self, der: bytes) -> None:
        self.original = der

    @classmethod
    def load(cls, requestData: bytes, requestFormat: int = FILETYPE_ASN1) -> CertificateRequest:
        """One of a file's contents."""
        return cls(_pem_to_der(requestData, "CERTIFICATE REQUEST") if requestFormat == FILETYPE_PEM else requestData)

    def dump(self, format: int = FILETYPE_ASN1) -> bytes:
        """What to write to a file."""
        return _pem("CERTIFICATE REQUEST", self.original) if format == FILETYPE_PEM else self.original

    def getSubject(self) -> DistinguishedName:
        """Whom it is about."""
        return DistinguishedName(**_signing.subject_of(self.original))


# -- certificates -----------------------------------------------------------------------------------------------


class Certificate:
    """A certificate (X.509)."""

    def __init__(self, der: bytes) -> None:
        self._der = der
        try:
            ((_, outer, _),) = _elements(der)
            (_, contents, _), *_ = _elements(outer)
            fields = list(_elements(contents))
        except (ValueError, IndexError) as raised:
            raise ValueError(f"this is no certificate: {raised}") from None
        if fields[0][0] == 0xA0:  # the version
            del fields[0]
        self._serial, _, self._issuer, _, self._subject, self._key, *self._more = fields

    @property
    def original(self) -> bytes:
        """Its DER."""
        return self._der

    @classmethod
    def load(cls, requestData: bytes, format: int = FILETYPE_ASN1, args: Any = ()) -> Certificate:
        """One of a file's contents."""
        return cls(_pem_to_der(requestData, "CERTIFICATE") if format == FILETYPE_PEM else requestData, *args)

    @classmethod
    def loadPEM(cls, data: bytes) -> Certificate:
        """One of a PEM file's contents."""
        return cls.load(data, FILETYPE_PEM)

    @classmethod
    def peerFromTransport(cls, transport: Any) -> Certificate:
        """The other end's. CertificateError if it has shown none."""
        found = transport.getPeerCertificate()
        if found is None:
            raise error.CertificateError(f"the peer of {transport!r} has shown no certificate")
        return cls(found.original)

    def dump(self, format: int = FILETYPE_ASN1) -> bytes:
        """What to write to a file."""
        return _pem("CERTIFICATE", self._der) if format == FILETYPE_PEM else self._der

    def dumpPEM(self) -> bytes:
        """What to write to a PEM file."""
        return self.dump(FILETYPE_PEM)

    def getSubject(self) -> DistinguishedName:
        """Whom it is about."""
        return _name(self._subject[1])

    def getIssuer(self) -> DistinguishedName:
        """Who says so."""
        return _name(self._issuer[1])

    def serialNumber(self) -> int:
        """Its number among the issuer's."""
        return int.from_bytes(self._serial[1], "big", signed=True)

    def getNames(self) -> list[str]:
        """The hosts it is for: those of its extension (RFC 5280, 4.2.1.6), else its subject's common name."""
        for tag, contents, _ in self._more:
            if tag == 0xA3:
                ((_, extensions, _),) = _elements(contents)
                for _, extension, _ in _elements(extensions):
                    (_, identifier, _), *_, (_, value, _) = _elements(extension)
                    if _identifier(identifier) == "2.5.29.17":
                        ((_, names, _),) = _elements(value)
                        return [name.decode("ascii") for kind, name, _ in _elements(names) if kind == 0x82]
        return [name.decode() for name in [self.getSubject().get("commonName")] if name is not None]

    def getPublicKey(self) -> PublicKey:
        """The key that it is about."""
        return PublicKey(self._key[2])

    def digest(self, method: str = "md5") -> bytes:
        """Its fingerprint: pairs of hexadecimal digits between colons."""
        found = hashlib.new(method, self._der, usedforsecurity=False).hexdigest().upper()
        return ":".join(found[i : i + 2] for i in range(0, len(found), 2)).encode()

    def inspect(self) -> str:
        """It, in some lines."""
        lines = ["Certificate For Subject:", self.getSubject().inspect(), "", "Issuer:", self.getIssuer().inspect()]
        lines += ["", f"Serial Number: {self.serialNumber()}", f"Digest: {self.digest().decode()}"]
        return "\n".join([*lines, self.getPublicKey().inspect()])

    def options(self, *authorities: Certificate) -> Any:
        """The options of one who has no certificate of its own, and trusts these."""
        raise NotImplementedError("Possible, but doubtful we need this yet: use optionsForClientTLS(trustRoot=...)")

    def _addCACertsToContext(self, context: ssl.SSLContext) -> None:
        context.load_verify_locations(cadata=self._der)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and self._der == other._der

    def __hash__(self) -> int:
        return hash(self._der)

    def __repr__(self) -> str:
        subject = self.getSubject().get("commonName", b"").decode()
        issuer = self.getIssuer().get("commonName", b"").decode()
        return f"<{type(self).__name__} Subject={subject} Issuer={issuer}>"


class PrivateCertificate(Certificate):
    """A certificate with its private key."""

    _options: ClassVar[Any]
    """The class of options, which puts itself here."""

    def __init__(self, der: bytes, privateKey: KeyPair) -> None:
        super().__init__(der)
        self.privateKey = privateKey

    @classmethod
    def load(cls, data: bytes, privateKey: Any, format: int = FILETYPE_ASN1) -> PrivateCertificate:  # type: ignore[override]
        """One of a file's contents, and a key."""
        return cls(_pem_to_der(data, "CERTIFICATE") if format == FILETYPE_PEM else data, privateKey)

    @classmethod
    def loadPEM(cls, data: bytes) -> PrivateCertificate:
        """One of a PEM file that holds both."""
        return cls(_pem_to_der(data, "CERTIFICATE"), KeyPair(_pem_to_der(data, "PRIVATE KEY")))

    @classmethod
    def fromCertificateAndKeyPair(cls, certificateInstance: Certificate, privateKey: KeyPair) -> PrivateCertificate:
        """One made of both."""
        return cls(certificateInstance.original, privateKey)

    def newCertificate(self, newCertData: bytes, format: int = FILETYPE_ASN1) -> PrivateCertificate:
        """Another certificate of the same key."""
        return type(self).load(newCertData, self.privateKey, format)

    def dumpPEM(self) -> bytes:
        """Both, for a PEM file."""
        return self.dump(FILETYPE_PEM) + self.privateKey.dump(FILETYPE_PEM)

    def inspect(self) -> str:
        """Both, in some lines."""
        return f"{super().inspect()}\n{self.privateKey.inspect()}"

    def certificateRequest(self, format: int = FILETYPE_ASN1, digestAlgorithm: str = "sha256") -> bytes:
        """A request for a certificate of this key about the same name, for a file."""
        return self.privateKey.certificateRequest(self.getSubject(), format, digestAlgorithm)

    def signRequestObject(
        self,
        certificateRequest: CertificateRequest,
        serialNumber: int,
        secondsToExpiry: float = 60 * 60 * 24 * 365,
        digestAlgorithm: str = "sha256",
    ) -> Certificate:
        """The certificate that is requested, with this one as its issuer."""
        return self.privateKey.signRequestObject(
            self.getSubject(), certificateRequest, serialNumber, secondsToExpiry, digestAlgorithm
        )

    def signCertificateRequest(
        self,
        requestData: bytes,
        verifyDNCallback: Callable[[DistinguishedName], Any],
        serialNumber: int,
        requestFormat: int = FILETYPE_ASN1,
        certificateFormat: int = FILETYPE_ASN1,
    ) -> Any:
        """The same, of a file's contents and for a file; see `KeyPair.signCertificateRequest`."""
        return self.privateKey.signCertificateRequest(
            self.getSubject(), requestData, verifyDNCallback, serialNumber, requestFormat, certificateFormat
        )

    def options(self, *authorities: Certificate) -> Any:
        """The options of one who shows this, and, if some are given, trusts nobody but whom these authorities vouch
        for."""
        how = {"trustRoot": authorities} if authorities else {}
        return self._options(privateKey=self.privateKey, certificate=self, **how)


def pem_of(what: Any) -> bytes:
    """A key or certificate as PEM: ours, bytes of either form, pyOpenSSL's, or cryptography's. TypeError."""
    if isinstance(what, Certificate):
        return what.dump(FILETYPE_PEM)
    if isinstance(what, KeyPair):
        return what.dump(FILETYPE_PEM)
    if isinstance(what, str):
        what = what.encode()
    if isinstance(what, bytes):
        return what if b"-----BEGIN" in what else _pem_of_der(what)
    for convert in ("to_cryptography", "to_cryptography_key"):
        if hasattr(what, convert):
            what = getattr(what, convert)()
    return _cryptographys(what)


def _pem_of_der(data: bytes) -> bytes:
    try:
        return Certificate(data).dump(FILETYPE_PEM)
    except ValueError:
        return KeyPair(data).dump(FILETYPE_PEM)


def _cryptographys(what: Any) -> bytes:
    if not hasattr(what, "private_bytes") and not hasattr(what, "public_bytes"):
        raise TypeError(f"{what!r} is no key and no certificate")
    from cryptography.hazmat.primitives import serialization as form

    if hasattr(what, "private_bytes"):
        return what.private_bytes(  # type: ignore[no-any-return]
            form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
        )
    return what.public_bytes(form.Encoding.PEM)  # type: ignore[no-any-return]
