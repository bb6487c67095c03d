"""One player's step on one batch, free of any framework.

Each loss is divided by its count over the whole step (all processes, all micro-batches), which is known before anything
is computed. Gradients are then plain sums, so that sharing a step changes nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fusion_engine.config import Player
from fusion_engine.errors import TrainingError
from fusion_engine.graph import Graph
from fusion_engine.likelihoods import Likelihood
from fusion_engine.losses import Loss
from fusion_engine.noise import Noise
from fusion_engine.run import Clock, Run
from fusion_engine.values import Batch, Features, Posterior, Signal

Reduce = Callable[[Tensor], Tensor]
"""Sum a tensor over all processes."""


@dataclass
class Turn:
    """What one player does on each batch of a stage.

    Args:
        player: who.
        losses: what it minimises, by name.
        parameters: what learns.
        optimizer: how.
        repeat: how often on one batch, each time with fresh noise.
    """

    player: Player
    losses: dict[str, Loss]
    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    repeat: int = 1
    rates: list[float] = field(default_factory=list)


@contextmanager
def only_learns(graph: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Let the given parameters alone require gradients; a penalty's double backward would reach the others too."""
    learning = {id(p) for p in parameters}
    before = [(p, p.requires_grad) for p in graph.parameters()]
    for p, _ in before:
        p.requires_grad_(id(p) in learning)
    try:
        yield
    finally:
        for p, required in before:
            p.requires_grad_(required)


def take_turn(
    graph: Graph,
    turn: Turn,
    batches: Sequence[Batch],
    noise: Noise,
    clock: Clock,
    *,
    reduce: Reduce | None = None,
    clip: float | None = None,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, float]:
    """Compute the gradients of one step and apply them; return each loss's mean over the whole step.

    Raises:
        TrainingError: a loss or gradient is NaN or Inf; the message names the loss and the first bad node.
    """
    turn.optimizer.zero_grad(set_to_none=True)
    bad: str | None = None
    with only_learns(graph, turn.parameters):
        counts = _counts([_run(graph, batch, noise, clock, turn.player) for batch in batches], turn)
        counts = counts if reduce is None else reduce(counts)
        sums = torch.zeros_like(counts)
        for i, batch in enumerate(batches):
            run = _run(graph, batch, noise, clock, turn.player)
            torch.manual_seed(noise.at("dropout", i, int(batch.index[0])).key)
            sums += _accumulate(run, turn, counts, autocast)
            bad = first_bad_node(run) if bad is None and not torch.isfinite(sums).all() else bad
            run.forget()
    sums = sums if reduce is None else reduce(sums)
    if not torch.isfinite(sums).all():  # behind the sum, so that every process stops and none waits for another
        raise _not_finite(turn, sums, bad, clock)
    gather_gradients(graph, turn.parameters, reduce)
    if clip is not None:
        nn.utils.clip_grad_norm_(turn.parameters, clip)
    turn.optimizer.step()
    means = (sums / counts.clamp(min=1)).tolist()
    return dict(zip(turn.losses, means, strict=True))


def _run(graph: Graph, batch: Batch, noise: Noise, clock: Clock, player: Player) -> Run:
    return Run(graph, batch, noise=Noise(noise.key, batch.index, batch.total), clock=clock, player=player, sample=True)


def _counts(runs: Sequence[Run], turn: Turn) -> Tensor:
    device = runs[0].anything().device
    rows = [[loss.rows(run, turn.player).sum() for loss in turn.losses.values()] for run in runs]
    return torch.stack([torch.stack(r) for r in rows]).sum(0).to(device=device, dtype=torch.get_default_dtype())


def _accumulate(run: Run, turn: Turn, counts: Tensor, autocast: Callable[[], AbstractContextManager[object]]) -> Tensor:
    total = torch.zeros((), device=counts.device)
    sums = []
    with autocast():
        for i, (_, loss) in enumerate(turn.losses.items()):
            term = loss(run, turn.player)
            sums.append(term.sum.detach().to(counts.dtype))
            total = total + loss.scale(run.clock) * term.sum / counts[i].clamp(min=1)
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]
    return torch.stack(sums)


def _not_finite(turn: Turn, sums: Tensor, bad: str | None, clock: Clock) -> TrainingError:
    losses = [name for name, value in zip(turn.losses, sums, strict=True) if not torch.isfinite(value)]
    return TrainingError(
        f"step {clock.step}: the {turn.player}'s loss is not finite: {', '.join(losses)}",
        where=f"first bad node: {bad or 'none, all nodes of this process are finite'}",
        fix="lower the learning rate, set train.clip, or look for extreme values in the data",
    )


def first_bad_node(run: Run) -> str | None:
    """Find the first modality or computed node, in order, that holds NaN or Inf: in a run, then in its views."""
    for name in run.wiring.modalities if run.parent is None else ():
        if not _finite(run.batch.signals[name].take(run.batch.present[name])):
            return f"{name!r}, the data of the modality"
    for name in run.wiring.order:
        if not all(_finite(run._memory.get(key)) for key in (name, ("likelihood", name), ("single", name))):
            return repr(name)
    views = [value for value in run._memory.values() if isinstance(value, Run)]
    return next((bad for view in views if (bad := first_bad_node(view)) is not None), None)


def _finite(value: object) -> bool:
    """Whether a node's value (None where it was not computed) holds finite numbers only."""
    if isinstance(value, Likelihood):
        value = value.mean
    if isinstance(value, Signal):
        value = value.filled()
    tensor = value.pooled if isinstance(value, Features) else value.z if isinstance(value, Posterior) else value
    return not isinstance(tensor, Tensor) or bool(torch.isfinite(tensor).all())


def gather_gradients(graph: Graph, parameters: Sequence[nn.Parameter], reduce: Reduce | None) -> None:
    """Sum gradients over processes in one message; a parameter that none of them touched keeps no gradient.

    Raises:
        TrainingError: a gradient is NaN or Inf; the message names the first node that has one.
    """
    touched = torch.tensor([float(p.grad is not None) for p in parameters])
    touched = touched if reduce is None else reduce(touched.to(parameters[0].device))
    chosen = [p for p, t in zip(parameters, touched.tolist(), strict=True) if t]
    if not chosen:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in chosen])
    flat = flat if reduce is None else reduce(flat)
    parts = dict(zip(chosen, torch.split(flat, [p.numel() for p in chosen]), strict=True))
    if not torch.isfinite(flat).all():
        nodes = [n for n in graph.wiring.order for p in graph[n].parameters() if p in parts and not _finite(parts[p])]
        raise TrainingError(
            "a gradient is not finite, though the losses are",
            where=f"first bad node: {nodes[0]!r}" if nodes else "a parameter of a loss",
            fix="lower the learning rate, or look for a square root or logarithm at zero",
        )
    if reduce is not None:
        for p, part in parts.items():
            p.grad = part.view_as(p).clone()
