"""``config.json``: what the engine reads of it, checked, and nothing else.

Unknown keys are ignored, whatever they ask for: ``auto_map``, ``_attn_implementation``.
A value of the wrong kind stops the load with its key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labelwise.engine.files import read_object
from labelwise.engine.tokenizer.tokenizer import without_halves
from labelwise.errors import BadFile, UnsupportedModel

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
_MAX_LABELS = 100_000
_MAX_NAMES = 10  # of classes
_MAX_NAME = 100  # characters of one


@dataclass(frozen=True, slots=True)
class Config:
    """The checked part of a ``config.json``, and typed access to the architecture's own keys."""

    model_type: str
    names: Mapping[int, str] | None  # id2label: class number -> label
    num_labels: int | None
    problem_type: str | None
    values: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Config:
        """The configuration in *folder*.

        Raises:
            BadFile: It is missing, unreadable, not a JSON object, or holds impossible values.
        """
        values = read_object(folder / "config.json")
        model_type = values.get("model_type")
        if not isinstance(model_type, str):
            raise BadFile("config.json has no model_type; is this a Hugging Face model folder?")
        problem_type = values.get("problem_type")
        if problem_type is not None and problem_type not in PROBLEM_TYPES:
            raise BadFile(f"config.json: problem_type must be one of {', '.join(PROBLEM_TYPES)}")
        counted = values.get("num_labels") is not None
        number = _integer(values, "num_labels", 2, 1, _MAX_LABELS) if counted else None
        return cls(model_type, _names(values), number, problem_type, values)

    def labels(self, classes: int) -> tuple[str, ...]:
        """The label of each class, where the head of the model has *classes*.

        They are those of ``id2label``. Where only ``num_labels`` has the right number, it has the
        last word, as in transformers, and they are ``LABEL_0``, ``LABEL_1``, ...

        Raises:
            BadFile: Neither has that number, or a class has no label.
        """
        if self.names and len(self.names) == classes:
            nameless = next((each for each in range(classes) if each not in self.names), None)
            if nameless is not None:
                raise BadFile(f"config.json: id2label has no label for class {nameless}")
            return tuple(self.names[number] for number in range(classes))
        silent = self.names is None and self.num_labels is None
        if classes == (2 if silent else self.num_labels):
            return tuple(f"LABEL_{number}" for number in range(classes))
        raise BadFile(
            f"config.json has not as many classes as the head of the model, {classes}, but "
            f"{self._counts()}. Check that both belong together, and that id2label names each class"
        )

    @property
    def architectures(self) -> list[str]:
        """The names of classes that the file gives: a few short ones."""
        names = self.values.get("architectures")
        names = names if isinstance(names, list) else [names]
        return [name for name in names if isinstance(name, str) and len(name) <= _MAX_NAME][
            :_MAX_NAMES
        ]

    def _counts(self) -> str:
        """The numbers of classes that the file speaks of, for errors."""
        counts = [] if self.names is None else [f"{len(self.names)} in id2label"]
        if self.num_labels is not None:
            counts.append(f"{self.num_labels} in num_labels")
        return " and ".join(counts) or "2, as it says nothing of them"

    def integer(self, key: str, default: int, *, least: int = 1, most: int = 100_000_000) -> int:
        """The whole number at *key*, from *least* to *most*; *default* where the file is silent."""
        return _integer(self.values, key, default, least, most)

    def number(self, key: str, default: float) -> float:
        """The number between 0 and 1 at *key*; *default* where the file is silent."""
        value = self.values.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
            raise BadFile(f"config.json: {key} must be a number from 0 to 1, not {value!r:.40}")
        return float(value)

    def choice(self, key: str, default: str, choices: Collection[str]) -> str:
        """One of *choices* at *key*; *default* where the file is silent.

        Raises:
            UnsupportedModel: It is something else; the message lists the choices.
        """
        value = self.values.get(key, default)
        if not isinstance(value, str) or value not in choices:
            raise UnsupportedModel(
                f"config.json: {key} is {value!r:.40}; supported: {', '.join(sorted(choices))}"
            )
        return value


def _integer(values: Mapping[str, Any], key: str, default: int, least: int, most: int) -> int:
    value = values.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadFile(
            f"config.json: {key} must be a whole number from {least} to {most:,}, not {value!r:.40}"
        )
    return value


def _names(values: Mapping[str, Any]) -> dict[int, str] | None:
    """``id2label``, its keys as numbers: "0", but also "00", as transformers reads them."""
    named = values.get("id2label")
    if named is None:
        return None
    if not isinstance(named, dict) or len(named) > _MAX_LABELS:
        raise BadFile("config.json: id2label must map class numbers to labels")
    try:
        return {int(number): _label(label) for number, label in named.items()}
    except ValueError:
        raise BadFile("config.json: the keys of id2label must be the numbers of classes") from None


def _label(label: object) -> str:
    if not isinstance(label, str | int | float) or isinstance(label, bool):
        raise BadFile(f"config.json: a label in id2label must be text, not {label!r:.40}")
    return without_halves(str(label))
