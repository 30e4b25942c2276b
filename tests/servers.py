"""A real Redis, started by the tests themselves on a Unix socket of its own. It ends with the block, or the session."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

_WATCHDOG_S = 20


class RedisServer:
    """One `redis-server` without persistence. `words`: more of its own settings."""

    def __init__(self, *words: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="redis"))
        self.path = self._folder / "s"
        self._words = words
        self.password: str | None = None  # that `call` has to give
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """As `share.url`."""
        return f"unix://{self.path}"

    def start(self) -> None:
        """Start it, empty, and wait until it says that it is ready."""
        self.path.unlink(missing_ok=True)
        words = ["--port", "0", "--unixsocket", str(self.path), "--save", "", "--dir", str(self._folder), *self._words]
        if "--sentinel" in self._words:
            words = list(self._words)
        self._run(words)

    @classmethod
    def sentinel(cls, settings: Path) -> RedisServer:
        """One that watches others; `settings` are its own to write."""
        return cls(str(settings), "--sentinel")

    def _run(self, words: list[str]) -> None:
        self._process = subprocess.Popen(["redis-server", *words], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        said = b""
        while (
            b"Ready to accept connections" not in said
            and b"accept connections at" not in said
            and b"Sentinel ID is" not in said
        ):
            line = self._process.stdout.readline()
            assert line, said.decode()
            said += line

    def call(self, *words: str) -> bytes:
        """One command on a connection of its own; what comes back, as it comes."""
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(_WATCHDOG_S)
            door.connect(str(self.path))
            if self.password is not None:
                door.sendall(_command("AUTH", self.password))
                assert door.recv(1 << 16) == b"+OK\r\n"
            door.sendall(_command(*words))
            return door.recv(1 << 16)

    @contextlib.contextmanager
    def listening(self, channel: str) -> Iterator[None]:
        """Somebody hears this channel until the block ends, and the server has seen that end."""
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(_WATCHDOG_S)
            door.connect(str(self.path))
            door.sendall(_command("SUBSCRIBE", channel))
            assert door.recv(1 << 16).startswith(b"*3")
            yield
            door.sendall(_command("QUIT"))
            while door.recv(1 << 16):
                pass

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: every connection breaks."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_WATCHDOG_S)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def stop(self) -> None:
        """End it, and leave nothing."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<RedisServer {self.path}>"


def _command(*words: str) -> bytes:
    coded = [word.encode() for word in words]
    return b"*%d\r\n" % len(coded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in coded)


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def tcp_command(port: int, *words: str) -> bytes:
    """One command to the server on that port; what comes back first."""
    with socket.create_connection(("127.0.0.1", port), _WATCHDOG_S) as door:
        door.sendall(_command(*words))
        return door.recv(1 << 16)
