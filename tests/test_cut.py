"""A long text is read as far as its ids count, and they are those of the whole text."""

from __future__ import annotations

import dataclasses
import re
from itertools import product
from pathlib import Path
from random import Random

import pytest
import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

import labelwise
import sentencepiece_model
from labelwise.engine.tokenizer import tokenizer as text_module
from labelwise.engine.tokenizer.cut import Cuts
from labelwise.engine.tokenizer.tokenizer import Tokenization, Tokenizer
from labelwise.errors import BadInput, TooLarge

# What stands beside a place, or what makes one that is none: by itself and with its neighbours.
ODD = (
    *("a", "b", "B", "word", "Word", "x" * 101, "1", "12", "a.b", "don't", "'s", "...", "!?", "-"),
    *(" ", " ", " ", " ", "  ", "   ", "\n", "\r\n", "\t", "\x0b", "\x85", "\xa0", "\u2028"),
    *("\u3000", "\u200b", "\u200d", "\u2060", "\ufeff", "\u180e", "\x00", "\x1c", "\x7f", "\ufffd"),
    *(
        "\u0301",
        "\u0323",
        "\u0338",
        "\u0345",
        "\u20dd",
        "\ufe0f",
        "é",
        "É",
        "\u017f",
        "İ",
        "ς",
        "¨",
    ),
    *(
        "\u0600",
        "\u0d4e",
        "\u0e33",
        "क",
        "क्ष",
        "\u094d",
        "ب",
        "א",
        "д",
        "Д",
        "ｱ",
        "\uff21",
        "ﬁ",
        "½",
    ),
    *("北", "京", "北京", "\u4e00", "\uf900", "か", "が", "か\u3099", "、", "한", "\u1112\u1161"),
    *("\U0001f600", "\U0001f469\u200d\U0001f4bb", "\U0001f1eb\U0001f1f7", "\U00020000"),
    *("<mask>", "<pad>", "[MASK]", "[SEP]", "<user>", "<", ">", "▁", "Ġ", "``", "''"),
)
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


LETTERS = sorted({*"".join(ODD), *pre_tokenizers.ByteLevel.alphabet(), "▁"})
PAIRS = [("w", "o"), ("r", "d"), ("wo", "rd"), ("Ġ", "a"), ("▁", "a"), ("a", " "), (" ", "b")]
PIECES = ["word", "▁word", "a b", "a▁b", "▁▁", "▁a", "北京", " a", "a "]


def numbered(words):
    return {word: number for number, word in enumerate(dict.fromkeys(["[UNK]", *words]))}


UNKNOWN = {"unk_token": "[UNK]"}
WORDS = [*LETTERS, *(f"##{letter}" for letter in LETTERS), "word", "##ord", "北京"]
MODELS = {  # each knows words, letters, spaces and bytes
    "WordPiece": models.WordPiece(numbered(WORDS), **UNKNOWN),
    "BPE": models.BPE(numbered([*LETTERS, *map("".join, PAIRS)]), PAIRS, fuse_unk=True, **UNKNOWN),
    "Unigram": models.Unigram(
        [("[UNK]", 0.0), *((letter, -5.0) for letter in LETTERS), *((one, -1.0) for one in PIECES)],
        0,
    ),
}


def made(model, normalizer, pre_tokenizer, tokens):
    rust = tokenizers.Tokenizer(MODELS[model])
    if NORMALIZERS[normalizer] is not None:
        rust.normalizer = NORMALIZERS[normalizer]
    if PRE_TOKENIZERS[pre_tokenizer] is not None:
        rust.pre_tokenizer = PRE_TOKENIZERS[pre_tokenizer]
    rust.add_tokens(TOKENS[tokens])
    return rust


def written(random):
    """A text of what makes places, and of what makes none."""
    letters = (lambda: random.choice(ODD), lambda: chr(random.randrange(0xD800)))
    kinds = random.choices(letters, (9, 1), k=random.randrange(1, 40))
    return "".join(kind() for kind in kinds)


UNSAFE = {"strip both", "two words", "any", "underlined", "prepended"}


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_a_text_falls_apart_at_every_place_found(normalizer):
    random, found = Random(normalizer), 0  # noqa: S311
    for model, pre_tokenizer, tokens in product(MODELS, PRE_TOKENIZERS, TOKENS):
        rust = made(model, normalizer, pre_tokenizer, tokens)
        cuts = Cuts.of(rust)
        for text in [written(random) for _ in range(6)] if cuts.any else ():
            for place in places(cuts, text):
                apart = ids(rust, text[:place]) + ids(rust, text[place:])
                assert apart == ids(rust, text), (model, pre_tokenizer, tokens, text, place)
                found += 1
    assert (found > 50) == (normalizer not in UNSAFE)


@pytest.mark.parametrize(
    ("change", "safe"),
    [
        ({}, True),
        ({"normalizer": "two words"}, False),
        ({"normalizer": "any"}, False),
        ({"normalizer": "prepended"}, False),
        ({"pre_tokenizer": "none"}, False),
        ({"pre_tokenizer": "metaspace"}, True),
        ({"pre_tokenizer": "metaspace whole"}, False),
        ({"pre_tokenizer": "bytes spaced"}, True),
        ({"pre_tokenizer": "bytes whole"}, False),
        ({"pre_tokenizer": "letters"}, False),
        ({"pre_tokenizer": "scripts"}, False),
        ({"tokens": "left"}, True),
        ({"tokens": "right"}, False),
        ({"tokens": "spaced"}, False),
    ],
    ids=str,
)
def test_places_are_known_of_the_usual_tokenizers_alone(change, safe):
    usual = {"model": "BPE", "normalizer": "none", "pre_tokenizer": "split", "tokens": "plain"}
    cuts = Cuts.of(made(**usual | change))
    assert cuts.any == safe
    assert (next(places(cuts, "one two"), None) == 3) == safe


def long_texts(random):
    """Texts and pairs far longer than 9 tokens, and some that are not."""
    texts = ["".join(random.choices(ODD, k=size)) for size in (20, 200, 400)]
    texts += [" ".join(random.choices(ODD, k=200)), "word " * 99, "北京" * 99, "!" * 300, " " * 300]
    return [*texts, *random.sample(list(product(texts, texts)), 12)]


@pytest.mark.parametrize("keeps_end", [False, True])
@pytest.mark.parametrize(
    ("normalizer", "pre_tokenizer", "tokens"),
    [
        pytest.param(*parts, marks=marks)
        for marks, parts in [
            ([], ("bert", "bert", "plain")),
            ([], ("rules", "split metaspace first", "odd")),
            (pytest.mark.slow, ("none", "bytes", "left")),
            (pytest.mark.slow, ("forms", "bytes spaced", "plain")),
            (pytest.mark.slow, ("albert", "metaspace", "whole words")),
            (pytest.mark.slow, ("strip", "digits bytes", "right")),
        ]
    ],
)
def test_a_long_text_has_the_ids_that_it_has_when_it_is_read_to_its_end(
    monkeypatch, keeps_end, normalizer, pre_tokenizer, tokens
):
    monkeypatch.setattr(text_module, "_FEW_CHARACTERS", 16)
    random = Random(f"{normalizer} {pre_tokenizer} {keeps_end}")  # noqa: S311
    for model, special in product(MODELS, (2, 3)):
        rust = made(model, normalizer, pre_tokenizer, tokens)
        frame = ["a", *"b" * (special - 1)]
        rust.post_processor = TemplateProcessing(
            single=["a", "$A", "b"],
            pair=["a", "$A", *["b"] * (special - 1), "$B:1"],
            special_tokens=[(name, rust.token_to_id(name)) for name in {*frame}],
        )
        ours = Tokenizer(
            9, special + 1, rust, _typed=True, _keeps_end=keeps_end, _cuts=Cuts.of(rust)
        )
        whole = dataclasses.replace(ours, _cuts=NONE)
        for text, truncation, most in product(long_texts(random), TRUNCATIONS, (5, 8, 9)):
            assert outcome(ours, text, truncation, most) == outcome(whole, text, truncation, most)


NONE = Cuts.of(tokenizers.Tokenizer(models.BPE()))
TRUNCATIONS = ("longest_first", "only_first", "only_second", "do_not_truncate")


def outcome(tokenizer, text, truncation, most):
    """The ids and types of *text*, and whether it was cut; or that it is refused."""
    try:
        (encoded,) = tokenizer.encode([text], Tokenization(truncation, max_length=most))
    except BadInput as refusal:
        return re.sub(r"(at least )?\d+ tokens", "N tokens", str(refusal))
    return encoded.ids.tolist(), encoded.types.tolist(), encoded.truncated


@pytest.fixture(scope="module")
def embedded():
    folder = Path(labelwise.__path__[0]) / "builtin" / "minilm-l6-sst2"
    return Tokenizer.open(folder, 512, "bert")


@pytest.mark.parametrize(
    "text", ["A fine film. " * 80_000, "北京" * 500_000, ("x" * 99 + " ") * 10_000], ids=len
)
def test_of_a_text_without_end_little_is_read(embedded, text):
    (encoded,) = embedded.encode([text], most=20_000)
    assert (len(encoded), encoded.truncated) == (512, True)
    (beginning,) = embedded.encode([text[:8000]])
    assert encoded.ids.tolist() == beginning.ids.tolist()


def test_a_long_pair_is_counted_in_pieces_where_it_matters_which_is_longer(embedded):
    for first, second in [(20_000, 20_001), (20_001, 20_000), (20_000, 20_000)]:
        (encoded,) = embedded.encode([("good " * first, "bad " * second)], most=20_000)
        assert int(encoded.types.sum()) == (256 if first <= second else 255)


def test_a_text_that_cannot_be_read_in_parts_is_too_large(embedded):
    embedded.encode(["b" * 30_000, ("b" * 30_000, "b")])
    for text in ("b" * 20_001, ("b" * 20_000, "b")):
        with pytest.raises(
            TooLarge, match="20001 characters of text 2 would have to become tokens"
        ):
            embedded.encode(["b" * 20_000, text], most=20_000)


def test_half_a_surrogate_pair_is_refused_wherever_it_is(embedded):
    with pytest.raises(BadInput, match="text 1 is not valid Unicode"):
        embedded.encode(["A fine film. " * 5000 + "\ud800"])
