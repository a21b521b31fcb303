"""``config.json``: what the engine reads of it, checked, and nothing else.

Unknown keys are ignored, whatever they ask for: ``auto_map``, ``_attn_implementation``.
A value of the wrong kind stops the load with its key.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labelwise.errors import BadFile, UnsupportedModel

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
_MOST_BYTES = 8_000_000
_MOST_LABELS = 100_000


@dataclass(frozen=True, slots=True)
class Config:
    """The checked part of a ``config.json``, and typed access to the architecture's own keys."""

    model_type: str
    labels: tuple[str, ...]  # by class number
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
        return cls(model_type, _labels(values), problem_type, values)

    def integer(self, key: str, default: int, *, least: int = 1, most: int = 100_000_000) -> int:
        """The whole number at *key*, from *least* to *most*; *default* where the file is silent."""
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise BadFile(
                f"config.json: {key} must be a whole number from {least} to {most:,}, "
                f"not {value!r:.40}"
            )
        return value

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
        if value not in choices:
            raise UnsupportedModel(
                f"config.json: {key} is {value!r:.40}; supported: {', '.join(sorted(choices))}"
            )
        return str(value)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in the file *path*.

    Raises:
        BadFile: The file is missing, unreadable, larger than 8 MB, or not a JSON object.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BadFile(
                f"{path.name} is larger than {_MOST_BYTES:,} bytes; that is no {path.name}"
            )
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BadFile(f"{path} is missing; a model folder needs it") from None
    except OSError as reason:
        raise BadFile(f"{path} cannot be read: {reason.strerror}") from None
    except (ValueError, RecursionError):
        raise BadFile(f"{path} is not valid JSON") from None
    if not isinstance(value, dict):
        raise BadFile(f"{path} does not hold a JSON object")
    return value


def _labels(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The label of each class: ``id2label``; ``LABEL_0``, ``LABEL_1``, ... where it is absent."""
    named = values.get("id2label")
    if named is None:
        count = values.get("num_labels", 2)
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MOST_LABELS:
            raise BadFile(f"config.json: num_labels must be a whole number to {_MOST_LABELS:,}")
        return tuple(f"LABEL_{number}" for number in range(count))
    if not isinstance(named, dict) or not 1 <= len(named) <= _MOST_LABELS:
        raise BadFile("config.json: id2label must map class numbers to labels")
    try:
        return tuple(str(named[str(number)]) for number in range(len(named)))
    except KeyError as missing:
        raise BadFile(f"config.json: id2label has no label for class {missing.args[0]}") from None
