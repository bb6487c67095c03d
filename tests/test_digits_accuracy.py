"""The classifier on the parts of the demo reaches what the digits allow."""

import pytest

from fusion_engine import Engine


@pytest.mark.slow
def test_image_and_strokes_fused_reach_97_percent_of_clean_test_digits(engine: Engine):
    dataset = engine.registry.resolve("dataset/digits").load()
    data = dataset(modalities=("image", "strokes", "label"), validation=0.0)
    parts = {"image": "modality/image", "strokes": "modality/strokes", "label": "modality/category"}
    found = []
    for seed in range(3):
        model = engine.recipe("classifier", parts, train={"seed": seed}).fit(data.train)
        pairs = zip(model.predict(data.test), data.test, strict=True)
        found.append(sum(p == row["label"] for p, row in pairs) / len(data.test))
    assert sum(found) / len(found) >= 0.97, found
