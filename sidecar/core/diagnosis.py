"""From what was measured to what it means and what to do: the judgement of `sidecar doctor`.

Facts come from outside (names looked up, handshakes, answers to the model list), findings go out: fine, a warning, or
broken, each with a remedy where there is one. No fact holds a key, so no finding can. Codes of certificates are
OpenSSL's (x509_vfy.h). Refuses to know how anything is measured (probing.py, doctor.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Literal

import msgspec

from sidecar.core.limits import DAY, SECOND
from sidecar.core.measured import (
    ConnectFacts,
    Facts,
    FileFacts,
    KeyFacts,
    NameFacts,
    PortFacts,
    ProviderFacts,
    ProxyFacts,
    TlsFacts,
)

_SOON_DAYS = 14  # a certificate that ends within this time is worth a look
_SKEW_NS = 5 * SECOND  # `Date` has whole seconds, and answers take a while
_EXPIRED, _NOT_YET, _OTHER_NAME = 10, 9, 62
_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21, 24, 27})

Level = Literal["ok", "warning", "broken"]


class Finding(msgspec.Struct, omit_defaults=True):
    """One thing that was looked at. `about`: name, connection, certificate, key, model, clock, port, file or proxy."""

    level: Level
    about: str
    subject: str
    message: str
    remedy: str = ""


def diagnose(facts: Facts) -> list[Finding]:
    """Everything that was looked at, in the order a request meets it."""
    findings = [Finding("warning", "configuration", "", warning) for warning in facts.warnings]
    for provider in facts.providers:
        findings += _way(provider, facts.now_ns)
    findings += [_key(key) for key in facts.keys]
    findings += _models(facts)
    findings += _clock(facts.keys)
    findings += [_port(port) for port in facts.ports]
    findings += [_file(file) for file in facts.files]
    findings += _proxy(facts.proxy)
    return findings


def _way(provider: ProviderFacts, now_ns: int) -> Iterator[Finding]:
    where = f"{provider.name} {provider.host}:{provider.port}"
    if provider.names:
        yield _name(where, provider.names)
    if provider.connects:
        yield _connection(where, provider.connects)
    if provider.tls is not None:
        yield _certificate(where, provider, provider.tls, now_ns)


def _name(where: str, names: tuple[NameFacts, ...]) -> Finding:
    failed = [f"{each.resolver} ({each.error})" for each in names if not each.addresses]
    found = [f"{len(each.addresses)} by {each.resolver}" for each in names if each.addresses]
    if not found:
        remedy = "check the host in base_url, and the name servers in /etc/resolv.conf"
        return Finding("broken", "name", where, f"does not resolve: {'; '.join(failed)}", remedy)
    if failed:
        remedy = "requests are served by the other one; `dns: {resolver: system}` asks the system's alone"
        return Finding("warning", "name", where, f"{', '.join(found)}, not by {'; '.join(failed)}", remedy)
    return Finding("ok", "name", where, f"addresses: {', '.join(found)}")


def _connection(where: str, connects: tuple[ConnectFacts, ...]) -> Finding:
    failed = [f"{each.address}: {each.error}" for each in connects if each.error]
    if len(failed) == len(connects):
        remedy = "check that this machine may open connections there (firewall, network policy, VPN) and the port"
        return Finding("broken", "connection", where, f"cannot be reached ({'; '.join(failed)})", remedy)
    reached = len(connects) - len(failed)
    also = f"; the others do not, which costs nothing ({'; '.join(failed)})" if failed else ""
    return Finding("ok", "connection", where, f"{reached} of {len(connects)} addresses answer{also}")


def _certificate(where: str, provider: ProviderFacts, tls: TlsFacts, now_ns: int) -> Finding:
    if tls.code == _EXPIRED:
        remedy = "if this machine's clock is right, whoever runs that server has to renew it"
        return Finding("broken", "certificate", where, "it has expired", remedy)
    if tls.code == _NOT_YET:
        return Finding("broken", "certificate", where, "it is not valid yet", "check this machine's clock")
    if tls.code == _OTHER_NAME:
        remedy = f"put the name that the certificate is for into base_url of {provider.name}"
        return Finding("broken", "certificate", where, f"it is not for {provider.host}", remedy)
    if tls.code in _UNKNOWN_ISSUER:
        remedy = (
            "if a company's proxy or a private authority issued it, name that authority's file in SSL_CERT_FILE; "
            "else install ca-certificates"
        )
        return Finding("broken", "certificate", where, f"its issuer is not trusted here ({tls.error})", remedy)
    if tls.error:
        remedy = "check scheme and port of base_url: is there an HTTPS server?"
        return Finding("broken", "certificate", where, f"the TLS handshake fails ({tls.error})", remedy)
    days = None if tls.ends_ns is None else (tls.ends_ns - now_ns) // DAY
    if days is not None and days < _SOON_DAYS:
        remedy = "nothing to do here, unless that server is yours: then renew it"
        return Finding("warning", "certificate", where, f"it ends in {days} days", remedy)
    return Finding("ok", "certificate", where, "it is right" if days is None else f"it is right for {days} days more")


_STATUSES: dict[int, tuple[Level, str, str]] = {
    401: (
        "broken",
        "the provider calls it invalid (401)",
        "put a valid key into {place}; a running sidecar takes a changed file up by itself",
    ),
    402: ("broken", "its account has to be paid (402)", "see to the account's balance at the provider"),
    403: (
        "warning",
        "it may not list the models (403), so it is not proven",
        "if requests fail as well: check what the key is allowed to do, and whether the provider serves this region",
    ),
    404: ("warning", "there is no model list at its base_url (404), so it is not proven", "check base_url"),
    405: ("warning", "there is no model list at its base_url (405), so it is not proven", "check base_url"),
    429: ("ok", "it is known, and out of quota right now (429)", ""),
}


def _key(key: KeyFacts) -> Finding:
    subject = f"{key.provider}/{key.name}"
    place = key.source.removeprefix("env ").removeprefix("file ")
    if not key.is_present:
        remedy = f"set {place} and start again" if key.source.startswith("env ") else f"write the key into {place}"
        return Finding("broken", "key", subject, f"it is not there ({key.source})", remedy)
    if key.status is None:
        remedy = "see to the connection first" if key.error else ""
        return Finding("warning", "key", subject, f"not asked about: {key.error or 'no connection'}", remedy)
    if key.status == 200:
        if key.is_public:
            return Finding("ok", "key", subject, "not proven: the provider tells its models without any key")
        return Finding("ok", "key", subject, f"it is valid; {len(key.models)} models are listed for it")
    if key.status in _STATUSES:
        level, message, remedy = _STATUSES[key.status]
        return Finding(level, "key", subject, message, remedy.format(place=place))
    if key.status >= 500:
        remedy = "try again later; see the provider's status page"
        return Finding("warning", "key", subject, f"the provider is in trouble ({key.status})", remedy)
    return Finding("warning", "key", subject, f"not proven: the model list answers {key.status}", "check base_url")


def _models(facts: Facts) -> Iterator[Finding]:
    """Targets of chains that their provider does not list for any key."""
    listed: dict[str, set[str]] = {}
    for key in facts.keys:
        listed.setdefault(key.provider, set()).update(key.models)
    for provider, model in dict.fromkeys(facts.targets):
        known = listed.get(provider)
        if known and model and model not in known and f"models/{model}" not in known:
            near = get_close_matches(model, sorted(known), 1, 0.5)
            remedy = f"the nearest is {near[0]}" if near else "see the provider's list for the name it has there"
            yield Finding("warning", "model", f"{provider}/{model}", "the provider does not list it", remedy)


def _clock(keys: Iterable[KeyFacts]) -> Iterator[Finding]:
    """The middle of all says how our clock goes: one provider may be wrong itself."""
    offsets = sorted(key.offset_ns for key in keys if key.offset_ns is not None)
    if not offsets:
        return
    offset_ns = offsets[len(offsets) // 2]
    amount = f"{abs(offset_ns) / SECOND:.0f} s {'ahead' if offset_ns > 0 else 'behind'}"
    if abs(offset_ns) <= _SKEW_NS:
        yield Finding("ok", "clock", "this machine", "agrees with the providers'")
        return
    remedy = "switch time synchronisation on: windows that end at the full minute or day are counted by this clock"
    yield Finding("warning", "clock", "this machine", f"is {amount} of the providers'", remedy)


def _port(port: PortFacts) -> Finding:
    subject = f"{port.field} {port.address}"
    if port.state == "free":
        return Finding("ok", "port", subject, "free")
    if port.state == "sidecar":
        return Finding("ok", "port", subject, "a sidecar serves here already")
    if port.state == "taken":
        remedy = f"stop it (`ss -ltnp` names it), or change `{port.field}`"
        return Finding("broken", "port", subject, "another program listens here", remedy)
    return Finding("broken", "port", subject, f"cannot be listened at ({port.error})", f"change `{port.field}`")


def _file(file: FileFacts) -> Finding:
    mode = f"{file.mode & 0o777:04o}"
    if file.mode & 0o022:
        return Finding("broken", "file", file.path, f"{file.whose}: others may write it ({mode})", "chmod 600 it")
    if file.mode & 0o004:
        remedy = "chmod 600 it; for a Kubernetes secret, set defaultMode: 0400"
        return Finding("warning", "file", file.path, f"{file.whose}: every user may read it ({mode})", remedy)
    return Finding("ok", "file", file.path, f"{file.whose}: {mode}")


def _proxy(proxy: ProxyFacts) -> Iterator[Finding]:
    if not proxy.names:
        return
    named = ", ".join(proxy.names)
    if not proxy.spares_loopback:
        remedy = "start applications with NO_PROXY=127.0.0.1,localhost, as `sidecar env` and `sidecar run` set it"
        yield Finding("warning", "proxy", named, "applications would send what is meant for sidecar there", remedy)
    message = "sidecar asks no proxy and connects to providers itself"
    yield Finding("ok", "proxy", named, message)


def is_broken(findings: Iterable[Finding]) -> bool:
    """Whether anything has to be done before requests can be served as configured."""
    return any(finding.level == "broken" for finding in findings)


_MARKS = {"ok": "ok", "warning": "WARNING", "broken": "BROKEN"}


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """The findings for a terminal, and what they come to."""
    for finding in findings:
        what = " ".join(filter(None, (finding.about, finding.subject)))
        yield f"{_MARKS[finding.level]:<8} {what}: {finding.message}"
        if finding.remedy:
            yield f"{'':<8} -> {finding.remedy}"
    broken = sum(finding.level == "broken" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    yield ""
    yield f"{broken} broken, {warnings} to look at, {len(findings) - broken - warnings} fine"
