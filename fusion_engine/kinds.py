"""The kinds of component: the word before the slash of a component's name."""

KINDS = (
    "modality",
    "encoder",
    "fusion",
    "posterior",
    "prior",
    "decoder",
    "head",
    "loss",
    "recipe",
    "ensemble",
    "metric",
    "dataset",
)
