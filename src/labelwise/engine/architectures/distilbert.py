"""DistilBERT: BERT without token types and pooler, under names of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelwise.engine.architectures import Architecture, bert
from labelwise.engine.blocks import ACTIVATIONS, MAX_LAYERS, Attention

if TYPE_CHECKING:
    from labelwise.engine.blocks import Blocks, State
    from labelwise.engine.config import Config

_EPSILON = 1e-12  # fixed in this architecture, whatever the configuration says


def describe(config: Config) -> Architecture:
    """The architecture of a ``DistilBertForSequenceClassification``."""
    words = config.integer("vocab_size", 30522)
    positions = config.integer("max_position_embeddings", 512)
    layers = _read_layers(config)
    width = layers[0].attention.width

    def build(blocks: Blocks) -> State:
        tables = "distilbert.embeddings"
        states = blocks.embed(f"{tables}.word_embeddings", words, width)
        states = blocks.embed_by(
            states, f"{tables}.position_embeddings", positions, width, "positions"
        )
        states = blocks.norm(states, f"{tables}.LayerNorm", width, _EPSILON)
        first = bert.encode(blocks, states, layers)
        hidden = blocks.activate(blocks.linear(first, "pre_classifier", width, width), "relu")
        return blocks.classify(hidden, "classifier", width)

    return Architecture(words, positions, build, "distilbert", "classifier")


def _read_layers(config: Config) -> list[bert.Layer]:
    count = config.integer("n_layers", 6, most=MAX_LAYERS)
    width, heads = config.integer("dim", 768), config.integer("n_heads", 12)
    inner = config.integer("hidden_dim", 3072)
    activation = config.choice("activation", "gelu", ACTIVATIONS)
    return [
        bert.Layer(
            Attention(
                query=f"{layer}.attention.q_lin",
                key=f"{layer}.attention.k_lin",
                value=f"{layer}.attention.v_lin",
                width=width,
                heads=heads,
            ),
            output=f"{layer}.attention.out_lin",
            output_norm=f"{layer}.sa_layer_norm",
            up=f"{layer}.ffn.lin1",
            down=f"{layer}.ffn.lin2",
            down_norm=f"{layer}.output_layer_norm",
            inner=inner,
            activation=activation,
            epsilon=_EPSILON,
        )
        for layer in (f"distilbert.transformer.layer.{number}" for number in range(count))
    ]
