"""What people may write into a report, at its worst."""

from typing import Any

EVIL = "<img src=x onerror=alert(1)> & \"quoted\" 'text' </script>"
FIGURES: list[dict[str, Any]] = [
    {"name": "judge of tone: accuracy", "value": 0.75, "real": 1.0, "note": "n", "seed": 3},
    {"name": "conditional coherence: tone -> word", "value": 0.51234, "real": 0.9, "chance": 0.25, "note": EVIL},
    {"name": "conditional coherence: word -> tone", "value": float("nan"), "real": None, "chance": 0.25, "note": ""},
    {"name": EVIL, "value": 1234.5, "real": 12.0, "note": None, "further": "yes"},
]
