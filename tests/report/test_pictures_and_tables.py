import csv
import io

import numpy as np
from PIL import Image

from fusion_engine import Media
from fusion_engine.report.diagram import edges
from fusion_engine.report.drawing import as_mermaid, as_text
from fusion_engine.report.overview import GAP, MARGIN, TILE, draw
from fusion_engine.report.progress import _short
from fusion_engine.report.tables import read_csv, write_csv

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


def test_a_sound_is_drawn_as_its_picture_and_a_text_is_written():
    blue = (0, 0, 200)
    sound = Media("audio/wav", b"RIFF", tile(blue).content)
    text, long = Media("text/plain", b"seven"), Media("text/plain", b"one two three " * 40)
    page = np.asarray(draw([("all", [sound, None, text, long])]))
    cells = [page[GAP : GAP + TILE, MARGIN + i * (TILE + GAP) :][:, :TILE].astype(int) for i in range(4)]
    assert (cells[0] == blue).all()
    assert (cells[1] == 255).all()
    dark = [(cell.min(-1) < 128) for cell in cells[2:]]
    assert 20 < dark[0].sum() < dark[1].sum()
    rows = np.flatnonzero(dark[0].any(1))
    assert TILE / 2 - 8 < rows.mean() < TILE / 2 + 8  # one line, in the middle
    assert not dark[1][[0, 1, -2, -1]].any()  # shortened


def test_a_graph_as_text_says_who_feeds_whom_and_whose_it_is(engine):
    lines = as_text(engine.check(GAN)).splitlines()
    assert lines[0] == "image: modality/image.image"
    assert "dec: decoder/image.conv (z=noise) -> image  [generator]" in lines
    assert "score: head/fusions.score (in=disc)  [discriminator]" in lines


def test_a_prior_is_fitted_to_a_posterior_or_trains_with_it(engine):
    vae = {
        "modalities": {"image": "modality/image"},
        "nodes": {
            "enc": {"use": "encoder/image.conv", "in": "image"},
            "post": {"use": "posterior/gaussian", "in": "enc"},
            "after": {"use": "prior/mixture", "of": "post"},
            "beside": {"use": "prior/flow", "of": "post"},
        },
    }
    wiring = engine.check(vae)
    told = [line.partition("(nothing), ")[2] for line in as_text(wiring).splitlines() if "(nothing)" in line]
    assert told == ["of post  [generator]"] * 2  # which of them trains is not known before it is imported
    for trained, labels in ((None, ["of", "of"]), (["beside"], ["fitted to", "trains with"])):
        assert [edges(wiring, trained)["post", prior] for prior in ("after", "beside")] == labels


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


def test_csv_gives_numbers_back_and_leaves_names_that_look_like_numbers(tmp_path):
    row = {"a": 3, "b": 0.1, "c": 1e-05, "d": float("inf"), "commit": "123e456789", "other": "0012345678"}
    assert read_csv(write_csv([row], tmp_path / "rows.csv")) == [row]


def test_a_loss_of_both_players_is_told_apart():
    shown = _short({"discriminator/game": 0.5, "generator/kl": 12.345, "generator/game": 2.0})
    assert shown == "D game 0.5  kl 12.3  G game 2"
