"""Addresses from the command line are laid over the configuration's, and held to the same rules."""

import msgspec
import pytest

from sidecar.core.config import ANY, Address, Auth, Config, TokenRef
from sidecar.core.config_shape import read_address, with_twin
from sidecar.core.overrides import overridden

DATA, ADMIN = Address("127.0.0.1", 9000), Address(ANY, 9001)


def test_what_is_given_counts_and_the_rest_stays():
    config = Config()
    assert overridden(config, (), None) == (config, ())
    placed, found = overridden(config, (DATA,), ADMIN)
    assert (placed.listen, placed.admin, found) == ((DATA,), ADMIN, ())
    assert overridden(config, (DATA,), None)[0].admin == config.admin


def test_the_rules_of_the_configuration_hold():
    _, found = overridden(Config(), (Address("0.0.0.0", 9000),), None)
    assert "auth.tokens" in found[0].hint
    with_token = msgspec.structs.replace(Config(), auth=Auth(tokens=(TokenRef(env="T"),)))
    assert overridden(with_token, (Address("0.0.0.0", 9000),), None)[1] == ()


@pytest.mark.parametrize("data", [DATA, Address("::1", 9001), Address("127.0.0.1", 9001)])
def test_every_address_covers_both_families(data):
    _, found = overridden(Config(), (data,), ADMIN)
    assert bool(found) == (data.port == ADMIN.port)


def test_texts():
    assert read_address("*:9001") == ADMIN
    assert str(ADMIN) == "*:9001"
    assert read_address("*") is None
    assert with_twin(DATA) == (DATA, Address("::1", 9000, is_optional=True))
    assert with_twin(ADMIN) == (ADMIN,)
