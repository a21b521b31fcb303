"""RoBERTa: BERT's layers, with positions that count from the padding id.

The head is two products with tanh between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelwise.engine.architectures import Architecture, bert

if TYPE_CHECKING:
    from labelwise.engine.config import Config
    from labelwise.engine.graph import Value
    from labelwise.engine.layers import Layers


def describe(config: Config) -> Architecture:
    """The architecture of a ``RobertaForSequenceClassification``."""
    shape = bert.read_shape(config)
    width, names = shape.width, bert.layer_names(config, "roberta.encoder")

    def build(layers: Layers) -> Value:
        states = bert.embed(layers, config, "roberta.embeddings", width, shape.epsilon)
        first = layers.encode(states, shape, names)
        hidden = layers.dense(first, "classifier.dense", width, width, "tanh")
        return layers.classify(hidden, "classifier.out_proj", width)

    words, positions, types = bert.table_rows(config)
    padding_id = config.integer("pad_token_id", 1, least=0, most=positions - 2)
    longest = positions - padding_id - 1
    base, head = "roberta", "classifier.out_proj"
    return Architecture(words, longest, build, base, head, types, padding_id)
