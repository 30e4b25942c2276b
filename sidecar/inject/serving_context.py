"""The TLS side of the server: one context for the life of the process, whose certificate is swapped under it.

OpenSSL takes the certificate of the context when a handshake begins, so a swap reaches every new connection and
disturbs none that exists. It is tried on a context of its own first: a certificate without its key is refused as a
whole and the old one serves on. Python can load a key only from a file, and there is no writable volume, so it is
handed over in anonymous memory (memfd_create(2), Linux).
"""

from __future__ import annotations

import os
import ssl


class ServingContext:
    """What the server listens with. Holds no certificate until the first `load`."""

    def __init__(self) -> None:
        self.context = _empty()
        self.loads = 0

    def load(self, chain: str, key: str) -> None:
        """Serve new connections with this certificate chain and key (PEM). Raises ValueError when they are no pair."""
        try:
            _load(_empty(), chain, key)
            _load(self.context, chain, key)
        except ssl.SSLError as error:
            raise ValueError(f"not a certificate and its key: {error.reason or 'no PEM'}") from None
        self.loads += 1


def _empty() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(context: ssl.SSLContext, chain: str, key: str) -> None:
    file = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        left = (chain + key).encode()
        while left:
            left = left[os.write(file, left) :]
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)


def trusting(bundle: str) -> ssl.SSLContext:
    """A client's context that trusts these certificates (PEM) alone, each of them as it stands.

    A leaf that was given without its authority is then trusted as itself, as an API server does with a `caBundle`.
    Raises ValueError when there is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=bundle)
    except ssl.SSLError as error:
        raise ValueError(f"not a certificate bundle: {error.reason}") from None
    return context
