"""Compose modality encoders, fusions and generative heads into VAE, GAN and VAE-GAN graphs.

Every public name is here, loaded when first used: importing the package imports neither torch nor a plugin.
"""

from importlib import import_module
from typing import Any

_WHERE = {
    "fusion_engine.errors": "BuildError ConfigError ContractError DataError FusionError PluginError TrainingError "
    "nearest",
    "fusion_engine.hooks": "hookimpl",
    "fusion_engine.signature": "validate_config",
    "fusion_engine.values": "Batch Features Media Posterior Rows Signal Term Widths fill "
    "joint_weights map_distribution",
    "fusion_engine.shuffling": "shuffled_steps",
    "fusion_engine.priors": "log_density",
    "fusion_engine.noise": "Noise thin",
    "fusion_engine.likelihoods": "DistributionLikelihood Likelihood Samples",
    "fusion_engine.components": "CategoryModality Dataset Decoder Encoder Fusion Head ImageModality Infer "
    "Modality NumberModality PosteriorNetwork PosteriorPrior Prior SequenceModality SpectrogramModality TagsModality "
    "TextModality WaveformModality over_samples require",
    "fusion_engine.config": "Player RunConfig read_config write_config",
    "fusion_engine.plugins": "Registry",
    "fusion_engine.graph": "Graph",
    "fusion_engine.run": "Clock Run",
    "fusion_engine.losses": "Loss check_modalities nodes_of",
    "fusion_engine.wiring": "match",
    "fusion_engine.data": "Table",
    "fusion_engine.masking": "hide",
    "fusion_engine.model": "FusionModel",
    "fusion_engine.scoring": "realness",
    "fusion_engine.engine": "Engine",
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names.split()}

__version__ = "0.1.0"
__all__ = sorted([*_MODULE_OF, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'fusion_engine' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
