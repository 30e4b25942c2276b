"""The TLS context towards providers: verified certificates and host names, ALPN http/1.1, nothing to relax.

`ssl.create_default_context` reads the system's CA store and honours SSL_CERT_FILE and SSL_CERT_DIR, which is how an
operator adds a private CA.
"""

from __future__ import annotations

import ssl


def client_context() -> ssl.SSLContext:
    """A context that verifies peer and host name. Takes some 20 ms (it parses the CA bundle): make one, keep it."""
    return for_http1(ssl.create_default_context())


def for_http1(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same context, offering only HTTP/1.1 (RFC 7301), the one protocol `connection` speaks."""
    context.set_alpn_protocols(["http/1.1"])
    return context
