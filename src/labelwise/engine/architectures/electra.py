"""ELECTRA: BERT's layers, after embeddings that may be narrower than they are.

The head is two products with GELU between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelwise.engine.architectures import Architecture, bert

if TYPE_CHECKING:
    from labelwise.engine.config import Config
    from labelwise.engine.graph import Value
    from labelwise.engine.layers import Layers


def describe(config: Config) -> Architecture:
    """The architecture of an ``ElectraForSequenceClassification``."""
    shape = bert.read_shape(config, width=256, heads=4, inner=1024)
    width, names = shape.width, bert.layer_names(config, "electra.encoder")
    narrow = config.integer("embedding_size", 128)

    def build(layers: Layers) -> Value:
        states = bert.embed(layers, config, "electra.embeddings", narrow, shape.epsilon)
        if narrow != width:
            states = layers.project(states, "electra.embeddings_project", width, narrow)
        first = layers.encode(states, shape, names)
        hidden = layers.dense(first, "classifier.dense", width, width, "gelu")
        return layers.classify(hidden, "classifier.out_proj", width)

    words, positions, types = bert.table_rows(config)
    return Architecture(words, positions, build, "electra", "classifier.out_proj", types=types)
