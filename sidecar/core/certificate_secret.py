"""The two objects of the Kubernetes API that the injector touches, as values: the authorities' Secret and `caBundle`.

What is in the Secret: `ca.crt` and `ca.key` (the authority that signs), `next.crt`, `next.key` and `next.announced`
(Unix ns; the one that is to follow), `retired.crt` (those before, still trusted). A Secret that cannot be read whole is
worth nothing, and is written anew: half an authority signs nothing that anybody trusts.

Of the webhook configuration only `caBundle` is ever written, and only at webhooks that call our own Service: whoever
reconciles selectors fights with platforms that do the same (kubernetes conventions, A3 and A9). Where a cluster has
put anything else, it stays.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from sidecar.core.certificates import Authorities, Certificate, Signer

Json = Mapping[str, object]


class Place(NamedTuple):
    """What is called how in this cluster."""

    namespace: str
    service: str
    secret: str
    configuration: str

    @property
    def host(self) -> str:
        """The name under which API servers call the Service, and which their TLS asks for."""
        return f"{self.service}.{self.namespace}.svc"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every name the Service has in its cluster (the usual cluster domain included)."""
        service, namespace = self.service, self.namespace
        return self.host, f"{self.host}.cluster.local", f"{service}.{namespace}", service

    @property
    def secret_path(self) -> str:
        """Where the Secret is."""
        return f"{self.secrets_path}/{self.secret}"

    @property
    def secrets_path(self) -> str:
        """Where Secrets of the namespace are created and watched."""
        return f"/api/v1/namespaces/{self.namespace}/secrets"

    @property
    def configurations_path(self) -> str:
        """Where webhook configurations are watched."""
        return "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"

    @property
    def configuration_path(self) -> str:
        """Where our webhook configuration is."""
        return f"{self.configurations_path}/{self.configuration}"


class Reader(Protocol):
    """Reads what cryptography alone can read. Both raise ValueError for what is none."""

    def certificates(self, pem: str) -> tuple[Certificate, ...]:
        """All certificates of a PEM text."""

    def signer(self, pem: str, key: str) -> Signer:
        """One certificate and the private key that belongs to it."""


def authorities_in(secret: Json | None, reader: Reader) -> Authorities | None:
    """What a Secret holds; None when it is absent or holds nothing that can sign."""
    if secret is None:
        return None
    try:
        fields = _fields(secret)
        current = reader.signer(fields["ca.crt"], fields["ca.key"])
        coming = reader.signer(fields["next.crt"], fields["next.key"]) if "next.crt" in fields else None
        announced_ns = int(fields["next.announced"]) if coming and "next.announced" in fields else None
        retired = reader.certificates(fields["retired.crt"]) if "retired.crt" in fields else ()
    except (KeyError, ValueError):
        return None
    return Authorities(current, coming, announced_ns, retired)


def _fields(secret: Json) -> dict[str, str]:
    encoded = secret.get("data")
    if not isinstance(encoded, Mapping):
        return {}
    return {str(name): base64.b64decode(str(value), validate=True).decode() for name, value in encoded.items()}


def secret_with(authorities: Authorities, place: Place, old: Json | None) -> dict[str, object]:
    """The Secret to write. With `old` it is an update, which succeeds only if nobody wrote in between."""
    fields = {"ca.crt": authorities.current.certificate.pem, "ca.key": authorities.current.key}
    if authorities.next is not None:
        fields |= {"next.crt": authorities.next.certificate.pem, "next.key": authorities.next.key}
    if authorities.announced_ns is not None:
        fields["next.announced"] = str(authorities.announced_ns)
    if authorities.retired:
        fields["retired.crt"] = "".join(each.pem for each in authorities.retired)
    metadata = _mapping(old, "metadata") if old is not None else {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque" if old is None else old.get("type", "Opaque"),
        "metadata": {**metadata, "name": place.secret, "namespace": place.namespace},
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in fields.items()},
    }


def live_bundles(configuration: Json | None, place: Place) -> tuple[str | None, ...]:
    """The PEM text that each webhook of ours carries now, None where it has none or one that is not text."""
    return tuple(_bundle(webhook) for _, webhook in _ours(configuration, place))


def _bundle(webhook: Json) -> str | None:
    encoded = _mapping(webhook, "clientConfig").get("caBundle")
    try:
        return base64.b64decode(str(encoded), validate=True).decode() if encoded else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def bundle_patch(configuration: Json | None, place: Place, wanted: str) -> list[dict[str, object]]:
    """The JSON patch that makes every webhook of ours carry `wanted` (PEM); empty when all do.

    Each write is preceded by a test of the name: a list that has changed since it was read is not patched blindly.
    """
    patch: list[dict[str, object]] = []
    encoded = base64.b64encode(wanted.encode()).decode()
    for index, webhook in _ours(configuration, place):
        if _bundle(webhook) != wanted:
            patch.append({"op": "test", "path": f"/webhooks/{index}/name", "value": webhook.get("name")})
            patch.append({"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": encoded})
    return patch


def _ours(configuration: Json | None, place: Place) -> Iterator[tuple[int, Json]]:
    webhooks = (configuration or {}).get("webhooks")
    for index, webhook in enumerate(webhooks if isinstance(webhooks, list) else []):
        service = _mapping(_mapping(webhook, "clientConfig"), "service")
        if (service.get("namespace"), service.get("name")) == (place.namespace, place.service):
            yield index, webhook


def _mapping(parent: object, name: str) -> Json:
    value = parent.get(name) if isinstance(parent, Mapping) else None
    return value if isinstance(value, Mapping) else {}
