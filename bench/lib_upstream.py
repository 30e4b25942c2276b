"""The provider that gateways are measured before: an nginx that answers every request at once, with Groq's headers.

It is far cheaper than what is measured, speaks plain HTTP and TLS (by an authority of its own, made each time), and
throws bodies away. Large ones (from 10,000 bytes) are read before they are answered, as providers do: to an answer that
comes early nginx would react by closing. The limits it tells are ample, so that nobody ever waits.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import trustme
from lib_processes import LOGS, Process, free_port

MODEL = "openai/gpt-oss-120b"
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1750000000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello there, how can I help you today?"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 60, "completion_tokens": 10, "total_tokens": 70},
    },
    separators=(",", ":"),
)
_HEADERS = {
    "x-ratelimit-limit-requests": "100000000",
    "x-ratelimit-remaining-requests": "99999990",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-limit-tokens": "1000000000",
    "x-ratelimit-remaining-tokens": "999999000",
    "x-ratelimit-reset-tokens": "1ms",
    "x-request-id": "req_01abcdefghijklmnopqrstuvwx",
    "vary": "Origin",
}
# The five directories nginx wants to own, whether it uses them or not
_KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Upstream(NamedTuple):
    """A provider under way. `authority`: the file with the certificate to trust, where the scheme is https."""

    scheme: str
    port: int
    authority: Path

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://127.0.0.1:{self.port}"


def find(command: str, package: str) -> str:
    """Where a command lies; ends the script with a sentence that says how to get it."""
    found = shutil.which(command) or shutil.which(command, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SystemExit(f"{command} is missing: `make bench-env` installs it, or `apt-get install {package}`")
    return found


def nginx(name: str, http: str, ready_url: str, cores: frozenset[int]) -> Process:
    """An nginx with one worker, started, with this inside its `http` block."""
    command = find("nginx", "nginx-light")
    folder = LOGS / name
    folder.mkdir(parents=True, exist_ok=True)
    temporary = " ".join(f"{kind}_temp_path {folder / kind};" for kind in _KINDS)
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder / 'pid'}; error_log stderr warn;\n"
        "events { worker_connections 16384; }\n"
        f"http {{ access_log off; {temporary} client_max_body_size 0; tcp_nodelay on;\n"
        f"keepalive_requests 1000000000; keepalive_timeout 600s;\n{http}\n}}\n"
    )
    prelude = "user root;" if os.geteuid() == 0 else ""  # its folders are below the checkout
    words = [command, "-p", str(folder), "-c", str(config)]
    return Process(name, [*words, "-g", prelude] if prelude else words, {}, ready_url, cores)


@contextmanager
def static(cores: frozenset[int]) -> Iterator[dict[str, Upstream]]:
    """The provider, by scheme."""
    authority = trustme.CA()
    folder = LOGS / "authority"
    folder.mkdir(parents=True, exist_ok=True)
    trusted, chain, key = folder / "ca.pem", folder / "chain.pem", folder / "key.pem"
    authority.cert_pem.write_to_path(str(trusted))
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    chain.write_bytes(b"".join(each.bytes() for each in certificate.cert_chain_pems))
    key.touch(mode=0o600)
    certificate.private_key_pem.write_to_path(str(key))
    ports = {"http": free_port(), "https": free_port()}
    headers = "".join(f"add_header {name} {value};\n" for name, value in _HEADERS.items())
    says = f"default_type application/json;\n{headers}return 200 '{ANSWER}';"
    inner = LOGS / "inner.sock"
    inner.unlink(missing_ok=True)
    reading = "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Content-Length '';"
    reading += " proxy_pass_request_body off; client_body_buffer_size 2m;"
    answer = f"location / {{ {reading} if ($content_length ~ ^.....) {{ break; proxy_pass http://inner; }} {says} }}"
    tls = f"listen 127.0.0.1:{ports['https']} ssl backlog=4096; ssl_certificate {chain}; ssl_certificate_key {key};"
    within = f"upstream inner {{ server unix:{inner}; keepalive 64; keepalive_requests 1000000000; }}\n"
    within += f"server {{ listen unix:{inner}; location / {{ {says} }} }}\n"
    http = within + f"server {{ listen 127.0.0.1:{ports['http']} backlog=4096; {answer} }}\nserver {{ {tls} {answer} }}"
    with nginx("upstream", http, f"http://127.0.0.1:{ports['http']}/", cores):
        yield {scheme: Upstream(scheme, port, trusted) for scheme, port in ports.items()}
