"""RoBERTa: BERT's layers, with positions that count from the padding id.

The head is two products with tanh between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelwise.engine.architectures import Architecture, bert

if TYPE_CHECKING:
    from labelwise.engine.blocks import Blocks, State
    from labelwise.engine.config import Config


def describe(config: Config) -> Architecture:
    """The architecture of a ``RobertaForSequenceClassification``."""
    layers = bert.read_layers(config, "roberta.encoder")
    width = layers[0].attention.width

    def build(blocks: Blocks) -> State:
        states = bert.embed(blocks, config, "roberta.embeddings", width)
        first = bert.encode(blocks, states, layers)
        hidden = blocks.activate(blocks.linear(first, "classifier.dense", width, width), "tanh")
        return blocks.classify(hidden, "classifier.out_proj", width)

    words, positions, types = bert.table_rows(config)
    padding_id = config.integer("pad_token_id", 1, least=0, most=positions - 2)
    longest = positions - padding_id - 1
    base, head = "roberta", "classifier.out_proj"
    return Architecture(words, longest, build, base, head, types, padding_id)
