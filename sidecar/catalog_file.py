"""Reads the catalog that is shipped with the package. What it says is core/catalog.py's business.

The file lives in conf/ at the root of the repository; `sidecar/conf` is a link to it, so that it is found at the same
place inside the package from a checkout, from an editable install and from a wheel.
"""

from __future__ import annotations

from importlib import resources

import yaml

from sidecar.core.catalog import Catalog, build

# libyaml, ten times as fast, is in every published wheel of PyYAML, but not in every build from source
_LOADER: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_catalog() -> Catalog:
    """The catalog of providers as shipped."""
    text = resources.files("sidecar").joinpath("conf", "providers.yaml").read_bytes()
    return build(yaml.load(text, Loader=_LOADER))
