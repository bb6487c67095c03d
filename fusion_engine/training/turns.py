"""One player's step on one batch, free of any framework.

Each loss is divided by its count over the whole step (all processes, all micro-batches), which is known before anything
is computed. Gradients are then plain sums, so that sharing a step changes nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
GRADIENT = "gradient norm"
"""The metric of a turn that is no loss: the norm of all its gradients together, before they are clipped."""


def is_statistic(metric: str) -> bool:
    """Whether a logged metric is no loss: something told beside one, or the norm of the gradients."""
    name = metric.rpartition("/")[2]
    return "." in name or name == GRADIENT


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

    Its statistics stand beside it, as ``loss.statistic``, and the norm of the gradients as ``gradient norm``.

    Raises:
        TrainingError: a loss or gradient is NaN or Inf; the message names the loss and the first bad node.
    """
    turn.optimizer.zero_grad(set_to_none=True)
    bad: str | None = None
    sums: dict[str, Tensor] = {}
    with only_learns(graph, turn.parameters):
        counts = _counts([_run(graph, batch, noise, clock, turn.player) for batch in batches], turn)
        counts = counts if reduce is None else reduce(counts)
        for i, batch in enumerate(batches):
            run = _run(graph, batch, noise, clock, turn.player)
            torch.manual_seed(noise.at("dropout", i, int(batch.index[0])).key)
            for name, value in _accumulate(run, turn, counts, autocast).items():
                sums[name] = sums[name] + value if name in sums else value
            bad = first_bad_node(run) if bad is None and _not_finite(turn, sums) else bad
            run.forget()
    if reduce is not None:
        sums = dict(zip(sums, reduce(torch.stack([*sums.values()])), strict=True))
    if _not_finite(turn, sums):  # behind the sum, so that every process stops and none waits for another
        raise _stopped(turn, sums, bad, clock)
    norm = gather_gradients(graph, turn.parameters, reduce)
    if clip is not None:
        nn.utils.clip_grad_norm_(turn.parameters, clip)
    turn.optimizer.step()
    return _means(turn, sums, counts) | {GRADIENT: norm}


def _means(turn: Turn, sums: Mapping[str, Tensor], counts: Tensor) -> dict[str, float]:
    """Divide by the rows that counted, and let each loss note its statistics."""
    number = dict(zip(turn.losses, counts.clamp(min=1), strict=True))
    values = torch.stack([value / number[name.partition(".")[0]] for name, value in sums.items()]).tolist()
    means = dict(zip(sums, values, strict=True))
    for name, loss in turn.losses.items():
        loss.observe(turn.player, {k.partition(".")[2]: v for k, v in means.items() if k.startswith(f"{name}.")})
    return means


def _run(graph: Graph, batch: Batch, noise: Noise, clock: Clock, player: Player) -> Run:
    return Run(graph, batch, noise=Noise(noise.key, batch.index, batch.total), clock=clock, player=player, sample=True)


def _counts(runs: Sequence[Run], turn: Turn) -> Tensor:
    device = runs[0].anything().device
    rows = [[loss.rows(run, turn.player).sum() for loss in turn.losses.values()] for run in runs]
    return torch.stack([torch.stack(r) for r in rows]).sum(0).to(device=device, dtype=torch.get_default_dtype())


def _accumulate(
    run: Run, turn: Turn, counts: Tensor, autocast: Callable[[], AbstractContextManager[object]]
) -> dict[str, Tensor]:
    """Add the gradients of one micro-batch; return the sums of each loss and, as ``loss.statistic``, what it tells."""
    means, sums, scaled = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
    with autocast():
        for i, (name, loss) in enumerate(turn.losses.items()):
            term = loss(run, turn.player)
            means[name] = term.sum / counts[i].clamp(min=1)
            scaled[name] = loss.scale(run.clock) * means[name]
            sums[name] = term.sum.detach().to(counts.dtype)
            sums |= {f"{name}.{key}": value.detach().to(counts.dtype) for key, value in term.statistics.items()}
            if loss.relative_to in turn.losses:
                sums[f"{name}.pull"] = term.count.to(counts.dtype)
    for name, loss in turn.losses.items():
        if loss.relative_to in scaled:
            pull = relative_pull(run.graph, scaled[loss.relative_to], means[name])
            scaled[name], sums[f"{name}.pull"] = scaled[name] * pull, sums[f"{name}.pull"] * pull
    total = torch.stack([*scaled.values()]).sum()
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]
    return sums


MOST_PULL = 1e4


def relative_pull(graph: Graph, reference: Tensor, term: Tensor) -> Tensor:
    """Return what a term is multiplied by to pull as hard as the reference where both leave the decoders.

        min(|grad reference| / (|grad term| + 1e-4), 10^4),   gradients at the last weight of every decoder together

    Esser et al., 2021, eq. 7, arXiv:2012.09841. It is 1 where either does not reach the decoders, and it is each
    micro-batch's own: a step that is shared by several is not exactly the whole one.
    """
    ends = [
        [p for p in graph[n].parameters() if p.ndim > 1 and p.requires_grad] for n in graph.wiring.of_kind("decoder")
    ]
    last = [parameters[-1] for parameters in ends if parameters]
    if not last or not (reference.requires_grad and term.requires_grad):
        return torch.ones((), device=term.device)
    norms = []
    for value in (reference, term):
        found = torch.autograd.grad(value, last, retain_graph=True, allow_unused=True)
        norms.append(torch.stack([g.square().sum() for g in found if g is not None] or [torch.zeros(())]).sum().sqrt())
    if not norms[0] or not norms[1]:
        return torch.ones((), device=term.device)
    return (norms[0] / (norms[1] + 1e-4)).clamp(max=MOST_PULL)


def _not_finite(turn: Turn, sums: Mapping[str, Tensor]) -> list[str]:
    finite = torch.isfinite(torch.stack([sums[name] for name in turn.losses])).tolist()
    return [name for name, good in zip(turn.losses, finite, strict=True) if not good]


def _stopped(turn: Turn, sums: Mapping[str, Tensor], bad: str | None, clock: Clock) -> TrainingError:
    return TrainingError(
        f"step {clock.step}: the {turn.player}'s loss is not finite: {', '.join(_not_finite(turn, sums))}",
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


def gather_gradients(graph: Graph, parameters: Sequence[nn.Parameter], reduce: Reduce | None) -> float:
    """Sum gradients over processes in one message, and return their norm.

    A parameter that no process touched keeps no gradient.

    Raises:
        TrainingError: a gradient is NaN or Inf; the message names the first node that has one.
    """
    touched = torch.tensor([float(p.grad is not None) for p in parameters])
    touched = touched if reduce is None else reduce(touched.to(parameters[0].device))
    chosen = [p for p, t in zip(parameters, touched.tolist(), strict=True) if t]
    if not chosen:
        return 0.0
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
    return float(flat.norm())
