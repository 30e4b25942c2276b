"""What `sidecar inject` is told on its command line: every field checked before a port is bound."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Literal

import msgspec

from sidecar.core.certificate_secret import Place
from sidecar.core.injection_settings import is_label, is_name
from sidecar.core.units import DURATION_GRAMMAR, parse_duration


class Told(msgspec.Struct, frozen=True):
    """The options as text, as they came. An empty text was not given."""

    certificates: Literal["self", "cert-manager", "files"] = "self"
    certificate_dir: str = ""
    namespace: str = ""
    service: str = ""
    webhook_configuration: str = ""  # default: the service's name
    listen: str = "[::]:10250"
    metrics_listen: str = "[::]:8080"
    linger: str = "8s"
    report_uninjected: bool = False


class Options(msgspec.Struct, frozen=True):
    """The same, read. `linger_ns`: how long to serve on, unready, before the port is closed."""

    is_self: bool
    folder: str
    place: Place
    listen: tuple[str, int]
    metrics_listen: tuple[str, int]
    linger_ns: int
    reports: bool


def read_options(told: Told) -> Options | list[str]:
    """The options, or everything that is wrong with them."""
    listen, metrics_listen = address(told.listen), address(told.metrics_listen)
    linger_ns = parse_duration(told.linger)
    wrong = list(_problems(told))
    if listen is None:
        wrong.append(f"--listen {told.listen!r} is not an IP address and a port, such as [::]:10250")
    if metrics_listen is None:
        wrong.append(f"--metrics-listen {told.metrics_listen!r} is not an IP address and a port, such as [::]:8080")
    if linger_ns is None:
        wrong.append(f"--linger {told.linger!r} is not a duration: {DURATION_GRAMMAR}")
    if wrong or listen is None or metrics_listen is None or linger_ns is None:
        return wrong
    configuration = told.webhook_configuration or told.service
    place = Place(told.namespace, told.service, f"{told.service}-ca", configuration)
    is_self = told.certificates == "self"
    return Options(is_self, told.certificate_dir, place, listen, metrics_listen, linger_ns, told.report_uninjected)


def _problems(told: Told) -> Iterator[str]:
    for option, value in (("--namespace", told.namespace), ("--service", told.service)):
        if not is_label(value):
            yield f"{option} {value!r} is not a name in Kubernetes (small letters, digits and -)"
    if told.webhook_configuration and not is_name(told.webhook_configuration):
        yield f"--webhook-configuration {told.webhook_configuration!r} is not a name in Kubernetes"
    if told.certificates == "self" and told.certificate_dir:
        yield "--certificate-dir goes with --certificates cert-manager or files"
    if told.certificates != "self" and not told.certificate_dir:
        yield f"--certificates {told.certificates} needs --certificate-dir, where tls.crt and tls.key are mounted"


def address(text: str) -> tuple[str, int] | None:
    """(host, port) of `127.0.0.1:80` or `[::]:80`; port 0 is any free one. None when it is neither."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535 or (":" in bare) is (bare == host):
        return None
    try:
        return str(ipaddress.ip_address(bare)), int(port)
    except ValueError:
        return None


def own_address(bound: tuple[str, int]) -> tuple[str, int]:
    """Where a process on this machine reaches a socket that is bound there.

    `::` takes IPv4 as well, and of the two loopback addresses only that one exists in every pod.
    """
    return "127.0.0.1" if bound[0] in ("::", "0.0.0.0") else bound[0], bound[1]
