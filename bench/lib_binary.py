"""Tries a binary where there is nothing else, and measures its start: `python bench/lib_binary.py FILE` (make binary).

No environment but a PATH for its unpacking, an empty place to unpack, another directory: `--version` and `serve` until
ready, a request, SIGTERM. Wall time, and CPU time (user and system, of a whole life), the best and the median of seven,
with the load of the machine: on a busy one only the CPU time means something. Further arguments are other commands to
measure in the same run, turn by turn, such as that of an installed environment. Needs nothing but the standard library.
Fails when any of it does.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

_ROUNDS = 7
_CONFIG = """
listen: 127.0.0.1:0
admin: 127.0.0.1:0
providers: [{name: nobody, base_url: "http://127.0.0.1:9/v1", keys: [{name: none, file: absent}]}]
"""


def version_s(binary: str, environ: dict[str, str]) -> float:
    """Seconds that `--version` takes."""
    start = time.perf_counter()
    done = subprocess.run([binary, "--version"], env=environ, cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.startswith("sidecar, version"), done
    return time.perf_counter() - start


def ready_s(binary: str, environ: dict[str, str], config: Path) -> float:
    """Seconds until `serve` listens; then it is asked something, and ended."""
    start = time.perf_counter()
    command = [binary, "serve", "--config", str(config)]
    with subprocess.Popen(command, env=environ, cwd="/", stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "listening":
                break
        taken = time.perf_counter() - start
        host = event["message"].removeprefix("http://").removesuffix("/v1")
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request("POST", "/v1/chat/completions", b'{"model": "m", "messages": []}')
        assert connection.getresponse().status == 503
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    return taken


def cpu_s() -> float:
    """Seconds of CPU of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def told(what: str, taken: list[tuple[float, float]]) -> str:
    """A line: the best and the median of wall and CPU time."""
    parts = []
    for name, values in zip(("wall", "CPU"), zip(*taken, strict=True), strict=True):
        parts.append(f"{name} {min(values) * 1e3:.0f} ms best, {statistics.median(values) * 1e3:.0f} ms median")
    return f"{what}: {'; '.join(parts)} (of {len(taken)})"


def measured(work: Callable[[], float]) -> tuple[float, float]:
    """What it says it took, and the CPU time of its processes."""
    before = cpu_s()
    wall = work()
    return wall, cpu_s() - before


def main(binary: str, *others: str) -> None:
    """Print what was found."""
    binary = str(Path(binary).resolve())
    commands = [binary, *others]
    with tempfile.TemporaryDirectory() as place:
        environ = {"PATH": "/usr/bin:/bin", "SIDECAR_UNPACK_DIR": place}
        config = Path(place) / "config.yaml"
        config.write_text(_CONFIG)
        print(f"{binary}: {Path(binary).stat().st_size / 2**20:.0f} MiB; {os.cpu_count()} CPUs, load {os.getloadavg()}")
        print(told("first start, with its unpacking", [measured(lambda: version_s(binary, environ))]))
        versions: dict[str, list[tuple[float, float]]] = {command: [] for command in commands}
        readies: dict[str, list[tuple[float, float]]] = {command: [] for command in commands}
        for _ in range(_ROUNDS):
            for command in commands:
                versions[command].append(measured(partial(version_s, command, environ)))
                readies[command].append(measured(partial(ready_s, command, environ, config)))
        for command in commands:
            print(told(f"{command} --version", versions[command]))
            print(told(f"{command} serve, to ready", readies[command]))
        print(f"load at the end {os.getloadavg()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
