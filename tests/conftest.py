"""What every test may ask for: the way to providers. One certificate serves a whole session."""

from __future__ import annotations

import pytest
import trustme

from tests.both_ways import WAYS, behind, certified


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("authority") / "authority.pem"
    return certified(trustme.CA(), path), path


@pytest.fixture(params=WAYS)
def way(request):
    """In the clear, then behind TLS."""
    if request.param == "plain":
        yield request.param
    else:
        with behind(*request.getfixturevalue("certificate")):
            yield request.param
