"""BERT: norm after each part of a layer, token types, a tanh pooler and a linear classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelwise.engine.architectures import Architecture
from labelwise.engine.layers import ACTIVATIONS, MOST_LAYERS, LayerNames, Layers, Shape

if TYPE_CHECKING:
    from labelwise.engine.config import Config
    from labelwise.engine.graph import Value


def describe(config: Config) -> Architecture:
    """The architecture of a ``BertForSequenceClassification``."""
    shape = read_shape(config)
    width, names = shape.width, layer_names(config, "bert.encoder")

    def build(layers: Layers) -> Value:
        states = embed(layers, config, "bert.embeddings", width, shape.epsilon)
        first = layers.encode(states, shape, names)
        pooled = layers.dense(first, "bert.pooler.dense", width, width, "tanh")
        return layers.classify(pooled, "classifier", width)

    words, positions, types = table_rows(config)
    return Architecture(words, positions, build, "bert", "classifier", types=types)


def read_shape(config: Config, width: int = 768, heads: int = 12, inner: int = 3072) -> Shape:
    """The sizes of the layers, under the keys of BERT and its kin; the arguments are defaults."""
    return Shape(
        width=config.integer("hidden_size", width),
        heads=config.integer("num_attention_heads", heads),
        inner=config.integer("intermediate_size", inner),
        epsilon=config.number("layer_norm_eps", 1e-12),
        activation=config.choice("hidden_act", "gelu", ACTIVATIONS),
    )


def table_rows(config: Config) -> tuple[int, int, int]:
    """How many words, positions and token types the embedding tables hold."""
    return (
        config.integer("vocab_size", 30522),
        config.integer("max_position_embeddings", 512),
        config.integer("type_vocab_size", 2),
    )


def embed(layers: Layers, config: Config, prefix: str, width: int, epsilon: float) -> Value:
    """Words, positions and token types, summed and normed."""
    words, positions, types = table_rows(config)
    states = layers.words(f"{prefix}.word_embeddings", words, width)
    states = layers.plus(states, f"{prefix}.position_embeddings", positions, width, "positions")
    states = layers.plus(states, f"{prefix}.token_type_embeddings", types, width, "types")
    return layers.norm(states, f"{prefix}.LayerNorm", width, epsilon)


def layer_names(config: Config, prefix: str) -> list[LayerNames]:
    """What BERT and its kin call the weights of each layer."""
    count = config.integer("num_hidden_layers", 12, most=MOST_LAYERS)
    return [
        LayerNames(
            query=f"{layer}.attention.self.query",
            key=f"{layer}.attention.self.key",
            value=f"{layer}.attention.self.value",
            output=f"{layer}.attention.output.dense",
            output_norm=f"{layer}.attention.output.LayerNorm",
            up=f"{layer}.intermediate.dense",
            down=f"{layer}.output.dense",
            down_norm=f"{layer}.output.LayerNorm",
        )
        for layer in (f"{prefix}.layer.{number}" for number in range(count))
    ]
