"""Model folders that a stranger may have made: sound ones, damaged at random from a seed.

    python tests/hostile.py FIRST COUNT FOLDER

opens so many of them in this process and prints each seed before, so that its caller can tell
which one ended the process. A folder is read, or refused with an error of Labelwise; anything else
is a line that begins with FAULT.
"""

from __future__ import annotations

import base64
import faulthandler
import json
import random
import resource
import shutil
import struct
import sys
import time
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import sentencepiece_model
import test_pickled
from labelwise import Classifier
from labelwise.errors import LabelwiseError
from padded import config, random_weights, write_model, write_tokenizer

MAX_SECONDS = 5
MAX_MEGABYTES = 500
TEXTS = ["", "w9 w10", "good films", "É ﷺ " * 20, "a" * 3000, ("w9", "bad  film\n\x00")]
TEXTS += ["<mask> [SEP]</s>" * 50, "中 x" * 300]
SIZES = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
SIZES |= {"num_hidden_layers": 2, "vocab_size": 300, "max_position_embeddings": 40}
ODD = [None, True, -1, 0, 2**31, 2**63, 10**30, 1e308, "", "x", "\x00", "\u202e", [], {}, [[]]]
ODD += ["x" * 100_000, ["x"] * 10_000, {"type": "Sequence"}, "([a-z]+)*", "ByteLevel"]

# Sound folders.


def charsmap() -> str:
    """Rules of normalization, in base64."""
    rules = sentencepiece_model.charsmap({"G": "g", "-": " "})
    return base64.b64encode(rules).decode()


def word_piece(folder: Path) -> None:
    """A vocabulary and nothing else."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "##s", "a", "##a"]
    (folder / "vocab.txt").write_text("\n".join(words))


def unigram(folder: Path) -> None:
    """Pieces with rules of normalization, a pattern and special tokens."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁good", "▁w9", "a", "aa", "film", "s"]
    rust = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], 3))
    rust.normalizer = normalizers.Sequence(
        [normalizers.Replace("a", "b"), normalizers.NFKC(), normalizers.Prepend("▁")]
    )
    rust.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    framed(rust)
    content = json.loads(rust.to_str())
    rules = {"type": "Precompiled", "precompiled_charsmap": charsmap()}
    content["normalizer"]["normalizers"].append(rules)
    (folder / "tokenizer.json").write_text(json.dumps(content))


def byte_level(folder: Path) -> None:
    """Pairs of bytes, behind a pattern."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<s>", "<pad>", "</s>", "<unk>", *letters, "ba"]
    rust = Tokenizer(models.BPE({w: n for n, w in enumerate(words)}, [("b", "a")]))
    rust.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("x", "isolated"), pre_tokenizers.ByteLevel()]
    )
    framed(rust)
    rust.add_tokens(["new one"])
    rust.save(str(folder / "tokenizer.json"))


def framed(rust: Tokenizer) -> None:
    """Put special tokens around each text."""
    rust.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )


def pieces(folder: Path) -> None:
    """A SentencePiece model."""
    rules = sentencepiece_model.charsmap({"G": "g", "-": " "})
    content = sentencepiece_model.model(["▁good", "a", "▁", ("film", -2.0)], charsmap=rules)
    (folder / "sentencepiece.bpe.model").write_bytes(content)


def words(folder: Path) -> None:
    """Whole words in ``tokenizer.json``."""
    write_tokenizer(folder, config("bert", **SIZES))


def pickled(folder: Path, chance: random.Random) -> None:
    """The weights as torch would save them, in one of its formats."""
    weights = random_weights(config("bert", **SIZES))
    (folder / "model.safetensors").unlink()
    tensors = {}
    for key, (name, array) in enumerate(weights.items()):
        shape = array.shape
        strides = (shape[1], 1) if len(shape) == 2 else (1,)
        stored = test_pickled.storage(str(key), array.size)
        tensors[name] = test_pickled.tensor(shape, strides, 0, stored)
    storages = {str(key): array for key, array in enumerate(weights.values())}
    wrap = chance.choice(list(test_pickled.WRITERS.values()))
    content = wrap(test_pickled.state(**tensors), storages)
    (folder / "pytorch_model.bin").write_bytes(content)


TOKENIZERS = {
    "bert": [words, word_piece],
    "roberta": [unigram, byte_level],
    "xlm-roberta": [unigram, pieces],
    "camembert": [pieces],
}


def build(folder: Path, chance: random.Random) -> None:
    """A sound folder."""
    kind = chance.choice(list(TOKENIZERS))
    write_model(folder, config(kind, **SIZES))
    tokenizer = chance.choice(TOKENIZERS[kind])
    tokenizer(folder)
    settings = folder / "tokenizer_config.json"
    if not settings.exists():
        generic = {"tokenizer_class": "PreTrainedTokenizerFast"} if tokenizer is unigram else {}
        settings.write_text(json.dumps({"model_max_length": 38} | generic))
    if kind == "bert" and chance.random() < 0.5:
        pickled(folder, chance)


# Damage.


def damage(folder: Path, chance: random.Random) -> None:
    """Change a file of *folder*, or two."""
    if (folder / "tokenizer.json").exists() and chance.random() < 0.4:
        invent(folder / "tokenizer.json", chance)
        return
    for _ in range(chance.choice([1, 1, 1, 2])):
        path = chance.choice(sorted(folder.iterdir()))
        content = path.read_bytes()
        how = {".json": with_value, ".safetensors": with_header}.get(path.suffix, noisy)
        try:
            content = (how if chance.random() < 0.9 else noisy)(content, chance)
        except (ValueError, struct.error):  # it is damaged already
            content = noisy(content, chance)
        path.write_bytes(content)


def invent(path: Path, chance: random.Random) -> None:
    """Give a tokenizer parts that are put together at random."""
    content = json.loads(path.read_bytes())
    kinds = {"normalizer": NORMALIZERS, "pre_tokenizer": PRE_TOKENIZERS}
    for part in chance.sample(list(kinds), chance.choice([1, 2])):
        steps = [step(chance.choice(kinds[part]), chance) for _ in range(chance.randint(1, 6))]
        inner = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers"}[part]
        content[part] = {"type": "Sequence", inner: steps}
    if content["model"]["type"] == "BPE" and chance.random() < 0.5:
        content["model"] |= {key: chance.choice(VALUES) for key in ("unk_token", "fuse_unk")}
    path.write_text(json.dumps(content))


VALUES = ["", "a", "aa", "▁", " ", "\x00", "é", "x" * 50, 0, 1, -1, 2**31, 10**9, True, False, None]
PATTERNS = [{"String": each} for each in ("", "a", " ", "aa")]
PATTERNS += [{"Regex": each} for each in ("", ".", "a*", " {2,}", "^", "$", r"\b", "(?=a)", "[^a]")]
PATTERNS += [{"Regex": each} for each in ("(", "a{0,99999}", r"(a)\1", "(?<=a|bb)c", r"\p{L}+|\s+")]
NORMALIZERS = ["NFC", "NFKD", "Lowercase", "Strip", "StripAccents", "Nmt", "BertNormalizer"]
NORMALIZERS += ["Replace", "Replace", "Prepend", "ByteLevel", "Precompiled"]
PRE_TOKENIZERS = ["BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Metaspace", "Whitespace"]
PRE_TOKENIZERS += ["Split", "Punctuation", "WhitespaceSplit", "Digits", "UnicodeScripts"]
PRE_TOKENIZERS += ["FixedLength"]
KEYS = {
    "Strip": {"strip_left": [True], "strip_right": [False]},
    "BertNormalizer": {
        key: [True, False]
        for key in ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
    },
    "Replace": {"pattern": PATTERNS, "content": VALUES},
    "Prepend": {"prepend": VALUES},
    "Precompiled": {"precompiled_charsmap": [charsmap()]},
    "ByteLevel": {"add_prefix_space": [True], "trim_offsets": [True], "use_regex": [True, False]},
    "CharDelimiterSplit": {"delimiter": VALUES},
    "Metaspace": {"replacement": ["▁", "a", ""], "prepend_scheme": ["always"], "split": [True]},
    "Split": {
        "pattern": PATTERNS,
        "behavior": ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"],
        "invert": [True, False],
    },
    "Punctuation": {"behavior": ["Isolated"]},
    "Digits": {"individual_digits": [True]},
    "FixedLength": {"length": [0, 1, 5, -1, 10**9, 2**64]},
}


def step(kind: str, chance: random.Random) -> dict[str, object]:
    """A step of a tokenizer with values at random, most of them possible."""
    values = {key: chance.choice(choices) for key, choices in KEYS.get(kind, {}).items()}
    return {"type": kind} | values


def with_value(content: bytes, chance: random.Random) -> bytes:
    """JSON with another value somewhere."""
    return json.dumps(changed(json.loads(content), chance, top=True)).encode()


def changed(value: object, chance: random.Random, *, top: bool = False) -> object:
    """A value of JSON with a change somewhere in it."""
    if isinstance(value, dict | list) and value and (top or chance.random() < 0.9):
        keys = list(value) if isinstance(value, dict) else range(min(len(value), 50))
        key = chance.choice(keys)
        value[key] = changed(value[key], chance)
        if chance.random() < 0.1:
            del value[key]
        return value
    return chance.choice([more, nested, lambda *_: chance.choice(ODD)])(value, chance)


def more(value: object, chance: random.Random) -> object:
    """A value several times, or another number."""
    if isinstance(value, list | str):
        return value * chance.choice([2, 50, 1000])
    if isinstance(value, int | float):
        return value * chance.choice([-1, 2, 1000, 10**9]) + chance.choice([0, 1, -1])
    return [value]


def nested(value: object, chance: random.Random) -> object:
    """A value in lists, or in sequences of steps."""
    inner = chance.choice(["normalizers", "pretokenizers", "processors"])
    steps = isinstance(value, dict) and "type" in value
    for _ in range(chance.choice([1, 3, 10, 90])):
        value = {"type": "Sequence", inner: [value]} if steps else [value]
    return value


def with_header(content: bytes, chance: random.Random) -> bytes:
    """A file of safetensors with another header."""
    (size,) = struct.unpack("<Q", content[:8])
    header = json.dumps(changed(json.loads(content[8 : 8 + size]), chance, top=True)).encode()
    said = len(header) if chance.random() < 0.9 else chance.choice([0, 2**63, 10**9])
    return struct.pack("<Q", said) + header + content[8 + size :]


def noisy(content: bytes, chance: random.Random) -> bytes:
    """Bytes of which some are others, or there twice, or missing."""
    changing = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8])):
        at = chance.randrange(len(changing) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            changing[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            changing[at : at + 4] = chance.choice([b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f"])
        elif kind == 2:
            changing[at:at] = changing[at : at + 64] * chance.choice([1, 100])
        elif kind == 3:
            del changing[at : at + chance.choice([1, 4, 1000])]
        elif at < len(changing):
            changing[at] ^= 1 << chance.randrange(8)
    return bytes(changing)


# What becomes of it.


def attempt(folder: Path) -> str:
    """Load *folder* and classify: "read", or the name of the error that refuses it."""
    try:
        classifier = Classifier(folder)
    except LabelwiseError as error:
        return refused(error)
    for text in TEXTS:
        try:
            scores = classifier(text)
        except LabelwiseError as error:
            refused(error)
        else:
            assert np.isfinite([score.score for score in scores]).all()
    return "read"


def refused(error: LabelwiseError) -> str:
    """The name of an *error*, which has to be one line."""
    assert str(error).isprintable()
    return type(error).__name__


def main(first: int, count: int, place: Path) -> None:
    """Try so many seeds, from *first* on."""
    resource.setrlimit(resource.RLIMIT_DATA, (8 * 2**30, 8 * 2**30))
    for seed in range(first, first + count):
        chance = random.Random(seed)  # noqa: S311
        folder = place / str(seed)
        build(folder, chance)
        damage(folder, chance)
        print("seed", seed, flush=True)  # noqa: T201
        faulthandler.dump_traceback_later(4 * MAX_SECONDS, exit=True)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        outcome = "FAULT"
        try:
            outcome = attempt(folder)
        except BaseException as error:  # noqa: BLE001 - any is a fault
            outcome = f"FAULT {type(error).__name__}: {str(error)[:200]!r}"
        seconds = time.perf_counter() - began
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) // 1024
        if seconds > MAX_SECONDS or grown > MAX_MEGABYTES:
            outcome = f"FAULT {seconds:.1f} s, {grown} MB, {outcome}"
        print(outcome, flush=True)  # noqa: T201
        faulthandler.cancel_dump_traceback_later()
        if "FAULT" not in outcome:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
