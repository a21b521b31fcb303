"""The weights of a model folder: safetensors before pickle, one file or shards, read one by one."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from os import fstat
from os.path import commonprefix
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from safetensors import safe_open

from labelwise.engine.checkpoint.pickle_machine import MAX_AXES, quoted
from labelwise.engine.checkpoint.pickled import pickled_tensors
from labelwise.engine.checkpoint.stored import (
    WEIGHT_TYPES,
    TensorLocation,
    bytes_of,
    contiguous_strides,
    read,
    widened,
)
from labelwise.engine.files import exists, open_file, read_file
from labelwise.engine.folder import WEIGHTS, check_weights, missing_weight, no_weights, other_type
from labelwise.engine.nesting import check_depth
from labelwise.errors import BadFile, LabelwiseError, MissingWeight

if TYPE_CHECKING:
    import numpy as np

INDEX = ".index.json"  # what stands behind the name of weights that are in parts
MAX_INDEX_BYTES = 32 * 2**20
MAX_HEADER_BYTES = 8 * 2**20  # some fifty thousand tensors; models have hundreds
MAX_NAME_BYTES = 255  # of a file, on every system
# Tensors of a pickle may share numbers: layers that are one layer, a table that is also a head.
# Each is a weight of its own here; all that are used take this many times the files at most.
MAX_SHARED = 4
# What other programs put before the names of all weights: torch's DataParallel and compile, and
# those who keep the model as a part of their own.
_WRAPPERS = re.compile(r"(?:(?:module|_orig_mod|model)\.)*")

TensorsOf = Callable[[BinaryIO], dict[str, TensorLocation]]


@dataclass(frozen=True, slots=True)
class _Weight:
    """A tensor, the file that holds it, and that file's path for errors."""

    stored: TensorLocation
    file: BinaryIO
    path: Path


class Checkpoint:
    """The weights of one model folder, read one at a time.

    A checkpoint is its open files, the weights in them by name, and the names already taken.
    Names are as today's transformers spells them: without the `module.`, `_orig_mod.` or `model.`
    that all may begin with, and with `weight` and `bias` where old files say `gamma` and `beta`.
    The part before the first dot that all weights but the head's share, such as `bert`, may be
    missing in the file, or be there for the head's too.
    """

    def __init__(
        self, folder: Path, base: str, weights: dict[str, _Weight], files: ExitStack
    ) -> None:
        self._folder = folder
        self._base = f"{base}."
        self._weights = weights
        self._files = files
        self._taken: set[str] = set()
        stats = [fstat(file) for file in {weight.file.fileno() for weight in weights.values()}]
        sizes = {(stat.st_dev, stat.st_ino): stat.st_size for stat in stats}  # a link adds nothing
        self._left = MAX_SHARED * sum(sizes.values())  # bytes that may still be taken

    @classmethod
    def open(cls, folder: Path, base: str = "") -> Checkpoint:
        """The checkpoint in *folder*: `model.safetensors`, else its index, else the same of
        `pytorch_model.bin`. Reads where the weights are, not the weights. *base* is what the names
        of all weights but the head's begin with.

        BadFile when there is none, or when a file of it is missing, broken or hostile;
        UnsupportedModel when the weights hold an adapter that is not merged.
        """
        with ExitStack() as files:
            weights = _weights(folder, files)
            check_weights(folder, weights)
            return cls(folder, base, weights, files.pop_all())

    def __repr__(self) -> str:
        return f"<Checkpoint [{len(self._weights)} weights, {len(self._taken)} taken]>"

    def __contains__(self, name: str) -> bool:
        return bool(self._spellings(name))

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the weight *name*; MissingWeight when there is none."""
        return self._find(name).stored.shape

    def parameters(self) -> dict[str, int]:
        """The count of all numbers, by the type that they are stored as."""
        counts: Counter[str] = Counter()
        for weight in self._weights.values():
            counts[weight.stored.dtype] += prod(weight.stored.shape)
        return dict(counts)

    def rows(self, name: str) -> int:
        """The number of rows of the weight *name*; MissingWeight when there is none."""
        return next(iter(self.shape(name)), 0)

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The weight *name* as a fresh C-contiguous float32 array, now counted as used.

        MissingWeight when there is none; BadFile when its shape is not *shape*, when its type
        is not a weight's (F16, BF16, F32 or F64), or when it cannot be read.
        """
        return self._take(name, shape, stays=())

    def take_stored(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """As `take`, but a weight stored in float16 stays so."""
        return self._take(name, shape, stays=("F16",))

    def unused(self) -> list[str]:
        """The names of the weights never taken, sorted."""
        return sorted(self._weights.keys() - self._taken)

    def close(self) -> None:
        """Close the files; nothing can be taken any more."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find(self, name: str) -> _Weight:
        found = self._spellings(name)
        if not found:
            raise MissingWeight(
                f"{self._folder} has no weight {name} among its {len(self._weights)}. "
                f"{missing_weight(name, self._weights)}"
            )
        first, *others = (self._weights[spelt] for spelt in found)
        if any(other != first for other in others):  # else one tensor of a pickle, named twice
            raise BadFile(
                f"{first.path} holds {' and '.join(found)}, and either may be meant. "
                "Keep the right one"
            )
        return first

    def _spellings(self, name: str) -> list[str]:
        """The names of the weight *name* in this folder: with the base before it, or without."""
        if name.startswith(self._base):
            names = [name, name.removeprefix(self._base)]
        else:
            names = [name, self._base + name]
        return [spelt for spelt in names if spelt in self._weights]

    def _take(self, name: str, shape: tuple[int, ...], stays: tuple[str, ...]) -> np.ndarray:
        weight = self._find(name)
        stored = weight.stored
        if stored.shape != tuple(shape):
            raise BadFile(
                f"{weight.path}: the weight {name} has shape {stored.shape}, and config.json "
                f"asks for {tuple(shape)}. Check that both belong to the same model"
            )
        if stored.dtype not in WEIGHT_TYPES:
            raise BadFile(
                f"{weight.path}: the weight {name} is stored as {stored.dtype}, not as one of "
                f"{', '.join(WEIGHT_TYPES)}. {other_type(self._weights)}"
            )
        if name not in self._taken:
            self._left -= bytes_of(stored)
        if self._left < 0:
            raise BadFile(
                f"{weight.path}: its weights share their numbers, and take more than {MAX_SHARED} "
                "times its size. Save the model again with each weight by itself"
            )
        with _reading(weight.path):
            array = read(weight.file, stored)
        self._taken.update(self._spellings(name))
        return array if stored.dtype in stays else widened(array, stored.dtype)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside becomes one BadFile that names the file and the reason."""
    try:
        yield
    except LabelwiseError:
        raise
    except OSError as error:
        reason = error.strerror or _reason(error)
        raise BadFile(
            f"{path} cannot be read: {reason}. Check that it is there and its permissions"
        ) from error
    except Exception as error:
        raise BadFile(
            f"{path} cannot be used: {_reason(error)}. "
            "Download the model again from a source you trust"
        ) from error


def _reason(error: Exception) -> str:
    """The message of *error*, or its name where it has none."""
    return str(error)[:300] or type(error).__name__


def _weights(folder: Path, files: ExitStack) -> dict[str, _Weight]:
    """The weights of *folder* by today's names, their files open and held by *files*."""
    path = weights_path(folder)
    if path is None:
        there = [*folder.glob("*"), *folder.glob("onnx/*")]
        raise no_weights(folder, [str(each.relative_to(folder)) for each in there])
    kinds: dict[str, TensorsOf] = {"safetensors": _safetensors, "bin": pickled_tensors}
    tensors_of = kinds[path.name.removesuffix(INDEX).rpartition(".")[2]]
    opened = _open_shards if path.name.endswith(INDEX) else _open
    return _renamed(opened(path, tensors_of, files))


def weights_path(folder: Path) -> Path | None:
    """The file that decides what the weights of *folder* are: they, or an index of their parts."""
    paths = [folder / f"{name}{ending}" for name in WEIGHTS for ending in ("", INDEX)]
    return next((path for path in paths if exists(path)), None)


def weight_files(folder: Path) -> list[Path]:
    """The files that the weights of *folder* are read from: an index, and the parts that it names.

    Raises:
        BadFile: The index cannot be read.
    """
    path = weights_path(folder)
    if path is None:
        return []
    if not path.name.endswith(INDEX):
        return [path]
    return [path, *(path.with_name(shard) for shard in sorted(set(read_index(path).values())))]


def _open(path: Path, tensors_of: TensorsOf, files: ExitStack) -> dict[str, _Weight]:
    """The weights of one file, as it names them."""
    with _reading(path):
        file = files.enter_context(open_file(path))
        tensors = tensors_of(file)
    return {name: _Weight(stored, file, path) for name, stored in tensors.items()}


def _safetensors(file: BinaryIO) -> dict[str, TensorLocation]:
    """The tensors of a safetensors file, by name.

    The library judges the file: lengths, types, spans that overlap, leave holes or leave the
    file. The numbers are then read at the offsets it approved, since it cannot give bfloat16 to
    numpy and copies the other types through a slower buffer.
    """
    header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise ValueError(f"its header is longer than {MAX_HEADER_BYTES:,} bytes")
    with safe_open(file.name, framework="numpy"):
        pass
    header = _object(file.read(header_bytes))
    header.pop("__metadata__", None)
    return {name: _entry(name, entry, 8 + header_bytes) for name, entry in header.items()}


def _entry(name: str, entry: dict[str, Any], data_start: int) -> TensorLocation:
    shape = tuple(entry["shape"])
    if len(shape) > MAX_AXES:
        raise ValueError(f"its tensor {quoted(name)} has more than {MAX_AXES} axes")
    begin = data_start + entry["data_offsets"][0]
    return TensorLocation(entry["dtype"], shape, contiguous_strides(shape), begin)


def _open_shards(index: Path, tensors_of: TensorsOf, files: ExitStack) -> dict[str, _Weight]:
    """The weights that *index* lists, as it names them, from the shards beside it."""
    weight_map = read_index(index)
    shards: dict[str, dict[str, _Weight]] = {}
    for shard in sorted(set(weight_map.values())):
        path = index.with_name(shard)
        if not exists(path):
            raise BadFile(f"{index} names {shard}, which is not there. Download it too")
        shards[shard] = _open(path, tensors_of, files)
    for name, shard in weight_map.items():
        if name not in shards[shard]:
            raise BadFile(f"{index} places {name!r} in {shard}, which has no such weight")
    return {name: shards[shard][name] for name, shard in weight_map.items()}


def read_index(index: Path) -> dict[str, str]:
    """Weight name -> the file that holds it, which can only be one of the index's own folder.

    The names are safe to look up there, and to ask the Hub for, which takes them for patterns.

    Raises:
        BadFile: The index cannot be read, names nothing, or names anything else.
    """
    with _reading(index):
        content = _object(read_file(index, MAX_INDEX_BYTES))
        weight_map = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(weight_map, dict) or not weight_map:
            raise ValueError('it has no "weight_map" object')
        for shard in weight_map.values():
            if not isinstance(shard, str) or not _is_plain(shard):
                raise ValueError(f"it names {str(shard)[:80]!r}, which is not a file of its folder")
        return weight_map


def _is_plain(name: str) -> bool:
    """Whether *name* can only be a file of the folder it is looked up in, on any system."""
    return (
        name not in {"", ".", ".."}
        and PureWindowsPath(name).name == name
        and name.isprintable()
        and not any(letter in name for letter in "*?[")
        and len(name.encode()) <= MAX_NAME_BYTES
    )


def _object(content: bytes) -> Any:
    """The value of *content*, which is JSON; ValueError when it is not, or has a key twice."""
    check_depth(content)
    return json.loads(content, object_pairs_hook=_each_once)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError when it has a key twice."""
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("its JSON has the same key twice")
    return content


def _renamed(weights: dict[str, _Weight]) -> dict[str, _Weight]:
    """The same weights under today's names; BadFile when two of them come to share one."""
    shared = commonprefix(list(weights))  # noqa: RUF071 - of letters; these are no paths
    wrapper = _WRAPPERS.match(shared)
    begin = wrapper.end() if wrapper else 0
    renamed: dict[str, _Weight] = {}
    for old, weight in weights.items():
        name = _todays_name(old[begin:])
        if name in renamed:
            raise BadFile(f"{weight.path} holds two weights that are both called {name!r}")
        renamed[name] = weight
    return renamed


def _todays_name(name: str) -> str:
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return name
