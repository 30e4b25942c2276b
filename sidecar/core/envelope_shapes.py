"""What the decoder fills in of a JSON body: the members that an envelope is made of, who watches for a second model.

Apart from envelope.py because decoders read the types of fields at run time, which compiled modules do not keep.
"""

from __future__ import annotations

import msgspec


class Name:
    """Stands where the model does, so that the decoder calls back for each and two are noticed at no cost."""


class StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class Object(msgspec.Struct, gc=False):
    id: str


class Fields(msgspec.Struct, gc=False):
    stream: bool | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: str | Object | None = None
    input_file_id: str | None = None
    file_id: str | None = None
    file_ids: list[str] | None = None
    training_file: str | None = None
    validation_file: str | None = None


NAME = Name()


class Named(Fields, gc=False):
    model: Name = NAME
