"""Three models of MultiVae inside a graph: its own objectives train the graph's encoders and decoders.

MultiVae (Senellart et al., 2025, doi:10.21105/joss.07996) comes with ``pip install "fusion-engine[benchmark]"``. What
a baseline and a model of one's own are made of is then the same, batch by batch, and only the objective differs. The
wiring of MoPoE or MVTCAE, and with the lines behind # that of MMVAE+::

    post:    {use: posterior/multivae, in: [enc_a, enc_b], with: {model: mopoe, latent: 32}}
    # own_a: {use: posterior/multivae_private, in: enc_a, with: {latent: 32}}, as for every other modality
    dec_a:   {use: ..., in: {z: post}, out: a}   # {z: [post, own_a]}
    losses:  {multivae: {use: loss/multivae, with: {weights: {text: 5.0}}}}

Use it with ``Engine(plugins=["examples/plugins/multivae_models.py"])`` or ``--plugin``.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

import torch
from einops import rearrange
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution, Laplace, Normal

from fusion_engine import (
    BuildError,
    Decoder,
    Features,
    Graph,
    Loss,
    Player,
    Posterior,
    PosteriorNetwork,
    Prior,
    Rows,
    Run,
    Term,
    Widths,
    hookimpl,
)

if TYPE_CHECKING:
    from fusion_engine import Registry

Model = Literal["mopoe", "mvtcae", "mmvae_plus"]
Pair = tuple[Tensor, Tensor]
"""The location and the raw spread [b z] of one expert, as MultiVae's encoders return them."""
BOUND = 10.0
"""Log-variances stay in (-BOUND, BOUND), as those of the engine's own posteriors do."""


def spread_of(raw: Tensor) -> Tensor:
    """Return the scale of MMVAE+'s Laplace distributions: z softmax(raw) + 1e-6, whose mean over z is about 1."""
    return raw.softmax(-1) * raw.shape[-1] + 1e-6


class Standard(Prior):
    """The normal or Laplace distribution of location 0 and scale 1.

    Args:
        latent: the width of z.
        family: which of the two.
    """

    loc: Tensor

    def __init__(self, latent: int, family: type[Distribution]) -> None:
        super().__init__(latent)
        self.family = family
        self.register_buffer("loc", torch.zeros(latent), persistent=False)

    def forward(self, b: int) -> Posterior:
        """Return the prior for b rows."""
        loc = self.loc.expand(b, -1)
        distribution = self.family(loc, torch.ones_like(loc), validate_args=False)  # type: ignore[call-arg]
        return Posterior.of(distribution, distribution)


class MultiVaePosterior(PosteriorNetwork):
    """What one of the models infers from the inputs that a row has, as its ``encode`` says.

        mopoe: the product of the experts, times the prior where all inputs are there
        mvtcae: the product of the experts
        mmvae_plus: Laplace, the mean of the experts' locations (``return_mean``) and of their scales

    One Linear an input, from its pooled vector, stands in for the last layer of MultiVae's encoder. A row with nothing
    present has the prior. Axes: b batch, z latent, m inputs.

    Args:
        inputs: the widths of each input.
        model: which one.
        latent: the width of z.
    """

    def __init__(self, inputs: Mapping[str, Widths], *, model: Model, latent: Annotated[int, Field(ge=1)] = 32) -> None:
        self.family: type[Distribution] = Laplace if model == "mmvae_plus" else Normal
        super().__init__(inputs, latent, Standard(latent, self.family))
        self.model = model
        self.linears = nn.ModuleList(nn.Linear(w.pooled, 2 * latent) for w in inputs.values())

    def expert(self, i: int, pooled: Tensor) -> Pair:
        """Return what input i says alone."""
        loc, raw = self.linears[i](pooled).chunk(2, -1)
        return loc, raw if self.model == "mmvae_plus" else BOUND * torch.tanh(raw / BOUND)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Posterior:
        """Infer; the distribution is [b z]."""
        pairs = [self.expert(i, x) for i, x in enumerate(self.pooled(features, present))]
        loc, raw = (torch.stack(parts) for parts in zip(*pairs, strict=True))
        held = rearrange(present, "b m -> m b 1")
        any_, prior = present.any(1)[:, None], self.prior(len(present)).distribution
        loc, scale = self._mean(loc, raw, held) if self.model == "mmvae_plus" else self._product(loc, raw, held)
        loc, scale = torch.where(any_, loc, 0.0), torch.where(any_, scale, 1.0)
        return Posterior.of(self.family(loc, scale, validate_args=False), prior)  # type: ignore[call-arg]

    def _product(self, loc: Tensor, logvar: Tensor, held: Tensor) -> Pair:
        precision = torch.where(held, 1 / (logvar.exp() + 1e-8), 0.0)
        total = precision.sum(0) + (held.all(0) if self.model == "mopoe" else 0.0)
        total = torch.where(held.any(0), total, 1.0)
        return (precision * loc).sum(0) / total, total.rsqrt()

    def _mean(self, loc: Tensor, raw: Tensor, held: Tensor) -> Pair:
        share = held / held.sum(0).clamp(min=1)
        return (share * loc).sum(0), (share * spread_of(raw)).sum(0)


class MultiVaePrivate(PosteriorNetwork):
    """The private latent of one modality of MMVAE+: Laplace; the prior where the modality is absent.

    ``auxiliary`` is the raw spread of r(w), which training draws from where the shared latent comes from another
    modality.

    Args:
        inputs: the modality's encoder.
        latent: the width of w.
    """

    max_inputs = 1
    unused_parameters: ClassVar = {"auxiliary": "the spread of r(w), which loss/multivae alone draws from"}

    def __init__(self, inputs: Mapping[str, Widths], *, latent: Annotated[int, Field(ge=1)] = 32) -> None:
        super().__init__(inputs, latent, Standard(latent, Laplace))
        self.linear = nn.Linear(next(iter(inputs.values())).pooled, 2 * latent)
        self.auxiliary = nn.Parameter(torch.zeros(1, latent))

    def expert(self, pooled: Tensor) -> Pair:
        """Return location and raw spread."""
        loc, raw = self.linear(pooled).chunk(2, -1)
        return loc, raw

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Posterior:
        """Infer; the distribution is [b z]."""
        loc, raw = self.expert(self.pooled(features, present)[0])
        loc, scale = torch.where(present, loc, 0.0), torch.where(present, spread_of(raw), 1.0)
        return Posterior.of(Laplace(loc, scale, validate_args=False), self.prior(len(present)).distribution)


class MultiVaeLoss(Loss):
    """The loss of one of MultiVae's models, computed by MultiVae, on the graph's encoders, posteriors and decoders.

    Its encoders read the graph's features by the experts of ``posterior/multivae``; its decoders hand z on, and the log
    probability of a sample is that of the graph's decoder. All else, which latents are drawn and what is weighed how,
    is MultiVae's. Rows that lack a modality do not count.

    Args:
        graph: with one ``posterior/multivae`` whose inputs are the encoders of what is decoded.
        posterior: its node.
        weights: by modality, what a log-likelihood is multiplied by (``rescale_factors``); 1 where not named.
        options: further keys of MultiVae's config of the model, such as ``{beta: 2.5}``; its defaults where not named.

    Raises:
        BuildError: the posterior is of another kind, an encoder, decoder or private latent is missing, or MultiVae is.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        posterior: str = "post",
        weights: dict[str, float] | None = None,
        options: dict[str, float] | None = None,
    ) -> None:
        super().__init__(graph, ["generator"])
        shared = graph[posterior]
        if not isinstance(shared, MultiVaePosterior):
            raise BuildError(f"{posterior!r} is no posterior/multivae", where="'posterior'", fix="wire one")
        nodes = graph.wiring.nodes
        self.posterior = posterior
        self.encoders = {nodes[e].ports["in"][0]: e for e in nodes[posterior].ports["in"]}
        self.decoders = {m: _decoder(graph, m) for m in self.encoders}
        self.private = {m: _private(graph, e) for m, e in self.encoders.items()} if shared.model == "mmvae_plus" else {}
        # Not a module of this one: what it trains is the graph's.
        self._model = (self._build(graph, shared, dict(options or {})),)
        self._model[0].rescale_factors = {m: (weights or {}).get(m, 1.0) for m in self.encoders}

    def rows(self, run: Run, player: Player) -> Rows:
        """Rows that have every modality."""
        return torch.stack([run.present(m) for m in self.encoders]).all(0)

    def forward(self, run: Run, player: Player) -> Term:
        """Call the model on the rows that count."""
        from multivae.data.datasets.base import MultimodalBaseDataset

        rows = self.rows(run, player)
        if not rows.any():
            return Term(torch.zeros((), device=rows.device), rows.sum())
        model = self._model[0]
        for m, node in self.private.items():
            model.logvars_priors[m] = cast(MultiVaePrivate, run.graph[node]).auxiliary
        model.recon_log_probs = {m: _log_prob(run, rows, decoder, m) for m, decoder in self.decoders.items()}
        pooled = {m: run.features(encoder).pooled[rows] for m, encoder in self.encoders.items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.noise("multivae").key % 2**31)
            out = model(MultimodalBaseDataset(data=pooled))
        return Term(out.loss_sum, rows.sum())

    def _build(self, graph: Graph, shared: MultiVaePosterior, options: dict[str, Any]) -> Any:
        try:
            from multivae.models import MVTCAE, MMVAEPlus, MMVAEPlusConfig, MoPoE, MoPoEConfig, MVTCAEConfig
        except ImportError as error:
            fix = 'pip install "fusion-engine[benchmark]"'
            raise BuildError("MultiVae is not installed", actual=str(error), fix=fix) from error

        made, config = {
            "mopoe": (MoPoE, MoPoEConfig),
            "mvtcae": (MVTCAE, MVTCAEConfig),
            "mmvae_plus": (MMVAEPlus, MMVAEPlusConfig),
        }[shared.model]
        if self.private:
            widths = {cast(MultiVaePrivate, graph[node]).latent for node in self.private.values()}
            if len(widths) > 1:
                raise BuildError("the private latents of MMVAE+ differ in width", actual=str(sorted(widths)))
            options = {"K": 1, "modalities_specific_dim": widths.pop()} | options
        encoders = {m: self._encoder(graph, shared, i, m) for i, m in enumerate(self.encoders)}
        decoders = {m: _passing(shared.latent) for m in self.encoders}
        return made(config(n_modalities=len(encoders), latent_dim=shared.latent, **options), encoders, decoders)

    def _encoder(self, graph: Graph, shared: MultiVaePosterior, i: int, modality: str) -> nn.Module:
        from multivae.models.nn.base_architectures import BaseEncoder
        from pythae.models.base.base_utils import ModelOutput

        own = cast(MultiVaePrivate, graph[self.private[modality]]).expert if self.private else None

        class Expert(BaseEncoder):  # type: ignore[misc, unused-ignore]
            latent_dim = shared.latent

            def forward(self, x: Tensor) -> Any:
                loc, raw = shared.expert(i, x)
                found = {"embedding": loc, "log_covariance": raw}
                if own is not None:
                    found |= dict(zip(("style_embedding", "style_log_covariance"), own(x), strict=True))
                return ModelOutput(**found)

        return cast(nn.Module, Expert())


def _passing(latent: int) -> nn.Module:
    """A decoder that hands z on: the log probability decodes it."""
    from multivae.models.nn.base_architectures import BaseDecoder
    from pythae.models.base.base_utils import ModelOutput

    class Passing(BaseDecoder):  # type: ignore[misc, unused-ignore]
        latent_dim = latent

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=z)

    return cast(nn.Module, Passing())


def _log_prob(run: Run, rows: Rows, decoder: str, modality: str) -> Callable[[Tensor, Tensor], Tensor]:
    def log_prob(z: Tensor, _: Tensor) -> Tensor:
        return cast(Decoder, run.graph[decoder])(z, {}).log_prob(run.batch.signals[modality].take(rows))

    return log_prob


def _decoder(graph: Graph, modality: str) -> str:
    found = graph.wiring.decoder_of(modality)
    if found is None:
        raise BuildError(f"{modality!r} is encoded, but not decoded", fix="add its decoder, as MultiVae has one")
    return found


def _private(graph: Graph, encoder: str) -> str:
    for name in graph.wiring.of_kind("posterior"):
        if isinstance(graph[name], MultiVaePrivate) and graph.wiring.nodes[name].ports["in"] == (encoder,):
            return name
    raise BuildError(
        f"MMVAE+ has a private latent of each modality; {encoder!r} has none",
        fix=f"add {{use: posterior/multivae_private, in: {encoder}}}, and wire its decoder to both",
    )


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register the two posteriors and the loss."""
    registry.posterior("multivae", MultiVaePosterior)
    registry.posterior("multivae_private", MultiVaePrivate)
    registry.loss("multivae", MultiVaeLoss)
