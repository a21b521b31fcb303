"""BERT: norm after each part of a layer, token types, a tanh pooler and a linear classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labelwise.engine.architectures import Architecture
from labelwise.engine.blocks import ACTIVATIONS, MAX_LAYERS, Attention

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labelwise.engine.blocks import Blocks, State
    from labelwise.engine.config import Config

_EPSILON = 1e-12


def describe(config: Config) -> Architecture:
    """The architecture of a ``BertForSequenceClassification``."""
    layers = read_layers(config, "bert.encoder")
    width = layers[0].attention.width

    def build(blocks: Blocks) -> State:
        states = embed(blocks, config, "bert.embeddings", width)
        first = encode(blocks, states, layers)
        pooled = blocks.activate(blocks.linear(first, "bert.pooler.dense", width, width), "tanh")
        return blocks.classify(pooled, "classifier", width)

    words, positions, types = table_rows(config)
    return Architecture(words, positions, build, "bert", "classifier", types=types)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of BERT and its kin: what the checkpoint calls its parts, and their sizes."""

    attention: Attention
    output: str
    output_norm: str
    up: str
    down: str
    down_norm: str
    inner: int  # width between the two products of the feed-forward part
    activation: str
    epsilon: float


def embed(blocks: Blocks, config: Config, prefix: str, width: int) -> State:
    """Words, positions and token types, summed and normed."""
    words, positions, types = table_rows(config)
    states = blocks.embed(f"{prefix}.word_embeddings", words, width)
    states = blocks.embed_by(states, f"{prefix}.position_embeddings", positions, width, "positions")
    states = blocks.embed_by(states, f"{prefix}.token_type_embeddings", types, width, "types")
    return blocks.norm(states, f"{prefix}.LayerNorm", width, read_epsilon(config))


def encode(blocks: Blocks, states: State, layers: Sequence[Layer]) -> State:
    """The state of the first token of each text after all *layers*.

    The classifier reads no other: so in the last layer that one alone attends (decision 3).
    """
    for layer in layers[:-1]:
        attended = blocks.attend(states, layer.attention)
        states = feed_forward(blocks, attended, states, layer)
    first = blocks.first(states)
    attended = blocks.attend_first(first, states, layers[-1].attention)
    return feed_forward(blocks, attended, first, layers[-1])


def feed_forward(blocks: Blocks, attended: State, states: State, layer: Layer) -> State:
    """The part of a layer after attention: each state for itself, with a norm after each sum."""
    width, inner = layer.attention.width, layer.inner
    added = blocks.add(blocks.linear(attended, layer.output, width, width), states)
    states = blocks.norm(added, layer.output_norm, width, layer.epsilon)
    grown = blocks.activate(blocks.linear(states, layer.up, inner, width), layer.activation)
    added = blocks.add(blocks.linear(grown, layer.down, width, inner), states)
    return blocks.norm(added, layer.down_norm, width, layer.epsilon)


def read_layers(
    config: Config, prefix: str, width: int = 768, heads: int = 12, inner: int = 3072
) -> list[Layer]:
    """The layers under the keys of BERT and its kin; *width*, *heads*, *inner* are defaults."""
    width = config.integer("hidden_size", width)
    heads = config.integer("num_attention_heads", heads)
    inner = config.integer("intermediate_size", inner)
    epsilon = read_epsilon(config)
    activation = config.choice("hidden_act", "gelu", ACTIVATIONS)
    count = config.integer("num_hidden_layers", 12, most=MAX_LAYERS)
    return [
        Layer(
            Attention(
                query=f"{layer}.attention.self.query",
                key=f"{layer}.attention.self.key",
                value=f"{layer}.attention.self.value",
                width=width,
                heads=heads,
            ),
            output=f"{layer}.attention.output.dense",
            output_norm=f"{layer}.attention.output.LayerNorm",
            up=f"{layer}.intermediate.dense",
            down=f"{layer}.output.dense",
            down_norm=f"{layer}.output.LayerNorm",
            inner=inner,
            activation=activation,
            epsilon=epsilon,
        )
        for layer in (f"{prefix}.layer.{number}" for number in range(count))
    ]


def read_epsilon(config: Config) -> float:
    """The number that keeps a norm from dividing by 0."""
    return config.number("layer_norm_eps", _EPSILON)


def table_rows(config: Config) -> tuple[int, int, int]:
    """The numbers of words, positions and token types in the embedding tables."""
    return (
        config.integer("vocab_size", 30522),
        config.integer("max_position_embeddings", 512),
        config.integer("type_vocab_size", 2),
    )
