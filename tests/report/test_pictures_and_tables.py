import csv
import io

import numpy as np
from PIL import Image

from fusion_engine import Media
from fusion_engine.report.drawing import as_mermaid, as_text
from fusion_engine.report.markdown import write_report
from fusion_engine.report.overview import GAP, MARGIN, TILE, draw
from fusion_engine.report.progress import _short
from fusion_engine.report.tables import write_csv

GAN = {
    "modalities": {"image": {"use": "modality/image"}},
    "nodes": {
        "noise": {"use": "prior/normal"},
        "dec": {"use": "decoder/image.conv", "in": {"z": "noise"}, "out": "image"},
        "disc": {"use": "encoder/image.conv", "in": "image"},
        "score": {"use": "head/score", "in": "disc"},
    },
    "losses": {"game": {"use": "loss/relativistic", "with": {"score": "score"}}},
}


def tile(colour: tuple[int, int, int]) -> Media:
    file = io.BytesIO()
    Image.new("RGB", (10, 10), colour).save(file, "PNG")
    return Media("image/png", file.getvalue())


def test_every_sample_stands_in_its_line_and_column():
    red, green, blue = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    page = np.asarray(draw([("first", [tile(red), tile(green)]), ("second", [tile(blue)])]))
    assert page.shape == (2 * (TILE + GAP) + GAP, MARGIN + 2 * (TILE + GAP) + GAP, 3)
    middle, step = TILE // 2, TILE + GAP
    assert tuple(page[GAP + middle, MARGIN + middle]) == red
    assert tuple(page[GAP + middle, MARGIN + step + middle]) == green
    assert tuple(page[GAP + step + middle, MARGIN + middle]) == blue
    assert tuple(page[GAP + step + middle, MARGIN + step + middle]) == (255, 255, 255)
    assert page[GAP : GAP + TILE, :MARGIN].min() < 128  # the title


def test_a_graph_as_text_says_who_feeds_whom_and_whose_it_is(engine):
    lines = as_text(engine.check(GAN)).splitlines()
    assert lines[0] == "image: modality/image.image"
    assert "dec: decoder/image.conv (z=noise) -> image  [generator]" in lines
    assert "score: head/fusions.score (in=disc)  [discriminator]" in lines


def test_a_graph_as_mermaid_has_every_edge_and_dashes_the_discriminator(engine):
    text = as_mermaid(engine.check(GAN))
    assert text.startswith("flowchart LR\n")
    for edge in ("noise --> dec", "image --> disc", "disc --> score"):
        assert f"  {edge}\n" in text
    assert text.endswith("class disc,score discriminator")


def test_csv_has_all_columns_that_occur(tmp_path):
    path = write_csv([{"a": 1}, {"a": 2, "b": 0.5}], tmp_path / "t.csv")
    with path.open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"a": "1", "b": ""}, {"a": "2", "b": "0.5"}]


def test_a_loss_of_both_players_is_told_apart():
    shown = _short({"discriminator/game": 0.5, "generator/kl": 12.345, "generator/game": 2.0})
    assert shown == "D game 0.5  kl 12.3  G game 2"


def test_a_report_has_figures_picture_and_what_plugins_add(tmp_path):
    figure = {"name": "coverage", "value": 0.51234, "real": 0.9, "note": "n"}
    path = write_report(tmp_path, "run", [figure], [("Mine", "text\n")], tmp_path / "overview.png")
    assert path.read_text(encoding="utf-8").splitlines() == [
        "# run",
        "",
        "![real, reconstructed, translated and generated samples](overview.png)",
        "",
        "| figure, test split | model | real data | note |",
        "| --- | --- | --- | --- |",
        "| coverage | 0.512 | 0.900 | n |",
        "",
        "## Mine",
        "",
        "text",
    ]
