"""A game whose score also says how well the auto-encoder of the graph knows a sample."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal, cast

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn.functional import one_hot

from fusion_engine import BuildError, Graph, Player, Posterior, Run, Signal, fill
from fusion_engine_generative.losses.games.augmentation import Augment
from fusion_engine_generative.losses.games.base import Fakes, Game, Scores, Weight
from fusion_engine_generative.losses.games.hinge import Hinge
from fusion_engine_generative.losses.games.least_squares import LeastSquares
from fusion_engine_generative.losses.games.minimax import Minimax
from fusion_engine_generative.losses.games.non_saturating import NonSaturating
from fusion_engine_generative.losses.games.relativistic import Relativistic

Plays = Literal["relativistic", "non_saturating", "hinge", "least_squares", "minimax"]
GAMES: dict[str, Callable[..., Game]] = {
    "relativistic": Relativistic,
    "non_saturating": NonSaturating,
    "hinge": Hinge,
    "least_squares": LeastSquares,
    "minimax": Minimax,
}


class Autoencoding(Game):
    """Any game, on a score from which the error of the auto-encoder is taken off.

        D(x) = head_share head(trunk(x)) - (1 - head_share) error(x)
        error(x) = sum over modalities m of mean |x_m - dec_m(enc(x))_m|^2, the mean over a sample's own values

    The auto-encoder is the graph's: the posteriors that the decoders of what is judged start from, and those decoders.
    With the encoder inside the discriminator's trunk this is the AE-GAN: encoder in the discriminator, decoder as the
    generator; without a head's share it is the energy of EBGAN (Zhao et al., 2017, arXiv:1609.03126) in this game's
    form. Where the encoder judges, it learns from both terms; in the generator's turn all that judges is constant, the
    decoders within the error too. Penalties are on head_share head(trunk(x)): the error is bounded below by itself.

    Args:
        score: the head to play on.
        game: the form of the game.
        head_share: of the head in the score, 0 to 1.
        weight: of both players' terms.
        r1, r2: gamma of the penalties; 0 for none.
        decay: how many times the penalties fall over training.
        every: pay the penalties on one step of so many, multiplied by it.
        fakes: weight by source; default {prior: 1}.
        augment: what the discriminator sees its inputs through; {} is all that there is, None nothing.

    Raises:
        BuildError: nothing that the score judges is both encoded and decoded.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        score: str,
        game: Plays = "relativistic",
        head_share: Annotated[float, Field(ge=0, le=1)] = 0.5,
        weight: Weight = 1.0,
        r1: Weight = 0.05,
        r2: Weight = 0.05,
        decay: Annotated[float, Field(ge=1)] = 10.0,
        every: Annotated[int, Field(ge=1)] = 1,
        fakes: Fakes | None = None,
        augment: Augment | None = None,
    ) -> None:
        super().__init__(graph, score, weight, (r1, r2, decay, every), fakes, augment)
        self.game, self.head_share = GAMES[game](graph, score=score), head_share
        wiring, judged = graph.wiring, graph.wiring.ancestors(score)
        decoders = {m: wiring.decoder_of(m) for m in wiring.modalities if m in judged}
        known = {m: d for m, d in decoders.items() if d and not wiring.ancestors(d).isdisjoint(wiring.modalities)}
        self.modalities = tuple(known)
        if not known:
            raise BuildError(
                f"nothing that {score!r} judges is encoded and decoded, so there is no error to judge by",
                actual=f"it judges {', '.join(decoders) or 'no modality'}",
                fix="add a posterior that the decoders start from, or use another game",
            )

    def play(self, real: Scores, fake: Scores, player: Player) -> Scores:
        """Play the game that was chosen."""
        return self.game.play(real, fake, player)

    def sign(self, real: Scores, fake: Scores) -> Scores:
        """Say what the game that was chosen says."""
        return self.game.sign(real, fake)

    def scored(self, view: Run, gamma: float) -> tuple[Scores, Scores]:
        """Take the error off the head's share of the score."""
        scores, penalty = super().scored(view, gamma * self.head_share**2)
        return self.head_share * scores - (1 - self.head_share) * self.error(view), penalty

    def error(self, view: Run) -> Float[Tensor, " b"]:
        """Measure how far each row is from what the auto-encoder makes of it; what a row lacks adds nothing."""
        run = view
        while run.parent is not None:
            run = run.parent
        constant = frozenset(run.wiring.nodes) if run.setting.player == "generator" else frozenset[str]()
        seen: dict[str, Any] = {m: view.signal(m) for m in self.modalities}
        again = run.replay(seen, frozen=constant, label=(*view.label, "again"))
        ones = again.replay({p: _one(again, p) for p in run.wiring.of_kind("posterior")})
        total = torch.zeros(len(run.batch), device=run.anything().device)
        for m in self.modalities:
            likelihood, rows = ones.likelihood(str(run.wiring.decoder_of(m)))
            if likelihood is not None:
                its = cast(Signal, seen[m]).take(rows)
                noise = ones.noise("relax", m)
                noise = replace(noise, index=noise.index[rows.cpu()])
                made = run.graph.modalities[m].relax(likelihood, noise, its)
                difference = squared(its, made)
                total = total + difference.new_zeros(len(rows)).masked_scatter(rows, difference)
        return total


def _one(run: Run, posterior: str) -> Callable[[], Posterior]:
    return lambda: run.one(posterior)


def squared(x: Signal, made: Signal) -> Float[Tensor, " b"]:
    """Mean squared difference over each row's valid values; whole numbers are compared as one-hot vectors."""
    a, b = x.filled(), fill(made.data, x.mask)
    if a.ndim + 1 == b.ndim:
        a = one_hot(a.clamp(min=0), b.shape[-1]).to(b.dtype)
    difference = (a - b).flatten(1).pow(2).sum(1)
    size = a[0].numel() if x.mask is None else x.mask.sum(1) * a[0, 0].numel()
    return difference / (size if isinstance(size, int) else size.clamp(min=1))
