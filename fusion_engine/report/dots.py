"""A dot plot as an SVG file of its own: several values a line, and their mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from fusion_engine.report.plots import Axis, short, value_axis

LEFT, WIDTH, RIGHT = 170.0, 640.0, 60.0
TOP, LINE = 46.0, 22.0
STYLE = """
svg { color-scheme: light dark; font: 13px system-ui, sans-serif; background: light-dark(#fff, #16181c); }
text { fill: light-dark(#1c1e21, #e6e7e9); } .faint { fill: light-dark(#6a6f76, #9aa0a8); font-size: 11px; }
line { stroke: light-dark(#e2e4e8, #33373d); } line.mean { stroke: light-dark(#1f5fbf, #7fb2ff); stroke-width: 3; }
circle { fill: light-dark(#1f5fbf, #7fb2ff); fill-opacity: .45; }
.marked line.mean { stroke: light-dark(#b3541e, #ffab73); } .marked circle { fill: light-dark(#b3541e, #ffab73); }
"""
"""light-dark() follows the reader's theme."""


@dataclass(frozen=True)
class Dots:
    """One line: its name, a value a dot, and whether it stands out as something to compare with."""

    name: str
    values: Sequence[float]
    marked: bool = False


def dot_plot(title: str, lines: Sequence[Dots]) -> str:
    """Draw one line under another, in the given order; the values' axis is shared and need not begin at zero."""
    x = value_axis([v for line in lines for v in line.values], LEFT, WIDTH - RIGHT)
    bottom = TOP + LINE * len(lines)
    parts = [
        Markup('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            WIDTH, bottom + 30, title
        ),
        Markup("<style>{}</style>").format(Markup(STYLE)),
        Markup('<text x="12" y="22" font-weight="600">{}</text>').format(title),
        *(_mark(x, value, bottom) for value in x.marks),
        *(_line(x, line, TOP + LINE * (i + 0.5)) for i, line in enumerate(lines)),
        Markup("</svg>"),
    ]
    return str(Markup("\n").join(parts)) + "\n"


def _mark(x: Axis, value: float, bottom: float) -> Markup:
    return Markup(
        '<line x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><text class="faint" x="{0}" y="{3}" text-anchor="middle">{4}</text>'
    ).format(x(value), TOP, bottom, bottom + 18, short(value))


def _line(x: Axis, line: Dots, y: float) -> Markup:
    mean = fmean(line.values)
    dots = Markup("").join(
        Markup('<circle cx="{}" cy="{}" r="4"><title>{}: {:.4g}</title></circle>').format(x(v), y, line.name, v)
        for v in line.values
    )
    return Markup(
        '<g class="{}"><text x="{}" y="{}" text-anchor="end">{}</text>{}<line class="mean" x1="{}" x2="{}" y1="{}" '
        'y2="{}"/><text class="faint" x="{}" y="{}">{:.3f}</text></g>'
    ).format(
        "marked" if line.marked else "",
        LEFT - 12,
        y + 4,
        line.name,
        dots,
        x(mean),
        x(mean),
        y - 8,
        y + 8,
        WIDTH - RIGHT + 12,
        y + 4,
        mean,
    )
