"""`pytorch_model.bin`: where its tensors lie, found without executing anything in it.

torch.save has written two formats. Since 1.6 it writes a zip file in which a pickle describes
the tensors and each storage is an entry of its own, uncompressed; before, a row of pickles with
the storages, in little-endian bytes, behind them.
"""

from __future__ import annotations

import os
import struct
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from labelwise.engine.checkpoint.pickle_machine import Storage, Tensor, quoted, unpickle
from labelwise.engine.checkpoint.stored import TensorLocation

ZIP_START = b"PK\x03\x04"
# The pickle of torch's magic number, 0x1950a86a20f9469cfc6c, in protocol 2.
OLD_START = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
OLD_PROTOCOL = 1001
MAX_DIRECTORY_BYTES = 4 * 2**20  # forty thousand entries
ZIP_END_BYTES = 2**16 + 22  # comment and record: all that `zipfile` reads without a count

ZIP_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, bytes of name, bytes of extra field
ZIP_ENCRYPTED = 1

ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
ITEM_BYTES |= {"U8": 1, "BOOL": 1}

Places = dict[str, tuple[int, int]]  # storage key -> first byte in the file, bytes


def pickled_tensors(file: BinaryIO) -> dict[str, TensorLocation]:
    """The tensors of a state dict that torch saved, by name, none of their numbers read yet.

    *file* must be a seekable file on disk. ValueError, or what `zipfile` raises, when it is
    not such a file through and through: each tensor is known to lie inside the file.
    """
    start = file.read(len(OLD_START))
    if start.startswith(ZIP_START):
        state, places = _read_zip(file)
    elif start == OLD_START:
        state, places = _read_old(file)
    else:
        raise ValueError("it is in neither of the formats that torch.save writes")
    if type(state) is not dict:
        raise ValueError("it does not hold a state dict")
    return {name: _stored(name, value, places) for name, value in state.items()}


def _stored(name: str, value: Any, places: Places) -> TensorLocation:
    if type(value) is not Tensor:
        raise ValueError(f"its entry {quoted(name)} is not a tensor")
    first, _ = places[value.storage.key]
    offset = value.offset * ITEM_BYTES[value.storage.dtype]
    return TensorLocation(value.storage.dtype, value.shape, value.strides, first + offset)


def _check_places(storages: dict[str, Storage], places: Places) -> None:
    """ValueError unless each storage lies in the file with the length that it claims."""
    for key, storage in storages.items():
        if key not in places:
            raise ValueError(f"it lacks the numbers of storage {quoted(key)}")
        if places[key][1] != storage.length * ITEM_BYTES[storage.dtype]:
            raise ValueError(f"its storage {quoted(key)} has another length than it claims")


# The zip format.


class _BoundedReads:
    """A file of which `zipfile` may not read more than a directory of sensible size at once."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._file = file

    def read(self, count: int = ZIP_END_BYTES) -> bytes:
        if count > MAX_DIRECTORY_BYTES:
            raise ValueError(f"its zip directory is longer than {MAX_DIRECTORY_BYTES} bytes")
        return self._file.read(count)


def _read_zip(file: BinaryIO) -> tuple[Any, Places]:
    """The pickled value of a zip file, and where its storages are."""
    with ZipFile(_BoundedReads(file)) as archive:
        entries = archive.infolist()
    pickles = [e.filename for e in entries if e.filename.count("/") == 1]
    folders = [name.removesuffix("data.pkl") for name in pickles if name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise ValueError("it is a zip file without exactly one data.pkl")
    inside = _entry_places(file, entries, folders[0])
    if "byteorder" in inside and _entry(file, inside["byteorder"], most=16) != b"little":
        raise ValueError("its numbers are not in little-endian byte order")
    storages: dict[str, Storage] = {}
    file.seek(inside["data.pkl"][0])
    state = unpickle(file, storages)
    places = {name[5:]: place for name, place in inside.items() if name.startswith("data/")}
    _check_places(storages, places)
    return state, places


def _entry_places(file: BinaryIO, entries: list[ZipInfo], folder: str) -> Places:
    """The places of the bytes of all entries of *folder*, by their names there."""
    places: Places = {}
    for entry in entries:
        if entry.filename.startswith(folder):
            name = entry.filename.removeprefix(folder)
            if name in places:
                raise ValueError(f"its zip directory names {quoted(name)} twice")
            places[name] = _entry_place(file, entry)
    return places


def _entry_place(file: BinaryIO, entry: ZipInfo) -> tuple[int, int]:
    if entry.compress_type != ZIP_STORED or entry.compress_size != entry.file_size:
        raise ValueError(f"its zip entry {quoted(entry.filename)} is compressed")
    if entry.flag_bits & ZIP_ENCRYPTED:
        raise ValueError(f"its zip entry {quoted(entry.filename)} is encrypted")
    if not 0 <= entry.header_offset <= _size(file) - ZIP_LOCAL_HEADER.size:
        raise ValueError(f"its zip entry {quoted(entry.filename)} is outside the file")
    file.seek(entry.header_offset)
    header = file.read(ZIP_LOCAL_HEADER.size)
    signature, name_bytes, extra_bytes = ZIP_LOCAL_HEADER.unpack(header)
    first = entry.header_offset + ZIP_LOCAL_HEADER.size + name_bytes + extra_bytes
    if signature != ZIP_START or first + entry.file_size > _size(file):
        raise ValueError(f"its zip entry {quoted(entry.filename)} is outside the file")
    return first, entry.file_size


def _entry(file: BinaryIO, place: tuple[int, int], *, most: int) -> bytes:
    file.seek(place[0])
    return file.read(min(place[1], most))


# The older format.


def _read_old(file: BinaryIO) -> tuple[Any, Places]:
    """The pickled value of a row of pickles, and where the storages behind them are."""
    storages: dict[str, Storage] = {}
    if unpickle(file, {}) != OLD_PROTOCOL:
        raise ValueError("it is in an unknown version of torch's older format")
    system = unpickle(file, {})
    if type(system) is not dict or system.get("little_endian") is not True:
        raise ValueError("its numbers are not in little-endian byte order")
    state = unpickle(file, storages)
    keys = unpickle(file, {})
    if type(keys) is not list or any(type(key) is not str for key in keys):
        raise ValueError("its list of storages is not a list of names")
    places = _old_places(file, keys, storages)
    _check_places(storages, places)
    return state, places


def _old_places(file: BinaryIO, keys: list[str], storages: dict[str, Storage]) -> Places:
    """Each storage is its count of elements in eight bytes, then the elements."""
    places: Places = {}
    position = file.tell()
    for key in keys:
        if key not in storages or key in places:
            raise ValueError(f"its storage {quoted(key)} is listed twice or belongs to no tensor")
        file.seek(position)
        if len(count := file.read(8)) < 8:
            raise ValueError("it ends in the middle of its storages")
        size = int.from_bytes(count, "little", signed=True) * ITEM_BYTES[storages[key].dtype]
        if not 0 <= size <= _size(file) - position - 8:
            raise ValueError(f"its storage {quoted(key)} is outside the file")
        places[key] = (position + 8, size)
        position += 8 + size
    return places


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size
