"""Charts and layouts against coordinates worked out by hand."""

import doctest
import json
import math
import re
from itertools import pairwise

import pytest

from fusion_engine.report import layering, plots, summary
from fusion_engine.report.layering import arrange
from fusion_engine.report.plots import BAR, Axis, Span, bar, curves, line_chart, short, spans, ticks, value_axis
from fusion_engine.report.summary import summarise

HISTORY = [
    {"stage": "first", "epoch": 0, "step": 10, "generator/kl": 3.0},
    {"stage": "first", "epoch": 1, "step": 20, "generator/kl": 1.0, "discriminator/game": 0.5},
    {"stage": "second", "epoch": 0, "step": 25, "discriminator/game": math.nan},
    {"stage": "third", "epoch": 0, "step": 40, "generator/kl": 2.0},
]


@pytest.mark.parametrize("module", [layering, plots, summary])
def test_what_the_docstrings_say(module) -> None:
    assert doctest.testmod(module).failed == 0


def test_stages_go_from_where_the_one_before_ended() -> None:
    assert spans(HISTORY) == [Span("first", 0.0, 20.0), Span("second", 20.0, 25.0), Span("third", 25.0, 40.0)]
    assert spans([]) == []


def test_losses_are_sorted_by_player_without_what_is_not_finite() -> None:
    found = curves(HISTORY)
    assert {player: list(lines) for player, lines in found.items()} == {"generator": ["kl"], "discriminator": ["game"]}
    assert [(p.step, p.value, p.place) for p in found["generator"]["kl"]] == [(10, 3, 0), (20, 1, 1), (40, 2, 3)]
    assert [p.value for p in found["discriminator"]["game"]] == [0.5]


def test_a_chart_has_its_points_where_they_belong() -> None:
    """Steps 0 to 40 lie on x = 40 to 292; values 1 to 3, with a margin of 0.12, on y = 140 to 22."""
    svg = line_chart("kl", curves(HISTORY)["generator"]["kl"], spans(HISTORY), "generator")
    x = {step: 40 + step / 40 * 252 for step in (10, 20, 25, 40)}
    y = {value: 140 - (value - 0.88) / 2.24 * 118 for value in (1, 2, 3)}
    (line,) = re.findall(r'<polyline class="curve" points="([^"]*)"', svg)
    corners = [tuple(map(float, pair.split(","))) for pair in line.split()]
    assert corners == [pytest.approx((x[10], y[3]), abs=0.01), pytest.approx((x[20], y[1]), abs=0.01)]
    (dot,) = re.findall(r'<circle class="dot" cx="([\d.]+)" cy="([\d.]+)"', svg)  # alone behind a gap
    assert tuple(map(float, dot)) == pytest.approx((x[40], y[2]), abs=0.01)
    bounds = [float(b) for b in re.findall(r'<line class="stage" x1="([\d.]+)"', svg)]
    assert bounds == pytest.approx([x[20], x[25]], abs=0.01)
    (points,) = re.findall(r'data-points="([^"]*)"', svg)
    data = json.loads(points.replace("&#34;", '"'))
    assert [(place, text) for _, _, place, text in data] == [(0, "first 1: 3"), (1, "first 2: 1"), (3, "third 1: 2")]
    assert re.findall(r'class="y"[^>]*>([^<]*)', svg) == ["1", "1.5", "2", "2.5", "3"]
    assert "first" in re.findall(r'<text class="stage"[^>]*>([^<]*)', svg)
    assert "second" not in re.findall(r'<text class="stage"[^>]*>([^<]*)', svg)  # no room


def test_values_over_decades_are_on_a_logarithmic_axis() -> None:
    axis = value_axis([0.5, 60.0, 900.0], 100.0, 0.0)
    assert axis.logarithmic
    assert (axis.low, axis.high) == pytest.approx((0.1, 1000.0))
    assert [axis(v) for v in (0.1, 1.0, 10.0, 1000.0)] == [100.0, 75.0, 50.0, 0.0]
    assert axis.marks == pytest.approx([0.1, 1, 10, 100, 1000])
    assert not value_axis([-1.0, 1000.0]).logarithmic
    flat = value_axis([2.0, 2.0], 100.0, 0.0)
    assert flat(2.0) == 50.0
    assert Axis(0.0, 4.0, 10.0, 30.0)(1.0) == 15.0


def test_ticks_are_round_and_inside() -> None:
    for low, high in [(0.0, 1.0), (-3.2, 7.9), (0.00012, 0.00035), (1e6, 3.5e6), (0.13, 0.57)]:
        found = ticks(low, high)
        assert 3 <= len(found) <= 6
        assert low <= found[0] + 1e-12
        assert found[-1] <= high + 1e-12
    assert [short(v) for v in (0.0, 1500.0, 25000.0, 2e6, 0.05, 1e-5, 1234.0)] == [
        "0",
        "1.5k",
        "25k",
        "2M",
        "0.05",
        "1e-5",
        "1234",
    ]


def test_a_bar_is_as_long_as_its_share() -> None:
    found = re.findall(r'class="(\w+)" x="([\d.]+)" y="\d+" width="([\d.]+)"', bar(0.5, 0.9, 0.1))
    assert found == [
        ("track", "0", str(BAR)),
        ("value", "0", "60.0"),
        ("chance", "11.0", "2"),
        ("real", "107.0", "2"),
    ]
    assert 'class="value" x="0" y="4" width="30.0"' in bar(0.5, None, None, most=2.0)
    assert "value" not in bar(None, 0.9, None)
    assert bar(-0.5, 0.9, None) == bar(None, None, None) == ""


def test_figures_are_grouped_on_one_scale_and_say_once_what_is_the_same() -> None:
    figures = [
        {"name": "distance: a", "value": 4.0, "real": 1.0, "seed": 0, "n": 5},
        {"name": "alone: b", "value": 0.5, "real": 1.0, "seed": 0, "n": 6},
        {"name": "distance: c -> d", "value": 2.0, "real": math.nan, "seed": 0, "n": 5},
    ]
    found = summarise(figures)
    assert found.columns == ["model", "real data", "n"]
    assert found.common == {"seed": "0"}
    assert {group: [e.name for e in entries] for group, entries in found.groups.items()} == {
        "distance": ["a", "c \N{RIGHTWARDS ARROW} d"],
        "": ["alone: b"],
    }
    assert found.groups["distance"][1].cells == ["2.000", "n/a", "5"]
    assert f'class="value" x="0" y="4" width="{BAR / 2}"' in found.groups["distance"][1].bar


# Layers


def test_every_edge_goes_to_the_right_and_a_source_stands_by_its_target() -> None:
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("noise", "c"), ("c", "d")]
    layout = arrange(["a", "b", "c", "d", "noise"], edges)
    assert {name: layout.layer(name) for name in "abcd"} == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert layout.layer("noise") == 1
    (_, start), (layer, height), (_, end) = layout.way(("a", "c"))
    assert layer == 1
    assert abs(height - layout.heights["b"]) >= 1  # it passes beside b
    assert (start, end) == (layout.heights["a"], layout.heights["c"])


def test_crossings_that_can_be_avoided_are() -> None:
    names = ["a1", "a2", "b2", "b1", "c1", "c2"]
    layout = arrange(names, [("a1", "b1"), ("a2", "b2"), ("b1", "c1"), ("b2", "c2")])
    above = {x: layout.heights[f"{x}1"] < layout.heights[f"{x}2"] for x in "abc"}
    assert len(set(above.values())) == 1
    assert layout.heights["a1"] == pytest.approx(layout.heights["b1"])  # straight


def test_neighbours_in_a_layer_are_apart() -> None:
    edges = [("hub", f"leaf{i}") for i in range(5)] + [("other", "leaf0")]
    layout = arrange(["hub", "other", *(f"leaf{i}" for i in range(5))], edges)
    for slots in layout.layers:
        heights = [layout.heights[slot] for slot in slots]
        assert all(b - a >= 1 - 1e-9 for a, b in pairwise(heights))
    assert min(layout.heights.values()) == 0
    assert arrange(["alone"], []).heights == {"alone": 0}
