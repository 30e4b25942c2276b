"""Metrics as text: prometheus_client reads the same of it that it would have written itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from sidecar.core.exposition import Page, counter, gauge, timing
from sidecar.core.limits import SECOND

REQUESTS = counter("x_requests_total", ("route", "key"), 'Requests, with a \\ and a "')
LEFT = gauge("x_left_seconds", ("model",), "What is left")
BARE = gauge("x_bare", (), "Nothing to tell apart")
TIMES = timing("x_seconds", ("route",), (SECOND // 10, SECOND, 10 * SECOND), "How long")
BARE_TIMES = timing("x_bare_seconds", (), (SECOND,), "How long, all together")
ODD = 'a"b\\c\nd{e},é\u2028'


def page():
    made = Page()
    made.add(REQUESTS, ("fast", ODD), 3)
    made.add(REQUESTS, ("", "b"), 10**15)
    made.add(LEFT, ("m",), 1.5)
    made.add(LEFT, (ODD,), math.inf)
    made.add(BARE, (), 0)
    made.add_histogram(TIMES, ("fast",), [1, 2, 0, 4], 3 * SECOND // 2)
    made.add_histogram(BARE_TIMES, (), [0, 1], 2 * SECOND)
    return made


class Theirs:
    """The same, as prometheus_client holds it."""

    def collect(self):
        requests = CounterMetricFamily("x_requests", 'Requests, with a \\ and a ".', labels=["route", "key"])
        requests.add_metric(["fast", ODD], 3)
        requests.add_metric(["", "b"], 10**15)
        left = GaugeMetricFamily("x_left_seconds", "What is left.", labels=["model"])
        left.add_metric(["m"], 1.5)
        left.add_metric([ODD], math.inf)
        times = HistogramMetricFamily("x_seconds", "How long.", labels=["route"])
        times.add_metric(["fast"], [("0.1", 1), ("1.0", 3), ("10.0", 3), ("+Inf", 7)], sum_value=1.5)
        bare_times = HistogramMetricFamily("x_bare_seconds", "How long, all together.")
        bare_times.add_metric([], [("1.0", 0), ("+Inf", 1)], sum_value=2)
        return [requests, left, GaugeMetricFamily("x_bare", "Nothing to tell apart.", value=0), times, bare_times]


def registry():
    made = CollectorRegistry()
    made.register(Theirs())
    return made


def read(families):
    return [
        (each.name, each.documentation, each.type, [(one.name, one.labels, one.value) for one in each.samples])
        for each in families
    ]


def test_it_reads_as_what_prometheus_client_writes():
    assert read(parse(page().text(False).decode())) == read(parse(generate_latest(registry()).decode()))


def test_openmetrics_reads_as_what_prometheus_client_writes():
    ours = page().text(True).decode() + "# EOF\n"
    assert read(parse_openmetrics(ours)) == read(parse_openmetrics(generate_openmetrics(registry()).decode()))


def test_a_family_without_samples_is_told_to_exist():
    made = Page()
    made.lines(BARE)
    assert made.text(False) == b"# HELP x_bare Nothing to tell apart.\n# TYPE x_bare gauge\n"
    assert repr(made) == "<Page of 0 samples in 1 families>"


@given(st.text())
def test_any_label_is_one_label(value):
    made = Page()
    made.add(LEFT, (value,), 1)
    (family,) = parse(made.text(False).decode())
    (sample,) = family.samples
    assert sample.labels == {"model": value.encode("utf-8", "replace").decode()}


@pytest.mark.parametrize(("family", "names"), [(REQUESTS, 1), (LEFT, 1), (TIMES, 3)])
def test_the_names_of_samples(family, names):
    assert len(family.samples) == names
    assert all(name.startswith(family.name) for name in family.samples)
