"""Any Transformer encoder of the transformers library, from its config."""

from dataclasses import replace
from typing import Annotated, Any

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import ConfigError, Encoder, Features, Signal, TextModality
from fusion_engine_text.hub import make_encoder
from fusion_engine_text.tokens import as_ids, embed_tokens, valid_tokens


class TransformerEncoder(Encoder):
    """Read a text with a Transformer encoder of the transformers library: BERT, RoBERTa, DistilBERT, ELECTRA ...

        pooled = linear(mean of the valid tokens)

    A token is valid up to and including the first end; padding that follows is neither attended to nor computed beyond
    the longest text of the batch. Attention is the plain one, which can be differentiated twice. Weights start random;
    token and position vectors have unit deviation, as penalties are taken on them.
    Texts [b n] or soft one-hots [b n v] -> tokens [b m width], m the longest of the batch, pooled [b width].

    Args:
        modality: the texts.
        model: the library's name for a kind of model.
        width: of a token, a multiple of ``heads``.
        layers: of attention and feed-forward network.
        heads: of attention.
        dropout: while training.
        config: further keys of that model's config, such as intermediate_size (by default 4 width) or hidden_act.
    """

    def __init__(
        self,
        modality: TextModality,
        *,
        model: str = "bert",
        width: Annotated[int, Field(ge=2)] = 64,
        layers: Annotated[int, Field(ge=1)] = 2,
        heads: Annotated[int, Field(ge=1)] = 2,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(modality, width)
        if width % heads:
            raise ConfigError(
                "`width` must be a multiple of `heads`", expected=f"a multiple of {heads}", actual=f"{width}"
            )
        self.end = modality.end
        sizes = {"width": width, "layers": layers, "heads": heads}
        self.network = make_encoder(modality, model, sizes, dropout, config or {})
        self.out = nn.Linear(width, width)

    def embed(self, data: Tensor) -> Float[Tensor, "b n d"]:
        """Return the model's own vectors of ids or of soft one-hots; the two agree."""
        return embed_tokens(data, self.network.get_input_embeddings().weight)  # type: ignore[operator]

    def encode(self, x: Float[Tensor, "b n d"], signal: Signal) -> Features:
        """Encode as far as the longest text goes."""
        valid = valid_tokens(as_ids(signal.data), self.end)
        longest = int(valid.any(0).sum())
        valid = valid[:, :longest]
        out = self.network(inputs_embeds=x[:, :longest], attention_mask=valid.long()).last_hidden_state
        features = Features.of_tokens(out, valid)
        return replace(features, pooled=self.out(features.pooled))
