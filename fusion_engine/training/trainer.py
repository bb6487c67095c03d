"""The loop: stages of epochs of steps of turns, resumable at any step."""

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from fusion_engine.config import MONITORED, PLAYERS, Player, RunConfig, StageConfig
from fusion_engine.data import Batches, Place, Prepared
from fusion_engine.errors import TrainingError
from fusion_engine.graph import Graph
from fusion_engine.losses import Loss, check_rows
from fusion_engine.noise import Noise
from fusion_engine.run import Clock
from fusion_engine.training.callbacks import Callback
from fusion_engine.training.checkpoint import read_checkpoint, write_checkpoint
from fusion_engine.training.ema import Average
from fusion_engine.training.monitor import MONITOR, Monitor
from fusion_engine.training.turns import Turn, take_turn
from fusion_engine.training.untaught import Untaught
from fusion_engine.wiring import match

log = logging.getLogger("fusion_engine")
FEWEST_STEPS = 10
"""Before so many steps nothing is said of what has not learned: residual blocks start at zero, one behind the other."""


@dataclass
class Progress:
    """Where training is: the stage, its steps and all steps, what the epoch has summed, the record for ``until``."""

    stage: int = 0
    done: int = 0
    step: int = 0
    best: float = math.inf
    patience: int = 0
    converged: bool = False
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float | str]] = field(default_factory=list)


class Trainer:
    """Trains one graph as its config's stages say.

    A step draws its rows from (seed, stage, epoch), its noise from (seed, step, player, node, row) and its dropout from
    (seed, step, player, place), so that nothing depends on how a run is shared or interrupted.

    Args:
        graph: what learns.
        config: its stages, players and ``train`` section.
        rows: prepared training data.
        directory: where checkpoints go; None writes none.
        callbacks: called at fixed moments.
        fabric: device, precision and processes (Lightning Fabric); one process on the best device by default.

    Raises:
        TrainingError: a stage has nothing to learn. ConfigError: its batches are too small for a loss.
    """

    def __init__(
        self,
        graph: Graph,
        config: RunConfig,
        rows: Prepared,
        *,
        directory: Path | None = None,
        callbacks: Sequence[Callback] = (),
        fabric: Fabric | None = None,
    ) -> None:
        self.graph, self.config, self.directory, self.callbacks = graph, config, directory, list(callbacks)
        self.fabric = fabric or Fabric(devices=1, precision=config.train.precision)
        place = Place(self.fabric.global_rank, self.fabric.world_size)
        train = config.train
        self.batches = Batches(
            rows, train.batch_size, seed=train.seed, accumulate=train.accumulate, place=place, workers=train.workers
        )
        self.progress, self.interrupted = Progress(), False
        self.stopped: str | None = None
        graph.to(self.fabric.device)
        self.average = Average(graph, train.ema_half_life) if train.ema_half_life else None
        self.monitor = None if train.monitor is None else Monitor(graph, rows, train.monitor, train.seed)
        self.turns: list[Turn] = []
        self.taught: set[Player] = set()
        learning = list[nn.Parameter]()
        for stage in config.stages:
            check_rows(graph, stage.losses, self.batches.size, place.world * train.accumulate, len(rows))
            learning += [p for turn in self._turns(stage) for p in turn.parameters]
        self.untaught = Untaught(graph, learning)

    # What a stage is

    def steps(self, stage: StageConfig) -> int:
        """How many steps a stage lasts at most."""
        return stage.steps if stage.steps is not None else cast(int, stage.epochs) * len(self.batches)

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(self.steps(stage) for stage in self.config.stages)

    @property
    def clock(self) -> Clock:
        """Where training is, for schedules."""
        return Clock(self.progress.step, min(1.0, self.progress.step / max(1, self.total_steps)))

    def _turns(self, stage: StageConfig) -> list[Turn]:
        learn = match(stage.learn, self.graph.wiring.nodes, f"stage {stage.name!r}, 'learn'")
        turns = [turn for player in PLAYERS if (turn := self._turn(stage, player, learn)) is not None]
        if not turns:
            raise TrainingError(
                "the stage has nothing to learn",
                where=f"stage {stage.name!r}",
                actual=f"losses {stage.losses}, learn {stage.learn}",
                fix="widen 'learn', or name a loss of a player whose nodes learn",
            )
        return turns

    def _turn(self, stage: StageConfig, player: Player, learn: frozenset[str]) -> Turn | None:
        losses = {n: loss for n in stage.losses if player in (loss := cast(Loss, self.graph.loss(n))).players}
        nodes = learn & self.graph.owners(player)
        parameters = list(self.graph.parameters_of(nodes))
        parameters += [p for loss in losses.values() if sorted(loss.players)[-1] == player for p in loss.parameters()]
        parameters = [p for p in parameters if p.is_floating_point() and p.requires_grad]
        if not losses or not parameters:
            return None
        chosen = self.config.train.optimizer.get(player) or type(self.config.train)().optimizer[player]
        optimizer = torch.optim.AdamW(
            parameters, lr=chosen.lr, betas=(chosen.betas[0], chosen.betas[1]), weight_decay=chosen.weight_decay
        )
        return Turn(player, losses, parameters, optimizer, getattr(self.config.train.turns, player), [chosen.lr])

    def _modes(self, stage: StageConfig) -> None:
        """Let the nodes that learn train; the others stay as they are, without dropout or new statistics."""
        self.graph.train()
        learn = match(stage.learn, self.graph.wiring.nodes, f"stage {stage.name!r}, 'learn'")
        for name in self.graph.wiring.nodes.keys() - learn:
            for module in self.graph[name].modules():
                module.training = isinstance(module, nn.RNNBase)  # cuDNN has no backward in eval mode

    # The loop

    def fit(self, *, resume: bool = False) -> Progress:
        """Train to the end, or until an interrupt, which leaves a usable model.

        Raises:
            TrainingError: NaN or Inf; a checkpoint of another run.
        """
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            restored = self._restore() if resume else None
            self._call("on_fit_start")
            try:
                while self.progress.stage < len(self.config.stages) and self.stopped is None:
                    self._stage(self.config.stages[self.progress.stage], restored)
                    restored = None
                if not resume:
                    self._tell_untaught()
            except KeyboardInterrupt:
                self.interrupted = True
            self.graph.eval()
            if self.average is not None:
                self.average.apply()
            self._call("on_fit_end")
        return self.progress

    def _stage(self, stage: StageConfig, restored: Mapping[str, Any] | None) -> None:
        self.turns, self.taught = self._turns(stage), set()
        self._modes(stage)
        if restored is not None:
            for turn in self.turns:
                turn.optimizer.load_state_dict(restored[turn.player])
        limit, length = self.steps(stage), len(self.batches)
        self._call("on_stage_start", stage, limit)
        while self.progress.done < limit and not self.progress.converged and self.stopped is None:
            self._epoch(stage, *divmod(self.progress.done, length), limit)
        self._call("on_stage_end", stage)
        p = self.progress
        p.stage, p.done, p.best, p.patience, p.converged, p.sums = p.stage + 1, 0, math.inf, 0, False, {}

    def _epoch(self, stage: StageConfig, epoch: int, offset: int, limit: int) -> None:
        """Run one epoch, or what an interrupt left of it; note whether the stage has converged."""
        progress, last, looked = self.progress, min((epoch + 1) * len(self.batches), limit), False
        for batches in self.batches.epoch(progress.stage, epoch, start=offset):
            metrics = self.step([batch.to(self.fabric.device) for batch in batches])
            for name, value in metrics.items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value
            progress.done, progress.step = progress.done + 1, progress.step + 1
            self._call("on_step_end", metrics)
            looked = self._look() or looked
            due = progress.step % self.config.train.checkpoint_every == 0
            if progress.done >= last or self.stopped is not None:
                break
            if due:
                self.save()
        means = {name: value / (progress.done - epoch * len(self.batches)) for name, value in progress.sums.items()}
        means |= self.monitor.figures if self.monitor is not None and looked else {}
        progress.sums = {}
        self._check_taught(stage)
        progress.history.append({"stage": stage.name, "epoch": epoch, "step": progress.step, **means})
        self._call("on_epoch_end", means)
        progress.converged = self._converged(stage, means)
        if due:
            self.save()

    def _look(self) -> bool:
        """Let the monitor look, if it is time to."""
        if self.monitor is None or self.progress.step % self.monitor.config.every:
            return False
        self.stopped = self.monitor.look(self)
        if self.stopped is not None:
            log.warning("training stops: %s", self.stopped)
        return True

    def _check_taught(self, stage: StageConfig) -> None:
        """Refuse to go on with a player that a whole epoch has taught nothing."""
        for turn in self.turns:
            if turn.player not in self.taught:
                raise TrainingError(
                    f"the {turn.player} learns nothing: no gradient of its losses reaches a node that learns",
                    where=f"stage {stage.name!r}",
                    actual=f"losses {', '.join(turn.losses)}; learn {stage.learn}",
                    fix="widen 'learn', or choose losses that reach those nodes (see the routing tables in the guide)",
                )

    def _tell_untaught(self) -> None:
        """Warn of what was to learn and no loss has ever reached: it is what it was at the start."""
        left = self.untaught.told()
        if left and self.progress.step >= FEWEST_STEPS and self.fabric.global_rank == 0:
            fix = "add a loss that reaches them, or rows that have what they read; or leave the node out of 'learn'"
            log.warning("no gradient has reached these weights, which were to learn: %s. Fix: %s", left, fix)

    def step(self, batches: list[Any]) -> dict[str, float]:
        """Give every player its turns on one step's micro-batches."""
        train, metrics, clock = self.config.train, dict[str, float](), self.clock
        base = Noise(0, batches[0].index, batches[0].total).at(train.seed, "step", self.progress.step)
        share = 0.1 + 0.9 * (1 + math.cos(math.pi * clock.progress)) / 2 if train.schedule == "cosine" else 1.0
        reduce = self._sum if self.fabric.world_size > 1 else None
        if not self.graph.training:  # a callback has evaluated the model
            self._modes(self.config.stages[self.progress.stage])
        for turn in self.turns:
            for group, rate in zip(turn.optimizer.param_groups, turn.rates, strict=True):
                group["lr"] = rate * share
            for repeat in range(turn.repeat):
                noise = base.at(turn.player, repeat)
                means = take_turn(
                    self.graph,
                    turn,
                    batches,
                    noise,
                    clock,
                    reduce=reduce,
                    clip=train.clip,
                    autocast=self.fabric.autocast,
                )
                metrics |= {f"{turn.player}/{name}": value for name, value in means.items()}
            self.untaught.look()
            if any(p.grad is not None for p in turn.parameters):
                self.taught.add(turn.player)
        if self.average is not None and any(turn.player == "generator" for turn in self.turns):
            self.average.update(self.batches.size, (self.progress.step + 1) * self.batches.size)
        return metrics

    def _sum(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fabric.all_reduce(x, reduce_op="sum"))

    def _converged(self, stage: StageConfig, means: Mapping[str, float]) -> bool:
        if stage.until is None:
            return False
        found = [
            v for name, v in means.items() if name == stage.until.metric or name.split("/")[-1] == stage.until.metric
        ]
        if not found and stage.until.metric.startswith(MONITOR):
            return False  # nobody has looked in this epoch
        if not found:
            raise TrainingError(
                f"the stage has no metric {stage.until.metric!r}",
                where=f"stage {stage.name!r}, 'until'",
                expected=", ".join(means),
            )
        more = MONITORED.get(stage.until.metric.removeprefix(MONITOR), -1) > 0
        value = -found[0] if more and stage.until.metric.startswith(MONITOR) else found[0]
        if value < self.progress.best - stage.until.delta:
            self.progress.best, self.progress.patience = value, 0
        else:
            self.progress.patience += 1
        return self.progress.patience >= stage.until.patience

    def _call(self, moment: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, moment)(self, *args)

    # Checkpoints

    @property
    def checkpoint(self) -> Path | None:
        """Where the checkpoint of this run is written."""
        return None if self.directory is None else self.directory / "checkpoint.pt"

    def save(self) -> None:
        """Write a checkpoint; every process has the same state, so the first one does it."""
        if self.checkpoint is None or self.fabric.global_rank != 0:
            return
        write_checkpoint(
            self.checkpoint,
            {
                "run": fingerprint(self.config),
                "rows": len(self.batches.rows),
                "progress": asdict(self.progress),
                "graph": self.graph.state_dict(),
                "optimizers": {turn.player: turn.optimizer.state_dict() for turn in self.turns},
                "average": {} if self.average is None else self.average.values,
            },
        )

    def _restore(self) -> Mapping[str, Any] | None:
        if self.checkpoint is None or not self.checkpoint.exists():
            log.warning(
                "there is no checkpoint at %s to resume from: training starts at the beginning", self.checkpoint
            )
            return None
        state = read_checkpoint(self.checkpoint)
        if state["run"] != fingerprint(self.config):
            raise TrainingError(
                "the checkpoint belongs to another config",
                where=str(self.checkpoint),
                fix="train into another folder, or with the config it was made with",
            )
        if state["rows"] != len(self.batches.rows):
            raise TrainingError(
                "the checkpoint was made with other data",
                where=str(self.checkpoint),
                expected=f"{state['rows']} rows",
                actual=f"{len(self.batches.rows)} rows",
                fix="train into another folder, or with the data it was made with",
            )
        self.progress = Progress(**state["progress"])
        self.graph.load_state_dict(state["graph"])
        if self.average is not None:
            self.average.load(state["average"])
        return cast(Mapping[str, Any], state["optimizers"])


def fingerprint(config: RunConfig) -> str:
    """Name what must not change between a checkpoint and its resumption."""
    plain = config.plain()
    train = {k: v for k, v in plain.pop("train").items() if k not in ("accumulate", "checkpoint_every", "workers")}
    for section in ("data", "evaluation"):
        plain.pop(section, None)
    return hashlib.blake2b(json.dumps([plain, train], sort_keys=True).encode(), digest_size=16).hexdigest()
