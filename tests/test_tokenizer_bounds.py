"""A tokenizer that could take all memory, or no end of time, is refused before it is built."""

from __future__ import annotations

import base64
import json
import random
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Rust
from tokenizers import models, processors

from labelwise.engine.blocks import MAX_LAYERS
from labelwise.engine.checkpoint.checkpoint import MAX_SHARED
from labelwise.engine.files import MAX_BYTES
from labelwise.engine.tokenizer import bounds
from labelwise.engine.tokenizer.tokenizer import Tokenizer
from labelwise.errors import BadFile
from sentencepiece_model import charsmap, model

GENERIC = {"tokenizer_class": "PreTrainedTokenizerFast"}
WORDS = ["<s>", "</s>", "<unk>", "good", "film", "a", "##a"]


def content(cutter=None):
    """The content of a sound tokenizer.json."""
    words = {word: number for number, word in enumerate(WORDS)}
    rust = Rust(cutter or models.WordPiece(words, unk_token="<unk>"))  # noqa: S106 - no password
    rust.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return json.loads(rust.to_str())


def opened(folder, values):
    written = values if isinstance(values, str) else json.dumps(values)
    (folder / "tokenizer.json").write_text(written)
    (folder / "tokenizer_config.json").write_text(json.dumps(GENERIC))
    return Tokenizer.open(folder, 512, "bert")


def refused(folder, why, capfd, **parts):
    """Opening ends in one line that has *why* in it; nothing else is printed."""
    began = time.perf_counter()
    with pytest.raises(BadFile, match=why) as caught:
        opened(folder, content() | parts)
    assert time.perf_counter() - began < 2
    assert str(caught.value).isprintable()
    assert capfd.readouterr() == ("", "")


def sequence(inner, steps):
    return {"type": "Sequence", inner: steps}


def replace(pattern, text):
    return {"type": "Replace", "pattern": pattern, "content": text}


DOUBLE = replace({"String": "a"}, "aa")
BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False}


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([DOUBLE] * 7, "could make 128 characters of one, more than 64"),
        ([replace({"Regex": "."}, "xxxxx")] * 3, "could make 125 characters of one"),
        ([{"type": "Prepend", "prepend": "x" * 64}], "could make 65 characters of one"),
        ([BYTES] * 4, "could make 256 characters of one"),
        ([{"type": "NFKC"}] * 33, "its normalizer has 33 steps, more than 32"),
        ([replace({"Regex": "a" * 1001}, "x")], "a pattern of 1,001 characters, more than 1000"),
        ([replace({"Regex": r"(a)\1"}, "x")], "calls, conditions or references back"),
        ([replace({"Regex": r"(?<x>a\g<x>?)"}, "x")], "calls, conditions or references back"),
        ([replace({"Regex": "a*"}, "x")], "matches where there is nothing to replace"),
        ([replace({"Regex": "^"}, "x")], "matches where there is nothing to replace"),
        ([replace({"String": ""}, "x")], "matches where there is nothing to replace"),
        ([replace({"Regex": "("}, "x")], "end pattern with unmatched parenthesis"),
        ([replace(3, "x")], "a step without a pattern"),
        ([{"type": "Prepend", "prepend": ""}], "puts nothing before a text"),
        ([{"type": "Prepend"}], "a step whose prepend is no text"),
        ([{"type": "Reverse"}], "its normalizer is of type 'Reverse', which is not read here"),
        ([{"type": []}], "its normalizer is of type"),
        ([3], "its normalizer is no normalizer"),
    ],
    ids=str,
)
def test_a_normalizer_beyond_its_bounds_is_refused(steps, why, tmp_path, capfd):
    refused(tmp_path, why, capfd, normalizer=sequence("normalizers", steps))


def test_growth_counts_through_both_parts(tmp_path, capfd):
    refused(
        tmp_path,
        "its pre_tokenizer could make 128 characters of one",
        capfd,
        normalizer=sequence("normalizers", [DOUBLE] * 5),
        pre_tokenizer=BYTES,
    )


@pytest.mark.parametrize("length", [0, -1, 2**32, "5", None])
def test_a_pre_tokenizer_that_cuts_into_parts_of_no_length_is_refused(length, tmp_path, capfd):
    cut = {"type": "FixedLength", "length": length}
    refused(tmp_path, "it cuts texts into parts of", capfd, pre_tokenizer=cut)


@pytest.mark.parametrize(
    ("part", "inner"),
    [
        ("normalizer", "normalizers"),
        ("pre_tokenizer", "pretokenizers"),
        ("post_processor", "processors"),
    ],
)
def test_parts_that_are_nested_deeply_or_are_long_are_refused(part, inner, tmp_path, capfd):
    whole = {"type": "Lowercase" if part == "normalizer" else "ByteLevel"}
    deep = whole
    for _ in range(9):
        deep = sequence(inner, [deep])
    refused(tmp_path, f"its {part} has more than 8 sequences in one another", capfd, **{part: deep})
    steps = sequence(inner, [whole] * 33)
    refused(tmp_path, f"its {part} has 33 steps", capfd, **{part: steps})
    long = sequence(inner, [whole] * 100_000)
    refused(tmp_path, f"its {part} is longer than 2,000,000 bytes", capfd, **{part: long})


def frame(**changes):
    return content()["post_processor"] | changes


@pytest.mark.parametrize(
    ("post", "why"),
    [
        (frame(single=[{"Sequence": {"id": "A", "type_id": 0}}] * 2), "has the same text twice"),
        (frame(pair=[{"SpecialToken": {"id": "<s>", "type_id": 0}}] * 33), "has 33 pieces"),
        (frame(special_tokens={"<s>": {"id": "<s>", "ids": [0] * 33}}), "more than 32 ids for"),
        (frame(special_tokens={"x" * 256: {}}), "a token of its frame has 256 characters"),
        (frame(special_tokens=[]), "its frame has no special tokens"),
        (frame(single="$A"), "whose single is no list"),
    ],
    ids=["text twice", "pieces", "ids", "token", "no tokens", "no list"],
)
def test_a_frame_beyond_its_bounds_is_refused(post, why, tmp_path, capfd):
    refused(tmp_path, why, capfd, post_processor=post)


def added(texts):
    traits = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return [{"id": 7 + at, "content": text} | traits for at, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("tokens", "why"),
    [
        (["x" * 256], "an added token has 256 characters, more than 255"),
        ([f"t{n}" for n in range(50_001)], "it adds 50,001 tokens, more than 50,000"),
        ([f"{n:0250}" for n in range(2001)], "its added tokens have 500,250 characters"),
    ],
    ids=["long", "many", "long in all"],
)
def test_added_tokens_beyond_their_bounds_are_refused(tokens, why, tmp_path, capfd):
    refused(tmp_path, why, capfd, added_tokens=added(tokens))


@pytest.mark.parametrize("key", ["unk_token", "continuing_subword_prefix"])
def test_a_long_token_that_the_model_repeats_is_refused(key, tmp_path, capfd):
    changed = content()["model"] | {key: "x" * 256}
    refused(tmp_path, f"its {key} has 256 characters, more than 255", capfd, model=changed)


def pairs(words, merges, **more):
    cutter = {"type": "BPE", "vocab": {word: at for at, word in enumerate(words)}}
    return cutter | {"merges": merges, "fuse_unk": False} | more


@pytest.mark.parametrize("merges", [[["a", "b"]], ["a b"]])
def test_merges_to_no_word_are_refused(merges, tmp_path, capfd):
    """The library would panic, with a note on standard error."""
    why = "it merges 'a' and 'b' to no word that it has"
    refused(tmp_path, why, capfd, model=pairs(["a", "b"], merges))
    refused(tmp_path, why, capfd, model=pairs(["a", "b", "ab"], merges, **SHARPS))


SHARPS = {"continuing_subword_prefix": "##"}


@pytest.mark.parametrize("merges", [[["a", "b"]], ["a b"]])
def test_merges_to_words_are_read(merges, tmp_path):
    tokenizer = opened(
        tmp_path, content() | {"model": pairs(["<s>", "</s>", "a", "b", "ab"], merges)}
    )
    assert tokenizer.encode(["ab"])[0].ids.tolist() == [0, 4, 1]


def test_the_last_of_a_key_that_is_there_twice_counts_for_the_library_too(tmp_path):
    hidden = json.dumps(sequence("normalizers", [DOUBLE] * 30))
    written = json.dumps(content()).replace('{"', f'{{"normalizer": {hidden}, "', 1)
    tokenizer = opened(tmp_path, written)
    assert tokenizer._rust.normalizer is None


def test_a_real_tokenizer_is_far_inside(embedded):
    raw = (embedded / "tokenizer.json").read_bytes()
    parts = json.loads(bounds.checked(raw))
    assert parts == {k: v for k, v in json.loads(raw).items() if k not in {"decoder", "padding"}}


# Pieces of Unigram.


def long_pieces(count, length, seed=0):
    chance = random.Random(seed)  # noqa: S311
    return ["".join(chance.choices("abcdefghij", k=length)) for _ in range(count)]


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        (["a" * 129], "a piece of 129 bytes, more than 128"),
        (["▁" * 43], "a piece of 129 bytes, more than 128"),
        (long_pieces(3000, 100), r"pieces need 2\d\d,\d\d\d nodes of a tree, more than 136,0"),
    ],
    ids=["long", "long in bytes", "many"],
)
@pytest.mark.parametrize("form", ["tokenizer.json", "spiece.model"])
def test_pieces_that_make_a_large_tree_are_refused(form, pieces, why, tmp_path, capfd):
    if form == "tokenizer.json":
        vocabulary = [["<unk>", 0.0], *([piece, -1.0] for piece in pieces)]
        cutter = {"type": "Unigram", "unk_id": 0, "vocab": vocabulary}
        refused(tmp_path, why, capfd, model=cutter)
        return
    (tmp_path / form).write_bytes(model(pieces))
    with pytest.raises(BadFile, match=why):
        Tokenizer.open(tmp_path, 512, "xlm-roberta")


def test_pieces_that_begin_alike_make_a_small_tree():
    bounds.check_pieces(["a" * 100 + f"{number:06}" for number in range(20_000)])


def test_many_pieces_of_customary_length_are_let_pass():
    bounds.check_pieces(f"▁{number:08}" for number in range(250_000))


# Rules of normalization.


def rules(units, texts=b"\0"):
    return struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + texts


GOOD = charsmap({"G": "g", "-": " "})
FLAT = [0] * 256


@pytest.mark.parametrize(
    ("content_", "why"),
    [
        (b"", "the length of its rules of normalization is wrong"),
        (b"ab", "the length of its rules"),
        (rules([]), "the length of its rules"),
        (GOOD[:1000], "the length of its rules"),
        (struct.pack("<I", 1023) + bytes(1024), "the length of its rules"),
        (rules(FLAT, b"\xff\0"), "hold something that is no text"),
        (rules([1 << 10, *FLAT]), "lead out of their table"),
        (rules([2**31 - 1, *FLAT]), "lead out of their table"),
        (rules(FLAT[:255]), "lead out of their table"),
        (rules([0x100, *FLAT[1:]], b"a\0"), "lead to no text"),
        (rules([0x100 | 1 << 10, 3, *FLAT, *FLAT][:512], b"a\0"), "lead to no text"),
        (rules(FLAT, b"x" * 65 + b"\0"), "65 characters of one, more than 64"),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("form", ["tokenizer.json", "spiece.model"])
def test_broken_rules_of_normalization_are_refused_in_silence(form, content_, why, tmp_path, capfd):
    if form == "tokenizer.json":
        step = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content_).decode()}
        why = why.replace("65 characters of one", "could make 65 characters of one")
        refused(tmp_path, why, capfd, normalizer=step)
        return
    if not content_:  # a model without rules is sound
        return
    (tmp_path / form).write_bytes(model(["good"], charsmap=content_))
    with pytest.raises(BadFile, match=why):
        Tokenizer.open(tmp_path, 512, "xlm-roberta")
    assert capfd.readouterr() == ("", "")


def test_rules_that_are_not_base64_are_refused_in_silence(tmp_path, capfd):
    for value in ("%%%", 3, None):
        step = {"type": "Precompiled", "precompiled_charsmap": value}
        refused(tmp_path, "not in base64|is no text", capfd, normalizer=step)


def test_checking_a_large_file_takes_little_memory_and_time():
    vocabulary = {f"word{number}": number for number in range(300_000)}
    values = content()
    values["model"]["vocab"] |= vocabulary
    raw = json.dumps(values).encode()
    tracemalloc.start()
    began = time.perf_counter()
    bounds.checked(raw)
    took, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 1
    assert peak < 6 * len(raw)


def test_the_bounds_are_documented():
    page = (Path(__file__).parents[1] / "docs" / "model-folders.md").read_text(encoding="utf-8")
    values = {name: value for name, value in vars(bounds).items() if name.startswith("MOST_")}
    values |= {"shared": MAX_SHARED, "layers": MAX_LAYERS, "bytes": MAX_BYTES // 2**20}
    said = page[page.index("## Bounds") :]
    assert [name for name, value in values.items() if f" {value:,}" not in said] == []
