"""Our commands as an operator starts them: real processes, their lines as they come, their end.

Nothing here waits for time to pass: a process is ready when it says so, and is over when its output ends. The watchdog
of every wait is WATCHDOG_S; it is the failure of a test, never its pace.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

ROOT = Path(__file__).parents[1]
WATCHDOG_S = 20
COMMAND = (sys.executable, "-m", "sidecar")
STARTED: list[Running] = []  # of this session, for a look at all they have said


def clean_environ(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment without keys, proxies or settings of the machine's own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT)} | dict(more or {})


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def free_port() -> int:
    """A port that is free on 127.0.0.1, and on ::1 where that exists."""
    while True:
        with socket.socket() as four:
            four.bind(("127.0.0.1", 0))
            port = int(four.getsockname()[1])
            if not has_ipv6() or _is_free_on_ipv6(port):
                return port


def has_ipv6() -> bool:
    """Whether ::1 exists here."""
    return _is_free_on_ipv6(0)


def _is_free_on_ipv6(port: int) -> bool:
    try:
        with socket.socket(socket.AF_INET6) as six:
            six.bind(("::1", port))
    except OSError:
        return False
    return True


class Answer(NamedTuple):
    """An answer as it came: nothing decoded but the transfer coding."""

    status: int
    headers: list[tuple[str, str]]  # names in lower case
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for each, value in self.headers if each == name), None)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def call(
    origin: str, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """One request on a connection of its own, without any cleverness; no proxy is asked."""
    connection = HTTPConnection(origin.removeprefix("http://"), timeout=WATCHDOG_S)
    try:
        connection.request(method, target, body, {"content-type": "application/json"} | dict(headers or {}))
        with connection.getresponse() as response:
            return Answer(response.status, [(n.lower(), v) for n, v in response.getheaders()], response.read())
    finally:
        connection.close()


class Running:
    """A process of `sidecar`, started. Ends with the block it is opened for."""

    def __init__(self, words: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        self.words = tuple(words)
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._arrived = threading.Condition()
        self._open = 2
        STARTED.append(self)
        self.process = subprocess.Popen(
            [*COMMAND, *words],
            env=clean_environ(environ),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # a suite that a shell runs in the background was told to ignore it, and would pass that on
            preexec_fn=_heed_interrupts if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else None,
        )
        pipes = ((self.process.stdout, self.stdout), (self.process.stderr, self.stderr))
        self._readers = [threading.Thread(target=self._read, args=pipe, daemon=True) for pipe in pipes]
        for reader in self._readers:
            reader.start()

    def __repr__(self) -> str:
        return f"<Running {' '.join(self.words)} pid={self.process.pid} code={self.process.returncode}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read(self, pipe: IO[bytes], lines: list[str]) -> None:
        with pipe:
            for line in pipe:
                with self._arrived:
                    lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                    self._arrived.notify_all()
        with self._arrived:
            self._open -= 1
            self._arrived.notify_all()

    def until(self, is_it: Callable[[str], bool], after: int = 0) -> str:
        """The first line of standard output from the `after`th on that `is_it`; fails when none comes."""
        with self._arrived:
            self._arrived.wait_for(lambda: any(map(is_it, self.stdout[after:])) or not self._open, WATCHDOG_S)
            for line in self.stdout[after:]:
                if is_it(line):
                    return line
        raise AssertionError(f"{self!r} did not say it.\n" + "\n".join([*self.stdout[-20:], *self.stderr[-40:]]))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(WATCHDOG_S)
        for reader in self._readers:
            reader.join(WATCHDOG_S)
        return code

    def stop(self) -> int:
        """End it in order, and when it does not, at once; the exit code. Harmless when called again."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                return self.ended()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.ended()
                raise
        return self.ended()


class Sim(Running):
    """A simulated provider as a process."""

    def __init__(self, dialect: str, *words: str, host: str = "127.0.0.1") -> None:
        super().__init__(("sim", "--dialect", dialect, "--host", host, "--port", "0", *words))
        self.base_url = self.until(lambda line: line.startswith(dialect)).split()[1]
        scheme, _, rest = self.base_url.partition("://")
        self.origin = f"{scheme}://{rest.partition('/')[0]}"

    def steer(self, what: str, value: object = None) -> Any:
        """POST a control call (`faults`, `limits`, `reset`)."""
        answer = call(self.origin, "POST", f"/_sim/{what}", json.dumps(value).encode() if value is not None else b"")
        assert answer.status == 200, answer
        return answer.json

    def ask(self, what: str) -> Any:
        """GET `stats` or `requests`."""
        return call(self.origin, "GET", f"/_sim/{what}").json

    @property
    def total(self) -> Any:
        """All counts together."""
        return self.ask("stats")["total"]


class Serving(Running):
    """`sidecar serve` with a configuration file, ready. `config` leaves out `listen` and `admin`."""

    def __init__(
        self,
        path: Path,
        config: str,
        environ: Mapping[str, str] | None = None,
        *,
        listen: str = "127.0.0.1:0",
        words: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.admin = f"http://127.0.0.1:{free_port()}"
        self._head = f"listen: {listen}\nadmin: {self.admin.removeprefix('http://')}\n"
        self.write(config)
        super().__init__(("serve", "--config", str(path), *words), environ)
        self.url = self.event("listening")["message"].removesuffix("/v1")

    def write(self, config: str) -> None:
        """Another configuration in the same file, put there in one step."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(self._head + config)
        fresh.replace(self.path)

    def event(self, name: str, after: int = 0) -> Any:
        """The first event of that name among the lines from the `after`th on, awaited."""
        return json.loads(self.until(lambda line: json.loads(line).get("event") == name, after))

    def request(self, path: str, after: int = 0, **said: object) -> Any:
        """The first access line for that path, awaited, that says so (`...`: anything): those of requests before it may
        come as late, for lines wait a moment for company."""

        def is_it(line: str) -> bool:
            told = json.loads(line)
            are_said = (name in told and value in (told[name], ...) for name, value in said.items())
            return told.get("path") == path and all(are_said)

        return json.loads(self.until(is_it, after))

    @property
    def requests(self) -> list[Any]:
        """The access lines so far."""
        return [line for line in map(json.loads, list(self.stdout)) if "path" in line]
