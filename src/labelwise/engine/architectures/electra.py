"""ELECTRA: BERT's layers, after embeddings that may be narrower than they are.

The head is two products with GELU between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelwise.engine.architectures import Architecture, bert

if TYPE_CHECKING:
    from labelwise.engine.blocks import Blocks, State
    from labelwise.engine.config import Config


def describe(config: Config) -> Architecture:
    """The architecture of an ``ElectraForSequenceClassification``."""
    layers = bert.read_layers(config, "electra.encoder", width=256, heads=4, inner=1024)
    width = layers[0].attention.width
    narrow = config.integer("embedding_size", 128)

    def build(blocks: Blocks) -> State:
        states = bert.embed(blocks, config, "electra.embeddings", narrow)
        if narrow != width:
            states = blocks.linear(states, "electra.embeddings_project", width, narrow)
        first = bert.encode(blocks, states, layers)
        hidden = blocks.activate(blocks.linear(first, "classifier.dense", width, width), "gelu")
        return blocks.classify(hidden, "classifier.out_proj", width)

    words, positions, types = bert.table_rows(config)
    return Architecture(words, positions, build, "electra", "classifier.out_proj", types=types)
