"""Priors, posteriors, losses, and the recipes of generative models."""

from typing import TYPE_CHECKING

from fusion_engine import hookimpl

if TYPE_CHECKING:
    from fusion_engine import Registry


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register everything, one family after another."""
    _priors(registry)
    _posteriors(registry)
    _losses(registry)
    _recipes(registry)


def _priors(registry: "Registry") -> None:
    registry.prior("normal", "fusion_engine_generative.priors.normal:StandardNormal")
    registry.prior("uniform", "fusion_engine_generative.priors.uniform:UniformNoise")
    registry.prior("mixture", "fusion_engine_generative.priors.mixture:MixturePrior")
    registry.prior("fitted_flow", "fusion_engine_generative.priors.fitted_flow:FittedFlow")
    registry.prior("flow", "fusion_engine_generative.priors.flow:FlowPrior")
    registry.prior("vamp", "fusion_engine_generative.priors.vamp:VampPrior")


def _posteriors(registry: "Registry") -> None:
    registry.posterior("gaussian", "fusion_engine_generative.posteriors.gaussian:GaussianPosterior")
    registry.posterior("poe", "fusion_engine_generative.posteriors.poe:PoEPosterior")
    registry.posterior("mvae", "fusion_engine_generative.posteriors.mvae:MVAEPosterior")
    registry.posterior("random_subset", "fusion_engine_generative.posteriors.random_subset:RandomSubsetPosterior")
    registry.posterior("mopoe", "fusion_engine_generative.posteriors.mopoe:MoPoEPosterior")
    registry.posterior("generalised_poe", "fusion_engine_generative.posteriors.generalised_poe:GeneralisedPoEPosterior")
    registry.posterior("moe", "fusion_engine_generative.posteriors.moe:MoEPosterior")
    registry.posterior("jmvae", "fusion_engine_generative.posteriors.jmvae:JMVAEPosterior")
    registry.posterior("cross_private", "fusion_engine_generative.posteriors.mmvae_plus:CrossPrivatePosterior")


def _losses(registry: "Registry") -> None:
    registry.loss("reconstruction", "fusion_engine_generative.losses.reconstruction:Reconstruction")
    registry.loss("masked_reconstruction", "fusion_engine_generative.losses.masked_reconstruction:MaskedReconstruction")
    registry.loss("kl", "fusion_engine_generative.losses.kl:KL")
    registry.loss("capacity_kl", "fusion_engine_generative.losses.capacity:CapacityKL")
    registry.loss("jensen_shannon", "fusion_engine_generative.losses.jensen_shannon:JensenShannon")
    registry.loss("total_correlation", "fusion_engine_generative.losses.total_correlation:TotalCorrelation")
    registry.loss("jmvae_kl", "fusion_engine_generative.losses.jmvae_kl:JMVAEKL")
    registry.loss("iwae", "fusion_engine_generative.losses.iwae:IWAE")
    registry.loss("dreg", "fusion_engine_generative.losses.dreg:DReG")
    registry.loss("non_saturating", "fusion_engine_generative.losses.games.non_saturating:NonSaturating")
    registry.loss("relativistic", "fusion_engine_generative.losses.games.relativistic:Relativistic")
    registry.loss("minimax", "fusion_engine_generative.losses.games.minimax:Minimax")
    registry.loss("least_squares", "fusion_engine_generative.losses.games.least_squares:LeastSquares")
    registry.loss("hinge", "fusion_engine_generative.losses.games.hinge:Hinge")
    registry.loss("wasserstein", "fusion_engine_generative.losses.games.wasserstein:Wasserstein")
    registry.loss("autoencoding", "fusion_engine_generative.losses.games.autoencoding:Autoencoding")
    registry.loss("introspective", "fusion_engine_generative.losses.introspective:Introspective")
    registry.loss("consistency", "fusion_engine_generative.losses.consistency:Consistency")
    registry.loss("lecam", "fusion_engine_generative.losses.lecam:LeCam")
    registry.loss("feature_matching", "fusion_engine_generative.losses.feature_matching:FeatureMatching")
    registry.loss("mean_feature_matching", "fusion_engine_generative.losses.mean_feature_matching:MeanFeatureMatching")
    registry.loss("order", "fusion_engine_generative.losses.order:Order")


def _recipes(registry: "Registry") -> None:
    registry.recipe("vae", "fusion_engine_generative.recipes.vae:vae")
    registry.recipe("autoencoder", "fusion_engine_generative.recipes.autoencoder:autoencoder")
    registry.recipe("beta_vae", "fusion_engine_generative.recipes.beta_vae:beta_vae")
    registry.recipe("aae", "fusion_engine_generative.recipes.aae:aae")
    registry.recipe("bigan", "fusion_engine_generative.recipes.bigan:bigan")
    registry.recipe("alpha_gan", "fusion_engine_generative.recipes.alpha_gan:alpha_gan")
    registry.recipe("gan", "fusion_engine_generative.recipes.gan:gan")
    registry.recipe("recurrent_gan", "fusion_engine_generative.recipes.recurrent_gan:recurrent_gan")
    registry.recipe("vae_gan", "fusion_engine_generative.recipes.vae_gan:vae_gan")
    registry.recipe("inverted_vae_gan", "fusion_engine_generative.recipes.inverted_vae_gan:inverted_vae_gan")
    registry.recipe("ae_gan", "fusion_engine_generative.recipes.ae_gan:ae_gan")
