"""One player's step on one batch, free of any framework.

The sums and counts of all losses are divided by the counts of the whole step (all processes, all micro-batches), which are
known before anything is computed. Gradients are then plain sums, so that sharing a step changes nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fusion_engine.config import Player
from fusion_engine.errors import TrainingError
from fusion_engine.graph import Graph
from fusion_engine.losses import Loss
from fusion_engine.run import Clock, Run
from fusion_engine.values import Batch, Features, Noise, Posterior

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
    with only_learns(graph, turn.parameters):
        runs = [_run(graph, batch, noise, clock, turn.player) for batch in batches]
        counts = _counts(runs, turn)
        counts = counts if reduce is None else reduce(counts)
        sums = torch.zeros_like(counts)
        for i, run in enumerate(runs):
            torch.manual_seed(noise.at("dropout", i, int(run.batch.index[0])).key)
            sums += _accumulate(run, turn, counts, autocast)
    gather_gradients(turn.parameters, reduce)
    if clip is not None:
        nn.utils.clip_grad_norm_(turn.parameters, clip)
    turn.optimizer.step()
    sums = sums if reduce is None else reduce(sums)
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
    if not torch.isfinite(total.detach()):
        raise _not_finite(run, turn, sums)
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]
    return torch.stack(sums)


def _not_finite(run: Run, turn: Turn, sums: Sequence[Tensor]) -> TrainingError:
    losses = [name for name, value in zip(turn.losses, sums, strict=True) if not torch.isfinite(value)]
    return TrainingError(
        f"step {run.clock.step}: the {turn.player}'s loss is not finite: {', '.join(losses) or 'the sum of its losses'}",
        where=f"first bad node: {first_bad_node(run) or 'none, all nodes are finite'}",
        fix="lower the learning rate, set train.clip, or look for extreme values in the data; the last checkpoint is good",
    )


def first_bad_node(run: Run) -> str | None:
    """Find the first computed node, in order, that holds NaN or Inf."""
    for name in run.wiring.order:
        value = run._memory.get(name)
        tensor = value.pooled if isinstance(value, Features) else value.z if isinstance(value, Posterior) else value
        if isinstance(tensor, Tensor) and not torch.isfinite(tensor).all():
            return name
    return None


def gather_gradients(parameters: Sequence[nn.Parameter], reduce: Reduce | None) -> None:
    """Sum gradients over processes in one message; a parameter that none of them touched keeps no gradient.

    Raises:
        TrainingError: a gradient is NaN or Inf.
    """
    touched = torch.tensor([float(p.grad is not None) for p in parameters])
    touched = touched if reduce is None else reduce(touched.to(parameters[0].device))
    chosen = [p for p, t in zip(parameters, touched.tolist(), strict=True) if t]
    if not chosen:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in chosen])
    flat = flat if reduce is None else reduce(flat)
    if not torch.isfinite(flat).all():
        raise TrainingError(
            "a gradient is not finite, though the losses are", fix="lower the learning rate or set train.clip"
        )
    if reduce is not None:
        for p, part in zip(chosen, torch.split(flat, [p.numel() for p in chosen]), strict=True):
            p.grad = part.view_as(p).clone()
