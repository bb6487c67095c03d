import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn.functional import interpolate

from fusion_engine import ConfigError
from fusion_engine_image.modality import Image
from fusion_engine_image.timm_encoder import TimmEncoder


def by_hand(network, model: str, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and pooled vector of each family, as its paper has them."""
    maps = network.forward_features(x)
    if model.startswith("vit"):
        return maps[:, 1:], maps[:, 0]
    if model.startswith("swin"):
        return maps.flatten(1, 2), maps.mean((1, 2))
    tokens = maps.flatten(2).transpose(1, 2)
    if model.startswith("resnet"):
        return tokens, maps.mean((2, 3))
    return tokens, network.act2(network.conv_head(network.global_pool(maps))).flatten(1)


@pytest.mark.parametrize(
    ("model", "widths", "side"),
    [
        ("resnet18", (512, 512), 64),
        ("mobilenetv3_small_100", (576, 1024), 64),
        ("vit_tiny_patch16_224", (192, 192), 32),
        ("swin_tiny_patch4_window7_224", (768, 768), 64),
    ],
)
def test_features_are_those_of_the_model_called_by_hand(model, widths, side):
    torch.manual_seed(0)
    modality = Image(shape=(1, 8, 8))
    encoder = TimmEncoder(modality, model=model).eval()
    options = {"img_size": side} if model.startswith(("vit", "swin")) else {}
    network = timm.create_model(model, num_classes=0, in_chans=1, **options).eval()
    network.load_state_dict(encoder.network.state_dict())
    signal = modality.example(2)
    with torch.no_grad():
        features = encoder(signal)
        enlarged = interpolate(signal.data, size=(side, side), mode="bilinear", align_corners=False)
        tokens, pooled = by_hand(network, model, enlarged)
    assert features.widths == encoder.widths == widths
    torch.testing.assert_close(features.tokens, tokens)
    torch.testing.assert_close(features.pooled, pooled)
    torch.testing.assert_close(features.position[0], torch.tensor([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]))


def test_a_large_image_is_rounded_up_to_the_stride_and_size_overrides():
    modality = Image(shape=(3, 65, 100))
    encoder = TimmEncoder(modality, model="resnet18")
    assert encoder.side == (96, 128)
    features = encoder(modality.example(2))
    assert features.tokens.shape[1] == 3 * 4
    assert TimmEncoder(modality, model="vit_tiny_patch16_224", size=48)(modality.example(1)).tokens.shape[1] == 9


def test_pretrained_weights_come_from_a_file(tmp_path):
    torch.manual_seed(0)
    whole = timm.create_model("resnet18", num_classes=7)
    path = tmp_path / "weights.safetensors"
    save_file(whole.state_dict(), path)
    encoder = TimmEncoder(Image(), model="resnet18", pretrained=str(path))
    assert all(torch.equal(x, whole.state_dict()[name]) for name, x in encoder.network.state_dict().items())


def test_weights_that_do_not_match_are_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    state = {n: x for n, x in timm.create_model("resnet18").state_dict().items() if n != "bn1.bias"}
    save_file({**state, "spare": torch.zeros(1)}, path)
    with pytest.raises(
        ConfigError, match=r"(?s)bn1.bias is missing.*spare is not of this model.*\[64, 3, 7, 7\].*\[64, 1, 7, 7\]"
    ):
        TimmEncoder(Image(shape=(1, 8, 8)), pretrained=str(path))


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "weights.bin"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ConfigError, match="safetensors"):
        TimmEncoder(Image(), pretrained=str(path))
    with pytest.raises(ConfigError, match="cannot read"):
        TimmEncoder(Image(), pretrained=str(tmp_path / "absent.safetensors"))


def test_an_unknown_model_lists_the_near_ones():
    with pytest.raises(ConfigError, match="'resnet18'"):
        TimmEncoder(Image(), model="resnet_18")
