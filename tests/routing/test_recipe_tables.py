"""docs/recipes.md: every recipe has its section; drawings are up to date; every cell of the routing tables holds."""

import re
from fnmatch import fnmatchcase
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from xml.etree import ElementTree

import pytest
from screen import batch_of, build, engine, turn

from fusion_engine import Clock, Engine

DOCS = Path(__file__).parents[2] / "docs"
LATE = Clock(10**6)
"""Behind every warm-up."""


def _script(path):
    spec = spec_from_file_location("draw_recipes", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DRAW = _script(DOCS / "recipes" / "draw.py")


def sections() -> dict[str, str]:
    """The text of every section by its title."""
    _, *parts = re.split(r"^## ", (DOCS / "recipes.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {part.partition("\n")[0].strip(): part.partition("\n")[2] for part in parts}


def cells(text: str) -> list[tuple[str, str, str, str]]:
    """(player, loss, glob, cell) of a routing table."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    start = next(i for i, line in enumerate(lines) if line[0].strip() == "loss")
    found = []
    for title, *row in lines[start + 2 :]:
        if title.strip() in ("option", ""):
            break
        player = "discriminator" if "discriminator" in title else "generator"
        for globs, cell in zip(lines[start][1:], row, strict=True):
            found += [(player, re.split(r"\W", title.strip())[0], glob, cell.strip()) for glob in globs.split()]
    return found


def test_every_recipe_has_its_section():
    names = {entry.full_name.rpartition(".")[2] for entry in Engine().registry.of("recipe")}
    assert names <= set(sections())


@pytest.mark.parametrize("recipe", DRAW.DRAWN)
def test_the_drawing_is_up_to_date(recipe):
    file = DOCS / "recipes" / f"{recipe}.svg"
    assert file.read_text(encoding="utf-8") == DRAW.drawing(Engine(), recipe), "run python docs/recipes/draw.py"
    assert file.stat().st_size < 30_000
    config = Engine().recipe_config(recipe, DRAW.DRAWN[recipe][0], **DRAW.DRAWN[recipe][1])
    drawn = {g.get("data-node") for g in ElementTree.parse(file).getroot().iter() if g.get("data-node")}
    assert drawn == {*config["modalities"], *config["nodes"]}
    assert f"(recipes/{recipe}.svg)" in sections()[recipe]


@pytest.mark.parametrize("recipe", DRAW.DRAWN)
def test_every_cell_of_the_table(recipe):
    """Where something stands it arrives at every node of the group, and where 0 stands nothing does; on toys."""
    modalities, options = DRAW.DRAWN[recipe]
    toys = {
        m: {"use": use, "with": {"classes": [0, 1, 2]}} if m == "label" else "modality/toys.vector"
        for m, use in modalities.items()
    }
    graph = build(engine().recipe_config(recipe, toys, **options))
    batch, table = batch_of(graph, ["itl"] * 6), cells(sections()[recipe])
    learning = {n for n in graph.wiring.nodes if list(graph[n].parameters())}
    for player, loss in {(player, loss) for player, loss, _, _ in table}:
        received = turn(graph, player, [loss], [batch], clock=LATE)
        reached = {key.partition(".")[0] for key, g in received.items() if g is not None and g.any()}
        told = {}
        for who, name, glob, cell in table:
            nodes = [n for n in graph.wiring.nodes if fnmatchcase(n, glob)]
            assert nodes, f"{glob!r} matches no node"
            told |= {n: cell != "0" for n in nodes if (who, name) == (player, loss) and n in learning}
        assert told == {n: n in reached for n in learning}, (player, loss)
    assert {(p, n) for n in graph.loss_names for p in graph.loss(n).players} == {(p, n) for p, n, _, _ in table}
