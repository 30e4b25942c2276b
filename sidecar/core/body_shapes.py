"""What the decoder fills in of a JSON body that is to be rewritten: its members, and those of its messages.

Apart from body.py because decoders read the types of fields at run time, which compiled modules do not keep.
"""

from __future__ import annotations

import msgspec


class Sought:
    """Stands where a member is not wanted, so that the decoder calls back for it."""


class Messages(msgspec.Struct, gc=False):
    messages: list[dict[str, msgspec.Raw]] = []


decode_names = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
decode_messages = msgspec.json.Decoder(Messages).decode
