"""Supervised learning beyond categories: tags, numbers, ordered classes; auxiliary heads and how to weigh them."""

from typing import TYPE_CHECKING

from fusion_engine import hookimpl

if TYPE_CHECKING:
    from fusion_engine import Registry


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register what this plugin offers."""
    registry.head("multi_label", "fusion_engine_supervised.multi_label:MultiLabelHead")
    registry.head("regression", "fusion_engine_supervised.regression:RegressionHead")
    registry.head("ordinal", "fusion_engine_supervised.ordinal:OrdinalHead")
    registry.loss("binary_cross_entropy", "fusion_engine_supervised.binary_cross_entropy:BinaryCrossEntropy")
    registry.loss("squared_error", "fusion_engine_supervised.squared_error:SquaredError")
    registry.loss("huber", "fusion_engine_supervised.huber:Huber")
    registry.loss("ordinal", "fusion_engine_supervised.ordinal_loss:OrdinalLoss")
    registry.recipe("auxiliary", "fusion_engine_supervised.auxiliary:auxiliary")
