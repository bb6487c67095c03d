"""The probability of augmentation, adapted: the same however a run is shared among micro-batches or interrupted."""

from pathlib import Path
from typing import Any

import pytest
import torch
from scenario import Job, config, run
from test_exactness import assert_same

ROWS = 83
STAGES = [
    {"name": "pretrain", "epochs": 2, "losses": ["reconstruction", "kl"]},
    {"name": "together", "epochs": 10, "losses": ["reconstruction", "kl", "adversarial"]},
]
BUFFER = "losses.adversarial_.augmentation.rows"


def adapted(target: float, images: int, **train: Any) -> dict[str, Any]:
    """One step an epoch, so that the history tells every step."""
    made = config(STAGES, **{"batch_size": ROWS, "checkpoint_every": 4, **train})
    made["losses"]["adversarial"]["with"]["augment"] = {"target": target, "images": images}
    return made


def told(job: Job, what: str) -> list[float]:
    """A statistic of the discriminator's turns, step by step."""
    key = f"discriminator/adversarial.{what}"
    return [h[key] for h in job.result()["history"] if key in h]


def follows(job: Job, target: float, images: int) -> list[float]:
    """What p should have been before each step, from the signs that were told."""
    p = [0.0]
    for sign in told(job, "sign"):
        p.append(min(1.0, max(0.0, p[-1] + (1 if sign > target else -1) * ROWS / images)))
    assert int(job.result()["live"][BUFFER]) == round(p[-1] * images)
    return p[:-1]


def test_it_rises_while_the_target_is_exceeded_and_falls_below(tmp_path: Path) -> None:
    targets = {"always": -0.999, "sometimes": 0.1, "never": 0.999}
    jobs = {name: Job(tmp_path / name, adapted(target, 500)) for name, target in targets.items()}
    run(*jobs.values())
    for name, job in jobs.items():
        assert told(job, "augmented") == pytest.approx(follows(job, targets[name], 500), abs=1e-6)
    assert told(jobs["always"], "augmented")[-1] == 1.0
    assert told(jobs["never"], "augmented") == [0.0] * 10


def test_killed_and_resumed_it_goes_on_bit_for_bit_and_micro_batches_share_it_exactly(tmp_path: Path) -> None:
    whole = Job(tmp_path / "whole", adapted(-0.999, 1000), double=True)
    killed = whole.then(folder=tmp_path / "killed", kill=10)
    shared = whole.then(folder=tmp_path / "shared", config=adapted(-0.999, 1000, accumulate=2))
    run(whole, killed, shared)
    state = torch.load(killed.folder / "checkpoint.pt", weights_only=True)["graph"]
    assert int(state[BUFFER]) == 6 * ROWS
    resumed = killed.then(kill=None, resume=True)
    run(resumed)
    assert_same(whole, resumed)
    assert_same(whole, shared, 1e-9)
    assert told(shared, "augmented")[-1] == pytest.approx(0.747)
