"""What the measurements rest on: a histogram, ratios of rounds and when they say nothing, plots; load on an endpoint of
someone's, over TLS too."""

import asyncio
import itertools
import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from lib_gateways import Door
from lib_histogram import Histogram
from lib_openloop import Offer, offer
from lib_quote import rows_of
from lib_readers import Reader, Seen, Wish, in_parallel
from lib_report import Report, Setting, Target, heading, table, told, verdicts
from lib_rounds import Disagreement, Noise, Plan, of, ratio, take
from lib_sampler import LOOP
from lib_streamer import event
from lib_svg import Plot, bars, lines, stamped
from lib_wrk import body_of
from profiled import GROUPS, group_of, shares


@settings(max_examples=200)
@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=50), st.sampled_from([0.1, 50, 90, 99, 100]))
def test_a_percentile_is_never_too_little_and_at_most_one_part_in_128_too_much(times, percentile):
    found = Histogram(times).at(percentile)
    within = sorted(times)
    true = next(each for at, each in enumerate(within, 1) if at >= len(times) * percentile / 100 - 1e-9)
    assert true <= found <= true + true // 128 + 1


def test_merged_histograms_are_as_one():
    one, other = Histogram([5, 1000]), Histogram([70, 10**9])
    one.merge(other)
    whole = Histogram([5, 1000, 70, 10**9])
    assert [one.at(p) for p in (25, 50, 75, 100)] == [whole.at(p) for p in (25, 50, 75, 100)]
    assert one.count == 4
    assert Histogram().at(50) == 0


def test_ratios_are_taken_round_by_round():
    # the machine became four times slower: medians of the figures would say something else
    rounds = [{"a": 1.0, "b": 2.0}, {"a": 4.0, "b": 8.0}, {"a": 2.0, "b": 4.4}]
    assert ratio(rounds, "a", "b").median == 0.5


def test_contenders_take_turns_in_both_directions():
    asked = []

    def measure(name):
        asked.append(name)
        return 1.0

    take(Plan(3, (("a", "b"),)), ["a", "b"], measure)
    assert asked == ["a", "b", "b", "a", "a", "b"]


def test_rounds_that_disagree_are_repeated_and_then_nothing_is_said():
    figures = itertools.cycle([1.0, 1.0, 2.0, 1.0])
    with pytest.raises(Disagreement, match="a / b"):
        take(Plan(5, (("a", "b"),)), ["a", "b"], lambda name: next(figures))


def test_rounds_that_disagree_are_told_of_where_that_is_asked_for():
    figures, noise = itertools.cycle([1.0, 1.0, 2.0, 1.0]), Noise(is_tolerated=True)
    rounds = take(Plan(5, (("a", "b"),), noise=noise, where="250 B"), ["a", "b"], lambda name: next(figures))
    assert len(rounds) == 10
    (dispute,) = noise.told
    assert dispute.startswith("250 B: a / b is ")
    assert "67% apart" in dispute


def test_rounds_that_agree_are_told_of_as_ever():
    noise = Noise(is_tolerated=True)
    assert len(take(Plan(5, (("a", "b"),), noise=noise), ["a", "b"], lambda name: 1.0)) == 5
    assert not noise.told


def _report(noise):
    began = Setting("a machine", "abc", datetime(2026, 1, 1, tzinfo=UTC))
    text = (
        heading("Cost", {"nginx": "1.22"}, began)
        + "\n"
        + table(("what", "µs", "x"), [["a", "12.5", ""], ["2", "1,300", "-"]])
    )
    return told(Report("cost", text, [Target("CPU over nginx's", 2.7, 2.6, spread=0.1)], noise=noise))


def test_a_report_in_spite_of_noise_marks_every_figure_and_says_why():
    text = _report(["a / b is 2.00, but ..."])
    assert "| a | ~12.5 |  |" in text
    assert "| 2 | ~1,300 | - |" in text
    assert "> **Taken on a busy machine.**" in text
    assert "> - a / b is 2.00, but ..." in text
    (row,) = rows_of("cost.md", text)
    assert row[1:4] == ["2.7 x", "2.6 x", "MISSED by 4%, rounds ± 5% (undecided), on a busy machine"]


def test_a_report_without_noise_marks_nothing():
    text = _report([])
    assert "| a | 12.5 |  |" in text
    assert "busy" not in text


def test_a_plot_says_where_it_was_taken():
    drawn = bars(Plot("cost", "µs"), {"g": {"a": 10.0}})
    told_here = "".join(ElementTree.fromstring(stamped(drawn, "<machine>", is_busy=True)).itertext())
    assert "<machine>" in told_here
    assert "busy" in told_here
    assert "busy" not in stamped(drawn, "machine", is_busy=False)


def test_rounds_that_come_to_agree_are_enough():
    figures = itertools.chain([1.0, 9.0, 9.0, 1.0], itertools.repeat(1.0))
    assert 5 < len(take(Plan(5, (("a", "b"),)), ["a", "b"], lambda name: next(figures))) < 10


def test_one_round_says_nothing():
    with pytest.raises(Disagreement):
        of([1.0])


@pytest.mark.parametrize(("figure", "is_met"), [(0.59, True), (0.6, True), (0.61, False)])
def test_a_target_is_met_by_no_more(figure, is_met):
    target = Target("CPU", figure, 0.6)
    assert target.is_met is is_met
    assert ("MISSED" in str(target)) is not is_met


@pytest.mark.parametrize(("spread", "is_told"), [(0.02, False), (0.5, True), (None, False)])
def test_a_verdict_within_the_spread_of_the_rounds_says_so(spread, is_told):
    assert ("(undecided)" in str(Target("CPU", 2.5, 2.6, spread=spread))) is is_told


def test_what_a_result_says_of_targets_can_be_quoted():
    told = verdicts([Target("CPU: over nginx's", 2.5, 2.6), Target("ready", 500.0, 400.0, "ms")])
    first, second = rows_of("overhead.md", told)
    assert first == ["CPU: over nginx's", "2.5 x", "2.6 x", "hit", "[overhead.md](bench/results/overhead.md)"]
    assert second[:4] == ["ready", "500 ms", "400 ms", "MISSED by 25%"]


def test_plots_are_well_formed_and_hold_every_name():
    names = {"nginx <1>": 20.0, "b & c": 18000.0, "none": 0.0}
    drawn = bars(Plot("cost", "µs"), {"group": names, "other": {"nginx <1>": 3.0}})
    text = "".join(ElementTree.fromstring(drawn).itertext())
    assert all(name in text for name in names)
    points = {"a": [(0.0, 10.0), (1.0, 2000.0)], "b": [(0.0, 0.0), (1.0, 1.0)]}
    assert ElementTree.fromstring(lines(Plot("late", "µs"), points, {0.0: "p50", 1.0: "p99"})) is not None


def test_a_longer_bar_is_a_larger_figure():
    drawn = ElementTree.fromstring(bars(Plot("cost", "µs"), {"g": {"a": 10.0, "b": 20.0}}))
    bars_drawn = [each for each in drawn.iter("{http://www.w3.org/2000/svg}rect") if each.get("height") == "15"]
    widths = [float(each.get("width", "")) for each in bars_drawn]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.01)


def test_the_innermost_function_of_a_group_decides():
    # a window is looked at by who chooses and by who settles
    assert group_of("edge/fastlane:_answer;gateway:_loop;core/keys:admit;core/windows:fits") == "choose, admit"
    assert group_of("gateway:_attempt;attempt:close;core/settlement:settle;core/windows:refund") == "settle"
    assert group_of("gateway:handle") == "handing on between these"
    assert group_of(f"upstream/connection:data_received;{LOOP}") == "event loop, reading sockets"
    assert group_of("zones:read") == "everything else"


def test_shares_are_of_all_samples_in_the_order_of_a_request():
    found = shares({"core/tally:note": 1, "core/call:understand": 2, "zones:read": 1})
    assert {name: part for name, part in found.items() if part} == {
        "understand": 0.5, "tally": 0.25, "everything else": 0.25
    }  # fmt: skip
    assert list(found)[:-1] == list(GROUPS)


class _Streams(BaseHTTPRequestHandler):
    """Answers every request with a stream of two events."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in (b"data: {}\n\n", b"data: [DONE]\n\n"):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *words):
        """Keep quiet."""


@contextmanager
def _endpoint(folder):
    """Somebody's endpoint behind TLS, by an authority of their own; its door."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusted = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    with ThreadingHTTPServer(("127.0.0.1", 0), _Streams) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"https://localhost:{server.server_address[1]}/v1/chat/completions"
        yield Door(url, None, is_foreign=True, authority=str(trusted))
        server.shutdown()
        thread.join()


def test_an_endpoint_with_an_authority_of_its_own_is_loaded_over_tls(tmp_path):
    with _endpoint(tmp_path) as door:
        taken = offer(door, Offer(200, 0.1, 2, body_of(250)))
        assert (taken.times_ns.count, taken.failed) == (20, 0)
        seen = in_parallel(door, Wish(2, 1, "m"), 2)
        assert (seen.events, seen.first_ns.count) == (4, 2)


def test_an_authority_that_is_not_trusted_is_refused(tmp_path):
    with _endpoint(tmp_path) as door, pytest.raises(ssl.SSLCertVerificationError):
        offer(door._replace(authority=""), Offer(200, 0.1, 1, body_of(250)))


class _Wire(asyncio.Transport):
    """Takes what a reader writes."""

    def write(self, data):
        """Nothing comes of it."""


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_events_are_counted_wherever_framing_and_reads_cut_them(size):
    # a relay in arrears puts several events into one chunk, and cuts the last of them
    body = b"".join(event() for _ in range(5)) + b"data: [DONE]\n\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(body[at : at + 97]), body[at : at + 97]) for at in range(0, len(body), 97))
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    seen = Seen(Histogram(), Histogram(), Histogram(), 0, 0)
    reader = Reader(seen)
    reader.connection_made(_Wire())
    ended = reader.ask(b"")
    for at in range(0, len(answer), size):
        assert not ended.done()
        reader.data_received(answer[at : at + size])
    await ended
    assert (reader.events, seen.delay_ns.count, seen.first_ns.count) == (5, 5, 1)
