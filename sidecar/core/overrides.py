"""What the command line says of where to listen, laid over what the configuration says.

In a pod it is the injector that knows the ports: the probes and the application's variables name them, whatever the
configuration has. The result is held to the same rules as the configuration itself.
"""

from __future__ import annotations

import msgspec

from sidecar.core.config import Address, Config, Problem
from sidecar.core.config_problems import address_problems


def overridden(
    config: Config, listen: tuple[Address, ...], admin: Address | None
) -> tuple[Config, tuple[Problem, ...]]:
    """The configuration with these addresses (none: its own), and what is wrong with it then."""
    if not listen and admin is None:
        return config, ()
    placed = msgspec.structs.replace(config, listen=listen or config.listen, admin=admin or config.admin)
    return placed, tuple(address_problems(placed))
