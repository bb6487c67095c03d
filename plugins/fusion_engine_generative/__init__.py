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
    registry.loss("kl", "fusion_engine_generative.losses.kl:KL")
    registry.loss("jensen_shannon", "fusion_engine_generative.losses.jensen_shannon:JensenShannon")
    registry.loss("total_correlation", "fusion_engine_generative.losses.total_correlation:TotalCorrelation")
    registry.loss("jmvae_kl", "fusion_engine_generative.losses.jmvae_kl:JMVAEKL")
    registry.loss("iwae", "fusion_engine_generative.losses.iwae:IWAE")
    registry.loss("dreg", "fusion_engine_generative.losses.dreg:DReG")
    registry.loss("non_saturating", "fusion_engine_generative.losses.games:NonSaturating")
    registry.loss("relativistic", "fusion_engine_generative.losses.games:Relativistic")
    registry.loss("feature_matching", "fusion_engine_generative.losses.feature_matching:FeatureMatching")


def _recipes(registry: "Registry") -> None:
    registry.recipe("vae", "fusion_engine_generative.recipes.vae:vae")
    registry.recipe("gan", "fusion_engine_generative.recipes.gan:gan")
    registry.recipe("vae_gan", "fusion_engine_generative.recipes.vae_gan:vae_gan")
