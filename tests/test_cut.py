"""A long text is read as far as its ids count, and they are those of the whole text."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import time

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

import labelwise
import sentencepiece_model
from labelwise.engine import sentencepiece_files
from labelwise.engine.cut import Cuts
from labelwise.engine.text import Tokenizer
from labelwise.errors import BadInput, TooLarge
from padded import config, write_model, write_tokenizer

# What stands beside a place, or what makes one that is none: by itself and with its neighbours.
ODD = (
    *("a", "b", "B", "word", "Word", "x" * 101, "1", "12", "a.b", "don't", "'s", "...", "!?", "-"),
    *(" ", " ", " ", " ", "  ", "   ", "\n", "\r\n", "\t", "\x0b", "\x85", "\xa0", "\u2028"),
    *("\u3000", "\u200b", "\u200d", "\u2060", "\ufeff", "\u180e", "\x00", "\x1c", "\x7f", "\ufffd"),
    *("\u0301", "\u0323", "\u0338", "\u0345", "\u20dd", "\ufe0f", "é", "É", "ſ", "İ", "ς", "¨"),
    *("\u0600", "\u0d4e", "\u0e33", "क", "क्ष", "\u094d", "ب", "א", "д", "Д", "ｱ", "Ａ", "ﬁ", "½"),
    *("北", "京", "北京", "\u4e00", "\uf900", "か", "が", "か\u3099", "、", "한", "\u1112\u1161"),
    *("\U0001f600", "\U0001f469\u200d\U0001f4bb", "\U0001f1eb\U0001f1f7", "\U00020000"),
    *("<mask>", "<pad>", "[MASK]", "[SEP]", "<user>", "<", ">", "▁", "Ġ", "``", "''"),
)
CORPUS = ["".join(ODD), " ".join(ODD), "a word and another word, don't! 北京 か한 " * 5]
TOKENS = {  # added tokens that make places hard to find, or none at all
    "plain": [AddedToken("<user>"), AddedToken("<pad>", special=True)],
    "left": [AddedToken("<mask>", lstrip=True, special=True), AddedToken("word", lstrip=True)],
    "right": [AddedToken("<mask>", rstrip=True), AddedToken("word", rstrip=True)],
    "whole words": [AddedToken("word", single_word=True), AddedToken("a", single_word=True)],
    "spaced": [AddedToken("a b"), AddedToken("word\nword"), AddedToken("word ", normalized=True)],
    "cjk": [AddedToken("北京"), AddedToken("京", single_word=True, normalized=True)],
    "odd": [AddedToken("é", normalized=True), AddedToken("Word", normalized=True)],
    "none": [],
}
NORMALIZERS = {
    "none": None,
    "bert": normalizers.BertNormalizer(),
    "cased": normalizers.BertNormalizer(lowercase=False, strip_accents=True),
    "no chinese": normalizers.BertNormalizer(handle_chinese_chars=False),
    "forms": normalizers.Sequence([normalizers.NFC(), normalizers.NFKD(), normalizers.Lowercase()]),
    "nmt": normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()]),
    "albert": normalizers.Sequence(
        [
            normalizers.Replace("``", '"'),
            normalizers.Replace("''", '"'),
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    ),
    "strip": normalizers.Sequence([normalizers.Strip(left=False), normalizers.NFC()]),
    "strip both": normalizers.Strip(),
    "spaced letters": normalizers.Replace("a", " a "),
    "rules": normalizers.Sequence(
        [
            normalizers.Precompiled(sentencepiece_model.charsmap({"a": " b", "B": "b ", "b": ""})),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    ),
    "two words": normalizers.Replace("b a", "x"),
    "any": normalizers.Replace(Regex("[a ]+"), "a"),
    "underlined": normalizers.Replace(" ", "▁"),
    "prepended": normalizers.Prepend("▁"),
}
split, spaced = pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace
PRE_TOKENIZERS = {
    "none": None,
    "bert": pre_tokenizers.BertPreTokenizer(),
    "words": pre_tokenizers.Whitespace(),
    "split": split,
    "metaspace": spaced(),
    "metaspace first": spaced(prepend_scheme="first"),
    "metaspace never": spaced(prepend_scheme="never"),
    "metaspace whole": spaced(split=False),
    "split metaspace": pre_tokenizers.Sequence([split, spaced()]),
    "split metaspace first": pre_tokenizers.Sequence([split, spaced(prepend_scheme="first")]),
    "bytes": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "bytes spaced": pre_tokenizers.ByteLevel(add_prefix_space=True),
    "bytes whole": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    "digits bytes": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation("contiguous"),
            pre_tokenizers.ByteLevel(add_prefix_space=True),
        ]
    ),
    "letters": pre_tokenizers.Split(Regex("a."), "isolated"),
    "scripts": pre_tokenizers.Sequence([pre_tokenizers.UnicodeScripts(), split]),
}


def ids(rust, text):
    return rust.encode_batch_fast([text], add_special_tokens=False)[0].ids


def places(cuts, text):
    """All places of *text*."""
    start = 0
    while (place := cuts._find(text, start, len(text))) is not None:
        yield place
        start = place - 1


def models_of(kind):
    """A model that knows single letters, words, spaces and bytes."""
    letters = sorted({*"".join(CORPUS), *pre_tokenizers.ByteLevel.alphabet(), "▁"})
    if kind == "WordPiece":
        words = ["[UNK]", *letters, *(f"##{letter}" for letter in letters), "word", "##ord"]
        vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
        return models.WordPiece(vocabulary, unk_token="[UNK]")
    if kind == "BPE":
        pairs = [
            ("w", "o"),
            ("r", "d"),
            ("wo", "rd"),
            ("Ġ", "a"),
            ("▁", "a"),
            ("a", " "),
            (" ", "b"),
        ]
        words = ["[UNK]", *letters, *map("".join, pairs)]
        vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
        return models.BPE(vocabulary, pairs, unk_token="[UNK]", fuse_unk=True)
    pieces = [("[UNK]", 0.0), *((letter, -5.0) for letter in letters), ("word", -1.0)]
    more = [
        ("▁word", -1.0),
        ("a b", -1.0),
        ("a▁b", -1.0),
        ("▁▁", -1.0),
        ("▁a", -2.0),
        ("北京", -1.0),
    ]
    return models.Unigram([*pieces, *more], 0)


def made(model, normalizer, pre_tokenizer, tokens):
    rust = tokenizers.Tokenizer(models_of(model))
    if NORMALIZERS[normalizer] is not None:
        rust.normalizer = NORMALIZERS[normalizer]
    if PRE_TOKENIZERS[pre_tokenizer] is not None:
        rust.pre_tokenizer = PRE_TOKENIZERS[pre_tokenizer]
    rust.add_tokens(TOKENS[tokens])
    return rust


texts = st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=3)), max_size=40).map("".join)


@pytest.mark.parametrize("pre_tokenizer", PRE_TOKENIZERS)
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_a_text_falls_apart_at_every_place_found(normalizer, pre_tokenizer):
    r = random.Random(hash((normalizer, pre_tokenizer)))
    n = 0
    for model in ("WordPiece", "BPE", "Unigram"):
        for tokens in TOKENS:
            rust = made(model, normalizer, pre_tokenizer, tokens)
            cuts = Cuts.of(rust)
            if cuts._place.pattern == "(?!)":
                continue
            for _ in range(ROUNDS):
                text = "".join(
                    r.choice(ODD)
                    if r.random() < 0.9
                    else chr(r.choice([r.randrange(0x3000), r.randrange(0xD800)]))
                    for _ in range(r.randrange(1, 40))
                )
                whole = ids(rust, text)
                for place in places(cuts, text):
                    n += 1
                    assert ids(rust, text[:place]) + ids(rust, text[place:]) == whole, (
                        model,
                        tokens,
                        text,
                        place,
                        text[place - 3 : place + 4],
                    )
    print(n)


ROUNDS = 500
