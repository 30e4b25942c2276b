"""What the compiler is told of a class that an interpreted one may extend. Nothing is told where nothing is compiled.

Contracts on the hot path are such classes and no Protocols: what calls them then costs a jump, not a look-up by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**_: bool) -> Callable[[type], type]:
        """Leave the class as it is."""
        return lambda extended: extended
