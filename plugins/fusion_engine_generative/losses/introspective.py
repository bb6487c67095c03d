"""Introspection: the inference model judges what the generator makes by the KL of its own posteriors."""

from typing import Annotated, Any, cast

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn.functional import relu

from fusion_engine import BuildError, Graph, Loss, Player, Posterior, Rows, Run, Term, nodes_of


class Introspective(Loss):
    """IntroVAE's adversarial terms (Huang et al., NeurIPS 2018, eq. 11 and 12, arXiv:1807.06358).

        discriminator: sum over x~ of relu(margin - KL(q(z given x~) || p(z)))       x~ a reconstruction and a sample,
        generator:     sum over x~ of KL(q(z given x~) || p(z))                      inferred from again

    There is no network besides the VAE's: encoders and posteriors are the discriminator, decoders the generator.
    ``loss/reconstruction`` and ``loss/kl`` stand beside it, and ``players: {discriminator: [enc_*, post]}`` gives
    encoders and posteriors to the discriminator besides the generator, which still owns them. Opposing losses never
    meet in one turn: in the discriminator's what is generated is data, in the generator's encoders and posteriors are
    constant. It tells the mean KL of what is ``real`` and what is ``fake``.

    Args:
        weight: alpha.
        margin: m, in nats, above which the discriminator lets a sample be; well above the KL of real data.
        nodes: which posteriors (globs).

    Raises:
        BuildError: no posterior, or no encoder before one, belongs to the discriminator.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        weight: Annotated[float, Field(ge=0)] = 0.25,
        margin: Annotated[float, Field(ge=0)] = 50.0,
        nodes: list[str] | None = None,
    ) -> None:
        super().__init__(graph, ["discriminator", "generator"], weight)
        self.posteriors, self.margin = nodes_of(graph, "posterior", nodes or ["*"], "'nodes'"), margin
        wiring = graph.wiring
        self.judges = frozenset(self.posteriors).union(*(wiring.ancestors(p) for p in self.posteriors))
        self.judges &= frozenset(wiring.nodes)
        if not self.judges & graph.owners("discriminator"):
            raise BuildError(
                "the discriminator owns nothing that infers, so nobody would judge",
                expected=f"some of {', '.join(sorted(self.judges))}",
                actual=f"it owns {', '.join(sorted(graph.owners('discriminator'))) or 'nothing'}",
                fix="players: {discriminator: [" + ", ".join(sorted(self.judges)) + "]}",
            )

    def rows(self, run: Run, player: Player) -> Rows:
        """The rows that have anything."""
        return run.anything()

    def forward(self, run: Run, player: Player) -> Term:
        """Judge reconstructions and samples."""
        rows, real = self.rows(run, player), self._kl(run)
        fakes = [self._kl(self._again(run, source)) for source in ("reconstruction", "prior")]
        costs = [relu(self.margin - kl) if player == "discriminator" else kl for kl in fakes]
        return Term.of(costs[0] + costs[1], rows, real=real, fake=(fakes[0] + fakes[1]) / 2)

    def _again(self, run: Run, source: Any) -> Run:
        """Infer from what is generated; a modality that a row lacks is lacking there too."""
        view = run.generated(source)
        made: dict[str, Any] = {m: run.paired(view, m) for m in run.wiring.modalities if run.wiring.decoder_of(m)}
        frozen = self.judges if run.setting.player == "generator" else frozenset[str]()
        return run.replay(made, frozen=frozen, label=("again", source))

    def _kl(self, run: Run) -> Float[Tensor, " b"]:
        total = torch.zeros(len(run.batch), device=run.anything().device)
        for name in self.posteriors:
            posterior = cast(Posterior, run[name])
            kl = torch.where(posterior.weights > 0, posterior.weights * posterior.kl(), 0.0)
            total = total + (kl.flatten(0, -2).sum(0) if kl.ndim > 1 else kl)
        return total
