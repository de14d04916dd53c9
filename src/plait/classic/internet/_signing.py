"""Making keys, and requests and certificates that are signed: what needs `cryptography`.

Rules: it is imported when it is asked for, and who has not installed it is told to. Everything goes in and out as DER.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

_ATTRIBUTES = {
    "commonName": "COMMON_NAME",
    "surname": "SURNAME",
    "serialNumber": "SERIAL_NUMBER",
    "countryName": "COUNTRY_NAME",
    "localityName": "LOCALITY_NAME",
    "stateOrProvinceName": "STATE_OR_PROVINCE_NAME",
    "organizationName": "ORGANIZATION_NAME",
    "organizationalUnitName": "ORGANIZATIONAL_UNIT_NAME",
    "emailAddress": "EMAIL_ADDRESS",
}


def _cryptography() -> tuple[Any, Any, Any]:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
    except ImportError:
        raise ImportError("keys and certificates are made by `cryptography`: run pip install cryptography") from None
    return x509, hashes, serialization


def new_key(size: int) -> bytes:
    """A new RSA key of so many bits."""
    _, _, form = _cryptography()
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=size)
    return key.private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption())


def request(key: bytes, subject: dict[str, bytes], digest: str) -> bytes:
    """A request for a certificate about `subject`."""
    x509, hashes, form = _cryptography()
    private = form.load_der_private_key(key, None)
    made = x509.CertificateSigningRequestBuilder(subject_name=_name(x509, subject))
    return made.sign(private, getattr(hashes, digest.upper())()).public_bytes(form.Encoding.DER)  # type: ignore[no-any-return]


def subject_of(requested: bytes) -> dict[str, str]:
    """Whom a request is about."""
    x509, _, _ = _cryptography()
    names = {getattr(x509.NameOID, constant): name for name, constant in _ATTRIBUTES.items()}
    return {names[part.oid]: part.value for part in x509.load_der_x509_csr(requested).subject if part.oid in names}


def sign(key: bytes, issuer: dict[str, bytes], requested: bytes, serial: int, seconds: float, digest: str) -> bytes:
    """The certificate that was requested, by an issuer, for so many seconds from now."""
    x509, hashes, form = _cryptography()
    wanted = x509.load_der_x509_csr(requested)
    if not wanted.is_signature_valid:
        raise ValueError("the request is not signed by the key it is about")
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(
        issuer_name=_name(x509, issuer),
        subject_name=wanted.subject,
        public_key=wanted.public_key(),
        serial_number=serial,
        not_valid_before=now,
        not_valid_after=now + timedelta(seconds=seconds),
    )
    private = form.load_der_private_key(key, None)
    return made.sign(private, getattr(hashes, digest.upper())()).public_bytes(form.Encoding.DER)  # type: ignore[no-any-return]


def _name(x509: Any, parts: dict[str, bytes]) -> Any:
    return x509.Name(
        [x509.NameAttribute(getattr(x509.NameOID, _ATTRIBUTES[key]), value.decode()) for key, value in parts.items()]
    )
