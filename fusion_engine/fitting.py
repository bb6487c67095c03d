"""What fitting a model does beside its turns: learn modalities from data, fit priors, tell plugins of stages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from fusion_engine.components import Modality
from fusion_engine.config import RunConfig
from fusion_engine.data import Table
from fusion_engine.errors import DataError
from fusion_engine.losses import Loss
from fusion_engine.plugins import Plugins
from fusion_engine.training import Callback, Trainer


@dataclass(frozen=True)
class Context:
    """What hooks are told: the plugins, and the config as it was completed."""

    plugins: Plugins
    config: RunConfig


def learned(config: RunConfig, modalities: Mapping[str, Modality], table: Table) -> RunConfig:
    """Fit each modality to its column, and put the keys that it learns into the config.

    Raises:
        DataError: one cannot; the message says which.
    """
    plain = config.plain()
    for name, values in {n: _learned(n, modality, table) for n, modality in modalities.items()}.items():
        plain["modalities"][name]["with"] |= values
    return RunConfig.model_validate(plain)


def _learned(name: str, modality: Modality, table: Table) -> dict[str, Any]:
    try:
        return modality.fit(table.column(name))
    except DataError as error:
        where = f"modality {name!r}" + (f", {error.where}" if error.where else "")
        raise DataError(
            error.problem, where=where, expected=error.expected, actual=error.actual, fix=error.fix
        ) from error


def followers(
    model: Any, context: Context, fit_priors: Callable[[], None], given: Sequence[Callback]
) -> list[Callback]:
    """What follows a training: the engine's own callbacks, then the given ones, then those of plugins."""
    extra = context.plugins.call("configure_callbacks", model=model, config=context.config, context=context)
    own = [FittedPriors(fit_priors), Stages(model, context)]
    return [*own, *given, *(callback for found in extra for callback in found or [])]


class FittedPriors(Callback):
    """Fits priors to posteriors at the start of every stage with a loss that draws from them."""

    def __init__(self, fit: Callable[[], None]) -> None:
        self.fit = fit

    def on_stage_start(self, trainer: Trainer, stage: Any, steps: int) -> None:
        """Fit, but not where a stage goes on from a checkpoint: that holds what was fitted."""
        if trainer.progress.done == 0 and any(cast(Loss, trainer.graph.loss(n)).draws_fitted for n in stage.losses):
            self.fit()


class Stages(Callback):
    """Tells plugins when a stage starts."""

    def __init__(self, model: Any, context: Context) -> None:
        self.model, self.context = model, context

    def on_stage_start(self, trainer: Trainer, stage: Any, steps: int) -> None:
        """Call the hook."""
        self.context.plugins.call("stage_started", stage=stage, model=self.model, context=self.context)
