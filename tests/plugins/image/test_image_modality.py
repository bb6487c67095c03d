import io
import json

import numpy as np
import PIL.Image
import pytest
import torch

from fusion_engine import ConfigError, DataError, Registry, Signal
from fusion_engine_image import register_components
from fusion_engine_image.modality import Image


def picture(h: int = 6, w: int = 5, c: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (h, w, c), dtype=np.uint8)


def fitted(samples: list, **config: object) -> Image:
    return Image(**{**config, **Image(**config).fit(samples)})


def test_plugin_registers_its_components_under_its_name():
    registry = Registry("image")
    register_components(registry)
    assert sorted(registry.entries) == [
        "decoder/image.conv",
        "decoder/image.dcgan",
        "decoder/image.mlp",
        "encoder/image.conv",
        "encoder/image.dcgan",
        "encoder/image.mlp",
        "encoder/image.timm",
        "modality/image.image",
    ]
    assert {Image.encoder, Image.decoder} <= set(registry.entries)


def test_every_layout_gives_the_same_tensor(tmp_path):
    array = picture()
    path = tmp_path / "picture.png"
    PIL.Image.fromarray(array).save(path)
    modality = fitted([array])
    want = torch.from_numpy((array.transpose(2, 0, 1).astype(np.float64) - array.mean()) / array.std())
    raws = [array, array.transpose(2, 0, 1), torch.from_numpy(array.transpose(2, 0, 1).copy()), array.tolist()]
    for raw in [*raws, PIL.Image.fromarray(array), path, str(path)]:
        torch.testing.assert_close(modality.prepare(raw).data.double(), want, atol=1e-5, rtol=1e-5)


def test_channel_axis_that_could_be_either():
    raw = np.arange(24.0).reshape(1, 8, 3)
    np.testing.assert_array_equal(Image(shape=(1, 8, 3)).prepare(raw).data.numpy(), raw)
    assert fitted([raw]).shape == (3, 1, 8)
    assert fitted([torch.from_numpy(raw)]).shape == (1, 8, 3)


def test_palettes_and_transparency_become_colours():
    palette = PIL.Image.fromarray(picture()).quantize(8)
    modality = fitted([palette])
    np.testing.assert_allclose(
        modality.restore(modality.collate([modality.prepare(palette)]))[0],
        np.asarray(palette.convert("RGB")),
        atol=1e-3,
    )
    assert fitted([PIL.Image.new("LA", (4, 4))]).shape == (4, 4, 4)


def test_fit_learns_what_numpy_computes_and_fits_json():
    images = [np.random.default_rng(i).normal(2, 3, (4, 7)) for i in range(20)]
    learned = Image().fit(iter(images))
    assert json.loads(json.dumps(learned)) == learned
    assert learned["shape"] == [1, 4, 7]
    stack = np.stack(images)
    want = [stack.mean(), stack.std(), stack.min(), stack.max()]
    np.testing.assert_allclose([learned[k] for k in ("centre", "deviation", "low", "high")], want, rtol=1e-5)
    assert Image(**learned).fit(images) == learned


def test_fit_keeps_and_checks_what_is_set():
    images = [picture(), picture()]
    learned = Image(centre=0.0, low=-10.0).fit(images)
    assert (learned["centre"], learned["low"], learned["high"]) == (0.0, -10.0, 255.0)
    with pytest.raises(DataError, match=r"(?s)\(3, 8, 8\).*\(3, 6, 5\)"):
        Image(shape=(3, 8, 8)).fit(images)
    with pytest.raises(DataError, match="`low` and `high`"):
        Image(low=0.0, high=1.0).fit(images)


def test_bytes_that_use_little_of_their_range_keep_their_own():
    learned = Image().fit([np.array([[0, 16], [3, 9]], np.uint8)])
    assert (learned["low"], learned["high"]) == (0.0, 16.0)


def test_a_constant_image_is_not_divided_by_zero():
    modality = fitted([np.full((4, 4), 7.0)])
    assert modality.prepare(np.full((4, 4), 7.0)).data.abs().max() == 0


def test_several_shapes_are_refused_and_size_mends_it():
    images = [picture(6, 5), picture(8, 9)]
    with pytest.raises(DataError, match=r"(?s)\(3, 6, 5\).*\(3, 8, 9\).*`size`"):
        Image().fit(images)
    modality = fitted(images, size=(4, 6))
    assert modality.shape == (3, 4, 6)
    assert {tuple(modality.prepare(i).data.shape) for i in images} == {(3, 4, 6)}


def test_resizing_agrees_with_pillow():
    image = np.random.default_rng(1).normal(size=(12, 10)).astype(np.float32)
    want = np.asarray(PIL.Image.fromarray(image).resize((5, 6), PIL.Image.Resampling.BILINEAR))
    np.testing.assert_allclose(Image(shape=(1, 6, 5), size=(6, 5)).prepare(image).data[0].numpy(), want, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_restore_inverts_prepare_and_clips(channels):
    images = [picture(c=channels)[..., 0] if channels == 1 else picture(c=channels)]
    modality = fitted(images)
    signal = modality.collate([modality.prepare(i) for i in images])
    np.testing.assert_allclose(modality.restore(signal)[0], images[0], atol=1e-3)
    extreme = modality.restore(Signal(torch.full_like(signal.data, 100.0)))[0]
    assert extreme.max() == extreme.min() == 255


def test_render_is_the_enlarged_picture():
    array = picture(8, 8)
    modality = fitted([array])
    media = modality.render(modality.collate([modality.prepare(array)]))[0]
    assert media.mime == "image/png"
    drawn = np.asarray(PIL.Image.open(io.BytesIO(media.content)))
    np.testing.assert_array_equal(drawn, array.repeat(8, 0).repeat(8, 1))


def test_render_puts_channels_that_are_no_colours_side_by_side():
    modality = Image(shape=(2, 64, 64), low=0.0, high=1.0)
    data = torch.stack([torch.zeros(64, 64), torch.ones(64, 64)])[None]
    drawn = np.asarray(PIL.Image.open(io.BytesIO(modality.render(Signal(data))[0].content)))
    np.testing.assert_array_equal(drawn, np.concatenate([np.zeros((64, 64)), np.full((64, 64), 255)], 1))


def test_without_config_it_has_an_example_and_leaves_the_random_state():
    state = torch.get_rng_state()
    example = Image().example(3)
    assert example.data.shape == (3, 3, 32, 32)
    assert torch.equal(state, torch.get_rng_state())
    assert len(Image().render(example)) == 3


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (np.full((4, 4), np.nan), "NaN"),
        (np.zeros((0, 4)), "empty"),
        (np.zeros((2, 4, 4, 3)), "two or three axes"),
        (np.zeros((7, 8, 9)), "channels"),
        (np.array([["a"]]), "numbers"),
        ([[1, 2], [3]], "unequal"),
        ("no_such_file.png", "no_such_file.png"),
    ],
)
def test_what_is_no_image_is_refused(raw, words):
    with pytest.raises(DataError, match=words):
        Image().fit([raw])


def test_no_images_and_contradictions_are_refused():
    with pytest.raises(DataError, match="no images"):
        Image().fit([])
    with pytest.raises(ConfigError, match="disagree"):
        Image(shape=(1, 8, 8), size=(4, 4))
    with pytest.raises(ConfigError, match="`low`"):
        Image(low=1.0, high=0.0)


def test_arrays_are_read_from_npy_files_without_pickle(tmp_path):
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.save(tmp_path / "a.npy", array)
    modality = Image(shape=[1, 3, 4], centre=0.0, deviation=1.0)
    assert torch.equal(modality.prepare(tmp_path / "a.npy").data, modality.prepare(array).data)
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot read the image"):
        modality.prepare(str(tmp_path / "b.npy"))
    (tmp_path / "empty.npy").touch()
    with pytest.raises(DataError, match=r"cannot read the image .*empty\.npy"):
        modality.prepare(tmp_path / "empty.npy")


def test_a_picture_that_pillow_thinks_a_bomb_is_refused_in_words(tmp_path, monkeypatch):
    PIL.Image.fromarray(picture()).save(tmp_path / "a.png")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match=r"cannot read the image[\s\S]*exceeds limit"):
        Image().prepare(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [("[[1, 2], [3, 4]]", "text of an array"), ("x\0y.png", "cannot read"), ("[" + "1, " * 500, r"\.\.\.'")],
)
def test_what_is_no_path_is_refused_in_few_words(text, message):
    with pytest.raises(DataError, match=message) as error:
        Image().prepare(text)
    assert len(str(error.value)) < 600
