"""A watch on what is generated while a model trains: a collapse is seen when it happens, and can be undone."""

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import one_hot

from fusion_engine.config import MonitorConfig
from fusion_engine.data import Prepared, collate
from fusion_engine.errors import ConfigError
from fusion_engine.evaluation.manifold import distances, manifold
from fusion_engine.evaluation.samples import Sample
from fusion_engine.graph import Graph
from fusion_engine.noise import Noise
from fusion_engine.run import Clock, Run
from fusion_engine.values import Signal

if TYPE_CHECKING:
    from fusion_engine.training.trainer import Trainer

log = logging.getLogger("fusion_engine")

WIDTH = 64
"""Wider data is projected at random to so many numbers: distances stay nearly what they were."""
FEWEST = 32
"""Rows below which neighbours say nothing."""
NEAR = 0.05
"""Two samples are the same where they are as near as the nearest 5 % of real neighbours are."""
ROLLS = 3
"""How often training goes back before it stops."""
MONITOR = "monitor/"


@dataclass(frozen=True)
class Watched:
    """One look at one modality.

    Args:
        coverage: of real rows by generated ones, divided by what other real rows cover (Naeem et al., 2020,
            arXiv:2002.09797): 1 is as good as data.
        duplicates: the share of samples with another sample as near as the nearest 5 % of real neighbours are.
        distance: the energy distance to real rows (Székely and Rizzo, 2013), divided by the mean distance of these.
    """

    coverage: float
    duplicates: float
    distance: float


def watch(real: Sample, others: Sample, fake: Sample) -> Watched:
    """Compare generated features [n d] with real ones [n d], and with n other real ones as the floor."""
    floor = manifold(real, others).coverage
    near = _nearest(real).quantile(NEAR)
    apart = float(distances(real, real).mean())
    distance = 2 * float(distances(real, fake).mean()) - apart - float(distances(fake, fake).mean())
    return Watched(
        coverage=manifold(real, fake).coverage / max(floor, 1e-9),
        duplicates=float((_nearest(fake) <= near).double().mean()),
        distance=distance / max(apart, 1e-9),
    )


def _nearest(x: Sample) -> Float[Tensor, " n"]:
    apart = distances(x, x)
    return apart.fill_diagonal_(math.inf).amin(1)


class Monitor:
    """Looks at what a graph generates every so many steps, and acts when it has been well and no longer is.

    Each generated modality is compared with training rows in its own prepared values: padding is zero, whole numbers
    are one-hot vectors, and what is wider than 64 numbers is projected at random. Conditions and masks are those of the
    real rows, and z comes from the priors of training. All is well where coverage is at least, and duplicates are at
    most, what the config says, in every modality. What was never well is said once, not undone.

    Looking changes nothing: it draws from noise of its own, in eval mode and without gradients. A resumed run watches
    anew; what it goes back to is no older than the resumption.

    Args:
        graph: what generates.
        rows: prepared training data.
        config: how to watch, and what to do.
        seed: of the rows that are looked at.

    Raises:
        ConfigError: nothing is generated that could be watched, or there are too few rows.
    """

    def __init__(self, graph: Graph, rows: Prepared, config: MonitorConfig, seed: int) -> None:
        self.graph, self.config = graph, config
        noise = Noise.of(1, seed).at("monitor")
        n = min(config.rows, len(rows) // 2)
        self.modalities = [m for m, kind in graph.modalities.items() if graph.wiring.decoder_of(m) and kind.size > 1]
        if not self.modalities:
            fix = "remove train.monitor"
            raise ConfigError("nothing is generated that could be watched", where="train.monitor", fix=fix)
        if n < FEWEST:
            raise ConfigError(
                "there are too few rows to watch by",
                where="train.monitor",
                expected=f"at least {2 * FEWEST}",
                actual=str(len(rows)),
                fix="remove train.monitor",
            )
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(noise.key)).tolist()
        self.batches = [collate([rows[i] for i in part], graph.modalities) for part in (order[:n], order[n : 2 * n])]
        self.noise = noise
        self.checks, self.rolls, self.was_well = 0, 0, False
        self.good: dict[str, Any] = {}
        self.figures: dict[str, float] = {}

    def look(self, trainer: "Trainer") -> str | None:
        """Look, and act; return why training is to stop, if it is."""
        found = self.watched(trainer.fabric.device, trainer.clock)
        self.figures, self.checks = as_metrics(found), self.checks + 1
        ill = [m for m, w in found.items() if not self._well(w)]
        if not ill:
            self.was_well = True
            if self.config.action == "roll_back":
                self.good = _state(trainer)
            return None
        if not self.was_well:
            if self.checks == self.config.patience:
                log.warning("step %d: %s; it was never better", trainer.progress.step, self._said(found, ill))
            return None
        return self._act(trainer, f"step {trainer.progress.step}: {self._said(found, ill)}")

    def _well(self, w: Watched) -> bool:
        return w.coverage >= self.config.coverage and w.duplicates <= self.config.duplicates

    def _said(self, found: Mapping[str, Watched], ill: Sequence[str]) -> str:
        told = [f"{m}: coverage {found[m].coverage:.2f}, duplicates {found[m].duplicates:.2f}" for m in ill]
        return "the generator has collapsed (" + "; ".join(told) + ")"

    def _act(self, trainer: "Trainer", said: str) -> str | None:
        if self.config.action == "stop":
            return said
        self.was_well = False
        if self.config.action == "warn":
            log.warning("%s", said)
            return None
        if self.rolls == ROLLS:
            return f"{said}, and has done so {ROLLS} times before"
        self.rolls, self.was_well = self.rolls + 1, True
        step = _go_back(trainer, self.good)
        log.warning("%s; back to the weights of step %d, at half the learning rates", said, step)
        return None

    @torch.no_grad()
    def watched(self, device: torch.device, clock: Clock) -> dict[str, Watched]:
        """Compare every modality that is generated with real rows."""
        self.graph.eval()
        batch, others = (b.to(device) for b in self.batches)
        run = Run(self.graph, batch, noise=Noise(self.noise.key, batch.index, batch.total), clock=clock, sample=True)
        view, found = run.generated("prior"), {}
        for m in self.modalities:
            rows = batch.present[m]
            fake = flat(run.paired(view, m), rows)
            real, floor = (flat(b.signals[m], b.present[m], fake.shape[1]) for b in (batch, others))
            n = min(len(x) for x in (real, floor, fake))
            if n >= FEWEST:
                found[m] = watch(*_projected([x[:n] for x in (real, floor, fake)], self.noise.at(m)))
        return found


def as_metrics(found: Mapping[str, Watched]) -> dict[str, float]:
    """Name the figures as they are logged: the worst modality's (the mean of distances), then each modality's."""
    if not found:
        return {}
    each = list(found.values())
    worst = {
        "coverage": min(w.coverage for w in each),
        "duplicates": max(w.duplicates for w in each),
        "distance": sum(w.distance for w in each) / len(each),
    }
    metrics = {f"{MONITOR}{name}": value for name, value in worst.items()}
    if len(each) > 1:
        metrics |= {f"{MONITOR}{name}.{m}": getattr(w, name) for m, w in found.items() for name in worst}
    return metrics


def flat(signal: Signal, rows: Bool[Tensor, " b"], width: int | None = None) -> Float[Tensor, "r d"]:
    """Flatten the given rows: padding to zero, whole numbers to one-hot vectors as wide as ``width`` asks for."""
    data = signal.take(rows).filled()
    if not data.is_floating_point() and width is not None:
        classes = width // max(1, data[0].numel())
        data = one_hot(data.clamp(0, classes - 1), classes)
    wide = data.flatten(1).double()
    if width is None or wide.shape[1] == width:
        return wide
    return torch.nn.functional.pad(wide, (0, width - wide.shape[1]))[:, :width]


def _projected(parts: Sequence[Tensor], noise: Noise) -> list[Tensor]:
    """Project wide features at random (Johnson and Lindenstrauss), all alike."""
    wide = parts[0].shape[1]
    if wide <= WIDTH:
        return list(parts)
    generator = torch.Generator().manual_seed(noise.key)
    matrix = torch.randn(wide, WIDTH, generator=generator, dtype=torch.float64) / WIDTH**0.5
    return [x @ matrix.to(x.device) for x in parts]


def _state(trainer: "Trainer") -> dict[str, Any]:
    state = {
        "graph": trainer.graph.state_dict(),
        "optimizers": [turn.optimizer.state_dict() for turn in trainer.turns],
        "average": {} if trainer.average is None else trainer.average.values,
    }
    return copy.deepcopy(state) | {"stage": trainer.progress.stage, "step": trainer.progress.step}


def _go_back(trainer: "Trainer", good: Mapping[str, Any]) -> int:
    """Put weights, optimizers and averages back, and halve the learning rates; of an earlier stage only the weights."""
    trainer.graph.load_state_dict(good["graph"])
    if trainer.average is not None:
        trainer.average.load(good["average"])
    for turn, state in zip(trainer.turns, good["optimizers"], strict=False):
        if good["stage"] == trainer.progress.stage:
            turn.optimizer.load_state_dict(copy.deepcopy(state))
        turn.rates = [rate / 2 for rate in turn.rates]
    return cast(int, good["step"])
