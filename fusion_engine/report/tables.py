"""Figures and histories as tables: on the terminal, as CSV, as JSON."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table


def figures_table(figures: Sequence[Mapping[str, Any]], *, notes: bool = True) -> Table:
    """Lay figures out for a terminal, with their notes where there is room."""
    columns = ("figure", "model", "real data", "chance", *(["note"] if notes else []))
    table = Table(*columns, title="Test split", title_justify="left")
    for figure in figures:
        numbers = (_short(figure.get(column)) for column in ("value", "real", "chance"))
        table.add_row(figure["name"], *numbers, *([figure["note"]] if notes else []))
    return table


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write rows as CSV, whole or not at all; the columns are all keys that occur."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    beside = path.with_suffix(".new")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return beside.replace(path)


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Read rows that ``write_csv`` wrote: numbers as numbers, empty cells left out."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: _number(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


def _number(text: str) -> float | int | str:
    """Read what ``write_csv`` writes of a number; "0123e45678" is the name of a commit."""
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if str(value) == text:
            return value
    return text


def write_json(values: Any, path: Path) -> Path:
    """Write JSON for people."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return path
