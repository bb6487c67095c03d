"""All tests run with shapes and types checked; this one checks that they are."""

import pytest
import torch
from jaxtyping import TypeCheckError

from fusion_engine import Features, Signal
from fusion_engine_image.conv_encoder import ConvEncoder
from fusion_engine_image.modality import Image


def test_a_wrong_shape_is_caught_in_the_core_and_in_plugins() -> None:
    with pytest.raises(TypeCheckError, match="pooled"):
        Features.of_pooled(torch.zeros(3))
    encoder = ConvEncoder(Image(shape=(1, 8, 8)))
    image = torch.zeros(2, 1, 8, 8)
    with pytest.raises(TypeCheckError, match="'x'"):
        encoder.encode(image[0], Signal(image))
    with pytest.raises(TypeCheckError, match="modality"):
        ConvEncoder("image")  # type: ignore[arg-type]


def test_axes_of_one_name_must_agree() -> None:
    with pytest.raises(TypeCheckError):
        Features(torch.zeros(2, 3, 4), torch.zeros(2, 5), torch.ones(2, 4, dtype=torch.bool))
