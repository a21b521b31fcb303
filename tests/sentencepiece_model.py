"""SentencePiece model files, written by hand: the field numbers are those of ModelProto.

(tmp_path / "spiece.model").write_bytes(model(["▁good", ("film", -2.0)], model_type=BPE))
"""

import struct

UNIGRAM, BPE, WORD, CHAR = 1, 2, 3, 4
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
FIRST = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]


def varint(number):
    """A whole number, as protobuf writes it."""
    more = bytearray()
    while number > 127:
        more.append(number & 127 | 128)
        number >>= 7
    return bytes([*more, number])


def field(number, value):
    """A field: a whole number, a float of 32 bits, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def piece(text, score=-1.0, type_=NORMAL):
    """A piece, as a field of the model."""
    content = text if isinstance(text, bytes) else text.encode()
    kind = b"" if type_ == NORMAL else field(3, type_)  # the default is left out
    return field(1, field(1, content) + field(2, score) + kind)


def model(pieces, *, model_type=UNIGRAM, charsmap=b"", byte_fallback=False, first=FIRST):
    """A model of *first* and *pieces*, each a text or the arguments of `piece`."""
    parts = [each if isinstance(each, tuple) else (each,) for each in (*first, *pieces)]
    trainer = field(3, model_type) + field(35, int(byte_fallback)) + field(40, 0)
    rules = field(1, b"rules") + field(2, charsmap) + field(3, 1)
    return b"".join(piece(*part) for part in parts) + field(2, trainer) + field(3, rules)


def charsmap(rules):
    """Rules of normalization, compiled: ASCII letters to texts.

    A double array of Darts: a step goes from a place to the one that differs from it by the offset
    and the letter. Letters stand from 256, and the place of a letter's text from 512.
    """
    units, texts = [0] * 768, b""
    units[0] = 256 << 10
    for letter, text in rules.items():
        units[256 + ord(letter)] = 768 << 10 | 1 << 8 | ord(letter)
        units[512 + ord(letter)] = len(texts)
        texts += text.encode() + b"\0"
    return struct.pack("<I768I", 768 * 4, *units) + texts
