"""The page of a run: whole, escaped, self-contained, and right in what it shows."""

import base64
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from page_data import EVIL, FIGURES
from toy_media import WORDS, picture

import fusion_engine
from fusion_engine import Engine, FusionModel, Media
from fusion_engine.report import gallery
from fusion_engine.report.diagram import diagram
from fusion_engine.report.facts import run_facts
from fusion_engine.report.page import _charts, write_page
from fusion_engine.report.sections import as_html
from fusion_engine.report.shapes import shapes

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source"}
SVG_LEAF = {"line", "circle", "rect", "path", "polyline"}
PACKAGE = Path(fusion_engine.__file__).parent / "report"


class Page(HTMLParser):
    """Reads a page strictly: what is opened is closed, in order.

    ``tags`` has every tag with its attributes, ``texts`` every text with the tag around it.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag} has an attribute twice: {attrs}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_LEAF, f"<{tag}/> closes itself in HTML only inside a drawing"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at line {self.getpos()[0]}"

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.append((self.open[-1], data))

    def of(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in tags]

    def words(self) -> str:
        return "".join(text for _, text in self.texts)

    def sections(self) -> list[str | None]:
        return [attributes["id"] for attributes in self.of("section")]


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page(report.read_text(encoding="utf-8"))


def written(tmp_path: Path, model: FusionModel, rows: list, **options) -> Page:
    return Page(write_page(tmp_path, model, rows=rows, **options).read_text(encoding="utf-8"))


# The page as a whole


def test_a_page_has_its_sections_in_order(page: Page) -> None:
    first = ["figures", "samples", "translations", "interpolation", "training", "graph"]
    assert page.sections() == [*first, "extra-1", "environment", "config"]
    linked = [a["href"] for a in page.of("a") if str(a["href"]).startswith("#")]
    assert linked == [f"#{name}" for name in page.sections()]


def test_a_page_is_sound_html(page: Page, report: Path) -> None:
    assert report.read_text(encoding="utf-8").lstrip().startswith("<!DOCTYPE html>")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        assert attributes.get("aria-labelledby", ids[0]) in ids
        assert attributes.get("data-sound", ids[0]) in ids
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    buttons = page.of("button")
    assert buttons
    assert all(button["aria-label"] for button in buttons)
    assert all("alt" in image for image in page.of("img"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.of("svg"))


def test_a_page_asks_for_nothing_outside_itself(page: Page, report: Path) -> None:
    for tag, attributes in page.tags:
        assert str(attributes.get("src", "data:")).startswith("data:")
        assert str(attributes.get("href", "#")).startswith(("#", "data:") if tag == "link" else "#")
        assert not {"srcset", "poster", "action", "background"} & set(attributes)
    text = report.read_text(encoding="utf-8")
    assert not re.search(r"@import|url\((?!#)", text)
    (policy,) = [m["content"] for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy).startswith("default-src 'none'; img-src data:; media-src data:;")
    assert "http" not in str(policy)


def test_whatever_people_write_is_text(page: Page) -> None:
    assert len(page.of("script")) == 1
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
    assert "x" not in [image["src"] for image in page.of("img")]
    words = page.words()
    assert WORDS[3] in words  # a sample
    for place in ("h1", "title", "h2"):
        assert EVIL in "".join(text for tag, text in page.texts if tag == place)
    assert words.count(EVIL) >= 5  # name, commit, title and note of a figure, title of a section


def test_figures_are_all_there_and_tell_what_is_not_known(page: Page) -> None:
    words = page.words()
    for figure in FIGURES:
        assert figure["name"].rpartition(": ")[2].replace("->", "\N{RIGHTWARDS ARROW}") in words
    cells = [text for tag, text in page.texts if tag == "td"]
    for shown in ("0.750", "0.512", "0.900", "0.250", "n/a", "1234", "12.000", "yes"):
        assert any(shown in cell for cell in cells), shown
    heads = [text for tag, text in page.texts if tag == "th"]
    assert [h for h in heads if h in ("model", "real data", "chance", "seed", "further")] == [
        "model",
        "real data",
        "chance",
        "seed",
        "further",
    ]


def test_a_page_is_the_same_each_time(report: Path, model: FusionModel, rows: list, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    pages = [write_page(tmp_path, model, rows=rows).read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_every_sound_is_on_the_page_once(page: Page) -> None:
    sounds = page.of("audio")
    assert len({sound["src"] for sound in sounds}) == len(sounds)
    buttons = page.of("button")
    assert {button["data-sound"] for button in buttons} == {sound["id"] for sound in sounds}
    lines, matrix, way = 3 * 8, 3 * 4 + 4, 8 + 2
    assert len(buttons) == lines + matrix + way
    assert len(sounds) < len(buttons)


def test_a_small_picture_keeps_its_sharp_pixels(page: Page) -> None:
    uri = "data:image/png;base64," + base64.b64encode(picture(0.9)).decode()
    found = [image for image in page.of("img") if image["src"] == uri]
    assert found
    assert {(image["width"], image["height"], image["class"]) for image in found} == {("24", "16", "sharp")}


def colours(theme: str) -> dict[str, str]:
    css = (PACKAGE / "page.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    return dict(re.findall(r"--(\w+): (#\w{6})", light if theme == "light" else dark))


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_lines_stand_out_from_their_ground_in_both_themes(theme: str) -> None:
    """Contrast as in WCAG 2: 4.5 for text, 3 for lines that mean something."""
    known = colours(theme)
    for ground in ("page", "surface", "tint"):
        for name, least in {"ink": 7, "muted": 4.5, "generator": 4.5, "discriminator": 4.5, "edge": 3}.items():
            low, high = sorted([luminance(known[ground]), luminance(known[name])])
            assert (high + 0.05) / (low + 0.05) >= least, (theme, name, ground)


# What is drawn


def test_translations_are_the_models_own(model: FusionModel, rows: list) -> None:
    found = {row.source: row for row in gallery.translations(model, rows[:3])}
    assert set(found) == {"patch", "tone", "word"}
    tone = [row["tone"] for row in rows[:3]]
    signals = model.translated_signals({"tone": tone}, ["word", "patch"])
    for to in ("word", "patch"):
        assert found["tone"].into[to] == model.modalities[to].render(signals[to])
    assert [media.content for media in found["patch"].given if media] == [picture(x) for x in tone]


def test_samples_are_the_rows_what_is_made_of_them_and_new_ones(model: FusionModel, rows: list) -> None:
    tone = next(s for s in gallery.samples(model, rows[:3], 5, seed=1) if s.name == "tone")
    modality = model.modalities["tone"]
    again = model.reconstruct(rows[:3])["tone"]
    assert tone.reconstructed == [modality.show(x) for x in again]  # type: ignore[attr-defined]
    assert tone.generated == modality.render(model.generated_signals(5, seed=1)["tone"])
    assert tone.predicted is None


def test_an_interpolation_goes_between_the_rows_farthest_apart(model: FusionModel, rows: list) -> None:
    few = [rows[0], rows[0], {name: -x for name, x in rows[0].items()}]
    ways = {way.name: way for way in gallery.interpolation(model, few, 4)}
    assert set(ways) == {"patch", "tone", "word"}
    first, last = ways["patch"].first, ways["patch"].last
    assert (first and first.content, last and last.content) == (picture(0.9), picture(-0.9))
    ends = model.translated_signals([few[0], few[2]], ["patch"])["patch"]
    whole = model.modalities["patch"].render(ends)
    assert [ways["patch"].steps[0], ways["patch"].steps[-1]] == whole


def test_rows_with_everything_are_chosen_evenly(model: FusionModel, rows: list) -> None:
    table = [{**row, "tone": None} if i % 2 else row for i, row in enumerate(rows)]
    chosen = gallery.choose(model, table, 4)
    places = [rows.index(row) for row in chosen]
    assert places == sorted(places)
    assert not [p for p in places if p % 2]
    assert max(b - a for a, b in pairwise(places)) < len(rows) / 2
    gaps = [{**row, "tone": None} for row in rows]
    assert len(gallery.choose(model, gaps, 4)) == 4
    assert gallery.choose(model, [], 4) == []


def test_a_gap_is_left_open(model: FusionModel, rows: list, tmp_path: Path) -> None:
    gaps = [{**row, "tone": None} for row in rows[:5]]
    found = {row.source: row for row in gallery.translations(model, gaps)}
    assert "tone" not in found
    page = written(tmp_path, model, gaps)
    assert "interpolation" in page.sections()
    assert len(page.of("button")) == 2 * 5 - 5 + 8 + 2 * 4 + 8  # reconstructed, generated, from two sources, steps
    assert "missing" in page.words()


def test_an_empty_text_is_still_a_text(model: FusionModel, rows: list, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(type(model.modalities["word"]), "show", lambda self, number: Media("text/plain", b""))
    page = written(tmp_path, model, rows)
    words = [span for span in page.of("span") if span["class"] == "words"]
    assert len(words) == 3 * 8 + 4 * 4 + 10  # samples, matrix, interpolation


# The graph


def test_the_diagram_has_every_node_edge_and_shape(page: Page, model: FusionModel) -> None:
    wiring = model.graph.wiring
    drawn = [attributes["data-node"] for attributes in page.of("g") if "data-node" in attributes]
    assert sorted(map(str, drawn)) == sorted([*wiring.modalities, *wiring.nodes])
    edges = {str(path["data-edge"]) for path in page.of("path") if "data-edge" in path}
    assert edges == {f"{source} {n.name}" for n in wiring.nodes.values() for source in (*n.sources, *n.of)}
    classes = {str(g["data-node"]): str(g["class"]).split() for g in page.of("g") if "data-node" in g}
    assert classes["score"] == ["node", "head", "discriminator"]
    assert classes["dec_tone"] == ["node", "decoder", "generator"]
    assert "tone [8 b 2]" in page.words()


def test_shapes_are_those_of_the_components(model: FusionModel) -> None:
    found = shapes(model)
    assert found["patch"] == "[b 2]"
    assert found["enc_patch"] == "[b 8]"
    assert found["post"] == "z [8 b 4]"  # MoPoE has a component for each subset of three
    assert found["dec_word"] == "word [8 b 2]"
    assert found["score"] == "[b 1]"
    assert set(found) == {*model.modalities, *model.graph.wiring.nodes}


def test_tokens_masks_and_classes_have_their_shapes(engine: Engine) -> None:
    modalities = {"series": "modality/sequence", "kind": "modality/tabular.category"}
    model = engine.recipe("classifier", modalities, target="kind")
    model.prepare({"series": [[[0.0], [1.0]], [[1.0], [2.0], [3.0]]], "kind": ["a", "b"]})
    found = shapes(model)
    assert found["series"] == "[b 3 1], mask"
    assert re.fullmatch(r"tokens \[b 3 \d+\], pooled \[b \d+\]", found["enc_series"])
    assert found["classify"] == "kind [b 2]"


def numbers(path: dict[str, str | None], *names: str) -> Iterator[float]:
    return (float(str(path[name])) for name in names)


def test_boxes_do_not_overlap_and_edges_go_to_the_right(model: FusionModel) -> None:
    svg = Page(str(diagram(model.graph.wiring, shapes(model))))
    boxes = [list(numbers(r, "x", "y", "width", "height")) for r in svg.of("rect")]
    for i, (x, y, w, h) in enumerate(boxes):
        for x2, y2, w2, h2 in boxes[:i]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y
    for path in svg.of("path"):
        if "data-edge" in path:
            places = [float(n) for n in re.findall(r"-?[\d.]+", str(path["d"]))]
            assert places[0] < places[-2]


# Models of other kinds


def test_a_gan_has_no_reconstructions_translations_or_interpolations(media: Engine, rows: list, tmp_path: Path) -> None:
    model = media.recipe("gan", {"patch": "modality/toy_media.patch"}, epochs=1).fit(rows)
    page = written(tmp_path, model, rows)
    assert page.sections() == ["samples", "training", "graph", "environment", "config"]
    assert "generated" in page.words()
    assert "reconstructed" not in page.words()


@pytest.mark.parametrize(
    ("answer", "head", "say"),
    [
        ("number", "regression", lambda i: float(i)),
        ("tags", "multi_label", lambda i: ["odd"] if i % 2 else ["even", "round"]),
    ],
)
def test_predicted_numbers_and_tags_are_shown_as_the_real_ones_are(
    engine: Engine, answer: str, head: str, say: Callable[[int], object]
) -> None:
    rows = [{"x": [[float(i)], [1.0]], "y": say(i)} for i in range(20)]
    config = {
        "modalities": {"x": "modality/sequence", "y": f"modality/{answer}"},
        "nodes": {
            "enc": {"use": "encoder/sequence.conv", "in": "x"},
            "guess": {"use": f"head/{head}", "in": "enc", "out": "y"},
        },
    }
    model = engine.build(config)
    model.prepare(rows)
    shown = gallery.choose(model, rows, 4)
    line = next(s for s in gallery.samples(model, shown, 4) if s.name == "y")
    told = model.predict([{"x": row["x"]} for row in shown])
    assert line.predicted == gallery.real(model, [{"y": found} for found in told], "y")
    assert {m.mime for m in line.predicted or [] if m} == {"text/plain"}
    assert len(line.predicted or []) == 4


def test_a_report_says_which_priors_train(engine: Engine, tmp_path: Path) -> None:
    rows = [{"x": [[float(i)], [1.0]]} for i in range(8)]
    config = engine.recipe_config("vae", {"x": "modality/sequence"}, latent=2, components=0, epochs=1)
    config["nodes"]["flow"] = {"use": "prior/flow", "of": "post"}
    model = engine.build(config).fit(rows)
    page = written(tmp_path, model, rows)
    assert "trains with" in page.words()
    assert "fitted to" not in page.words()


def test_a_classifier_shows_what_it_predicts(engine: Engine, tmp_path: Path) -> None:
    rows = [{"x": [[float(i)], [1.0]], "kind": "odd" if i % 2 else "even"} for i in range(20)]
    chosen = {"x": "modality/sequence", "kind": "modality/tabular.category"}
    model = engine.recipe("classifier", chosen, target="kind", epochs=1).fit(rows)
    page = written(tmp_path, model, rows)
    assert page.sections() == ["samples", "training", "graph", "environment", "config"]
    assert [text for tag, text in page.texts if tag == "th"][:3] == ["real", "real", "predicted"]
    others = [{"x": row["x"]} for row in gallery.choose(model, rows, 8)]
    line = next(s for s in gallery.samples(model, gallery.choose(model, rows, 8), 8) if s.name == "kind")
    assert [m.content.decode() for m in line.predicted or [] if m] == model.predict(others)


def test_one_modality_and_an_untrained_model_have_a_page(media: Engine, rows: list, tmp_path: Path) -> None:
    model = media.recipe("vae", {"word": "modality/toy_media.word"}, latent=2, epochs=1)
    page = written(tmp_path, model, rows)
    assert page.sections() == ["samples", "translations", "interpolation", "graph", "environment", "config"]
    assert written(tmp_path, model, rows[:1]).sections() == [s for s in page.sections() if s != "interpolation"]
    assert "samples" in written(tmp_path, model, []).sections()


# Sections and facts


def test_sections_have_no_html_of_their_own_and_lower_headings(tmp_path: Path) -> None:
    text = "# One\n\n#### Four\n\n<b onclick=x>bold</b> *slanted* [paper](https://example.org/a)"
    html = as_html(text, tmp_path)
    assert "<h3>One</h3>" in html
    assert "<h6>Four</h6>" in html
    assert "<b" not in html.replace("<br", "")
    assert '<a href="https://example.org/a" rel="noreferrer">paper</a>' in html


def test_pictures_of_a_section_come_into_the_page_or_are_told(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.png").write_bytes(picture(0.0))
    (tmp_path / "secret.png").write_bytes(picture(0.0))
    text = "![a](mine.png) ![b](../secret.png) ![c](https://example.org/c.png) ![d](none.png)"
    html = as_html(text, tmp_path / "run")
    uri = "data:image/png;base64," + base64.b64encode(picture(0.0)).decode()
    assert html.count("<img") == 1
    assert uri in html
    assert html.split("/>")[1] == " [b] [c] [d]</p>\n"


def test_facts_leave_out_what_is_not_known(model: FusionModel) -> None:
    model.metrics.pop("seconds", None)
    assert run_facts(model) == {"seed": "0"}
    model.metrics |= {"seconds": 1.5, "steps": 7}
    assert run_facts(model, "abc") == {"seed": "0", "steps": "7", "training": "1.5 s", "commit": "abc"}


def test_what_a_player_tells_stands_behind_what_it_minimises():
    row = {"stage": "play", "epoch": 0, "step": 4, "discriminator/game": 0.5, "discriminator/game.real": 1.5}
    row |= {"discriminator/gradient norm": 2.0, "generator/game": 0.7, "monitor/coverage": 0.9}
    groups = {title: [name for name, _, _ in drawn] for title, drawn in _charts([row, {**row, "epoch": 1, "step": 8}])}
    assert groups == {
        "discriminator": ["game"],
        "discriminator: statistics": ["game.real", "gradient norm"],
        "generator": ["game"],
        "monitor": ["coverage"],
    }
