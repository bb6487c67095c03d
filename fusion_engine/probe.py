"""One tiny real batch through a new graph: what comes out is compared with what was declared, before data is read."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor

from fusion_engine.components import Decoder, Encoder, Fusion, Head, PosteriorNetwork, Prior
from fusion_engine.errors import BuildError, FusionError, author_line, one_line
from fusion_engine.graph import Graph
from fusion_engine.likelihoods import Likelihood
from fusion_engine.losses import Loss
from fusion_engine.run import Run
from fusion_engine.values import Batch, Features, Posterior, Signal, Term

log = logging.getLogger("fusion_engine")


def probe_batch(graph: Graph) -> Batch:
    """Make two whole rows, and one row that lacks each modality; what is missing or padded holds NaN."""
    b = len(graph.modalities) + 2
    present = {m: torch.arange(b) != i + 2 for i, m in enumerate(graph.modalities)}
    signals = {m: _poison(modality.example(b), present[m]) for m, modality in graph.modalities.items()}
    return Batch.of(signals, present)


def _poison(signal: Signal, present: Tensor) -> Signal:
    if not signal.data.is_floating_point():
        return signal
    valid = present.reshape(-1, *[1] * (signal.data.ndim - 1)).expand_as(signal.data)
    if signal.mask is not None:
        valid = valid & signal.mask.reshape(*signal.mask.shape, *[1] * (signal.data.ndim - signal.mask.ndim))
    return Signal(signal.data.masked_fill(~valid, torch.nan), signal.mask, signal.position)


@contextmanager
def _untouched(graph: Graph) -> Iterator[None]:
    """Leave buffers, gradients, mode and the random state as they were."""
    buffers = {name: b.clone() for name, b in graph.named_buffers()}
    training = graph.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        graph.train()
        try:
            yield
        finally:
            graph.train(training)
            graph.zero_grad(set_to_none=True)
            with torch.no_grad():
                for name, b in graph.named_buffers():
                    b.copy_(buffers[name])


def probe(graph: Graph) -> frozenset[str]:
    """Run every node and loss once, then the discriminators with a gradient penalty.

    Returns:
        The nodes that some loss has asked for, by itself or through others.

    Raises:
        BuildError: a node or loss fails, or returns something else than it declares.
    """
    with _untouched(graph), torch.enable_grad():
        batch = probe_batch(graph)
        with torch.no_grad():
            run = Run(graph, batch, sample=True)
            for name in graph.wiring.order:
                where = f"node {name!r} ({graph.wiring.nodes[name].use})"
                if graph.wiring.kind(name) == "decoder":
                    _check_mixtures(run, name, where)
                value = _attempt(where, lambda name=name: run[name])
                _check(graph, name, value, batch, where)
        asked = frozenset[str]().union(*(_probe_loss(graph, name, batch) for name in graph.loss_names))
        for score in graph.wiring.scores:
            _probe_penalty(graph, score, batch)
    return asked


def _attempt(where: str, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except FusionError as error:
        if error.where is not None:
            raise
        raise type(error)(
            error.problem, where=where, expected=error.expected, actual=error.actual, fix=error.fix
        ) from error
    except Exception as error:
        raise BuildError(
            f"it fails on a probe batch: {one_line(error)}",
            where=where,
            actual=f"raised at {author_line(error)}",
            fix="check its config against what is wired into it, or mend that line",
        ) from error


def _expect(condition: bool, problem: str, where: str, expected: object, actual: object) -> None:
    if not condition:
        raise BuildError(
            problem,
            where=where,
            expected=str(expected),
            actual=str(actual),
            fix="correct the component: it must return what it declares",
        )


def _finite(x: Tensor, what: str, where: str) -> None:
    fix = "fill padding and absent inputs before the first layer, and guard rows that have nothing present"
    if not torch.isfinite(x).all():
        rows = (~torch.isfinite(x)).reshape(len(x), -1).any(1).nonzero().flatten().tolist()
        raise BuildError(
            f"{what} is not finite on rows that miss or pad something",
            where=where,
            expected="finite numbers",
            actual=f"NaN or Inf in {rows}",
            fix=fix,
        )


def _check(graph: Graph, name: str, value: Any, batch: Batch, where: str) -> None:
    module, b = graph[name], len(batch)
    if isinstance(module, Encoder | Fusion):
        _expect(isinstance(value, Features), "it returns no features", where, "Features", type(value).__name__)
        _expect(
            value.widths == module.widths, "the widths differ from what it declares", where, module.widths, value.widths
        )
        _expect(
            value.mask.shape == value.tokens.shape[:2] and len(value.pooled) == b,
            "the axes disagree",
            where,
            f"tokens [{b} n d], mask [{b} n], pooled [{b} d]",
            f"tokens {list(value.tokens.shape)}, mask {list(value.mask.shape)}, pooled {list(value.pooled.shape)}",
        )
        _finite(value.pooled, "pooled", where)
    elif isinstance(module, PosteriorNetwork | Prior):
        _expect(isinstance(value, Posterior), "it returns no posterior", where, "Posterior", type(value).__name__)
        _expect(
            value.z.shape[-2:] == (b, module.latent),
            "z has another shape",
            where,
            f"[*k {b} {module.latent}]",
            list(value.z.shape),
        )
        _expect(
            value.weights.shape == value.z.shape[:-1],
            "the weights have another shape",
            where,
            list(value.z.shape[:-1]),
            list(value.weights.shape),
        )
        total = value.weights.flatten(0, -2).sum(0) if value.weights.ndim > 1 else value.weights
        _expect(
            bool(torch.allclose(total, torch.ones_like(total), atol=1e-4)),
            "the weights do not sum to one over k",
            where,
            1,
            total.tolist(),
        )
        _finite(value.z.movedim(-2, 0), "z", where)
    elif isinstance(module, Head):
        _expect(isinstance(value, Tensor), "it returns no tensor", where, "Tensor", type(value).__name__)
        _expect(
            value.shape == (b, module.outputs),
            "its output has another shape",
            where,
            [b, module.outputs],
            list(value.shape),
        )
        _finite(value, "its output", where)
    else:
        _check_likelihood(cast(Decoder, module), value, where)


def _check_mixtures(run: Run, name: str, where: str) -> None:
    """Check that the mixtures wired into a decoder are of the same inputs: their components are taken side by side."""
    mixtures = [s for s in run.wiring.nodes[name].ports["z"] if isinstance(run[s], Posterior) and run[s].z.ndim > 2]
    for one, other in pairwise(mixtures):
        a, b = run[one].weights, run[other].weights
        alike = run.wiring.nodes[one].sources == run.wiring.nodes[other].sources
        if not alike or a.shape != b.shape or not torch.allclose(a, b, atol=1e-4):
            raise BuildError(
                "two mixtures that do not belong together are wired into one decoder",
                where=f"{where}, port 'z'",
                expected="mixtures of the same inputs, in the same order and with the same weights",
                actual=f"{one!r} has {len(a)} components, {other!r} has {len(b)}",
                fix="wire them alike, or make one of them posterior/gaussian or posterior/poe",
            )


def _check_likelihood(decoder: Decoder, value: Any, where: str) -> None:
    _expect(isinstance(value, Likelihood), "it returns no likelihood", where, "Likelihood", type(value).__name__)
    mean = value.mean
    lead = (
        mean.data.shape[: mean.data.ndim - decoder.modality.example(2).data.ndim]
        if mean.mask is None
        else mean.mask.shape[:-2]
    )
    b = mean.data.shape[len(lead)]
    example = decoder.modality.example(b)
    if mean.mask is None and mean.data.is_floating_point():
        _expect(
            mean.data.shape[len(lead) :] == example.data.shape,
            "it decodes another shape than its modality's",
            where,
            list(example.data.shape),
            list(mean.data.shape[len(lead) :]),
        )
    if decoder.density:
        log_prob = _attempt(where, lambda: value.log_prob(example))
        _expect(
            log_prob.shape == (*lead, b),
            "log_prob has another shape",
            where,
            f"[*k b] = {[*lead, b]}",
            list(log_prob.shape),
        )
        _finite(log_prob.movedim(-1, 0), "log_prob", where)


def _probe_loss(graph: Graph, name: str, batch: Batch) -> frozenset[str]:
    """Run a loss once for each player; return the nodes that it has asked for."""
    loss, where, asked = cast(Loss, graph.loss(name)), f"loss {name!r}", frozenset[str]()
    for player in sorted(loss.players):
        run = Run(graph, batch, player=player, sample=True)
        term = _attempt(where, lambda run=run, player=player: loss(run, player))
        _expect(isinstance(term, Term), "it returns no term", where, "Term.of(values, rows)", type(term).__name__)
        chosen = _attempt(where, lambda run=run, player=player: loss.rows(run, player))
        good = isinstance(chosen, Tensor) and chosen.dtype == torch.bool and chosen.shape == (len(batch),)
        _expect(good, "its rows are no mask of the batch", where, f"Bool [{len(batch)}]", _shown(chosen))
        rows = int(chosen.sum())
        _expect(int(term.count) == rows, "it counts other rows than it announces", where, rows, int(term.count))
        _finite(term.sum[None], "it", where)
        asked |= _asked(run)
    return asked


def _asked(run: Run) -> frozenset[str]:
    """List the nodes that a run and its views remember."""
    names = {
        part for key in run._memory for part in (key if isinstance(key, tuple) else [key]) if isinstance(part, str)
    }
    views = [_asked(value) for value in run._memory.values() if isinstance(value, Run) and value is not run]
    return frozenset(names & run.wiring.nodes.keys()).union(*views)


def _shown(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _probe_penalty(graph: Graph, score: str, batch: Batch) -> None:
    """Find out whether a discriminator can be differentiated twice; if not, its penalties are approximated."""
    run = Run(graph, batch, player="discriminator", sample=True)
    try:
        _, squared = run.score_and_gradient(score)
        squared.sum().backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, NotImplementedError) as error:
        graph.approximated.add(score)
        reason = str(error).strip().splitlines()[0]
        log.warning(
            "the discriminator of %r has no double backward (%s): its penalties are estimated by finite differences",
            score,
            reason,
        )
