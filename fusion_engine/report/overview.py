"""One picture of a model: real, reconstructed, generated and translated samples, side by side."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from fusion_engine.data import Table
from fusion_engine.model import FusionModel
from fusion_engine.report import gallery
from fusion_engine.values import Media

TILE, GAP, MARGIN = 72, 6, 230
INK, PAPER = (32, 33, 36), (255, 255, 255)
LETTERS, LINES = 12, 5
"""Of a text in a tile: letters a line, and lines."""

Row = tuple[str, gallery.Line]


def overview(
    model: FusionModel, rows: Sequence[Mapping[str, Any]], path: Path, *, columns: int = 12, seed: int = 0
) -> Path:
    """Draw the picture of a model's modalities that can be drawn, and write it as PNG.

    A sound is drawn as the picture that shows it; a text is written.

    Args:
        model: trained.
        rows: real rows, best from the test split; the first ones with everything present are drawn.
        path: where to write it.
        columns: samples a line.
        seed: of the generated samples.
    """
    names = gallery.decoded(model)
    needed = [*names, *model.conditions]
    whole = (row for row in Table(rows) if all(row.get(m) is not None for m in needed))
    chosen = list(islice(whole, columns)) or gallery.choose(model, rows, columns)
    lines: list[tuple[str, gallery.Line | None]] = [(f"{m}: real", gallery.real(model, chosen, m)) for m in names]
    lines += [(f"{m}: reconstructed", gallery.translated(model, chosen, names, m)) for m in names]
    pairs = [(source, target) for target in names for source in names if source != target]
    lines += [(f"{s} -> {t}", gallery.translated(model, chosen, [s], t)) for s, t in pairs]
    made = gallery.generated(model, chosen, columns, seed=seed)
    lines += [(f"{m}: generated", gallery.render(model, signal, m)) for m, signal in made.items()]
    draw([(title, line) for title, line in lines if line and any(_drawable(media) for media in line)]).save(path)
    return path


def _drawable(media: Media | None) -> bool:
    return media is not None and (media.mime in ("image/png", "text/plain") or media.picture is not None)


def tile(media: Media) -> Image.Image:
    """Draw one sample: its picture scaled, or its text written."""
    if media.mime == "text/plain":
        return _written(media.content.decode("utf-8", "replace"))
    content = media.content if media.mime == "image/png" else media.picture or b""
    return Image.open(io.BytesIO(content)).convert("RGB").resize((TILE, TILE), Image.Resampling.BOX)


def _written(text: str) -> Image.Image:
    page = Image.new("RGB", (TILE, TILE), PAPER)
    lines = textwrap.wrap(text, LETTERS, max_lines=LINES, placeholder="...")
    middle = (TILE / 2, TILE / 2)
    font = ImageFont.load_default(11)
    ImageDraw.Draw(page).multiline_text(
        middle, "\n".join(lines), fill=INK, font=font, anchor="mm", align="center", spacing=2
    )
    return page


def draw(lines: Sequence[Row]) -> Image.Image:
    """Lay titled lines of samples out as a grid; what cannot be drawn stays empty."""
    columns = max(len(media) for _, media in lines)
    size = (MARGIN + columns * (TILE + GAP) + GAP, len(lines) * (TILE + GAP) + GAP)
    page = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(16)
    for i, (title, media) in enumerate(lines):
        top = GAP + i * (TILE + GAP)
        pen.text((GAP * 2, top + TILE / 2), title, fill=INK, font=font, anchor="lm")
        for j, item in enumerate(media):
            if item is not None and _drawable(item):
                page.paste(tile(item), (MARGIN + j * (TILE + GAP), top))
    return page
