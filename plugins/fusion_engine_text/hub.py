"""Encoders of the transformers library, made from a config; nothing is downloaded."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES

from fusion_engine import ConfigError, TextModality, nearest

_SIZES = {"hidden_size": "width", "num_hidden_layers": "layers", "num_attention_heads": "heads"}
"""The library's keys that are set by keys of our own."""
_FEED_FORWARD = ("intermediate_size", "hidden_dim", "d_ff")
_FIXED = ("vocab_size", "pad_token_id", "max_position_embeddings", "is_decoder", "is_encoder_decoder")
_REFUSALS = (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError)


def make_encoder(
    modality: TextModality, model: str, sizes: Mapping[str, int], dropout: float, further: Mapping[str, Any]
) -> nn.Module:
    """Make a text encoder with plain attention and random weights; vectors of tokens and places have unit deviation.

    Args:
        modality: whose tokens it reads.
        model: the library's name for a kind of model.
        sizes: width, layers and heads.
        dropout: wherever the model has one.
        further: keys of its config.

    Raises:
        ConfigError: there is no such kind of model, no such key, or the model refuses a value.
    """
    if model not in MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES:
        fix = nearest(model, MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES)
        raise ConfigError(f"transformers has no text encoder {model!r}", fix=fix)
    default = AutoConfig.for_model(model)
    _check_keys(further, default.to_dict(), default.attribute_map)
    keys = _keys(default, modality, sizes, dropout)
    try:
        network = _network(AutoConfig.for_model(model, **keys | dict(further)))
    except _REFUSALS as error:
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(f"transformers cannot make this {model!r}", actual=told, fix="change `config`") from error
    _unit_vectors(network)
    return network


def _keys(default: Any, modality: TextModality, sizes: Mapping[str, int], dropout: float) -> dict[str, Any]:
    """Choose what the kind of model has of all that a small one for this modality needs."""
    plain = default.to_dict()
    width, names = sizes["width"], default.attribute_map
    wanted = {
        **{names.get(key, key): sizes[ours] for key, ours in _SIZES.items()},
        **dict.fromkeys(_FEED_FORWARD, 4 * width),
        **{key: dropout for key, value in plain.items() if "dropout" in key and isinstance(value, float)},
        "vocab_size": modality.vocabulary,
        "pad_token_id": modality.padding,
        "eos_token_id": modality.end,
        "max_position_embeddings": modality.length + modality.padding + 1,  # RoBERTa counts from padding + 1
        "type_vocab_size": 1,
        "embedding_size": width,
        "initializer_range": width**-0.5,
    }
    return {key: value for key, value in wanted.items() if key in plain}


def _check_keys(further: Mapping[str, Any], known: Mapping[str, Any], names: Mapping[str, str]) -> None:
    ours = {names.get(key, key): key_of_ours for key, key_of_ours in _SIZES.items()}
    for key in further:
        if key in {**_SIZES, **ours}:
            raise ConfigError(f"`config` sets {key!r}", fix=f"set `{ {**_SIZES, **ours}[key] }` instead")
        if key in _FIXED:
            raise ConfigError(f"`config` sets {key!r}, which the texts decide", fix="leave it out")
        if key not in known:
            raise ConfigError(f"`config` has an unknown key {key!r}", fix=nearest(key, known))


def _network(config: Any) -> nn.Module:
    """Make the encoder of a config; without the pooler that some have, as nothing would read it."""
    kind: Any = MODEL_FOR_TEXT_ENCODING_MAPPING[type(config)]
    options = {"add_pooling_layer": False} if "add_pooling_layer" in signature(kind.__init__).parameters else {}
    network: nn.Module = kind._from_config(config, attn_implementation="eager", **options)
    return network


def _unit_vectors(network: nn.Module) -> None:
    """Start the vectors of tokens and places, which are added up, at unit deviation: penalties are taken on them."""
    width = network.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
    for module in network.modules():
        if isinstance(module, nn.Embedding) and module.embedding_dim == width:
            nn.init.normal_(module.weight)
