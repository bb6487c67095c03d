"""However a run is shared among processes and micro-batches, and wherever it is killed, it is the same run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from scenario import Job, config, run

KILLS = {
    "before the first checkpoint": 3,
    "at a checkpoint, before it is written": 8,
    "right behind a checkpoint": 9,
    "at the end of a stage": 19,
    "behind a checkpoint at the end of an epoch": 25,
    "while a stage waits for an improvement": 33,
}
PLAIN = config(checkpoint_every=4)
SHARED = config(checkpoint_every=4, accumulate=2)


def non_saturating(given: dict[str, Any]) -> dict[str, Any]:
    """The same with another game."""
    losses = given["losses"]
    return {**given, "losses": {**losses, "adversarial": {**losses["adversarial"], "use": "loss/non_saturating"}}}


def differences(one: Any, other: Any, where: str = "") -> dict[str, float]:
    """The largest difference at every place of two nested results that must hold the same kinds of thing."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.shape == other.shape, where
        return {where: float((one.double() - other.double()).abs().max()) if one.numel() else 0.0}
    if isinstance(one, float):
        return {where: abs(one - other)}
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        pairs = [(key, one[key], other[key]) for key in one]
    elif isinstance(one, list):
        assert len(one) == len(other), where
        pairs = list(zip(range(len(one)), one, other, strict=True))
    else:
        assert one == other, where
        return {}
    return {k: v for key, a, b in pairs for k, v in differences(a, b, f"{where}/{key}").items()}


def assert_same(one: Job, other: Job, tolerance: float = 0.0, rank: int = 0) -> None:
    """Weights, their averages, optimizer states and the history agree: to the last bit where there is no tolerance."""
    found = differences(one.result(), other.result(rank))
    worst = max(found, key=lambda name: found[name])
    assert found[worst] <= tolerance, (worst, found[worst])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def whole(folder: Path) -> Job:
    """One uninterrupted process."""
    job = Job(folder / "whole", PLAIN)
    run(job)
    return job


@pytest.fixture(scope="module")
def double(folder: Path) -> dict[str, Job]:
    """In double precision: one process, with micro-batches, on two processes, and with both."""
    alone = Job(folder / "double", PLAIN, double=True)
    jobs = {
        "alone": alone,
        "accumulated": alone.then(folder=folder / "accumulated", config=SHARED),
        "ranks": alone.then(folder=folder / "ranks", world=2),
        "both": alone.then(folder=folder / "both", world=2, config=SHARED),
    }
    run(*jobs.values())
    return jobs


def test_the_run_is_what_these_tests_are_about(whole: Job) -> None:
    """Three stages, the second stopped within an epoch and the third by its metric; both players; a live average."""
    result = whole.result()
    ends = [(h["stage"], h["epoch"], h["step"]) for h in result["history"]]
    assert ends[:4] == [("pretrain", 0, 5), ("pretrain", 1, 10), ("adversarial", 0, 15), ("adversarial", 1, 19)]
    assert ends[4:] == [("together", 0, 24), ("together", 1, 29), ("together", 2, 34)]
    assert set(result["optimizers"]) == {"discriminator", "generator"}
    moved = [n for n, v in result["averaged"].items() if not torch.equal(v, result["live"][n])]
    assert moved
    assert all(n.startswith(("nodes.enc_", "nodes.post", "nodes.dec_")) for n in moved)


def test_a_killed_process_resumes_bit_for_bit(whole: Job, folder: Path) -> None:
    killed = [whole.then(folder=folder / f"killed-{step}", kill=step) for step in KILLS.values()]
    run(*killed)
    written = {job.kill: (job.folder / "checkpoint.pt").exists() for job in killed}
    assert written == {step: step > 4 for step in KILLS.values()}
    resumed = [job.then(kill=None, resume=True) for job in killed]
    run(*resumed)
    for job in resumed:
        assert_same(whole, job)


def test_dropout_and_workers_resume_bit_for_bit(folder: Path) -> None:
    random = Job(folder / "random", config(checkpoint_every=4, dropout=0.3))
    killed = random.then(folder=folder / "random-killed", kill=18)
    run(random, killed)
    changed = config(checkpoint_every=4, dropout=0.3, workers=2)
    resumed = killed.then(kill=None, resume=True, config=changed)
    run(resumed)
    assert_same(random, resumed)


@pytest.mark.parametrize("shared", ["accumulated", "ranks", "both"])
def test_processes_and_micro_batches_share_a_step_exactly(double: dict[str, Job], shared: str) -> None:
    """In double precision, for a reason that is the game's.

    The relativistic game sees differences of scores alone, so that the gradient of the last biases is zero and what is
    computed is rounding, about 1e-9 in single precision: beside Adam's 1e-8 that is a step of a tenth of the learning
    rate, in a direction that the order of a sum decides. In double precision rounding is far below Adam's epsilon.
    """
    job = double[shared]
    assert_same(double["alone"], job, 1e-9)
    assert_same(job, job, rank=job.world - 1)


def test_two_processes_with_micro_batches_killed_and_resumed_equal_one_uninterrupted(folder: Path) -> None:
    """In single precision, with a game whose gradients are all well above rounding."""
    alone = Job(folder / "single", non_saturating(PLAIN))
    killed = Job(folder / "all", non_saturating(SHARED), world=2, kill=18)
    run(alone, killed)
    resumed = killed.then(kill=None, resume=True)
    run(resumed)
    assert_same(resumed, resumed, rank=1)
    found, expected = resumed.result(), alone.result()
    for what in ("live", "averaged"):
        for name, value in expected[what].items():
            torch.testing.assert_close(found[what][name], value, rtol=0, atol=1e-6, msg=name)


def test_the_relativistic_game_shared_killed_and_resumed_equals_one_uninterrupted(
    double: dict[str, Job], folder: Path
) -> None:
    killed = double["both"].then(folder=folder / "both-killed", kill=27)
    run(killed)
    resumed = killed.then(kill=None, resume=True)
    run(resumed)
    assert_same(double["both"], resumed)
    assert_same(double["alone"], resumed, 1e-9)


def test_in_single_precision_only_the_discriminators_free_biases_drift(whole: Job, folder: Path) -> None:
    shared = whole.then(folder=folder / "single-ranks", config=SHARED, world=2)
    run(shared)
    found = differences(whole.result()["live"], shared.result()["live"])
    generator = {n: d for n, d in found.items() if not n.startswith(("/nodes.disc_", "/nodes.score_"))}
    assert max(generator.values()) < 1e-6
    assert max(found, key=lambda name: found[name]).endswith(".bias")


def test_a_bad_value_in_one_process_stops_all_of_them(folder: Path) -> None:
    """Only one of them has the row, and it knows the place; none waits for the other, their weights are the same."""
    job = Job(folder / "poisoned", SHARED, world=2, poison=40)
    run(job)
    results = [job.result(rank) for rank in range(2)]
    assert all("the generator's loss is not finite: reconstruction" in result["error"] for result in results)
    assert sorted("'x', the data of the modality" in result["error"] for result in results) == [False, True]
    assert set(differences(results[0]["live"], results[1]["live"]).values()) == {0.0}
