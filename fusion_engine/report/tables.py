"""Figures and histories as tables: on the terminal, as CSV, as JSON."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table


def figures_table(figures: Sequence[Mapping[str, Any]]) -> Table:
    """Lay figures out for a terminal."""
    table = Table("figure", "model", "real data", "note", title="Test split", title_justify="left")
    for figure in figures:
        table.add_row(figure["name"], f"{figure['value']:.3f}", f"{figure['real']:.3f}", figure["note"])
    return table


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write rows as CSV; the columns are all keys that occur."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_json(values: Any, path: Path) -> Path:
    """Write JSON for people."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return path
