"""The front matter of a model's README.md: its licence, languages, tags and the like."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from labelwise.errors import FileChanged
from labelwise.models.locate import README

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labelwise.models.files import Files

_MAX_BYTES = 65_536  # of the file; what comes after is not read
_MAX_CHARACTERS = 200  # of a value
_MAX_VALUES = 100  # of a list
_FENCE = "---"
# The keys that are taken. Others ask for more than texts, or mean nothing to those who list models.
_KEYS = (
    "base_model",
    "datasets",
    "language",
    "library_name",
    "license",
    "license_link",
    "license_name",
    "metrics",
    "pipeline_tag",
    "tags",
)


@dataclass(frozen=True, slots=True, eq=False)
class Card:
    """The texts and lists of texts of a front matter, by their keys."""

    values: Mapping[str, str | Sequence[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, files: Files) -> Card:
        """The card of *files*; an empty one where there is none, or none that can be read."""
        file = files.get(README)
        if file is None:
            return cls()
        try:
            text = file.read(0, _MAX_BYTES).decode(errors="replace")
        except (OSError, FileChanged):
            return cls()
        return cls(_values(_front_matter(text)))

    def texts(self, key: str) -> Sequence[str]:
        """The values of *key*, as a list."""
        found = self.values.get(key, ())
        return (found,) if isinstance(found, str) else found

    def text(self, key: str) -> str | None:
        """The first value of *key*; None where there is none."""
        return next(iter(self.texts(key)), None)


def _front_matter(text: str) -> str:
    """The lines between the first two fences; empty where *text* does not begin with one."""
    first, *lines = text.removeprefix("\ufeff").split("\n")
    ends = [number for number, line in enumerate(lines) if line.rstrip() == _FENCE]
    return "\n".join(lines[: ends[0]]) if first.rstrip() == _FENCE and ends else ""


def _values(text: str) -> dict[str, str | list[str]]:
    """The values of the *text* of a front matter that are taken.

    YAML is read into nodes, and no further: there nothing is built that aliases and merges of a few
    lines could make endless, and a text stays what it is, also where it looks like a number.
    """
    yaml = import_module("yaml")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    if not isinstance(root, yaml.MappingNode):
        return {}
    pairs = [(key.value, value) for key, value in root.value if isinstance(key, yaml.ScalarNode)]
    found = {key: _value(yaml, node) for key, node in pairs if key in _KEYS}
    return {key: value for key, value in found.items() if value}


def _value(yaml: Any, node: Any) -> str | list[str]:
    """The text of a *node*, or the texts of a list; empty where it is something else."""
    if isinstance(node, yaml.ScalarNode):
        return _text(node.value)
    if not isinstance(node, yaml.SequenceNode):
        return []
    found = [_text(one.value) for one in node.value if isinstance(one, yaml.ScalarNode)]
    return [text for text in found if text][:_MAX_VALUES]


def _text(value: str) -> str:
    """*value*, if it is short and can be printed; else nothing."""
    return value if value.isprintable() and len(value) <= _MAX_CHARACTERS else ""
