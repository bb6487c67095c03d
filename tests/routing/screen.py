"""A routing screen: a config, a table of what each node may receive of each loss, and the papers' formulas.

check(screen, rows) takes each turn as training does and compares every parameter's gradient with the one that
torch.autograd.grad gives for the formula, times the table's scale. Where the scale is 0 nothing may arrive.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from by_hand import Hand
from torch import Tensor
from torch.testing import assert_close

from fusion_engine import Batch, Clock, Engine, Graph, Loss, Noise, Player, Signal
from fusion_engine.training.turns import Turn, take_turn

TOYS = Path(__file__).parents[1] / "toys.py"
NOISE = Noise.of(1, 11)
START = Clock()

Key = tuple[Player, str]
Table = dict[Key, dict[str, float]]
Gradients = dict[str, Tensor | None]


@cache
def engine() -> Engine:
    return Engine(plugins=[TOYS])


def read(text: str) -> Any:
    return yaml.safe_load(text)


def build(config: Mapping[str, Any]) -> Graph:
    """Build in double precision, in training mode; the same graph for the same config: nothing here changes weights."""
    return _built(json.dumps(config))


@cache
def _built(config: str) -> Graph:
    return engine().build(json.loads(config)).graph.double().train()


def read_table(text: str) -> Table:
    """Read lines of ``player loss | scale | scale`` under a header of ``| nodes | nodes``."""
    header, *lines = [line.split("|") for line in text.strip("\n").splitlines()]
    groups = [group.split() for group in header[1:]]
    table: Table = {}
    for title, *cells in lines:
        player, loss = title.split()
        scales = zip(groups, cells, strict=True)
        table[cast(Player, player), loss] = {node: float(cell) for nodes, cell in scales for node in nodes}
    return table


@dataclass(frozen=True)
class Screen:
    """What is computed, who receives what, and by which formula (the mean over the rows that count)."""

    config: Mapping[str, Any]
    table: Table
    formulas: Mapping[Key, Callable[[Hand], Tensor]]


def batch_of(graph: Graph, rows: Sequence[str], gap: float = torch.nan) -> Batch:
    """Make a batch; row i has the modalities whose initials are in rows[i], and ``gap`` is all that the others hold."""
    present = {m: torch.tensor([m[0] in row for row in rows]) for m in graph.modalities}
    signals = {m: _emptied(modality.example(len(rows)), present[m], gap) for m, modality in graph.modalities.items()}
    return Batch.of(signals, present)


def _emptied(signal: Signal, present: Tensor, gap: float) -> Signal:
    data = signal.data.double() if signal.data.is_floating_point() else signal.data
    gap = gap if data.is_floating_point() else 10**6
    valid = present.reshape(-1, *[1] * (data.ndim - 1)).expand_as(data)
    if signal.mask is not None:
        valid = valid & signal.mask.reshape(*signal.mask.shape, *[1] * (data.ndim - signal.mask.ndim))
    return Signal(data.masked_fill(~valid, gap), signal.mask, signal.position)


def subsets(names: str) -> list[str]:
    """Every subset of the initials, the whole and the empty one included: no two rows lack the same."""
    return ["".join(n for j, n in enumerate(names) if s >> j & 1) for s in reversed(range(2 ** len(names)))]


def turn(
    graph: Graph,
    player: Player,
    losses: Sequence[str],
    batches: Sequence[Batch],
    *,
    learn: Sequence[str] | None = None,
    clock: Clock = START,
) -> Gradients:
    """Take one turn as training does, with a step of length 0; return what every parameter of the graph received."""
    graph.zero_grad(set_to_none=True)
    nodes = graph.owners(player) if learn is None else graph.owners(player) & set(learn)
    parameters = list(graph.parameters_of(nodes))
    chosen = {name: cast(Loss, graph.loss(name)) for name in losses}
    take_turn(graph, Turn(player, chosen, parameters, torch.optim.SGD(parameters, lr=0.0)), batches, NOISE, clock)
    assert all(p.requires_grad for p in graph.parameters())
    return {f"{node}.{n}": p.grad for node in graph.wiring.order for n, p in graph[node].named_parameters()}


def hand(graph: Graph, batch: Batch, clock: Clock = START) -> Hand:
    """Weights, rows and the draws that ``turn`` makes."""
    return Hand(graph, batch, Noise(NOISE.key, batch.index, batch.total), clock)


def by_hand(screen: Screen, graph: Graph, key: Key, batch: Batch, clock: Clock = START) -> Gradients:
    """What the table and the formula say: None where nothing may arrive."""
    graph.zero_grad(set_to_none=True)
    cost = screen.formulas[key](hand(graph, batch, clock))
    wanted: Gradients = {}
    for node, scale in screen.table[key].items():
        parameters = dict(graph[node].named_parameters())
        if scale == 0 or not parameters:
            wanted |= {f"{node}.{n}": None for n in parameters}
            continue
        found = torch.autograd.grad(cost, list(parameters.values()), retain_graph=True, allow_unused=True)
        if all(rows.any() for rows in batch.present.values()):
            assert any(g is not None and g.any() for g in found), f"{key}: the formula gives {node} nothing"
        grads = [torch.zeros_like(p) if g is None else scale * g for g, p in zip(found, parameters.values())]
        wanted |= {f"{node}.{n}": g for n, g in zip(parameters, grads)}
    return wanted


def compare(found: Gradients, wanted: Gradients, what: object) -> None:
    """Check every cell."""
    assert found.keys() == wanted.keys()
    for name, grad in found.items():
        expected = wanted[name]
        if expected is None:
            assert grad is None or not grad.any(), f"{what}: {name} must receive nothing, found {grad}"
        else:
            actual = torch.zeros_like(expected) if grad is None else grad
            assert_close(actual, expected, rtol=1e-8, atol=1e-10, msg=lambda m, n=name: f"{what}: {n}: {m}")


def check(screen: Screen, rows: Sequence[str], clock: Clock = START, graph: Graph | None = None) -> None:
    """Check every cell of the table, each loss alone, then all losses of each player together."""
    graph = graph or build(screen.config)
    declared = {(player, name) for name in graph.loss_names for player in cast(Loss, graph.loss(name)).players}
    assert screen.table.keys() == declared == screen.formulas.keys(), "the table is not whole"
    batch = batch_of(graph, rows)
    for player in ("discriminator", "generator"):
        keys = [key for key in screen.table if key[0] == player]
        wanted = {key: by_hand(screen, graph, key, batch, clock) for key in keys}
        for key in keys:
            compare(turn(graph, player, [key[1]], [batch], clock=clock), wanted[key], key)
        if keys:
            found = turn(graph, player, [loss for _, loss in keys], [batch], clock=clock)
            compare(found, _added(list(wanted.values())), f"all losses of the {player}")


def _added(parts: Sequence[Gradients]) -> Gradients:
    total: Gradients = {}
    for name in parts[0]:
        given = [g for part in parts if (g := part[name]) is not None]
        total[name] = sum(given[1:], given[0]) if given else None
    return total


def check_gaps(screen: Screen, rows: Sequence[str]) -> None:
    """What missing and padded slots hold changes no gradient, in no bit."""
    graph = build(screen.config)
    for player, loss in screen.table:
        first, *others = [turn(graph, player, [loss], [batch_of(graph, rows, gap)]) for gap in (torch.nan, 0.0, 1e3)]
        for other in others:
            for name, grad in first.items():
                same = other[name] is None if grad is None else torch.equal(grad, cast(Tensor, other[name]))
                assert same, f"{player} {loss}: {name} depends on what is missing"
