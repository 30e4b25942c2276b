"""What is measured side by side: each a process on a core of its own, before the same provider.

nginx and Envoy do as little as they can (no access line, one worker), Envoy with its local rate limit filter. The
sidecar has everything on: two keys, four windows for each, limits learned from every answer, an access line to a file.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from lib_contenders import LITELLM, LITELLM_ENVIRON
from lib_processes import HOME, LOGS, ROOT, SIDECAR, Process, free_port
from lib_upstream import MODEL, Upstream, find, nginx

_ENVOY = ROOT / "build" / "envoy"
_PORTKEY = ROOT / "bench" / "portkey" / "node_modules" / "@portkey-ai" / "gateway"
_ENVOY_LIMITS = ("max_connections", "max_requests", "max_pending_requests")
# 40 characters, as real ones have: a short key is looked for inside header values
_KEYS = {"BENCH_KEY_A": f"gsk_{'Bench4' * 6}", "BENCH_KEY_B": f"gsk_{'Bench7' * 6}"}
_WINDOWS = "rpm: 100000000, tpm: 1000000000, rpd: 1000000000, tpd: 10000000000"


class Door(NamedTuple):
    """Where a gateway is called: the URL of chat completions, headers that it alone needs. `pid`: whose time counts."""

    url: str
    pid: int | None
    headers: Mapping[str, str] = {}
    admin: str = ""  # of the sidecar: the origin of its status page
    ready_ms: float = 0.0  # from exec to ready
    is_foreign: bool = False  # someone else's deployment: nothing is known of its provider
    authority: str = ""  # the file of the authorities to trust there; empty: the system's


class Build(NamedTuple):
    """How a sidecar is run: its command, and where its modules are."""

    words: Sequence[str]
    home: Path


SHIPPED = Build(SIDECAR, HOME)
PLAIN = Build(SIDECAR, ROOT)  # nothing of it compiled

Start = Callable[[Upstream, frozenset[int]], Iterator[Door]]


class Gateway(NamedTuple):
    """One contender. `is_heavy`: it takes so long for each request that few cells are measured of it."""

    name: str
    title: str
    start: Start
    is_heavy: bool = False


def _direct(upstream: Upstream, cores: frozenset[int]) -> Iterator[Door]:
    yield Door(f"{upstream.origin}/openai/v1/chat/completions", None)


def _nginx(upstream: Upstream, cores: frozenset[int]) -> Iterator[Door]:
    port = free_port()
    tls = (
        f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {upstream.authority}; proxy_ssl_name localhost;"
        if upstream.scheme == "https"
        else ""
    )
    http = (
        f"upstream up {{ server 127.0.0.1:{upstream.port}; keepalive 1024; keepalive_requests 1000000000; }}\n"
        f"server {{ listen 127.0.0.1:{port} backlog=4096;\n"
        f"location / {{ proxy_pass {upstream.scheme}://up; proxy_http_version 1.1; proxy_set_header Connection '';\n"
        f"proxy_buffering off; proxy_request_buffering off; {tls} }} }}"
    )
    with nginx(f"nginx-{upstream.scheme}", http, f"http://127.0.0.1:{port}/ready", cores) as process:
        yield Door(f"http://127.0.0.1:{port}/openai/v1/chat/completions", process.pid, ready_ms=process.ready_ms)


def envoy_command() -> str:
    """Where the binary of the PyPI package lies."""
    found = sorted(_ENVOY.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    return str(found[0]) if found else find("envoy", "envoy")


def _envoy(upstream: Upstream, cores: frozenset[int]) -> Iterator[Door]:
    port, admin = free_port(), free_port()
    path = LOGS / f"envoy-{upstream.scheme}.json"
    path.write_text(json.dumps(_envoy_config(upstream, port, admin)))
    words = [envoy_command(), "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "warn"]
    with Process(f"envoy-{upstream.scheme}", words, {}, f"http://127.0.0.1:{admin}/ready", cores) as process:
        yield Door(f"http://127.0.0.1:{port}/openai/v1/chat/completions", process.pid, ready_ms=process.ready_ms)


def _typed(kind: str, **fields: object) -> dict[str, object]:
    return {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **fields}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_config(upstream: Upstream, port: int, admin: int) -> dict[str, object]:
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    bucket = {"max_tokens": 100_000_000, "tokens_per_fill": 100_000_000, "fill_interval": "1s"}
    limit = _typed(
        "filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="local",
        token_bucket=bucket,
        filter_enabled=always,
        filter_enforced=always,
    )
    filters = [
        {"name": "envoy.filters.http.local_ratelimit", "typed_config": limit},
        {"name": "envoy.filters.http.router", "typed_config": _typed("filters.http.router.v3.Router")},
    ]
    route = {"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "0s"}}
    listens = _typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="in",
        http_filters=filters,
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    )
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": listens}]}
    endpoint = {"endpoint": {"address": _address(upstream.port)}}
    cluster: dict[str, object] = {
        "name": "up",
        "type": "STATIC",
        "connect_timeout": "2s",
        "circuit_breakers": {"thresholds": [dict.fromkeys(_ENVOY_LIMITS, 10_000)]},
        "load_assignment": {"cluster_name": "up", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if upstream.scheme == "https":
        trusted = {"trusted_ca": {"filename": str(upstream.authority)}}
        tls = _typed(
            "transport_sockets.tls.v3.UpstreamTlsContext",
            sni="localhost",
            common_tls_context={"validation_context": trusted},
        )
        cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    return {
        "admin": {"address": _address(admin)},
        "static_resources": {
            "listeners": [{"name": "in", "address": _address(port), "filter_chains": [chain]}],
            "clusters": [cluster],
        },
    }


def sidecar_config(upstream: Upstream, keys: int = 2, models: str = "") -> str:
    """The configuration that is measured, without ports: so many keys of as many accounts, four windows for each."""
    listed = "".join(
        f"      - {{name: k{at}, env: {'BENCH_KEY_A' if at % 2 == 0 else 'BENCH_KEY_B'}, account: org-{at}}}\n"
        for at in range(keys)
    )
    return (
        f"providers:\n  - name: groq\n    base_url: {upstream.origin}/openai/v1\n    keys:\n{listed}"
        f'    limits: [{{model: "*", {_WINDOWS}}}]\n{models}'
    )


@contextmanager
def sidecar(
    name: str, config: str, upstream: Upstream, cores: frozenset[int], build: Build = SHIPPED
) -> Iterator[Door]:
    """A sidecar with that configuration. Its access lines are in build/bench/NAME.log."""
    port, admin = free_port(), free_port()
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"{name}.yaml"
    path.write_text(f"listen: 127.0.0.1:{port}\nadmin: 127.0.0.1:{admin}\n{config}")
    environ = (
        _KEYS
        | {"PYTHONPATH": str(build.home)}
        | ({"SSL_CERT_FILE": str(upstream.authority)} if upstream.scheme == "https" else {})
    )
    words = [*build.words, "serve", "--config", str(path)]
    with Process(name, words, environ, f"http://127.0.0.1:{admin}/readyz", cores) as process:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        yield Door(url, process.pid, admin=f"http://127.0.0.1:{admin}", ready_ms=process.ready_ms)


def _sidecar(upstream: Upstream, cores: frozenset[int]) -> Iterator[Door]:
    with sidecar(f"sidecar-{upstream.scheme}", sidecar_config(upstream), upstream, cores) as door:
        yield door


def _plain(upstream: Upstream, cores: frozenset[int]) -> Iterator[Door]:
    with sidecar(f"plain-{upstream.scheme}", sidecar_config(upstream), upstream, cores, PLAIN) as door:
        yield door


def _portkey(upstream: Upstream, cores: frozenset[int]) -> Iterator[Door]:
    port = free_port()
    words = [find("node", "nodejs"), str(_PORTKEY / "build" / "start-server.js"), f"--port={port}", "--headless"]
    environ = {
        "NODE_EXTRA_CA_CERTS": str(upstream.authority),
        "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost",
        "NODE_ENV": "production",
    }
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{upstream.origin}/openai/v1"}
    with Process(f"portkey-{upstream.scheme}", words, environ, f"http://127.0.0.1:{port}/", cores) as process:
        yield Door(f"http://127.0.0.1:{port}/v1/chat/completions", process.pid, headers, ready_ms=process.ready_ms)


def _litellm(upstream: Upstream, cores: frozenset[int]) -> Iterator[Door]:
    port = free_port()
    path = LOGS / f"litellm-{upstream.scheme}.yaml"
    deployments = [
        {
            "model_name": MODEL,
            "litellm_params": {
                "model": f"openai/{MODEL}",
                "api_base": f"{upstream.origin}/openai/v1",
                "api_key": key,
                "rpm": 100_000_000,
                "tpm": 1_000_000_000,
            },
        }
        for key in _KEYS.values()
    ]
    settings = {"routing_strategy": "usage-based-routing-v2", "num_retries": 3}
    path.write_text(json.dumps({"model_list": deployments, "router_settings": settings}))
    master_key = f"sk-{secrets.token_hex(32)}"  # without one it does not start
    environ = LITELLM_ENVIRON | {"LITELLM_MASTER_KEY": master_key, "SSL_CERT_FILE": str(upstream.authority)}
    words = [str(LITELLM / "litellm"), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    ready = f"http://127.0.0.1:{port}/health/liveliness"
    with Process(f"litellm-{upstream.scheme}", words, environ, ready, cores) as process:
        authorized = {"authorization": f"Bearer {master_key}"}
        yield Door(f"http://127.0.0.1:{port}/v1/chat/completions", process.pid, authorized, ready_ms=process.ready_ms)


GATEWAYS = (
    Gateway("direct", "no proxy", _direct),
    Gateway("nginx", "nginx", _nginx),
    Gateway("envoy", "Envoy, local rate limit", _envoy),
    Gateway("sidecar", "sidecar, everything on", _sidecar),
    Gateway("plain", "sidecar, not compiled", _plain),
    Gateway("portkey", "Portkey", _portkey, is_heavy=True),
    Gateway("litellm", "LiteLLM proxy", _litellm, is_heavy=True),
)
TITLES = {gateway.name: gateway.title for gateway in GATEWAYS}


def chosen(names: list[str], *, has_heavy: bool) -> list[Gateway]:
    """Those of these names, all for none; heavy ones that are not installed are left out, and said so."""
    picked = [each for each in GATEWAYS if (not names or each.name in names) and (has_heavy or not each.is_heavy)]
    there = {
        "plain": HOME != ROOT,
        "portkey": _PORTKEY.exists() and shutil.which("node"),
        "litellm": (LITELLM / "litellm").exists(),
    }
    for each in picked:
        if not there.get(each.name, True):
            print(f"{each.title} is left out: `make bench-env` makes it", file=sys.stderr)
    return [each for each in picked if there.get(each.name, True)]


@contextmanager
def running(gateways: list[Gateway], upstream: Upstream, cores: frozenset[int]) -> Iterator[dict[str, Door]]:
    """All of them, by name, started one after the other and ended together."""
    with ExitStack() as stack:
        yield {each.name: stack.enter_context(contextmanager(each.start)(upstream, cores)) for each in gateways}


def versions(gateways: list[Gateway]) -> dict[str, str]:
    """Of what is installed, for the heading of a result."""
    told = {"nginx": _said([find("nginx", "nginx-light"), "-v"]).rpartition("/")[2]}
    names = {each.name for each in gateways}
    if "envoy" in names:
        told["Envoy"] = _said([envoy_command(), "--version"]).rpartition("version: ")[2].split("/")[1]
    if "portkey" in names:
        told["Portkey"] = str(json.loads((_PORTKEY / "package.json").read_text())["version"])
        told["node"] = _said(["node", "--version"])
    if "litellm" in names:
        code = "from importlib.metadata import version; print(version('litellm'))"
        told["LiteLLM"] = _said([str(LITELLM / "python"), "-c", code])
    return told


def _said(words: list[str]) -> str:
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    return (run.stdout + run.stderr).strip()
