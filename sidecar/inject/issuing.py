"""Makes and reads X.509 certificates: the only place that knows cryptography, and the only one that imports it.

Keys are of P-256: every TLS library takes them, and one is made in a millisecond. What is issued passes Python's strict
checks (RFC 5280: key identifiers, critical basic constraints), which are stricter than Go's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sidecar.core.certificates import Certificate, Leaf, Lifetimes, Signer, blocks_of, lifetime_of
from sidecar.core.limits import SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_USAGE = {
    "digital_signature": False,
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "key_cert_sign": False,
    "crl_sign": False,
    "encipher_only": False,
    "decipher_only": False,
}


_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class Issuer:
    """Implements core's `Reader`, and signs. `hosts`: the names a leaf is for, the first one its common name."""

    def __init__(self, hosts: Sequence[str], lifetimes: Lifetimes) -> None:
        self._hosts = tuple(hosts)
        self._lifetimes = lifetimes

    def authority(self, now_ns: int) -> Signer:
        """A new authority, signed by itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        # the serial in the name tells authorities apart where a peer looks them up by name
        serial = x509.random_serial_number()
        name = _name(f"sidecar injector authority {serial:x}"[:64])
        start_ns, end_ns = lifetime_of(self._lifetimes, None, now_ns)
        public = key.public_key()
        builder = _builder(name, name, start_ns, end_ns).serial_number(serial).public_key(public)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        usage = x509.KeyUsage(**_NO_USAGE | {"key_cert_sign": True, "crl_sign": True})
        builder = builder.add_extension(usage, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        return Signer(_value(builder.sign(key, hashes.SHA256())), _text(key))

    def leaf(self, authority: Signer, now_ns: int) -> Leaf:
        """A server certificate for our hosts, with a key of its own."""
        parent = x509.load_pem_x509_certificate(authority.certificate.pem.encode())
        parent_key = _issuing_key(authority.key)
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        start_ns, end_ns = lifetime_of(self._lifetimes, authority.certificate, now_ns)
        builder = _builder(_name(self._hosts[0][:64]), parent.subject, start_ns, end_ns)
        builder = builder.serial_number(x509.random_serial_number()).public_key(public)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.KeyUsage(**_NO_USAGE | {"digital_signature": True}), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        names = x509.SubjectAlternativeName([_alternative(host) for host in self._hosts])
        builder = builder.add_extension(names, critical=False)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(parent.public_key())  # type: ignore[arg-type]  # RSA or EC
        builder = builder.add_extension(identifier, critical=False)
        signed = builder.sign(parent_key, hashes.SHA256())
        return Leaf(Signer(_value(signed), _text(key)), authority.certificate.fingerprint)

    def certificates(self, pem: str) -> tuple[Certificate, ...]:
        """All certificates of a PEM text; ValueError when there is none, or one is broken."""
        found = tuple(_value(x509.load_pem_x509_certificate(block.encode())) for block in blocks_of(pem))
        if not found:
            raise ValueError("no certificate")
        return found

    def signer(self, pem: str, key: str) -> Signer:
        """The first certificate of a text and its key; ValueError when they do not belong together."""
        certificate = self.certificates(pem)[0]
        public = x509.load_pem_x509_certificate(certificate.pem.encode()).public_key()
        if _issuing_key(key).public_key() != public:
            raise ValueError("the key is another certificate's")
        return Signer(certificate, key)


def _builder(subject: x509.Name, issuer: x509.Name, start_ns: int, end_ns: int) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    return builder.not_valid_before(_datetime(start_ns)).not_valid_after(_datetime(end_ns))


def _datetime(when_ns: int) -> datetime:
    return _EPOCH + timedelta(seconds=when_ns // SECOND)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _value(certificate: x509.Certificate) -> Certificate:
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    start_ns, end_ns = map(_unix_ns, (certificate.not_valid_before_utc, certificate.not_valid_after_utc))
    return Certificate(blocks_of(pem)[0], certificate.fingerprint(hashes.SHA256()).hex(), start_ns, end_ns)


def _unix_ns(when: datetime) -> int:
    return int((when - _EPOCH).total_seconds()) * SECOND


def _issuing_key(pem: str) -> _Key:
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except TypeError:  # it is encrypted
        raise ValueError("the key is encrypted") from None
    if not isinstance(key, _Key):
        raise ValueError("the key cannot sign")
    return key


def _text(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
