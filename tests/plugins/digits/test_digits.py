from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from fusion_engine import ConfigError, DataError, Engine
from fusion_engine_digits.digits import Digits

ALL = ("image", "mirror", "strokes", "label")


def test_the_engine_finds_it() -> None:
    modalities = {"picture": {"use": "modality/image"}}
    nodes = {"encoder": {"use": "encoder/image.conv", "in": "picture"}}
    data = {"use": "dataset/digits", "with": {"missing": 0.2, "modalities": ["image", "mirror"]}}
    config = {"fusion_graph": 1, "modalities": modalities, "nodes": nodes, "data": data}
    found = Engine().dataset(config)
    assert [list(r) for r in found.test[:2]] == [["image", "mirror"]] * 2
    for wrong in ({"missing": 1}, {"modalities": ["imagge"]}, {"noise": -1}, {"second": True}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Engine().dataset(config | {"data": data | {"with": wrong}})


def test_splits_cover_the_data_and_agree_with_scikit_learn() -> None:
    data, official = Digits(modalities=("image", "label")), load_digits()
    assert [len(data.train), len(data.validation), len(data.test)] == [1293, 144, 360]
    for row, image, label in zip(data.test, official.images[-360:], official.target[-360:], strict=True):
        np.testing.assert_array_equal(row["image"], np.rint(image * 255 / 16))
        assert row["label"] == label
    learned = sorted(r["image"].tobytes() for r in [*data.train, *data.validation])
    assert learned == sorted(np.rint(x * 255 / 16).astype(np.uint8).tobytes() for x in official.images[:-360])
    counts = np.bincount([r["label"] for r in data.test])
    np.testing.assert_array_equal(counts, [35, 36, 35, 37, 37, 37, 37, 36, 33, 37])


def test_raw_samples() -> None:
    row = Digits(modalities=ALL).train[0]
    assert tuple(row) == ALL
    assert row["image"].dtype == np.uint8
    assert row["image"].shape == (8, 8)
    assert type(row["label"]) is int
    assert row["strokes"].dtype == np.float32
    assert row["strokes"].shape[1] == 3
    assert torch.from_numpy(row["mirror"]).flip(1).equal(torch.from_numpy(row["image"]))


def test_strokes_stay_on_the_image_and_end_lifted() -> None:
    for row in Digits(modalities=("image", "strokes")).test:
        pen = row["strokes"][:, 2]
        assert set(pen) <= {0.0, 1.0}
        assert pen[-1] == 1
        at = row["strokes"][:, :2].cumsum(0)
        assert at.min() > -1.5
        assert at.max() < 8.5


def test_strokes_follow_the_ink() -> None:
    def ink_under_the_pen(row: dict[str, np.ndarray], image: np.ndarray) -> float:
        x, y = np.clip(np.rint(row["strokes"][:, :2].cumsum(0) - 0.5), 0, 7).astype(int).T
        return float(image[y, x].mean())

    rows = Digits(modalities=("image", "strokes")).test
    own = np.mean([ink_under_the_pen(r, r["image"]) for r in rows])
    transposed = np.mean([ink_under_the_pen(r, r["image"].T) for r in rows])
    assert own > 190
    assert own > transposed + 30


@pytest.mark.parametrize(
    ("modalities", "missing"), [(("image", "strokes"), 0.2), (("image", "strokes"), 0.5), (ALL, 0.5), (ALL, 0.75)]
)
def test_the_share_of_missing_cells_and_no_empty_row(modalities: tuple[str, ...], missing: float) -> None:
    data = Digits(modalities=modalities, missing=missing)
    there = np.array([[r[m] is not None for m in modalities] for r in data.train])
    assert there.any(1).all()
    assert (~there).mean() == pytest.approx(missing, abs=0.02)
    assert np.ptp(there.mean(0)) < 4 * 2 * np.sqrt(0.25 / len(there))  # four deviations, at the worst correlation
    assert all(x is not None for r in [*data.validation, *data.test] for x in r.values())


def test_missing_cells_are_keyed_by_row() -> None:
    def gaps(data: Digits) -> dict[bytes, bool]:
        return {r["strokes"].tobytes(): r["image"] is None for r in data.train if r["strokes"] is not None}

    few, many = gaps(Digits(missing=0.3)), gaps(Digits(missing=0.3, validation=0.5))
    assert all(few[row] == gap for row, gap in many.items() if row in few)
    assert len(set(few) & set(many)) > 400


def test_noise_has_the_given_deviation_and_touches_images_alone() -> None:
    clean, noisy = Digits(modalities=ALL), Digits(modalities=ALL, noise=0.1)
    for split in ("train", "validation", "test"):
        differences = []
        for a, b in zip(getattr(clean, split), getattr(noisy, split), strict=True):
            np.testing.assert_array_equal(a["strokes"], b["strokes"])
            assert a["label"] == b["label"]
            middle = (a["image"] > 100) & (a["image"] < 155)
            differences.append((b["image"].astype(float) - a["image"])[middle])
        assert np.concatenate(differences).std() == pytest.approx(25.5, rel=0.05)


def test_the_mirror_has_noise_of_its_own() -> None:
    clean, noisy = Digits(modalities=("image", "mirror")), Digits(modalities=("image", "mirror"), noise=0.1)
    values, noise = (
        {m: np.stack([r[m].astype(float) for r in data.train]) for m in ("image", "mirror")} for data in (clean, noisy)
    )
    noise = {m: noise[m] - values[m] for m in noise}
    for step in (1, -1):  # where nothing is cut off: as drawn, and pixel by pixel
        middle = (abs(values["image"][:, :, ::step] - 128) < 60) & (abs(values["mirror"] - 128) < 60)
        assert middle.sum() > 2000
        assert abs(np.corrcoef(noise["image"][:, :, ::step][middle], noise["mirror"][middle])[0, 1]) < 0.06


def test_everything_repeats_with_its_seed() -> None:
    def content(seed: int) -> list[list[bytes | None]]:
        data = Digits(missing=0.3, noise=0.2, seed=seed)
        rows = [*data.train, *data.validation, *data.test]
        return [[None if x is None else x.tobytes() for x in r.values()] for r in rows]

    assert content(3) == content(3)
    assert content(3) != content(4)


def test_a_further_modality_leaves_the_noise_as_it_is() -> None:
    one, two = Digits(noise=0.2), Digits(modalities=("mirror", "image", "strokes"), noise=0.2)
    for a, b in zip(one.train, two.train, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])


@pytest.fixture
def folds(tmp_path: Path) -> Path:
    r = np.random.default_rng(0)
    np.savez(
        tmp_path / "mine.npz",
        image=r.integers(0, 256, (10, 28, 28), dtype=np.uint8),
        strokes=r.normal(size=(10, 7, 3)).astype(np.float32),
        strokes_length=np.arange(10) % 7 + 1,
        label=np.arange(10),
        fold=np.arange(10, dtype=np.int8) % 5,
    )
    return tmp_path


def test_another_data_set_from_a_file_or_folder(folds: Path) -> None:
    for path in (folds, folds / "mine.npz"):
        data = Digits(modalities=ALL, path=str(path), validation=0.0)
        assert [r["label"] for r in data.test] == [4, 9]
        assert [r["label"] for r in data.train] == [0, 1, 2, 3, 5, 6, 7, 8]
        assert not data.validation
        assert [len(r["strokes"]) for r in data.test] == [5, 3]
        with np.load(folds / "mine.npz") as arrays:
            np.testing.assert_array_equal(data.test[1]["image"], arrays["image"][9])
            np.testing.assert_array_equal(data.test[1]["strokes"], arrays["strokes"][9, :3])


def test_arrays_that_no_modality_needs_may_be_absent(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", label=np.arange(4), test=np.array([0, 0, 1, 1]))
    assert [r["label"] for r in Digits(modalities=("label",), path=str(tmp_path)).test] == [2, 3]
    with pytest.raises(DataError, match=r"lacks an array(.|\n)*'strokes'"):
        len(Digits(modalities=("strokes",), path=str(tmp_path)).test)


def test_errors_say_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which file"):
        len(Digits(path=str(tmp_path)).test)
    with pytest.raises(DataError, match="cannot read"):
        len(Digits(path=str(tmp_path / "none.npz")).test)
    for content in (b"", b"\x80\x04]\x94."):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match="cannot read"):
            len(Digits(path=str(tmp_path)).test)
    np.savez(tmp_path / "bad.npz", label=np.array([None, {}], dtype=object), test=np.array([0, 1]))
    with pytest.raises(DataError, match="cannot read"):
        len(Digits(modalities=("label",), path=str(tmp_path)).test)
    np.savez(tmp_path / "bad.npz", image=np.zeros((3, 8, 8)), test=np.array([0, 0, 1]))
    with pytest.raises(DataError, match=r"uint8 \[3 any any\](.|\n)*float64"):
        len(Digits(modalities=("image",), path=str(tmp_path)).test)
    for length in ([4, 5, 1], [4, 0, 1]):
        np.savez(tmp_path / "bad.npz", strokes=np.zeros((3, 4, 3)), length=np.array(length), test=np.array([0, 0, 1]))
        with pytest.raises(DataError, match="1 to 4 points"):
            len(Digits(modalities=("strokes",), path=str(tmp_path)).test)


def test_configs_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"at most 0\.5 for 2"):
        Digits(missing=0.6)
    with pytest.raises(ConfigError, match="each once"):
        Digits(modalities=("image", "image"))
    with pytest.raises(ConfigError, match="each once"):
        Digits(modalities=())


def test_a_column_of_groups_goes_with_every_row(folds: Path) -> None:
    with np.load(folds / "mine.npz") as arrays:
        kept = dict(arrays)
    names = np.array([f"voice {i % 3}" for i in range(10)])
    np.savez(folds / "mine.npz", **kept, speaker=np.arange(10) % 3, recording=names, pair=np.zeros((10, 2), int))
    plain = Digits(modalities=ALL, path=str(folds), missing=0.3)
    for group, values in (("speaker", [i % 3 for i in range(10)]), ("recording", names.tolist())):
        data = Digits(modalities=ALL, path=str(folds), missing=0.3, group=group)
        for split in ("train", "validation", "test"):
            for row, other in zip(getattr(data, split), getattr(plain, split), strict=True):
                assert list(row) == [*ALL, group]
                assert all((row[m] is None) == (other[m] is None) for m in ALL)
        for row in data.test:
            assert row[group] == values[row["label"]]
            assert type(row[group]) is type(values[0])
    for name in ("speakers", "pair"):
        with pytest.raises(DataError, match=name):
            len(Digits(path=str(folds), group=name).test)


def test_one_speaker_is_held_out(folds: Path) -> None:
    with np.load(folds / "mine.npz") as arrays:
        kept = {name: arrays[name] for name in arrays if name != "fold"}  # a split of the file's own is not needed
    np.savez(folds / "mine.npz", **kept, speaker=np.arange(10) % 3, name=np.array(list("aabbccddee")))
    data = Digits(modalities=ALL, path=str(folds), hold_out={"speaker": 1}, group="speaker", validation=0.2)
    assert [r["label"] for r in data.test] == [1, 4, 7]
    assert {r["speaker"] for r in data.test} == {1}
    assert {r["speaker"] for r in [*data.train, *data.validation]} == {0, 2}
    assert len(data.train) + len(data.validation) == 7
    assert [r["label"] for r in Digits(modalities=ALL, path=str(folds), hold_out={"name": "b"}).test] == [2, 3]
    with pytest.raises(DataError, match=r"has 5 as 'speaker'(.|\n)*\[0, 1, 2\]"):
        len(Digits(path=str(folds), hold_out={"speaker": 5}).test)


def test_groups_that_cannot_be() -> None:
    for options, message in (
        ({"group": "speaker"}, "packaged data set has no column"),
        ({"hold_out": {"speaker": 1}}, "packaged data set has no column"),
        ({"hold_out": {"speaker": 1, "take": 2}, "path": "x"}, "one column and one value"),
        ({"group": "image", "path": "x"}, "is a modality already"),
        ({"group": "speaker", "path": "x", "pairings": 2}, "further pairings exchange clips"),
    ):
        with pytest.raises(ConfigError, match=message):
            Digits(**options)
