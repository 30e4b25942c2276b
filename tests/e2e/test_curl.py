"""curl: what an operator tries first, and every odd framing that it can be asked for."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
from typing import NamedTuple

import pytest

from tests.e2e.house import GROQ_MODEL, KEYS, MARK
from tests.processes import WATCHDOG_S, Serving, call, clean_environ, free_port, has_ipv6

JSON = ("-H", "content-type: application/json")


class Curled(NamedTuple):
    """What curl printed: the body, the head (with -i or -D -, in the body), and what it told about the exchange."""

    body: bytes
    told: str

    @property
    def status(self) -> int:
        """The status of the last answer (100 is none)."""
        return [int(line.split()[2]) for line in self.told.splitlines() if line.startswith("< HTTP/")][-1]


def curl(*words: str) -> Curled:
    """Run curl; its own configuration and proxies are left out."""
    done = subprocess.run(
        ["curl", "-q", "--silent", "--show-error", "--verbose", "--noproxy", "*", *words],
        env=clean_environ(), capture_output=True, timeout=WATCHDOG_S, check=False,
    )  # fmt: skip
    told = done.stderr.decode("utf-8", "replace")
    assert done.returncode == 0, told
    assert MARK.encode() not in done.stdout + done.stderr
    return Curled(done.stdout, told)


def chat(**fields: object) -> str:
    return json.dumps({"model": GROQ_MODEL, "messages": [{"role": "user", "content": "hello"}], **fields})


def test_plain(house):
    done = curl(f"{house.url}/v1/chat/completions", *JSON, "-d", chat())
    assert done.status == 200
    assert json.loads(done.body)["choices"][0]["finish_reason"] == "stop"


def test_streamed(house):
    done = curl("-N", f"{house.url}/v1/chat/completions", *JSON, "-d", chat(stream=True))
    assert "< content-type: text/event-stream" in done.told
    assert done.body.startswith(b"data: {")
    assert done.body.endswith(b"data: [DONE]\n\n")


def test_C7_expect_continue_with_20_MiB_in_a_form(house, tmp_path):
    upload = tmp_path / "large.jsonl"
    upload.write_bytes(b'{"line": "of forty bytes, give or take"}\n' * (1 << 19))
    done = curl("-H", "Expect: 100-continue", f"{house.url}/v1/files", "-F", "purpose=batch", "-F", f"file=@{upload}")
    assert "< HTTP/1.1 100 Continue" in done.told
    made = json.loads(done.body)
    assert made["bytes"] == upload.stat().st_size > 20 << 20
    again = curl(f"{house.url}/v1/files/{made['id']}/content")
    assert hashlib.sha256(again.body).digest() == hashlib.sha256(upload.read_bytes()).digest()


def test_chunked_upload(house, tmp_path):
    upload = tmp_path / "speech.mp3"
    upload.write_bytes(bytes(range(256)) * 4096)
    chunked = ("-H", "Transfer-Encoding: chunked")
    done = curl(*chunked, f"{house.url}/v1/files", "-F", "purpose=batch", "-F", f"file=@{upload}")
    assert "> Transfer-Encoding: chunked" in done.told
    made = json.loads(done.body)
    assert curl(f"{house.url}/v1/files/{made['id']}/content").body == upload.read_bytes()
    (sent, _) = house.seen(house.openai)
    assert "transfer-encoding" not in dict(sent.headers), "a body that is known whole has a length"
    done = curl(*chunked, *JSON, f"{house.url}/v1/chat/completions", "-d", chat())
    assert json.loads(done.body)["model"] == GROQ_MODEL


def test_http_1_0(house):
    plain = curl("--http1.0", f"{house.url}/v1/chat/completions", *JSON, "-d", chat())
    assert json.loads(plain.body)["model"] == GROQ_MODEL
    streamed = curl("--http1.0", "-N", f"{house.url}/v1/chat/completions", *JSON, "-d", chat(stream=True))
    assert streamed.body.endswith(b"data: [DONE]\n\n")
    assert "transfer-encoding" not in streamed.told.lower()


def test_C9_gzip_is_left_gzip(house):
    words = (f"{house.url}/v1/chat/completions", *JSON, "-d", chat())
    packed = curl("-H", "Accept-Encoding: gzip", *words)
    assert "< content-encoding: gzip" in packed.told
    assert f"< content-length: {len(packed.body)}" in packed.told
    assert json.loads(gzip.decompress(packed.body))["model"] == GROQ_MODEL
    assert json.loads(curl("--compressed", *words).body)["model"] == GROQ_MODEL
    assert "content-encoding" not in curl(*words).told


def test_head(house):
    done = curl("-I", f"{house.url}/v1/models")
    length = len(curl(f"{house.url}/v1/models").body)
    assert done.status == 200
    assert f"content-length: {length}" in done.told.lower()


@pytest.mark.parametrize("words", [(), ("-0",)])
def test_two_requests_on_one_connection(house, words):
    target = f"{house.url}/v1/chat/completions"
    done = curl(*words, *JSON, "-d", chat(), target, target)
    assert done.told.count("< HTTP/") == 2
    if not words:
        assert "Re-using existing connection" in done.told


def test_C15_localhost_is_either_address(house, tmp_path):
    port = free_port()
    with Serving(tmp_path / "c15.yaml", _ONE.format(house.groq.base_url), KEYS, listen=f"127.0.0.1:{port}") as sidecar:
        hosts = ["127.0.0.1", "localhost"]
        if has_ipv6():
            sidecar.until(lambda line: f"http://[::1]:{port}/v1" in line)
            hosts.append("[::1]")
        for host in hosts:
            done = curl(f"http://{host}:{port}/v1/chat/completions", *JSON, "-d", chat())
            assert json.loads(done.body)["model"] == GROQ_MODEL
        for way in ["-4", *(["-6"] if has_ipv6() else [])]:
            assert curl(way, f"http://localhost:{port}/v1/models").status == 200


_ONE = """
providers:
  - name: groq
    base_url: {}
    keys: [{{name: main, env: GROQ_A}}]
"""


def test_C7_32_MiB_of_image_pass_and_more_than_the_cap_is_refused_unread(house, tmp_path):
    body = tmp_path / "image.json"
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * (32 << 20)}}
    body.write_text(json.dumps({"model": GROQ_MODEL, "messages": [{"role": "user", "content": [image]}]}))
    done = curl(f"{house.url}/v1/chat/completions", *JSON, "--data-binary", f"@{body}")
    assert done.status == 200
    with Serving(tmp_path / "cap.yaml", _ONE.format(house.groq.base_url) + "body: {max_bytes: 1MiB}\n", KEYS) as small:
        target = f"{small.url}/v1/chat/completions"
        refused = curl(target, *JSON, "-H", "Expect: 100-continue", "--data-binary", f"@{body}")
        assert refused.status == 413
        assert "100 Continue" not in refused.told
        assert json.loads(refused.body)["error"]["code"] == "body_too_large"
        assert call(small.url, "GET", "/v1/models").status == 200


def test_a_wrong_host_is_refused(house):
    refused = curl(f"{house.url}/v1/models", "-H", "Host: evil.example")
    assert refused.status == 403
    assert json.loads(refused.body)["error"]["code"] == "forbidden_host"


def test_what_is_not_here_says_what_is(house):
    refused = curl(f"{house.url}/chat/completions", *JSON, "-d", chat())
    assert refused.status == 404
    assert "ends in /v1" in json.loads(refused.body)["error"]["message"]
