"""A SentencePiece model file -> the Rust tokenizer that transformers makes of it.

The file is a protobuf message, ``ModelProto`` of ``sentencepiece_model.proto``, whose field numbers
never change. The few fields that count in transformers are read by hand; decision 16 says which.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from labelwise.engine.files import read_file
from labelwise.engine.tokenizer import bounds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

# Where there are several, transformers reads the first of these.
NAMES = ("tokenizer.model", "sentencepiece.bpe.model", "spiece.model", "spm.model")

_MAX_BYTES = 20 * 2**20  # enough for 900,000 pieces
_UNIGRAM, _BPE = 1, 2  # TrainerSpec.ModelType
_NOT_READ = {3: "WORD", 4: "CHAR"}
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4  # SentencePiece.Type
_UNKNOWN = 3  # the id of what is not in the vocabulary, in every vocabulary that is made here


@dataclass(slots=True)
class Model:
    """The content of a SentencePiece model file, as far as it counts."""

    pieces: list[tuple[str, float]] = field(default_factory=list)  # each with its score
    types: list[int] = field(default_factory=list)  # of the pieces
    model_type: int = _UNIGRAM
    byte_fallback: bool = False
    charsmap: bytes = b""  # the rules of normalization, compiled

    def symbols(self) -> list[str]:
        """The pieces that are looked for in a text before it is cut into pieces."""
        return [
            piece
            for (piece, _), type_ in zip(self.pieces, self.types, strict=True)
            if type_ in (_CONTROL, _USER_DEFINED)
        ]


def read_model(path: Path) -> Model:
    """The SentencePiece model in a file.

    Raises:
        BadFile: The file cannot be read.
        ValueError: It holds no SentencePiece model, or one of a kind that is not read here.
    """
    model = Model()
    for number, value in _fields(read_file(path, _MAX_BYTES)):
        if number == 1:
            piece, score, type_ = _piece(_message(value))
            model.pieces.append((piece, score))
            model.types.append(type_)
        elif number == 2:
            trainer = _message(value)
            model.model_type = _integer(trainer.get(3, model.model_type))
            model.byte_fallback = bool(_integer(trainer.get(35, model.byte_fallback)))
        elif number == 3:
            charsmap = _message(value).get(2, model.charsmap)
            if isinstance(charsmap, int):
                raise _no_model()
            model.charsmap = charsmap
    if not model.pieces:
        raise _no_model()
    if model.model_type not in (_UNIGRAM, _BPE):
        kind = _NOT_READ.get(model.model_type, f"number {model.model_type}")
        raise ValueError(f"it is a SentencePiece model of type {kind}; UNIGRAM and BPE are read")
    bounds.check_pieces(piece for piece, _ in model.pieces)
    if model.charsmap:
        bounds.check_charsmap(model.charsmap)
    return model


def xlm_roberta(model: Model, special: Mapping[str, str]) -> models.Model:
    """The model of XLM-RoBERTa: its ids begin with four special tokens in the order of fairseq.

    transformers does not ask for the type of the model: pieces of BPE too are chosen by the sum of
    their scores.
    """
    first = [(special[name], 0.0) for name in ("bos_token", "pad_token", "eos_token", "unk_token")]
    return models.Unigram([*first, *model.pieces[3:], (special["mask_token"], 0.0)], _UNKNOWN)


def camembert(model: Model, special: Mapping[str, str]) -> models.Model:
    """The model of CamemBERT: five ids of fairseq stand before those of the file."""
    first = [
        ("<s>NOTUSED", 0.0),
        (special["pad_token"], 0.0),
        ("</s>NOTUSED", 0.0),
        (special["unk_token"], 0.0),
        ("<unk>NOTUSED", -100.0),
    ]
    pieces = [*first, *model.pieces[1:], (special["mask_token"], 0.0)]
    if model.model_type == _UNIGRAM:
        return models.Unigram(pieces, _UNKNOWN)
    normal = {
        piece: score
        for (piece, score), type_ in zip(model.pieces[1:], model.types[1:], strict=True)
        if type_ == _NORMAL
    }
    return models.BPE(
        {piece: number for number, (piece, _) in enumerate(pieces)},
        _merges(normal),
        unk_token=special["unk_token"],
        fuse_unk=True,
        byte_fallback=model.byte_fallback,
    )


def assembled(
    cutter: models.Model, charsmap: bytes, *, add_prefix_space: bool
) -> tokenizers.Tokenizer:
    """*cutter* behind the normalization and the cuts at spaces that transformers has for both."""
    rust = tokenizers.Tokenizer(cutter)
    if charsmap:
        rust.normalizer = normalizers.Precompiled(charsmap)
    scheme = "always" if add_prefix_space else "never"
    rust.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme=scheme)]
    )
    return rust


def _merges(scores: Mapping[str, float]) -> Sequence[tuple[str, str]]:
    """The pairs that make a piece of *scores*, the best piece first."""
    return [
        (piece[:at], piece[at:])
        for piece in sorted(scores, key=lambda piece: -scores[piece])
        for at in range(1, len(piece))
        if piece[:at] in scores and piece[at:] in scores
    ]


def _piece(fields: Mapping[int, int | bytes]) -> tuple[str, float, int]:
    """Text, score and type of a piece."""
    text, score = fields.get(1, b""), fields.get(2, b"\0\0\0\0")
    if isinstance(text, int) or isinstance(score, int) or len(score) != 4:
        raise _no_model()
    (number,) = struct.unpack("<f", score)
    if not math.isfinite(number):
        raise ValueError(f"it has a piece whose score is {number}")
    try:
        piece = text.decode()
    except UnicodeDecodeError:
        piece = ""
    if not piece:
        raise ValueError("it has a piece that is no text")
    return piece, number, _integer(fields.get(3, _NORMAL))


def _message(value: int | bytes) -> dict[int, int | bytes]:
    """The fields of the message that a field holds; of two with a number, the last counts."""
    if isinstance(value, int):
        raise _no_model()
    return dict(_fields(value))


def _integer(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise _no_model()
    return value


def _no_model() -> ValueError:
    return ValueError("it holds no SentencePiece model")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The number and the value of each field of a protobuf message.

    Whole numbers are ints; texts, messages and numbers of a fixed size are their bytes.
    """
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            number, at = _varint(message, at)
            yield key >> 3, number
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise _no_model()
        if size > end - at:
            raise ValueError("it ends too early")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The whole number at *at*, and where it ends."""
    number = message[at] if at < len(message) else 128
    if number < 128:  # most are
        return number, at + 1
    number = shift = 0
    for place in range(at, min(at + 10, len(message))):
        byte = message[place]
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place + 1
        shift += 7
    raise ValueError("it ends too early")
