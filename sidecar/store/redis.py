"""The shared ledger in Redis or Valkey: three scripts and a connection on which peers see that this sidecar lives.

Implements `interfaces.Store` as well, for the rows that all sidecars know. Every error of the client becomes a
`StoreFailed` with one of few reasons; nothing is tried twice here, because who asks has to know how long it took.
Refuses to know what is counted (core/lua_ledger.py decides) and when to ask (leasing.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Awaitable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from redis import asyncio as redis
from redis import exceptions
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from sidecar.core.lua_fleet import LUA_ALIVE, LUA_SAVE
from sidecar.core.lua_ledger import LUA_LEDGER
from sidecar.core.store_url import StoreUrl
from sidecar.interfaces import CannotKeep, Loaded, NotSaved

_CONNECTIONS = 16  # as many calls are under way at once
_ROWS_S = 1.0  # nothing waits for rows

T = TypeVar("T")

_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "timeout"),
    (exceptions.TimeoutError, "timeout"),
    (exceptions.AuthenticationError, "password"),
    (exceptions.NoPermissionError, "password"),
    (exceptions.OutOfMemoryError, "memory"),
    (exceptions.ReadOnlyError, "read_only"),
    (exceptions.ConnectionError, "connection"),
    (OSError, "connection"),
    (exceptions.RedisError, "error"),
)
# the words of servers that have no class of their own in the client
_WORDS = {"NOAUTH": "password", "WRONGPASS": "password", "OOM": "memory", "READONLY": "read_only"}


class _Listening(Protocol):
    """A connection that hears a channel."""

    def subscribe(self, *names: str) -> Awaitable[object]: ...

    def aclose(self) -> Awaitable[object]: ...


class _Client(Protocol):
    """What the three clients (one server, Sentinel, Cluster) have in common and is used here."""

    def eval(self, script: str, count: int, *words: str | bytes) -> Awaitable[object]: ...

    def evalsha(self, name: str, count: int, *words: str | bytes) -> Awaitable[object]: ...

    def zrange(self, key: str, first: int, last: int) -> Awaitable[list[bytes]]: ...

    def hmget(self, key: str, names: list[bytes]) -> Awaitable[list[bytes | None]]: ...

    def pubsub(self) -> _Listening: ...

    def aclose(self) -> Awaitable[object]: ...


class StoreFailed(Exception):
    """A call brought nothing. `reason`: timeout, password, memory, read_only, connection or error; the text is for
    people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Credentials(CredentialProvider):
    """What a new connection says of itself: the password as it is by then."""

    def __init__(self, user: str | None, store: RedisStore) -> None:
        self._user = user
        self._store = store

    def get_credentials(self) -> tuple[str, ...]:  # type: ignore[override]  # none at all is possible as well
        password = self._store.password
        if self._user is not None:
            return self._user, password or ""
        return () if password is None else (password,)

    async def get_credentials_async(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.get_credentials()


class RedisStore:
    """One sidecar's way to the ledger. `member`: its name there; `prefix`: of all keys."""

    def __init__(self, url: StoreUrl, place: str, prefix: str, member: str, password: str | None = None) -> None:
        self.place: str | None = place
        self.member = member
        self.channels = f"{prefix}:alive:"
        self._prefix = prefix
        self.password = password  # of connections made from now on
        self._client, self._others = _client(url, _Credentials(url.user, self))
        self._listening: _Listening | None = None
        self._is_cluster = url.kind == "+cluster"
        self._known: dict[str, str] = {}  # the hash of each script that the server has
        self._fleet = [f"{prefix}:{{*}}:{name}" for name in ("members", "rows", "order", "revision")]

    async def ask(self, account: str, model: str, call: bytes) -> bytes:
        """One call of the ledger's script; its reply. Raises StoreFailed."""
        tag = f"{self._prefix}:{{{account}}}"
        keys = [tag, f"{tag}:{model}"]
        return cast(bytes, await self._script(LUA_LEDGER, [key.encode("utf-8", "replace") for key in keys], [call]))

    async def alive(self, is_leaving: bool = False) -> tuple[int, int]:
        """Give a sign of life: how many sidecars live, and the revision of the rows. Raises StoreFailed."""
        if self._listening is None and not self._is_cluster:
            await self._listen()
        reply = await self._script(LUA_ALIVE, self._fleet, [self.member, "1" if is_leaving else "0"])
        count, revision = cast(Sequence[int], reply)
        return int(count), int(revision)

    async def load(self) -> Loaded:
        try:
            async with asyncio.timeout(_ROWS_S):
                names = await self._run(self._client.zrange(self._fleet[2], 0, -1))
                values = await self._run(self._client.hmget(self._fleet[1], names)) if names else []
        except (StoreFailed, TimeoutError) as error:
            raise CannotKeep(f"{self.place}: {error}") from error
        return Loaded({n.decode(): value for n, value in zip(names, values, strict=True) if value is not None})

    async def save(self, changed: Mapping[str, bytes], removed: Collection[str]) -> None:
        if not changed and not removed:
            return
        words: list[str | bytes] = [str(len(removed)), *removed]
        for name, value in changed.items():
            words += (name, value)
        try:
            async with asyncio.timeout(_ROWS_S):
                await self._script(LUA_SAVE, self._fleet, words)
        except (StoreFailed, TimeoutError) as error:
            raise NotSaved(str(error)) from error

    async def close(self) -> None:
        """No call follows. Harmless when called again."""
        with contextlib.suppress(exceptions.RedisError, OSError, TimeoutError):
            async with asyncio.timeout(_ROWS_S):
                if self._listening is not None:
                    await self._listening.aclose()
                for client in (self._client, *self._others):
                    await client.aclose()

    async def _listen(self) -> None:
        """Hold a connection that ends with this process: by it the script tells the dead from the unreachable."""
        listening = self._client.pubsub()
        try:
            await self._run(listening.subscribe(self.channels + self.member))
        except BaseException:
            await self._hang_up(listening)
            raise
        self._listening = listening

    async def forget(self) -> None:
        """The store was out of reach: whoever listens there listens anew."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await self._hang_up(listening)

    async def _hang_up(self, listening: _Listening) -> None:
        with contextlib.suppress(exceptions.RedisError, OSError):
            await listening.aclose()

    async def _script(self, script: str, keys: Sequence[str | bytes], words: Sequence[str | bytes]) -> object:
        name = self._known.get(script)
        if name is not None:
            with contextlib.suppress(exceptions.NoScriptError):
                return await self._run(self._client.evalsha(name, len(keys), *keys, *words))
        reply = await self._run(self._client.eval(script, len(keys), *keys, *words))
        self._known[script] = _sha(script)  # the server keeps what it has run
        return reply

    async def _run(self, awaitable: Awaitable[T]) -> T:
        try:
            return await awaitable
        except exceptions.NoScriptError:
            raise
        except (exceptions.RedisError, OSError) as error:
            raise _failed(error) from error

    def __repr__(self) -> str:
        return f"<RedisStore {self.place} as {self.member}>"


def _failed(error: BaseException) -> StoreFailed:
    text = str(error)
    first = text.split(" ", 1)[0]
    chain = list(_chain(error))  # the client calls a refused password a broken connection
    reason = _WORDS.get(first) or next((name for kind, name in _REASONS if any(isinstance(e, kind) for e in chain)))
    return StoreFailed(reason, text[:200] or type(error).__name__)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _client(url: StoreUrl, credentials: _Credentials) -> tuple[_Client, list[_Client]]:
    """The client for that form of URL, and those that it asks where the store is. It tries nothing again by itself:
    how long a call takes is the caller's to say."""
    options: dict[str, Any] = {"credential_provider": credentials, "retry": Retry(NoBackoff(), 0)}
    if url.kind == "+cluster":
        nodes = [ClusterNode(host, port) for host, port in url.hosts]
        cluster = RedisCluster(startup_nodes=nodes, ssl=url.is_tls, max_connections=_CONNECTIONS, **options)
        return cast(_Client, cluster), []
    options |= {"db": url.db}
    if url.kind == "+sentinel":
        about = {"ssl": url.is_tls, "socket_timeout": _ROWS_S}
        watched = Sentinel(list(url.hosts), sentinel_kwargs=about, ssl=url.is_tls, **options)  # type: ignore[no-untyped-call]
        return cast(_Client, watched.master_for(url.service)), cast(list[_Client], list(watched.sentinels))
    options |= {"max_connections": _CONNECTIONS}
    if url.path:
        options |= {"connection_class": UnixDomainSocketConnection, "path": url.path}
    else:
        host, port = url.hosts[0]
        options |= {"host": host, "port": port}
    if url.is_tls:
        options |= {"connection_class": SSLConnection, "ssl_min_version": ssl.TLSVersion.TLSv1_2}
    return cast(_Client, redis.Redis.from_pool(ConnectionPool(**options))), []
