"""DistilBERT: BERT without token types and pooler, under names of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelwise.engine.architectures import Architecture
from labelwise.engine.layers import ACTIVATIONS, MOST_LAYERS, LayerNames, Layers, Shape

if TYPE_CHECKING:
    from labelwise.engine.config import Config
    from labelwise.engine.graph import Value

_EPSILON = 1e-12  # fixed in this architecture, whatever the configuration says


def describe(config: Config) -> Architecture:
    """The architecture of a ``DistilBertForSequenceClassification``."""
    words = config.integer("vocab_size", 30522)
    positions = config.integer("max_position_embeddings", 512)
    names = _layer_names(config.integer("n_layers", 6, most=MOST_LAYERS))
    shape = Shape(
        width=config.integer("dim", 768),
        heads=config.integer("n_heads", 12),
        inner=config.integer("hidden_dim", 3072),
        epsilon=_EPSILON,
        activation=config.choice("activation", "gelu", ACTIVATIONS),
    )
    width = shape.width

    def build(layers: Layers) -> Value:
        tables = "distilbert.embeddings"
        states = layers.words(f"{tables}.word_embeddings", words, width)
        states = layers.plus(states, f"{tables}.position_embeddings", positions, width, "positions")
        states = layers.norm(states, f"{tables}.LayerNorm", width, _EPSILON)
        first = layers.encode(states, shape, names)
        hidden = layers.dense(first, "pre_classifier", width, width, "relu")
        return layers.classify(hidden, "classifier", width)

    return Architecture(words, positions, build, "distilbert", "classifier")


def _layer_names(count: int) -> list[LayerNames]:
    return [
        LayerNames(
            query=f"{layer}.attention.q_lin",
            key=f"{layer}.attention.k_lin",
            value=f"{layer}.attention.v_lin",
            output=f"{layer}.attention.out_lin",
            output_norm=f"{layer}.sa_layer_norm",
            up=f"{layer}.ffn.lin1",
            down=f"{layer}.ffn.lin2",
            down_norm=f"{layer}.output_layer_norm",
        )
        for layer in (f"distilbert.transformer.layer.{number}" for number in range(count))
    ]
