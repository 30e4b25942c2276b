"""Which accounts are one: keys whose errors name the same organisation draw on one quota (acceptance A7).

Limits belong to the organisation, not the key. What the configuration holds to be two accounts of a provider is one as
soon as both have been refused in the name of the same organisation. The account that was named first stands for all.
It stays so over reloads, until the secret of a key changes. Refuses to know quotas (ledger.py merges them).
"""

from __future__ import annotations

from typing import NamedTuple

_MOST = 4096  # organisations that are remembered: errors are input


class Merger(NamedTuple):
    """`joined` is the same account as `account`, for both are of that organisation of the provider."""

    provider: str
    organization: str
    account: str
    joined: str

    def __str__(self) -> str:
        one, other = (scoped.partition("/")[2] for scoped in (self.account, self.joined))
        return (
            f"the accounts {one} and {other} of {self.provider} are both {self.organization}: their keys share one "
            f"quota from now on. Give them the same `account` in the configuration."
        )


class Accounts:
    """What is known of accounts being one. They are scoped (`groq/org-a`). `merged`: how many mergers there were."""

    __slots__ = ("_named", "_stands_for", "merged")

    def __init__(self) -> None:
        self.merged = 0
        self._named: dict[tuple[str, str], str] = {}  # provider, organisation -> who was named first
        self._stands_for: dict[str, str] = {}

    def root(self, account: str) -> str:
        """The account whose quotas count for it: itself, in most cases."""
        return self._stands_for.get(account, account)

    def note(self, provider: str, account: str, organization: str) -> Merger | None:
        """An error with a key of that account named an organisation; what follows from it, once."""
        root = self.root(account)
        first = self._named.get((provider, organization))
        if first is None:
            if len(self._named) < _MOST:
                self._named[provider, organization] = root
            return None
        if first == root:
            return None
        for each, stands in list(self._stands_for.items()):
            if stands == root:
                self._stands_for[each] = first
        self._stands_for[root] = first
        self._named = {key: first if named == root else named for key, named in self._named.items()}
        self.merged += 1
        return Merger(provider, organization, first, root)

    def forget(self, account: str) -> None:
        """A key of that account has another secret: whose it is has to be learned anew, also for those it stood for."""
        gone = {account} | {each for each, root in self._stands_for.items() if root == account}
        for each in gone:
            self._stands_for.pop(each, None)
        self._named = {key: named for key, named in self._named.items() if named not in gone}

    def items(self) -> list[tuple[str, str]]:
        """Every account that another one stands for, with that one."""
        return list(self._stands_for.items())

    def __repr__(self) -> str:
        return f"<Accounts {self._stands_for}>"
