"""Progress on a terminal: a bar while a stage runs, a line when it is over."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fusion_engine.config import StageConfig
from fusion_engine.training import Callback
from fusion_engine.training.turns import is_statistic


class ProgressBars(Callback):
    """Shows each stage's steps and, when it ends, its last epoch's losses.

    Args:
        console: where to.
        every: steps between two updates of the shown losses.
    """

    def __init__(self, console: Console, every: int = 10) -> None:
        self.console, self.every = console, every
        self.progress: Progress | None = None
        self.last: Mapping[str, float] = {}
        self.started = 0.0

    def on_stage_start(self, trainer: Any, stage: StageConfig, steps: int) -> None:
        """Begin a bar, where an earlier run left off."""
        columns = (TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, TextColumn("{task.fields[losses]}"), console=self.console, transient=True)
        self.task = self.progress.add_task(stage.name, total=steps, completed=trainer.progress.done, losses="")
        self.progress.start()
        self.started = time.monotonic()

    def on_step_end(self, trainer: Any, metrics: Mapping[str, float]) -> None:
        """Advance the bar."""
        if self.progress is not None:
            self.progress.advance(self.task)
            if trainer.progress.step % self.every == 0:
                self.progress.update(self.task, losses=_short(metrics))

    def on_epoch_end(self, trainer: Any, metrics: Mapping[str, float]) -> None:
        """Keep the epoch's losses for the stage's line."""
        self.last = metrics

    def on_stage_end(self, trainer: Any, stage: StageConfig) -> None:
        """Replace the bar by a line."""
        self._stop()
        seconds = time.monotonic() - self.started
        line = f"[bold]{stage.name:<14}[/] {trainer.progress.done:>6} steps {seconds:>7.1f} s   {_short(self.last)}"
        self.console.print(line, highlight=False)

    def on_fit_end(self, trainer: Any) -> None:
        """Take the bar away, also after an interrupt."""
        self._stop()
        if trainer.interrupted:
            self.console.print("[yellow]interrupted[/]: the model so far is kept")

    def _stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


def _short(metrics: Mapping[str, float]) -> str:
    """Name a loss of both players D and G, any other by itself; leave out what is not minimised."""
    metrics = {name: value for name, value in metrics.items() if not is_statistic(name)}
    names = [name.split("/")[-1] for name in metrics]
    shown = []
    for name, value in metrics.items():
        player, loss = name.split("/") if "/" in name else ("", name)
        prefix = f"{player[0].upper()} " if names.count(loss) > 1 else ""
        shown.append(f"{prefix}{loss} {value:.3g}")
    return "  ".join(shown)
