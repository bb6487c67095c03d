"""A normalising flow fitted to a trained posterior's latents: RealNVP, Dinh et al. 2017, arXiv:1605.08803."""

from collections.abc import Iterator
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusion_engine import FusionError, Noise, Posterior, Prior
from fusion_engine_generative.priors.coupling import Couplings, Flow, initial, masks, shapes

REGULARISATION = 1e-4
"""Added to the variances, so that latents on a plane have a density."""
HELD_OUT, FEWEST, PATIENCE, BATCH = 0.1, 20, 20, 128
LEARNING_RATE, DECAY, CLIP = 2e-3, 0.1, 5.0


class FittedFlow(Prior):
    """p(z) of z = mean + L f(u), u ~ N(0, I): whitened latents, then affine couplings f, fitted after training.

    mean and L L^T are those of the latents; f starts as the identity and is fitted by maximum likelihood until the
    likelihood of a held-out tenth has not improved for 20 epochs, and the best epoch is kept: on that tenth it is never
    worse than one Gaussian with a full covariance, which is all that fewer than 20 latents get. The fit draws from a
    generator of its own and is the same for the same latents. Until ``fit`` the buffer ``fitted`` is False and p(z) is
    N(0, I). Axes: b batch, z latent, l layers, h hidden.

    Args:
        latent: the width of z; a coupling needs two numbers or more.
        layers: l, couplings; twice the bits of ``latent`` are one round of every pair.
        width: h, of each coupling's two hidden layers.
        epochs: the most that are taken; the rate of learning falls to nothing over them, along a cosine.
    """

    fits = True
    keep: Tensor
    loc: Tensor
    scale: Tensor
    fitted: Tensor

    def __init__(
        self,
        *,
        latent: Annotated[int, Field(ge=2)] = 32,
        layers: Annotated[int, Field(ge=2)] = 10,
        width: Annotated[int, Field(ge=1)] = 64,
        epochs: Annotated[int, Field(ge=1)] = 100,
    ) -> None:
        super().__init__(latent)
        self.size, self.epochs = (latent, layers, width), epochs
        self.register_buffer("keep", masks(latent, layers), persistent=False)
        self.register_buffer("loc", torch.zeros(latent))
        self.register_buffer("scale", torch.eye(latent))
        self.register_buffer("fitted", torch.tensor(False))
        for name, shape in shapes(*self.size).items():
            self.register_buffer(name, torch.zeros(shape))

    def flow(self, b: int) -> Flow:
        """Return the distribution alone, batch shape [b], event shape [z]."""
        weights = {name: self.get_buffer(name) for name in shapes(*self.size)}
        return Flow(b, Couplings(self.keep, **weights), self.loc, self.scale)

    def forward(self, b: int) -> Posterior:
        """Return the prior for b rows; its z is that of u = 0, for the mean of a flow has no closed form."""
        flow = self.flow(b)

        def sample(noise: Noise) -> Float[Tensor, "b z"]:
            return flow.at(noise.normal(self.latent, like=self.loc))

        middle = flow.at(torch.zeros_like(self.loc).expand(b, -1))
        return Posterior(flow, flow, middle, self.loc.new_ones(b), sampler=sample)

    def fit(self, latents: Float[Tensor, "b z"]) -> None:
        """Fit by maximum likelihood with early stopping, on the CPU, the same for the same latents.

        Raises:
            FusionError: there are no latents, or some are not finite.
        """
        if not len(latents) or not latents.isfinite().all():
            actual = f"{len(latents)} latents, {(~latents.isfinite().all(-1)).sum()} of them not finite"
            raise FusionError(
                "a flow cannot be fitted to these latents", expected="one or more, all finite", actual=actual
            )
        generator = torch.Generator().manual_seed(0)
        x = latents.detach().float().cpu()[torch.randperm(len(latents), generator=generator)]
        held = int(HELD_OUT * len(x)) if len(x) >= FEWEST else 0
        test, train = x[:held], x[held:]
        loc, scale = _moments(train)
        white = [torch.linalg.solve_triangular(scale, (part - loc).mT, upper=False).mT for part in (train, test)]
        weights = _maximum_likelihood(white[0], white[1], self.size, self.epochs, generator) if held else {}
        with torch.no_grad():
            self.loc.copy_(loc)
            self.scale.copy_(scale)
            for name in shapes(*self.size):
                self.get_buffer(name).copy_(weights.get(name, torch.zeros(())))
            self.fitted.fill_(True)


def _moments(x: Float[Tensor, "b z"]) -> tuple[Float[Tensor, " z"], Float[Tensor, "z z"]]:
    """Return the mean, and the Cholesky factor of the covariance."""
    loc = x.double().mean(0)
    centred = x.double() - loc
    covariance = centred.mT @ centred / len(x) + REGULARISATION * torch.eye(x.shape[1], dtype=torch.float64)
    return loc.float(), torch.linalg.cholesky(covariance).float()


def _maximum_likelihood(
    train: Float[Tensor, "b z"],
    test: Float[Tensor, "r z"],
    size: tuple[int, int, int],
    epochs: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Return the weights of the best epoch; before the first, f is the identity."""
    keep = masks(size[0], size[1])
    weights = {name: x.requires_grad_() for name, x in initial(*size, generator).items()}
    optimizer = torch.optim.AdamW(weights.values(), LEARNING_RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    def cost(x: Tensor) -> Tensor:
        return -Flow(len(x), Couplings(keep, **weights), x.new_zeros(size[0])).log_prob(x).mean()

    def copy() -> dict[str, Tensor]:
        return {name: x.detach().clone() for name, x in weights.items()}

    best, lowest, since = copy(), float("inf"), 0
    for epoch in range(epochs + 1):
        with torch.no_grad():
            found = float(cost(test))
        best, lowest, since = (copy(), found, 0) if found < lowest else (best, lowest, since + 1)
        if since >= PATIENCE or epoch == epochs:
            break
        with torch.enable_grad():
            for batch in _batches(train, generator):
                optimizer.zero_grad()
                cost(batch).backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(weights.values(), CLIP)
                optimizer.step()
        schedule.step()
    return best


def _batches(x: Float[Tensor, "b z"], generator: torch.Generator) -> Iterator[Float[Tensor, "r z"]]:
    yield from torch.split(x[torch.randperm(len(x), generator=generator)], BATCH)
