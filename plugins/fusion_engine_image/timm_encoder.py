"""Any timm model as an encoder."""

import math
from pathlib import Path
from typing import Annotated, Any

import timm
import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fusion_engine import ConfigError, Encoder, Features, ImageModality, Signal, Widths, nearest
from fusion_engine_image.blocks import grid_positions


class TimmEncoder(Encoder):
    """Run a timm model and return its last map as tokens and its pooled features.

    The classifier is left out. Tokens [b n num_features] leave out class and register tokens; pooled
    [b head_hidden_size]. The model takes the modality's own channels. Images are resized to ``size``, or without one
    enlarged to the next multiple of the model's stride (its patch, for a ViT), and to two strides at least, so that
    there are 2 by 2 tokens.

    Args:
        modality: the images.
        model: a timm name, such as resnet18 or vit_tiny_patch16_224.
        pretrained: a safetensors file of that model's weights. Nothing is ever downloaded.
        size: resize images to this side (a square) before the model.
        drop_path: the rate of stochastic depth while training, where the model has it.
    """

    def __init__(
        self,
        modality: ImageModality,
        *,
        model: str = "resnet18",
        pretrained: str | None = None,
        size: Annotated[int, Field(ge=1)] | None = None,
        drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        if not timm.is_model(model):
            raise ConfigError(f"timm has no model {model!r}", fix=nearest(model, timm.list_models()))
        c, h, w = modality.shape
        stride = _stride(model)
        side = (size, size) if size else (_enlarged(h, stride), _enlarged(w, stride))
        network = _create(model, in_chans=c, img_size=side, drop_path_rate=drop_path)
        super().__init__(modality, Widths(network.num_features, network.head_hidden_size))
        self.network, self.side, self.stride = network, side, stride
        if pretrained is not None:
            load_weights(network, Path(pretrained))

    def encode(self, x: Float[Tensor, "b c h w"], signal: Signal) -> Features:
        """Resize and encode; every token is valid."""
        if tuple(x.shape[2:]) != self.side:
            x = interpolate(x, size=self.side, mode="bilinear", align_corners=False)
        maps = self.network.forward_features(x)
        pooled = self.network.forward_head(maps, pre_logits=True)
        tokens, grid = self._tokens(maps)
        position = None if grid is None else grid_positions(*grid).to(tokens).expand(len(x), -1, -1)
        return Features(tokens, pooled, torch.ones(tokens.shape[:2], dtype=torch.bool, device=x.device), position)

    def _tokens(self, maps: Tensor) -> tuple[Float[Tensor, "b n d"], tuple[int, int] | None]:
        """Lay a map out as tokens, and say its grid where it has one."""
        if maps.ndim == 4:
            maps = (
                maps if getattr(self.network, "output_fmt", None) == "NHWC" else rearrange(maps, "b d h w -> b h w d")
            )
            return rearrange(maps, "b h w d -> b (h w) d"), (maps.shape[1], maps.shape[2])
        tokens = maps[:, getattr(self.network, "num_prefix_tokens", 0) :]
        grid = (self.side[0] // self.stride, self.side[1] // self.stride)
        return tokens, grid if math.prod(grid) == tokens.shape[1] else None


def _stride(model: str) -> int:
    """Say how many pixels a side one token covers: the largest reduction of the model's stages."""
    with torch.device("meta"):
        stages = getattr(timm.create_model(model, pretrained=False), "feature_info", None)
    return max((stage["reduction"] for stage in stages or ()), default=32)


def _enlarged(side: int, stride: int) -> int:
    return max(2, -(-side // stride)) * stride


def _create(model: str, **options: Any) -> Any:
    """Create the model with the options that it knows: a resnet takes no ``img_size``, a vgg no stochastic depth."""
    try:
        return timm.create_model(model, pretrained=False, num_classes=0, **options)
    except TypeError as error:
        refused = [name for name in options if f"'{name}'" in str(error) and name != "in_chans"]
        if not refused:
            raise
        return _create(model, **{name: value for name, value in options.items() if name not in refused})


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a safetensors file; the weights of the classifier, which the encoder leaves out, may be in it.

    Raises:
        ConfigError: the file cannot be read, or names or shapes differ; it says which.
    """
    where = f"pretrained {path}"
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            "cannot read the pretrained weights", where=where, expected="a safetensors file", actual=str(error)
        ) from error
    classifiers = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    prefixes = tuple(f"{name}." for name in ([classifiers] if isinstance(classifiers, str) else classifiers))
    wanted = network.state_dict()
    stored = {name: x for name, x in stored.items() if name in wanted or not name.startswith(prefixes or ("\0",))}
    problems = [f"{name} is missing" for name in wanted if name not in stored]
    problems += [f"{name} is not of this model" for name in stored if name not in wanted]
    problems += [
        f"{name} is {list(x.shape)}, the model's is {list(wanted[name].shape)}"
        for name, x in stored.items()
        if name in wanted and x.shape != wanted[name].shape
    ]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        fix = (
            "use the file of this very model; its channels and `size` must be those that the weights were trained with"
        )
        raise ConfigError("the pretrained weights do not match the model", where=where, actual=shown, fix=fix)
    network.load_state_dict(stored)
