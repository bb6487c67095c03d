"""What a component returns, as tensors whose first axis is the batch, and how two of such are compared."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fusion_engine.components import Decoder, Encoder, PosteriorPrior, Prior
from fusion_engine.kernels import running_statistics
from fusion_engine.likelihoods import Likelihood
from fusion_engine.testing.cases import Case
from fusion_engine.testing.toy_networks import ToyPosterior
from fusion_engine.values import Features, Posterior, Widths

RTOL, ATOL = 1e-4, 1e-5


class Broken(Exception):  # noqa: N818  # not an error of the kit but what a rule says
    """A rule does not hold: what is wrong, and what to do."""

    def __init__(self, problem: str, fix: str | None = None) -> None:
        self.problem, self.fix = problem, fix
        super().__init__(problem)


def expect(condition: bool, problem: str, fix: str | None = None) -> None:
    """Hold a rule.

    Raises:
        Broken: the condition does not hold.
    """
    if not condition:
        raise Broken(problem, fix)


@dataclass(frozen=True)
class Observed:
    """Named tensors [b ...] of one call, each perhaps with a mask [b n] of what counts in it."""

    values: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]

    def take(self, rows: Tensor) -> "Observed":
        """Keep rows."""
        return Observed({n: x[rows] for n, x in self.values.items()}, {n: m[rows] for n, m in self.masks.items()})

    def flat(self) -> dict[str, Tensor]:
        """Return what counts: [b ...], or [valid ...] where there is a mask, and then how many each row has."""
        found = {n: x[self.masks[n]] if n in self.masks else x for n, x in self.values.items()}
        return found | {f"the number of valid {n}": m.sum(1) for n, m in self.masks.items()}


def call(module: nn.Module, case: Case) -> Any:
    """Call a component as a run does."""
    b = len(case)
    rows = b if case.z is None else case.z.shape[:-1].numel()
    with running_statistics(module, rows):
        if isinstance(module, Encoder):
            return module(case.signal)
        if isinstance(module, PosteriorPrior):
            return module(b, toy_posterior(module.inputs, module.latent))
        if isinstance(module, Prior):
            return module(b)
        if isinstance(module, Decoder):
            return module(case.z, case.features)
        return module(case.features, case.present)


def toy_posterior(inputs: Mapping[str, Widths], latent: int) -> ToyPosterior:
    """Make the posterior that a prior made of one is shown: the same for the same widths."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return ToyPosterior(inputs, latent=latent)


def observe(module: nn.Module, case: Case) -> Observed:
    """Call a component and take what it returns apart, samples included."""
    value = call(module, case)
    if isinstance(value, Features):
        masked = {"tokens": value.tokens} | ({} if value.position is None else {"position": value.position})
        return Observed({"pooled": value.pooled, **masked}, dict.fromkeys(masked, value.mask))
    if isinstance(value, Posterior):
        return Observed(_posterior(value, case), {})
    if isinstance(value, Likelihood):
        density = isinstance(module, Decoder) and module.density
        return Observed(_likelihood(value, case, density), {})
    return Observed({"output": value}, {})


def _posterior(value: Posterior, case: Case) -> dict[str, Tensor]:
    held = (value.weights > 0).movedim(-1, 0)
    drawn = value.sampled(case.noise)
    one = drawn.one(case.noise.at("one"))
    found = {
        "z": value.z.movedim(-2, 0),
        "the sample of z": drawn.z.movedim(-2, 0),
        "the KL": value.kl_elements().movedim(-2, 0),
    }
    found = {n: torch.where(held[..., None], x, 0.0) for n, x in found.items()}
    return {"weights": value.weights.movedim(-1, 0), "the drawn component": one.z, **found}


def _likelihood(value: Likelihood, case: Case, density: bool) -> dict[str, Tensor]:
    assert case.z is not None
    lead = case.z.ndim - 2
    mean, sample = value.mean, value.sample(case.noise)
    found = {"the mean": mean.data, "the sample": sample.data}
    found |= {
        f"the mask of {n}": s.mask for n, s in {"the mean": mean, "the sample": sample}.items() if s.mask is not None
    }
    if density:
        assert case.signal is not None
        found["log_prob"] = value.log_prob(case.signal)
    return {n: x.movedim(lead, 0) for n, x in found.items()}


def same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], problem: str, fix: str | None = None) -> None:
    """Compare what counts of two calls.

    Raises:
        Broken: names, shapes or numbers differ.
    """
    for name, x in expected.items():
        expect(name in found, f"{problem}: {name} is missing", fix)
        y = found[name]
        shapes = f"{list(y.shape)} instead of {list(x.shape)}"
        expect(x.shape == y.shape, f"{problem}: {name} has shape {shapes}", fix)
        if not x.is_floating_point():
            expect(torch.equal(x, y), f"{problem}: {name} differs", fix)
            continue
        expect(bool(y.isfinite().all()) or not bool(x.isfinite().all()), f"{problem}: {name} is NaN or Inf", fix)
        scale = float(x.detach().abs().max()) if x.numel() else 0.0
        close = torch.allclose(y, x, rtol=RTOL, atol=ATOL * max(1.0, scale), equal_nan=True)
        worst = float((y - x).detach().abs().max()) if x.numel() else 0.0
        expect(close, f"{problem}: {name} differs by up to {worst:.2g}", fix)


def finite(found: Mapping[str, Tensor], problem: str, fix: str | None = None) -> None:
    """Check that all numbers are finite.

    Raises:
        Broken: some are not.
    """
    for name, x in found.items():
        expect(not x.is_floating_point() or bool(x.isfinite().all()), f"{problem}: {name} is NaN or Inf", fix)


@dataclass(frozen=True)
class Learned:
    """A training call: what came out, every gradient, and every buffer afterwards."""

    outputs: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]


def learn(module: nn.Module, case: Case) -> Learned:
    """Call a component and take the gradients of a random projection of all that it returns.

    Gradients to inputs are those of valid slots alone; a parameter without one is left out.
    """
    module.zero_grad(set_to_none=True)
    case, leaves = case.leaves()
    outputs = observe(module, case).flat()
    project(outputs).backward()  # type: ignore[no-untyped-call]
    gradients = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    inputs = {n: x.grad[valid] for n, (x, valid) in leaves.items() if x.grad is not None}
    buffers = {n: b.clone() for n, b in module.named_buffers()}
    return Learned({n: x.detach() for n, x in outputs.items()}, {**gradients, **inputs}, buffers)


def project(outputs: Mapping[str, Tensor]) -> Tensor:
    """Add up all numbers, each times a fixed random one."""
    total = torch.zeros((), requires_grad=True) * 0.0
    for i, x in enumerate(outputs.values()):
        if x.requires_grad:
            total = total + (x * torch.randn(x.shape, generator=torch.Generator().manual_seed(i))).sum()
    return total


def same_learning(found: Learned, expected: Learned, problem: str, fix: str | None = None) -> None:
    """Compare two training calls.

    Raises:
        Broken: outputs, gradients or buffers differ.
    """
    same(found.outputs, expected.outputs, problem, fix)
    same(found.gradients, expected.gradients, f"{problem}, in a gradient", fix)
    same(found.buffers, expected.buffers, f"{problem}, in a buffer such as BatchNorm's statistics", fix)


def drops(module: nn.Module) -> bool:
    """Whether a layer drops something at random while training."""
    rate = getattr(module, "p", None) or getattr(module, "drop_prob", None) or getattr(module, "dropout", None)
    drawn = "Drop" in type(module).__name__ or isinstance(module, nn.MultiheadAttention | nn.RNNBase)
    return drawn and isinstance(rate, int | float) and rate > 0


@contextmanager
def mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Put a component into a mode; in training nothing is dropped at random."""
    module.train(training)
    for part in module.modules():
        if drops(part):
            part.training = False
    try:
        yield
    finally:
        module.eval()
