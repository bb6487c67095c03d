"""Measures of generated data: pure functions of feature vectors and of judges' predictions.

Nearly every one of them depends on the number of samples, and scores real data against real data worse than perfect.
Report it beside that floor, at equal n.
"""

from fusion_engine.evaluation.coherence import (
    Interval,
    agreement,
    agreement_of_sets,
    chance_of_sets,
    conditional_coherence,
    joint_coherence,
    wilson,
)
from fusion_engine.evaluation.diversity import (
    Classes,
    Duplicates,
    class_diversity,
    duplicates,
    near_duplicates,
    reverse_kl,
    reverse_kl_floor,
)
from fusion_engine.evaluation.frechet import Frechet, frechet_distance, frechet_with_floor
from fusion_engine.evaluation.manifold import Manifold, ManifoldWithFloor, manifold, manifold_with_floor
from fusion_engine.evaluation.memorising import Memorising, copying_score, memorising

__all__ = [
    "Classes",
    "Duplicates",
    "Frechet",
    "Interval",
    "Manifold",
    "ManifoldWithFloor",
    "Memorising",
    "agreement",
    "agreement_of_sets",
    "chance_of_sets",
    "class_diversity",
    "conditional_coherence",
    "copying_score",
    "duplicates",
    "frechet_distance",
    "frechet_with_floor",
    "joint_coherence",
    "manifold",
    "manifold_with_floor",
    "memorising",
    "near_duplicates",
    "reverse_kl",
    "reverse_kl_floor",
    "wilson",
]
