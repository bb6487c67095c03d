"""One picture of a model: real, reconstructed, generated and translated samples, side by side."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from fusion_engine.data import Prepared, Table
from fusion_engine.model import FusionModel
from fusion_engine.values import Media, Signal

TILE, GAP, MARGIN = 72, 6, 230
INK, PAPER = (32, 33, 36), (255, 255, 255)

Row = tuple[str, list[Media]]


def overview(
    model: FusionModel, rows: Sequence[Mapping[str, Any]], path: Path, *, columns: int = 12, seed: int = 0
) -> Path:
    """Draw the picture of a model's modalities that are pictures themselves, and write it as PNG.

    Args:
        model: trained.
        rows: real rows, best from the test split, with everything present.
        path: where to write it.
        columns: samples a line.
        seed: of the generated samples.
    """
    names = [m for m in model.modalities if model.graph.wiring.decoder_of(m)]
    chosen = [row for row in rows if all(row.get(m) is not None for m in names)][:columns]
    lines: list[Row] = [(f"{m}: real", model.modalities[m].render(_real(model, chosen, m))) for m in names]
    lines += [
        (f"{m}: reconstructed", _render(model, s, m)) for m, s in _translated(model, chosen, names, names).items()
    ]
    for target in names:
        for source in [m for m in names if m != target]:
            signal = _translated(model, chosen, [source], [target])[target]
            lines.append((f"{source} -> {target}", _render(model, signal, target)))
    lines += [(f"{m}: generated", _render(model, s, m)) for m, s in model.generated_signals(columns, seed=seed).items()]
    draw([(title, media) for title, media in lines if media and media[0].mime == "image/png"]).save(path)
    return path


def _real(model: FusionModel, rows: Sequence[Mapping[str, Any]], name: str) -> Signal:
    prepared = Prepared(Table(list(rows)), {name: model.modalities[name]})
    signals = [prepared[i][name] for i in range(len(rows))]
    return model.modalities[name].collate([s for s in signals if s is not None])


def _translated(
    model: FusionModel, rows: Sequence[Mapping[str, Any]], given: Sequence[str], to: Sequence[str]
) -> dict[str, Signal]:
    return model.translated_signals([{m: row[m] for m in given} for row in rows], to)


def _render(model: FusionModel, signal: Signal, name: str) -> list[Media]:
    return model.modalities[name].render(signal)


def draw(lines: Sequence[Row]) -> Image.Image:
    """Lay titled lines of pictures out as a grid."""
    columns = max(len(media) for _, media in lines)
    size = (MARGIN + columns * (TILE + GAP) + GAP, len(lines) * (TILE + GAP) + GAP)
    page = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(16)
    for i, (title, media) in enumerate(lines):
        top = GAP + i * (TILE + GAP)
        pen.text((GAP * 2, top + TILE / 2), title, fill=INK, font=font, anchor="lm")
        for j, item in enumerate(media):
            tile = Image.open(io.BytesIO(item.content)).convert("RGB").resize((TILE, TILE), Image.Resampling.BOX)
            page.paste(tile, (MARGIN + j * (TILE + GAP), top))
    return page
