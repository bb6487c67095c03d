"""Measures of generated data and of predictions: pure functions of features, of what judges see, of probabilities.

Nearly every measure of generated data depends on the number of samples, and scores real data against real data worse
than perfect. Report it beside that floor, at equal n. A measure of predictions stands beside chance.
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
from fusion_engine.evaluation.corruptions import (
    CORRUPTIONS,
    Corruption,
    corrupted,
    image_noise,
    sequence_jitter,
    sound_noise,
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
from fusion_engine.evaluation.kid import Kernel, kernel_distance, kernel_with_floor
from fusion_engine.evaluation.manifold import Manifold, ManifoldWithFloor, manifold, manifold_with_floor
from fusion_engine.evaluation.memorising import Memorising, copying_score, memorising
from fusion_engine.evaluation.modes import Modes, modes
from fusion_engine.evaluation.predictions import (
    ClassScore,
    Score,
    class_scores,
    classification,
    confusion,
    multi_label,
    regression,
)
from fusion_engine.evaluation.robustness import Curve, area_under, curves
from fusion_engine.evaluation.tstr import BothWays, Labelled, both_ways

__all__ = [
    "CORRUPTIONS",
    "BothWays",
    "ClassScore",
    "Classes",
    "Corruption",
    "Curve",
    "Duplicates",
    "Frechet",
    "Interval",
    "Kernel",
    "Labelled",
    "Manifold",
    "ManifoldWithFloor",
    "Memorising",
    "Modes",
    "Score",
    "agreement",
    "agreement_of_sets",
    "area_under",
    "both_ways",
    "chance_of_sets",
    "class_diversity",
    "class_scores",
    "classification",
    "conditional_coherence",
    "confusion",
    "copying_score",
    "corrupted",
    "curves",
    "duplicates",
    "frechet_distance",
    "frechet_with_floor",
    "image_noise",
    "joint_coherence",
    "kernel_distance",
    "kernel_with_floor",
    "manifold",
    "manifold_with_floor",
    "memorising",
    "modes",
    "multi_label",
    "near_duplicates",
    "regression",
    "reverse_kl",
    "reverse_kl_floor",
    "sequence_jitter",
    "sound_noise",
    "wilson",
]
