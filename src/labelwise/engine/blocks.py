"""The blocks that models are made of.

An architecture asks for them in the order of its forward pass; each backend implements them once.
States are ``(rows, width)``: all tokens of all texts, end to end, with no padding between them.
Only attention looks at one text at a time. Weights keep the checkpoint's layout, ``(out, in)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from labelwise.errors import BadFile

State = Any  # a backend's own: the states of all tokens, or of one token of each text

# The names that `hidden_act` may have in transformers.
ACTIVATIONS = (
    "gelu",
    "gelu_fast",
    "gelu_new",
    "gelu_python",
    "gelu_pytorch_tanh",
    "quick_gelu",
    "relu",
    "silu",
    "swish",
    "tanh",
)
MAX_LAYERS = 1_000


@dataclass(frozen=True, slots=True)
class Attention:
    """Self-attention inside each text: the names of its three products, and its sizes."""

    query: str
    key: str
    value: str
    width: int  # of a state
    heads: int

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise BadFile(f"config.json: {self.heads} heads do not divide a width of {self.width}")

    @property
    def head_width(self) -> int:
        """The part of a state that one head sees."""
        return self.width // self.heads


class Blocks(Protocol):
    """The vocabulary of architectures. *name* is what the checkpoint calls a part's weights."""

    def embed(self, name: str, rows: int, width: int) -> State:
        """The embedding of each token, out of a table of *rows*."""

    def embed_by(
        self, states: State, name: str, rows: int, width: int, by: Literal["positions", "types"]
    ) -> State:
        """*states* plus a row of another table for each token, by its position or its type."""

    def norm(self, states: State, name: str, width: int, epsilon: float) -> State:
        """Layer norm: each state to mean 0 and variance 1, then scaled and shifted."""

    def linear(self, states: State, name: str, outputs: int, inputs: int) -> State:
        """``states @ weight.T + bias``."""

    def activate(self, states: State, kind: str) -> State:
        """One of `ACTIVATIONS` of each number."""

    def add(self, states: State, others: State) -> State:
        """The sum of two."""

    def attend(self, states: State, attention: Attention) -> State:
        """The sum that each token gathers from the tokens of its own text."""

    def first(self, states: State) -> State:
        """The state of the first token of each text, ``(texts, width)``."""

    def attend_first(self, first: State, states: State, attention: Attention) -> State:
        """The same for the *first* token of each text alone; *states* are those of all tokens."""

    def classify(self, states: State, name: str, inputs: int) -> State:
        """The logits: a product with as many outputs as its weight has rows."""
