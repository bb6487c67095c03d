"""Fuse two modalities of your own, with gaps: a picture and a sensor reading of the same event.

Result (CPU, a minute): of 60 unseen events, the reading translated from the picture alone tells the kind in all cases,
and imputed readings are 4.3 times as close to the true ones as the average reading is.
"""

import numpy as np

from fusion_engine import Engine


def events(n: int, seed: int) -> dict[str, list]:
    """Two kinds of event: a bright edge on the left or on the right; a slow or a fast wave."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 2, n)
    edge = np.outer(np.ones(12), np.linspace(220, 30, 12))
    pictures = [(edge if k else edge[:, ::-1]) + rng.normal(0, 15, (12, 12)) for k in kinds]
    readings = [np.sin(np.linspace(0, 4 + 6 * k, 24))[:, None] + rng.normal(0, 0.1, (24, 1)) for k in kinds]
    return {"kind": list(kinds), "picture": pictures, "reading": readings}


def with_gaps(columns: dict[str, list], share: float, seed: int) -> dict[str, list]:
    """Remove a share of the cells, never both of a row."""
    rng = np.random.default_rng(seed)
    lost = rng.random(len(columns["kind"])) < 2 * share
    which = rng.random(len(lost)) < 0.5
    pictures = [None if gone else p for p, gone in zip(columns["picture"], lost & which, strict=True)]
    readings = [None if gone else r for r, gone in zip(columns["reading"], lost & ~which, strict=True)]
    return {"picture": pictures, "reading": readings}


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Compare the beginnings of two readings; a generated one may end early."""
    n = min(len(a), len(b), 20)
    return float(np.abs(a[:n] - b[:n]).mean())


train, test = events(400, seed=0), events(60, seed=1)
model = Engine().recipe(
    "vae_gan",
    modalities={"picture": "modality/image", "reading": "modality/sequence"},
    posterior="mopoe",
    latent=8,
    epochs=[20, 2, 10],
)
model.fit(with_gaps(train, share=0.25, seed=2))

translated = model.translate({"picture": test["picture"]}, to="reading")
waves = [np.mean([r for k, r in zip(test["kind"], test["reading"], strict=True) if k == kind], 0) for kind in (0, 1)]
closest = [int(np.argmin([distance(t, w) for w in waves])) for t in translated]
accuracy = np.mean(np.array(closest) == np.array(test["kind"]))

holes = {"picture": test["picture"], "reading": [None] * 30 + test["reading"][30:]}
imputed = [row["reading"] for row in model.impute(holes)[:30]]
average = np.mean(train["reading"], 0)
error = np.mean([distance(i, r) for i, r in zip(imputed, test["reading"], strict=False)])
baseline = np.mean([distance(average, r) for r in test["reading"][:30]])
print(f"kind told from the translated reading: {accuracy:.2f}; imputation {baseline / error:.1f} times as close")
assert accuracy > 0.9
