"""A folder whose vocabulary is a SentencePiece model."""

import json
import random
import time
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelwise.engine.tokenizer import sentencepiece as sentencepiece_files
from labelwise.engine.tokenizer.tokenizer import Tokenizer
from labelwise.errors import BadFile, UnsupportedModel
from labelwise.models.locate import FILES
from sentencepiece_model import (
    BPE,
    BYTE,
    CHAR,
    CONTROL,
    UNUSED,
    USER_DEFINED,
    WORD,
    charsmap,
    field,
    model,
    piece,
    varint,
)

PIECES = ["▁good", "▁film", "▁", "s", "g", "o", "d"]
KINDS = ["xlm-roberta", "camembert"]


def opened(folder, content=None, model_type="xlm-roberta", name="sentencepiece.bpe.model", **files):
    """The tokenizer of *folder*, with a model of *content* and JSON in *files*."""
    (folder / name).write_bytes(model(PIECES) if content is None else content)
    for file, value in files.items():
        (folder / f"{file}.json").write_text(json.dumps(value))
    return Tokenizer.open(folder, 512, model_type)


def ids(tokenizer, *texts):
    return [encoded.ids.tolist() for encoded in tokenizer.encode(texts)]


def test_the_ids_of_xlm_roberta_begin_with_four_special_tokens(tmp_path):
    tokenizer = opened(tmp_path)
    assert ids(tokenizer, "good films", "", "odd", "good\u3000<mask> x") == [
        [0, 4, 5, 7, 2],
        [0, 2],
        [0, 6, 9, 10, 10, 2],
        [0, 4, 11, 6, 3, 2],
    ]
    assert ids(tokenizer, ("good", "film"), ("", "")) == [[0, 4, 2, 2, 5, 2], [0, 2, 2, 2]]
    assert ids(tokenizer, "<s></s><pad><unk>") == [[0, 0, 2, 1, 3, 2]]


def test_the_ids_of_camembert_begin_with_five_that_no_text_has(tmp_path):
    tokenizer = opened(tmp_path, model_type="camembert")
    assert ids(tokenizer, "good films", "", "odd", "good  <mask> x") == [
        [5, 7, 8, 10, 6],
        [5, 6],
        [5, 9, 12, 13, 13, 6],
        [5, 7, 14, 9, 3, 6],
    ]
    assert ids(tokenizer, ("good", "film")) == [[5, 7, 6, 6, 8, 6]]


@pytest.mark.parametrize("name", sentencepiece_files.NAMES)
def test_every_known_name_is_read_and_fetched(tmp_path, name):
    assert ids(opened(tmp_path, name=name), "good") == [[0, 4, 2]]
    assert name in FILES


def test_of_several_files_the_one_is_read_that_transformers_reads(tmp_path):
    for number, name in enumerate(reversed(sentencepiece_files.NAMES)):
        tokenizer = opened(tmp_path, model([*["▁x"] * number, "▁good"]), name=name)
        assert ids(tokenizer, "good") == [[0, 4 + number, 2]]


def test_a_tokenizer_json_comes_before_a_sentencepiece_model(tmp_path):
    content = opened(tmp_path)._rust.to_str()
    (tmp_path / "tokenizer.json").write_text(content)
    assert ids(opened(tmp_path, b"broken"), "good") == [[0, 4, 2]]


def test_the_class_decides_and_not_the_type_of_the_model(tmp_path):
    named = {"tokenizer_class": "XLMRobertaTokenizerFast"}
    tokenizer = opened(tmp_path, model_type="bert", tokenizer_config=named)
    (pair,) = tokenizer.encode([("good", "film")])
    assert pair.ids.tolist() == [0, 4, 2, 2, 5, 2]
    assert pair.types.tolist() == [0] * 6


def test_texts_are_normalized_by_the_rules_in_the_file(tmp_path):
    rules = charsmap({"G": "g", "x": "odd", "-": " ", "_": ""})
    tokenizer = opened(tmp_path, model(PIECES, charsmap=rules))
    assert ids(tokenizer, "Good-fil_m", "gx") == [[0, 4, 5, 2], [0, 6, 8, 9, 10, 10, 2]]


def test_a_space_before_the_first_word_can_be_left_out(tmp_path):
    tokenizer = opened(tmp_path, tokenizer_config={"add_prefix_space": False})
    assert ids(tokenizer, "good good") == [[0, 8, 9, 9, 10, 8, 9, 9, 10, 2]]


@pytest.mark.parametrize("model_type", KINDS)
def test_symbols_of_the_file_are_found_anywhere(tmp_path, model_type):
    symbols = [("[ctl]", 0.0, CONTROL), ("[usr]", 0.0, USER_DEFINED)]
    tokenizer = opened(tmp_path, model([*PIECES, *symbols]), model_type)
    good, control, user = {"xlm-roberta": (4, 11, 12), "camembert": (7, 14, 15)}[model_type]
    assert ids(tokenizer, "good[usr]good[ctl]")[0][1:-1] == [good, user, good, control]


def test_symbols_of_the_settings_stand_in_for_those_of_the_file(tmp_path):
    content = model([*PIECES, ("[usr]", 0.0, USER_DEFINED)])
    own = {"additional_special_tokens": ["[new]"]}
    mapped = opened(tmp_path, content, special_tokens_map=own)
    assert ids(mapped, "[usr][new]") == [[0, 11, 6, 3, 2]]
    settled = opened(tmp_path, content, tokenizer_config=own)
    assert ids(settled, "[usr] [new]") == [[0, 6, 11, 13, 2]]


def test_added_tokens_get_the_next_ids(tmp_path):
    tokenizer = opened(tmp_path, added_tokens={"oddity": 13, "goods": 12})
    assert ids(tokenizer, "oddity goods good") == [[0, 13, 12, 4, 2]]


def test_special_tokens_of_other_names_are_the_same_ids(tmp_path):
    names = dict.fromkeys(("bos", "eos", "unk", "pad", "mask", "sep"))
    special = {f"{name}_token": f"[{name}]" for name in names}
    tokenizer = opened(tmp_path, special_tokens_map=special)
    assert ids(tokenizer, "good x[pad][mask][sep]") == [[0, 4, 6, 3, 1, 11, 12, 2]]


def test_camembert_joins_the_pairs_of_a_bpe_model_best_piece_first(tmp_path):
    merged = [("go", 0.0), ("od", -1.0), ("▁go", -2.0), ("▁good", -3.0), ("▁g", -0.5)]
    letters = [(letter, -9.0) for letter in "▁god"]
    tokenizer = opened(tmp_path, model([*merged, *letters], model_type=BPE), "camembert")
    go, od, spaced, good = 7, 8, 9, 10
    space, letter_o, letter_d = 12, 14, 15
    assert [each[1:-1] for each in ids(tokenizer, "good", "goood", "dgo", "xx")] == [
        [good],
        [spaced, letter_o, od],
        [space, letter_d, go],
        [space, 3],
    ]


def test_camembert_takes_the_bytes_of_what_a_bpe_model_lacks_where_it_says_so(tmp_path):
    octets = [(f"<0x{octet:02X}>", 0.0, BYTE) for octet in range(256)]
    content = model(["▁", *octets], model_type=BPE, byte_fallback=True)
    assert ids(opened(tmp_path, content, "camembert"), "é") == [[5, 7, 8 + 0xC3, 8 + 0xA9, 6]]
    content = model(["▁", *octets], model_type=BPE)
    assert ids(opened(tmp_path, content, "camembert"), "é") == [[5, 7, 3, 6]]


def test_unused_pieces_are_no_part_of_a_pair(tmp_path):
    pieces = ["▁", "a", "b", ("ab", -1.0, UNUSED), "abb"]
    tokenizer = opened(tmp_path, model(pieces, model_type=BPE), "camembert")
    assert ids(tokenizer, "abb") == [[5, 7, 8, 9, 9, 6]]


def test_xlm_roberta_adds_up_the_scores_of_a_bpe_model_as_transformers_does(tmp_path):
    pieces = [("▁a", -0.0), ("bc", -1.0), ("▁ab", -2.0), ("c", -3.0), ("▁", -8.0), ("a", -8.0)]
    assert ids(opened(tmp_path, model(pieces, model_type=BPE)), "abc") == [[0, 4, 5, 2]]


@pytest.mark.parametrize("model_type", KINDS)
@pytest.mark.parametrize(
    ("number", "name"), [(WORD, "WORD"), (CHAR, "CHAR"), (0, "number 0"), (9, "number 9")]
)
def test_other_types_of_sentencepiece_models_are_refused_by_name(
    tmp_path, model_type, number, name
):
    with pytest.raises(BadFile, match=f"of type {name}; UNIGRAM and BPE are read"):
        opened(tmp_path, model(PIECES, model_type=number), model_type)


BROKEN = {
    "nothing": (b"", "holds no SentencePiece model"),
    "text": (b"version https://example.com/spec/v1\n", "holds no SentencePiece model"),
    "no pieces": (field(2, field(3, 1)), "holds no SentencePiece model"),
    "a piece that is a number": (field(1, 5), "holds no SentencePiece model"),
    "a text that is a number": (field(1, field(1, 5)), "holds no SentencePiece model"),
    "a score that is a number": (
        field(1, field(1, b"a") + field(2, 5)),
        "holds no SentencePiece model",
    ),
    "a score that is long": (
        field(1, field(1, b"a") + field(2, b"12345678")),
        "holds no SentencePiece model",
    ),
    "a type that is bytes": (
        field(1, field(1, b"a") + field(3, b"1")),
        "holds no SentencePiece model",
    ),
    "rules that are a number": (model([]) + field(3, field(2, 5)), "holds no SentencePiece model"),
    "a group": (model([]) + varint(9 << 3 | 3), "holds no SentencePiece model"),
    "no number": (piece("a", float("nan")), "a piece whose score is nan"),
    "an endless score": (piece("a", float("-inf")), "a piece whose score is -inf"),
    "an empty piece": (piece(""), "a piece that is no text"),
    "half a letter": (piece(b"\xe2\x96"), "a piece that is no text"),
    "a size beyond the end": (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "ends too early"),
    "a number without end": (b"\xff" * 40, "ends too early"),
    "rules that are none": (model(PIECES, charsmap=b"\xff\xff\xff\x7fab"), "cannot be used"),
}


@pytest.mark.parametrize("model_type", KINDS)
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_in_a_line(tmp_path, name, model_type):
    content, fault = BROKEN[name]
    with pytest.raises(BadFile, match=fault) as caught:
        opened(tmp_path, content, model_type)
    assert str(tmp_path / "sentencepiece.bpe.model") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path):
    with (tmp_path / "spiece.model").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(BadFile, match="is larger than 20,971,520 bytes"):
        Tokenizer.open(tmp_path, 512, "xlm-roberta")


def test_a_long_piece_of_a_bpe_model_is_not_taken_apart(tmp_path):
    content = model(["a" * 1_000_000], model_type=BPE)
    with pytest.raises(BadFile, match="a piece of 1,000,000 bytes, more than 128"):
        opened(tmp_path, content, "camembert")


WHOLE = model(
    [*PIECES, ("[ctl]", 0.0, CONTROL), ("[usr]", 0.0, USER_DEFINED)],
    charsmap=charsmap({"G": "g", "-": " "}),
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=3),
    end=st.integers(0, len(WHOLE)),
    bpe=st.booleans(),
)
def test_a_damaged_file_is_read_or_refused(tmp_path, changes, end, bpe):
    content = bytearray(WHOLE.replace(field(3, 1), field(3, BPE)) if bpe else WHOLE)
    for at, value in changes:
        content[at] = value
    with suppress(BadFile):
        tokenizer = opened(tmp_path, content[: end if end % 2 else None], "camembert")
        ids(tokenizer, "Good-films [usr] <mask>")


@pytest.mark.parametrize("model_type", KINDS)
@pytest.mark.parametrize("of", [1, BPE])
def test_a_large_vocabulary_opens_in_little_time(tmp_path, of, model_type):
    random.seed(3)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = {"▁" + "".join(random.choices(letters, k=8)) for _ in range(30_000)}  # noqa: S311
    content = model([*sorted(words), *letters], model_type=of)
    start = time.perf_counter()
    opened(tmp_path, content, model_type)
    assert time.perf_counter() - start < 3


def test_a_folder_without_a_tokenizer_says_which_files_would_do(tmp_path):
    wanted = "tokenizer.json, or tokenizer.model or sentencepiece.bpe.model or spiece.model or spm"
    for model_type in KINDS:
        with pytest.raises(BadFile, match=wanted):
            Tokenizer.open(tmp_path, 512, model_type)
        with pytest.raises(BadFile, match=r"AutoTokenizer\.from_pretrained\(FOLDER\)\.save_pre"):
            Tokenizer.open(tmp_path, 512, model_type)


def test_a_sentencepiece_model_of_an_unknown_class_is_not_mistaken_for_a_known_one(tmp_path):
    named = {"tokenizer_class": "AlbertTokenizer"}
    with pytest.raises(UnsupportedModel, match="'AlbertTokenizer' is not read here"):
        opened(tmp_path, model_type="bert", name="spiece.model", tokenizer_config=named)


@pytest.mark.parametrize("name", ["BertJapaneseTokenizer", "BertweetTokenizer", "PhobertTokenizer"])
def test_tokenizers_that_no_file_describes_are_refused_by_name(tmp_path, name):
    with pytest.raises(UnsupportedModel, match=f"{name} is program code that no file of the"):
        opened(tmp_path, model_type="bert", tokenizer_config={"tokenizer_class": name})


def test_pieces_stand_in_the_order_of_the_file_whatever_its_first_three_are(tmp_path):
    named = [("[UNK]", 0.0, 2), ("[CLS]", 0.0, CONTROL), ("[SEP]", 0.0, CONTROL)]
    tokenizer = opened(tmp_path, model(PIECES, first=named))
    assert ids(tokenizer, "good [CLS]") == [[0, 4, 12, 2]]
