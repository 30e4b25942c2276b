"""Tries a binary where there is nothing else, and measures its start: `python bench/lib_binary.py FILE` (make binary).

No environment but a PATH for its unpacking, an empty place to unpack, another directory: `--version` and `serve` until
ready, a request, SIGTERM. Needs nothing but the standard library. Fails when any of it does.
"""

from __future__ import annotations

import http.client
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
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


def main(binary: str) -> None:
    """Print what was found."""
    binary = str(Path(binary).resolve())
    with tempfile.TemporaryDirectory() as place:
        environ = {"PATH": "/usr/bin:/bin", "SIDECAR_UNPACK_DIR": place}
        config = Path(place) / "config.yaml"
        config.write_text(_CONFIG)
        print(f"{binary}: {Path(binary).stat().st_size / 2**20:.0f} MiB")
        print(f"first start, with its unpacking: {version_s(binary, environ) * 1e3:.0f} ms")
        versions = [version_s(binary, environ) for _ in range(_ROUNDS)]
        print(f"--version: {statistics.median(versions) * 1e3:.0f} ms (median of {_ROUNDS})")
        readies = [ready_s(binary, environ, config) for _ in range(_ROUNDS)]
        print(f"serve, to ready: {statistics.median(readies) * 1e3:.0f} ms (median of {_ROUNDS})")


if __name__ == "__main__":
    main(sys.argv[1])
