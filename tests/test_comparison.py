"""All fusions in one place of a graph: which variants there are, and what the table and the plot say of them."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from fusion_engine import ConfigError, Engine
from fusion_engine.comparison import as_plot, as_table, compare, fusions

SMALL: dict[str, Any] = yaml.safe_load("""
modalities:
  image: {use: modality/image}
  strokes: {use: modality/strokes}
  label: {use: modality/category}
nodes:
  enc_image: {use: encoder/image.conv, in: image, with: {channels: 2, pooled: 8, width: 4}}
  enc_strokes: {use: encoder/sequence.conv, in: strokes, with: {pooled: 8, width: 4, blocks: 1}}
  deeper: {use: fusion/concat, in: enc_strokes, with: {width: 8}}
  fused: {use: fusion/concat, in: [enc_image, deeper], with: {width: 12, depth: 3}, modality_dropout: 0.2}
  classify: {use: head/classification, in: fused, out: label}
losses: {cross_entropy: {use: loss/cross_entropy, with: {head: classify}}}
stages: [{name: train, steps: 2, losses: [cross_entropy]}]
data: {use: dataset/digits, with: {modalities: [image, strokes, label], validation: 0.0}}
evaluation:
  label: label
  noise: {image: {corrupt: image, levels: [0, 1]}}
train: {batch_size: 16}
""")


def test_every_fusion_takes_the_place_and_each_input_stands_alone(engine: Engine) -> None:
    found = fusions(engine, SMALL)
    names = {e.full_name for e in engine.registry.of("fusion") if (e.load().max_inputs or 9) >= 2}
    alone = {"image alone", "strokes alone"}
    assert {
        f"fusion/{c['nodes']['fused']['use'].partition('/')[2]}" for n, c in found.items() if n not in alone
    } == names
    assert set(found) - alone == {name.rpartition(".")[2] for name in names}
    assert found["concat"]["nodes"]["fused"]["with"] == {"width": 12, "depth": 3}
    assert found["sum"]["nodes"]["fused"]["with"] == {"width": 12}  # it has no depth
    assert all(c["nodes"]["fused"]["modality_dropout"] == 0.2 for n, c in found.items() if n not in alone)
    assert list(found["image alone"]["nodes"]) == ["enc_image", "fused", "classify"]
    assert list(found["strokes alone"]["nodes"]) == ["enc_strokes", "deeper", "fused", "classify"]
    assert found["strokes alone"]["nodes"]["fused"]["in"] == ["deeper"]
    for config in found.values():
        engine.check(config)


@pytest.mark.parametrize(
    ("node", "said"),
    [("fusd", "did you mean 'fused'"), ("deeper", "two or more inputs"), ("classify", "head of fused")],
)
def test_a_place_without_a_fusion_of_several_is_refused(engine: Engine, node: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        fusions(engine, SMALL, node)


def test_variants_are_trained_alike_and_further_settings_follow_the_seed(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {name: c for name, c in fusions(engine, SMALL).items() if name in ("image alone", "sum")}
    monkeypatch.setattr("fusion_engine.comparison.fusions", lambda *_: chosen)
    rows = compare(engine, SMALL, [0, 1], tmp_path, each=lambda seed: [f"stages.0.steps={2 + seed}"])
    with pytest.raises(ConfigError, match="matches no variant"):
        compare(engine, SMALL, [0], tmp_path, only=["summ"])
    assert {(r["variant"], r["seed"], r["steps"]) for r in rows} == {
        (v, s, 2 + s) for v in ("image alone", "sum") for s in (0, 1)
    }
    columns = (tmp_path / "comparison.md").read_text().splitlines()[0].split(" | ")
    assert columns[3:] == [
        "accuracy",
        "accuracy: image",
        "accuracy: strokes",
        "accuracy: image+strokes",
        "accuracy under noise: image |",
    ]
    sizes = {r["variant"]: r["parameters"] for r in rows}
    assert sizes["sum"] > sizes["image alone"]
    assert (tmp_path / "comparison.svg").exists()


@pytest.mark.parametrize("section", ["data", "evaluation"])
def test_what_cannot_be_judged_leaves_no_folder(engine: Engine, tmp_path: Path, section: str) -> None:
    config = {key: value for key, value in SMALL.items() if key != section}
    with pytest.raises(ConfigError, match=rf"(?s)cannot be judged.*no {section}.*evaluation: {{label"):
        compare(engine, config, [0], tmp_path / "out", only=["sum"])
    assert not (tmp_path / "out").exists()


ROWS = [
    {"variant": v, "seed": s, "seconds": 2.0 + s, "parameters": 1500, "name": name, "value": x}
    for v, values in {"sum": (0.5, 0.7), "image alone": (0.2, 0.4)}.items()
    for s, x in enumerate(values)
    for name in ("accuracy", "accuracy: image", "F1: macro")
]


def test_the_table_has_a_line_a_fusion_the_best_first() -> None:
    lines = as_table(ROWS).splitlines()
    assert lines[0] == "| fusion | parameters | seconds | accuracy | accuracy: image |"
    assert lines[2] == "| sum | 1,500 | 2 | 0.600 ± 0.141 | 0.600 ± 0.141 |"
    assert lines[3].startswith("| image alone | 1,500 | 2 | 0.300 ± 0.141 |")


def test_the_best_is_first_where_less_is_better_and_noise_has_its_columns() -> None:
    names = ("MAE of regress", "MAE of regress: age", "MAE of regress under noise: age")
    rows = [
        {
            "variant": v,
            "seed": 0,
            "seconds": 1,
            "parameters": 1,
            "name": n,
            "value": x,
            "note": "of 9 rows; less is better",
        }
        for v, x in (("bad", 9.0), ("good", 1.0))
        for n in names
    ]
    lines = as_table(rows).splitlines()
    assert lines[0] == "| fusion | parameters | seconds | " + " | ".join(names) + " |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| good", "| bad"]


def test_the_plot_puts_each_seed_where_its_value_is() -> None:
    root = ElementTree.fromstring(as_plot(ROWS))
    names = {"svg": "http://www.w3.org/2000/svg"}
    groups = root.findall("svg:g", names)
    assert [g.findtext("svg:text", namespaces=names) for g in groups] == ["sum", "image alone"]
    assert [g.get("class") for g in groups] == ["", "marked"]  # what there is to compare with stands out
    marks = {t.text: float(t.get("x", "")) for t in root.findall("svg:text", names) if t.get("text-anchor") == "middle"}
    scale = (marks["0.6"] - marks["0.4"]) / 0.2
    for group, values in zip(groups, ((0.5, 0.7), (0.2, 0.4)), strict=True):
        at = [float(c.get("cx", "")) for c in group.findall("svg:circle", names)]
        assert at == pytest.approx([marks["0.4"] + scale * (x - 0.4) for x in values], abs=0.05)
        line = group.find("svg:line", names)
        assert line is not None
        assert float(line.get("x1", "")) == pytest.approx(sum(at) / 2, abs=0.05)
    assert re.search(r"light-dark\(", as_plot(ROWS))
