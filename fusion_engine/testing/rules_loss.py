"""Rules of losses, on a small VAE-GAN with a classifier, made of toys."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from fusion_engine.build import build, complete
from fusion_engine.config import PLAYERS, Player, read_config
from fusion_engine.graph import Graph
from fusion_engine.losses import Loss
from fusion_engine.run import Run
from fusion_engine.testing.observe import Broken, expect, finite, same
from fusion_engine.testing.rules_build import check_config, check_no_global_random, check_registered
from fusion_engine.testing.subject import Subject, perturbed
from fusion_engine.testing.toy_networks import toy_registry
from fusion_engine.training.turns import only_learns
from fusion_engine.values import Batch, Signal, Term

NAMES = {"score": "score", "head": "classify"}
"""What keys of a loss's config are set to where they have no default: heads of ``toy_graph``."""
_BOTH = ["encode_vector", "encode_series"]
_LINEAR = {"use": "encoder/toys.linear"}
_NODES: dict[str, dict[str, Any]] = {
    "encode_vector": {**_LINEAR, "in": "vector"},
    "encode_series": {**_LINEAR, "in": "series"},
    "posterior": {"use": "posterior/toys.mixture", "in": _BOTH},
    "decode_vector": {"use": "decoder/toys.linear", "in": {"z": "posterior"}, "out": "vector"},
    "decode_series": {"use": "decoder/toys.linear", "in": {"z": "posterior"}, "out": "series"},
    "decode_label": {"use": "decoder/toys.linear", "in": {"z": "posterior"}, "out": "label"},
    "judge_vector": {**_LINEAR, "in": "vector"},
    "judge_series": {**_LINEAR, "in": "series"},
    "judge_label": {"use": "encoder/toys.embedding", "in": "label"},
    "judge": {"use": "fusion/toys.sum", "in": ["judge_vector", "judge_series", "judge_label"]},
    "score": {"use": "head/toys.score", "in": "judge"},
    "fused": {"use": "fusion/toys.sum", "in": _BOTH},
    "classify": {"use": "head/toys.classifier", "in": "fused", "out": "label"},
    "estimate": {"use": "head/toys.estimator", "in": "fused", "out": "vector"},
    "mark": {"use": "head/toys.tagger", "in": "fused", "out": "tags"},
    "rank": {"use": "head/toys.ranker", "in": "fused", "out": "label"},
}
NODES = f"the nodes of the kit's graph are {', '.join(_NODES)}"
"""What a loss can be told to look at."""


def toy_graph(players: Mapping[Player, Sequence[str]] | None = None) -> Graph:
    """Build a VAE-GAN of a vector, a ragged series and a label, with heads that predict: also tags, which are no input.

    Nodes: encode_vector, encode_series, posterior, decode_vector, decode_series, decode_label; judge_vector,
    judge_series, judge_label, judge, score; fused, classify and rank (the label), estimate (the vector), mark (tags).
    ``players`` are those of a config, where the wiring does not tell them.
    """
    config = read_config(
        {
            "modalities": {
                "vector": {"use": "modality/toys.vector"},
                "series": {"use": "modality/toys.sequence"},
                "label": {"use": "modality/toys.category"},
                "tags": {"use": "modality/toys.tags"},
            },
            "nodes": _NODES,
            "losses": {"toy": {"use": "loss/toys.score", "with": {"score": "score"}}},
            "players": {player: list(globs) for player, globs in (players or {}).items()},
        }
    )
    registry = toy_registry()
    return cast(Graph, perturbed(build(complete(config, registry), registry)))


def toy_batch(graph: Graph, missing: tuple[str, ...] = ()) -> Batch:
    """Make eight rows: three whole, one without each modality, one of a label. ``missing`` ones miss everywhere."""
    b = 8
    present = {m: torch.arange(b) != i + 2 for i, m in enumerate(graph.modalities)}
    present = {m: (p & (torch.arange(b) != b - 1)) if m != "label" else p for m, p in present.items()}
    present |= {m: torch.zeros(b, dtype=torch.bool) for m in missing}
    signals = {m: modality.example(b) for m, modality in graph.modalities.items()}
    return Batch.of(signals, present)


def _poisoned(batch: Batch, value: float) -> Batch:
    """Write a value into what is missing or padded."""
    signals = {}
    for m, s in batch.signals.items():
        valid = batch.present[m].reshape(-1, *[1] * (s.data.ndim - 1)).expand_as(s.data)
        if s.mask is not None:
            valid = valid & s.mask[..., None]
        content = value if s.data.is_floating_point() else int(s.data.max())
        signals[m] = Signal(s.data.masked_fill(~valid, content), s.mask, s.position)
    return Batch(signals, batch.present, batch.index, batch.total)


def with_names(keys: Iterable[str], config: dict[str, Any]) -> dict[str, Any]:
    """Name the toy graph's heads in a config that has to name some."""
    return {**{key: NAMES[key] for key in keys if key in NAMES}, **config}


def _make(subject: Subject) -> tuple[Graph, Loss]:
    graph = toy_graph(subject.players)
    loss = subject.construct(graph)
    return graph, perturbed(loss)  # type: ignore[return-value]


def _term(graph: Graph, loss: Loss, batch: Batch, player: Player) -> tuple[Term, dict[str, Tensor]]:
    """Take a turn: the term, and the gradients of all that the player owns."""
    graph.zero_grad(set_to_none=True)
    own = list(graph.parameters_of(graph.owners(player)))
    named = {**dict(graph.named_parameters()), **{f"its own {n}": p for n, p in loss.named_parameters()}}
    with only_learns(graph, own):
        term = loss(Run(graph, batch, player=player, sample=True), player)
        expect(isinstance(term, Term), f"it returns a {type(term).__name__}, not a Term", "Term.of(values, rows)")
        expect(term.sum.shape == (), f"its sum has shape {list(term.sum.shape)}", "sum over the rows")
        if term.sum.requires_grad:
            term.sum.backward()
    found = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in named.items()}
    loss.zero_grad(set_to_none=True)
    return Term(term.sum.detach(), term.count), found


def config_round_trip(subject: Subject) -> None:
    """Its config, saved and read again, makes the same loss."""
    saved = check_config(subject)
    graph = toy_graph(subject.players)
    one, other = (subject.construct(graph, config=c) for c in (subject.config, saved))
    other.load_state_dict(one.state_dict())
    for player in sorted(one.players):
        (a, _), (b, _) = (_term(graph, loss, toy_batch(graph), player) for loss in (one, other))
        same({"the sum": b.sum}, {"the sum": a.sum}, "made again from its saved config, it differs")


def players(subject: Subject) -> None:
    """It declares its players, and in the turn of each something that the player owns receives a gradient."""
    graph, loss = _make(subject)
    known = loss.players <= set(PLAYERS) and bool(loss.players)
    expect(known, f"its players are {sorted(loss.players)}", f"one or more of {list(PLAYERS)}")
    for player in sorted(loss.players):
        _, gradients = _term(graph, loss, toy_batch(graph), player)
        hit = any(bool((g != 0).any()) for g in gradients.values())
        expect(hit, f"in the {player}'s turn nothing receives a gradient", "declare the players that learn from it")


def counts(subject: Subject) -> None:
    """``rows`` is Bool [b], read from presence alone, and the term counts just these rows."""
    graph, loss = _make(subject)
    for batch in _batches(graph):
        for player in sorted(loss.players):
            run = Run(graph, batch, player=player, sample=True)
            rows = loss.rows(run, player)
            expect(rows.dtype == torch.bool and rows.shape == (len(batch),), f"rows is {rows.dtype} {list(rows.shape)}")
            computed = [name for name in run._memory if name in graph.wiring.nodes]
            expect(not computed, f"rows computes {computed}", "read run.present and run.batch.present alone")
            term, _ = _term(graph, loss, batch, player)
            expect(
                int(term.count) == int(rows.sum()), f"it counts {int(term.count)} rows, and `rows` {int(rows.sum())}"
            )


def _batches(graph: Graph) -> list[Batch]:
    return [toy_batch(graph), *(toy_batch(graph, (m,)) for m in graph.modalities)]


def nothing_present(subject: Subject) -> None:
    """A batch in which no row has some modality gives a finite term; one without any row that counts gives zero."""
    graph, loss = _make(subject)
    for batch in [*_batches(graph), toy_batch(graph, tuple(graph.modalities))]:
        for player in sorted(loss.players):
            term, gradients = _term(graph, loss, batch, player)
            finite({"the sum": term.sum, **gradients}, "a batch that lacks a modality")
            expect(
                int(term.count) > 0 or float(term.sum) == 0.0, f"no row counts, yet the sum is {float(term.sum):.3g}"
            )


def missing_slots(subject: Subject) -> None:
    """What is missing or padded may hold anything, NaN included: it changes neither the term nor a gradient."""
    graph, loss = _make(subject)
    batch = toy_batch(graph)
    for player in sorted(loss.players):
        expected = _flat(*_term(graph, loss, batch, player))
        for value in (1e3, float("nan")):
            found = _flat(*_term(graph, loss, _poisoned(batch, value), player))
            problem = f"in the {player}'s turn, what missing or padded slots hold changes the result"
            same(found, expected, problem, "masked_fill or torch.where before anything else; Term.of(values, rows)")


def _flat(term: Term, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"the sum": term.sum, **gradients}


def row_additive(subject: Subject) -> None:
    """The terms of the halves of a batch, and of its single rows, add up to the whole: sums, counts, gradients."""
    graph, loss = _make(subject)
    batch = toy_batch(graph)
    b = len(batch)
    for player in sorted(loss.players):
        whole, expected = _term(graph, loss, batch, player)
        for size in (b // 2, 1):
            parts = [batch.take(torch.arange(start, start + size)) for start in range(0, b, size)]
            found = [_term(graph, loss, part, player) for part in parts]
            total = {n: sum((g[n] for _, g in found), torch.zeros(())) for n in expected}
            problem = f"in the {player}'s turn, {len(parts)} parts of a batch do not add up to the whole"
            expect(sum(int(t.count) for t, _ in found) == int(whole.count), f"{problem}: counts differ")
            fix = "return the sum over rows that each stand for themselves, not a mean over the batch"
            sums = torch.stack([t.sum for t, _ in found]).sum()
            same({"the sum": sums, **total}, {"the sum": whole.sum, **expected}, problem, fix)


def no_global_random(subject: Subject) -> None:
    """Nothing is drawn from the global random state."""
    graph, loss = _make(subject)
    for player in sorted(loss.players):
        use = lambda player=player: _flat(*_term(graph, loss, toy_batch(graph), player))  # noqa: E731
        check_no_global_random(use)


def parameters_registered(subject: Subject) -> None:
    """What it learns itself is in ``parameters()`` from construction on."""
    graph, loss = _make(subject)
    check_registered(loss, lambda: [_term(graph, loss, toy_batch(graph), p) for p in sorted(loss.players)])


def parameters_learn(subject: Subject) -> None:
    """Every parameter of its own receives a gradient in some player's turn."""
    graph, loss = _make(subject)
    if not list(loss.parameters()):
        return
    found = [_term(graph, loss, toy_batch(graph), player)[1] for player in sorted(loss.players)]
    idle = [n for n in found[0] if n.startswith("its own") and not any(bool((g[n] != 0).any()) for g in found)]
    if idle:
        raise Broken(f"receives no gradient: {', '.join(idle)}", "use or remove it")
