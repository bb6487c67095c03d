"""Decision fusion: ensembles of trained models, or of models to be trained, with scikit-learn's conventions."""

from typing import TYPE_CHECKING

from fusion_engine import hookimpl

if TYPE_CHECKING:
    from fusion_engine import Registry


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register everything."""
    package = "fusion_engine_ensembles"
    registry.ensemble("hard_voting", f"{package}.hard_voting:HardVoting")
    registry.ensemble("averaging", f"{package}.averaging:Averaging", aliases=("soft_voting",))
    registry.ensemble("geometric_averaging", f"{package}.geometric_averaging:GeometricAveraging")
    registry.ensemble("weighted_averaging", f"{package}.weighted_averaging:WeightedAveraging")
    registry.ensemble("greedy_selection", f"{package}.greedy_selection:GreedySelection")
    registry.ensemble("stacking", f"{package}.stacking:Stacking")
    registry.ensemble("blending", f"{package}.blending:Blending")
    registry.ensemble("evidential", f"{package}.evidential:Evidential")
    registry.ensemble("gan_ensemble", f"{package}.generators:GeneratorEnsemble")
    registry.loss("evidential", f"{package}.evidential_loss:EvidentialLoss")
