"""A credential in memory, which prints as nothing: an operator's provider key or an application's token.

Whoever needs the characters says so with `reveal()`; everything that formats values by accident (a repr in a log line,
an f-string, a traceback) shows the placeholder. msgspec refuses to encode it, which is the point.
Also decides whether a text found where none belongs is likely a credential, so that no message repeats it.
"""

from __future__ import annotations

import re

# The prefixes that providers and common services give their keys, so that leaked ones are found.
_PREFIXED = re.compile(
    r"(?=.*[0-9])(?:gsk_|csk-|sk-|xai-|AIza|hf_|nvapi-|fw_|pplx-|ghp_|github_pat_|AKIA|eyJ)[A-Za-z0-9_.\-]{12,}"
)
# The rest are long runs of letters and digits; names that people choose have separators, or no digits.
_RANDOM = re.compile(r"(?=.*[0-9])(?=.*[a-z])[A-Za-z0-9+/]{32,}")
_BETWEEN = re.compile(r"[\s=:,;]+")  # `Bearer KEY`, `NAME=KEY`


class Secret:
    """One credential: visible ASCII characters, never empty."""

    __slots__ = ("_characters",)

    def __init__(self, characters: str) -> None:
        self._characters = characters

    def reveal(self) -> str:
        """The credential itself, for the one header it is meant for."""
        return self._characters

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        """For noticing that a key file has changed; tokens of callers are compared in constant time elsewhere."""
        return isinstance(other, Secret) and self._characters == other._characters

    def __hash__(self) -> int:
        return hash(self._characters)

    def __reduce__(self) -> str:
        """Refuses to be pickled or copied."""
        raise TypeError("a Secret is not serialised")


def looks_like_secret(text: str) -> bool:
    """Whether a text, or a word in it, is more likely a credential than a name that somebody chose."""
    return any(_PREFIXED.fullmatch(word) or _RANDOM.fullmatch(word) for word in _BETWEEN.split(text))
