"""What others may do while a model trains."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fusion_engine.config import StageConfig

if TYPE_CHECKING:
    from fusion_engine.training.trainer import Trainer


class Callback:
    """Called at fixed moments of training; override what is needed. Metrics are means over the epoch or step."""

    def on_fit_start(self, trainer: "Trainer") -> None:
        """Act before the first step, also after a resume."""

    def on_stage_start(self, trainer: "Trainer", stage: StageConfig, steps: int) -> None:
        """Act when a stage begins or goes on; ``steps`` is what it lasts at most."""

    def on_step_end(self, trainer: "Trainer", metrics: Mapping[str, float]) -> None:
        """Act after every player's turn on one batch."""

    def on_epoch_end(self, trainer: "Trainer", metrics: Mapping[str, float]) -> None:
        """Act after each epoch of a stage."""

    def on_stage_end(self, trainer: "Trainer", stage: StageConfig) -> None:
        """Act when a stage is over."""

    def on_fit_end(self, trainer: "Trainer") -> None:
        """Act after the last step, also after an interrupt."""
