"""The conformance kit: ``check_component`` proves every rule of the contracts for a component, yours or ours."""

from fusion_engine.testing.cases import make_features
from fusion_engine.testing.kit import Report, check_component, explain, rules
from fusion_engine.testing.rules_loss import toy_batch, toy_graph
from fusion_engine.testing.toy_networks import toy_registry
from fusion_engine.testing.toys import ToyCategory, ToyImage, ToySequence, ToyTags, ToyVector

__all__ = [
    "Report",
    "ToyCategory",
    "ToyImage",
    "ToySequence",
    "ToyTags",
    "ToyVector",
    "check_component",
    "explain",
    "make_features",
    "rules",
    "toy_batch",
    "toy_graph",
    "toy_registry",
]
