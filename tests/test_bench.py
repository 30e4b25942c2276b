"""What the measurements rest on: a histogram, ratios of rounds and when they say nothing, plots. All of it pure."""

import itertools
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lib_histogram import Histogram
from lib_quote import rows_of
from lib_report import Target, verdicts
from lib_rounds import Disagreement, Plan, of, ratio, take
from lib_svg import Plot, bars, lines


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
