"""A run's report as one Markdown file: figures, picture, and what plugins add."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Section = tuple[str, str]
"""A title and its Markdown."""


def write_report(
    folder: Path, name: str, figures: Sequence[Mapping[str, Any]], sections: Sequence[Section], picture: Path | None
) -> Path:
    """Write ``report.md`` into a run's folder."""
    lines = [f"# {name}", ""]
    if picture is not None:
        lines += [f"![real, reconstructed, translated and generated samples]({picture.name})", ""]
    if figures:
        lines += ["| figure, test split | model | real data | note |", "| --- | --- | --- | --- |"]
        lines += [f"| {f['name']} | {f['value']:.3f} | {f['real']:.3f} | {f['note']} |" for f in figures]
        lines.append("")
    for title, text in sections:
        lines += [f"## {title}", "", text.strip(), ""]
    path = folder / "report.md"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
