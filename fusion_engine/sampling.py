"""Signals from a graph: from draws of the priors, from what posteriors infer, from points on a line between them."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from fusion_engine.components import Prior
from fusion_engine.noise import Noise
from fusion_engine.priors import log_density
from fusion_engine.requests import decoder
from fusion_engine.run import Run, fitted_draws, prior_draw
from fusion_engine.values import Posterior, Signal


def decode(run: Run, node: str, sample: bool) -> Signal:
    """Return what a decoder makes in a run: a draw from its likelihood, or the mean."""
    likelihood = run[node]
    return cast(Signal, likelihood.sample(run.noise("sample", node)) if sample else likelihood.mean)


def started(run: Run, priors: Iterable[str]) -> Run:
    """Replay with z of every posterior drawn from the given fitted priors, else from the one it is trained with."""
    b, noise, graph = len(run.batch), run.noise("generate"), run.graph
    draws = {p: prior_draw(graph, p, b, noise.at(p)) for p in graph.wiring.of_kind("posterior")}
    names = list(priors)
    draws |= fitted_draws(graph, names, b, noise)
    for name in names:
        if cast(Prior, graph[name]).candidates > 1:
            draws |= _chosen(run, name, draws, noise.at(name))
    return replayed(run, draws)


def _chosen(run: Run, name: str, draws: dict[str, Posterior], noise: Noise) -> dict[str, Posterior]:
    """Of a fitted prior's proposals keep in each row the one that its own decodings make most likely.

        z = argmax_j min_e log e(z_j given what is decoded from z_j)

    with e the experts, or the posterior where it has none; several posteriors are added up. A model hears in this way
    where its modalities do not agree.
    """
    graph, prior = run.graph, cast(Prior, run.graph[name])
    posteriors = graph.fitted_priors()[name]
    proposals = prior.proposals(noise, prior.candidates)
    widths = [graph.posterior(p).latent for p in posteriors]
    starts = [dict(zip(posteriors, torch.split(z, widths, -1), strict=True)) for z in proposals]
    scores = [_agreement(run, {p: draws[p].with_z(z) for p, z in start.items()}, draws) for start in starts]
    best = torch.stack(scores).argmax(0)
    z = proposals[best, torch.arange(len(best), device=best.device)]
    return {p: draws[p].with_z(part) for p, part in zip(posteriors, torch.split(z, widths, -1), strict=True)}


def _agreement(run: Run, start: dict[str, Posterior], others: dict[str, Posterior]) -> Float[Tensor, " b"]:
    """Decode a start, encode what is decoded, and say how likely the least convinced expert finds the start."""
    view, wiring = replayed(run, others | start), run.wiring
    above = frozenset().union(*(wiring.ancestors(p) for p in start))
    made = {m: decode(view, d, False) for m in wiring.modalities if m in above and (d := wiring.decoder_of(m))}
    everywhere = torch.ones(len(run.batch), dtype=torch.bool, device=next(iter(start.values())).z.device)
    again = run.replay(made, present=dict.fromkeys(made, everywhere), label=("again",))
    total = torch.zeros(len(run.batch), device=everywhere.device)
    for name, drawn in start.items():
        found = cast(Posterior, again[name])
        experts = [q for e, q in found.experts.items() if bool(again.present(e).all())]
        densities = [log_density(q, drawn.z) for q in experts or [again.one(name).distribution]]
        total = total + torch.stack(densities).amin(0)
    return total


def replayed(run: Run, posteriors: dict[str, Posterior]) -> Run:
    """Replay with other posteriors, which are then present in every row."""
    device = next(iter(run.batch.present.values())).device
    everywhere = torch.ones(len(run.batch), dtype=torch.bool, device=device)
    return run.replay(posteriors, present=dict.fromkeys(posteriors, everywhere))


def singled(run: Run) -> Run:
    """Keep one component of each posterior, as fitted priors see it, and let every decoder work, also on empty rows."""
    chosen = {p: run.one(p) for p in run.wiring.of_kind("posterior")}
    for name, posteriors in run.graph.fitted_priors().items():
        chosen |= _informed(run, name, {p: chosen[p] for p in posteriors})
    return run.replay(chosen)


def _informed(run: Run, name: str, chosen: dict[str, Posterior]) -> dict[str, Posterior]:
    """Let a fitted prior say what is inferred of the posteriors that it is of: nothing, where it leaves them alone."""
    whole = _concatenated(list(chosen.values()))
    informed = cast(Prior, run.graph[name]).infer(whole)
    if informed is whole:
        return {}
    z = informed.sampled(run.noise("infer", name)).z if run.setting.sample else informed.z
    parts = torch.split(z, [q.z.shape[-1] for q in chosen.values()], -1)
    return {p: q.with_z(part) for (p, q), part in zip(chosen.items(), parts, strict=True)}


def _concatenated(parts: Sequence[Posterior]) -> Posterior:
    """Read several posteriors [b z_i] as one [b z] if all are normal; else return one that is not, to be told of."""
    other = next((q for q in parts if not (isinstance(q.distribution, Normal) and isinstance(q.prior, Normal))), None)
    if len(parts) == 1 or other is not None:
        return other or parts[0]

    def joined(each: Iterable[Any]) -> Normal:
        loc, scale = zip(*((d.loc, d.scale) for d in each), strict=True)
        return Normal(torch.cat(loc, -1), torch.cat(scale, -1), validate_args=False)

    return Posterior.of(joined(q.distribution for q in parts), joined(q.prior for q in parts))


def between(ends: Run, path: Run) -> Run:
    """Put points on the line from the first to the last row's latents into a run on as many rows as there are steps."""
    steps = len(path.batch)
    names = path.wiring.of_kind("posterior")
    z = {p: cast(Posterior, ends[p]).one(None).z for p in names}
    share = torch.linspace(0, 1, steps, device=next(iter(z.values())).device)[:, None]
    drawn = {p: prior_draw(path.graph, p, steps, path.noise("path", p)) for p in names}
    return replayed(path, {p: q.with_z((1 - share) * z[p][:1] + share * z[p][1:]) for p, q in drawn.items()})


def signals(runs: Iterable[Run], names: Sequence[str], sample: bool) -> dict[str, Signal]:
    """Decode the given modalities in every run, and join what the runs give."""
    found: dict[str, list[Signal]] = {name: [] for name in names}
    for run in runs if names else ():
        for name in names:
            found[name].append(decode(run, decoder(run.graph, name), sample))
    return {name: join(parts) for name, parts in found.items()}


def join(parts: Sequence[Signal]) -> Signal:
    """Concatenate batches of signals, padding the shorter ones."""
    n = max((s.mask.shape[1] for s in parts if s.mask is not None), default=0)

    def pad(x: Tensor) -> Tensor:
        return torch.cat([x, x.new_zeros(len(x), n - x.shape[1], *x.shape[2:])], 1) if x.shape[1] < n else x

    if n == 0:
        return Signal(torch.cat([s.data for s in parts]))
    return Signal(
        torch.cat([pad(s.data) for s in parts]), torch.cat([pad(s.mask) for s in parts if s.mask is not None])
    )
