import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tokenizers

from labelwise.engine.tokenizer.tokenizer import Tokenization, Tokenizer
from labelwise.errors import BadFile, BadInput, UnsupportedModel

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "##s", "É", "e"]
GENERIC = {"tokenizer_class": "PreTrainedTokenizerFast"}  # what tokenizer.json says, and no more
UNK, CLS, SEP, GOOD, BAD, FILM, PLURAL, ACUTE, E = 1, 2, 3, 5, 6, 7, 8, 9, 10


@pytest.fixture
def folder(tmp_path):
    """An old folder of a BERT: a vocabulary and nothing else."""
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    return tmp_path


@pytest.fixture
def roberta(tmp_path):
    """An old folder of a RoBERTa: every byte is in its vocabulary, and one merge."""
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = ["<s>", "<pad>", "</s>", "<unk>", *letters, "ba", "<mask>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nb a\n")
    return tmp_path


def opened(folder, positions=512, model_type="bert", **settings):
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return Tokenizer.open(folder, positions, model_type)


def ids(tokenizer, *texts):
    return [encoded.ids.tolist() for encoded in tokenizer.encode(texts)]


def as_json(folder, **changes):
    """Turn *folder* into one with a ``tokenizer.json``, changed where said."""
    content = json.loads(opened(folder)._rust.to_str()) | changes
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "vocab.txt").unlink()
    return folder


def test_a_text_is_framed_and_of_type_nought(folder):
    (encoded,) = opened(folder).encode(["Good films"])
    assert encoded.ids.tolist() == [CLS, GOOD, FILM, PLURAL, SEP]
    assert encoded.types.tolist() == [0] * 5
    assert encoded.ids.dtype == encoded.types.dtype == np.int64
    assert (len(encoded), encoded.full_length, encoded.truncated) == (5, 5, False)


def test_the_second_text_of_a_pair_has_type_one(folder):
    (encoded,) = opened(folder).encode([("good", "bad film")])
    assert encoded.ids.tolist() == [CLS, GOOD, SEP, BAD, FILM, SEP]
    assert encoded.types.tolist() == [0, 0, 0, 1, 1, 1]


def test_an_empty_text_is_its_special_ids(folder):
    assert ids(opened(folder), "", ("", ""), ("", "bad")) == [
        [CLS, SEP],
        [CLS, SEP, SEP],
        [CLS, SEP, BAD, SEP],
    ]


def test_nothing_gives_nothing(folder):
    assert opened(folder).encode([]) == []


def test_special_tokens_typed_by_the_user_are_special(folder):
    assert ids(opened(folder), "good [SEP]bad", "[sep]") == [
        [CLS, GOOD, SEP, BAD, SEP],
        [CLS, UNK, UNK, UNK, SEP],
    ]


def test_case_and_accents_follow_the_settings(folder):
    assert ids(opened(folder), "É") == [[CLS, E, SEP]]
    assert ids(opened(folder, do_lower_case=False), "É Good") == [[CLS, ACUTE, UNK, SEP]]
    assert ids(opened(folder, do_lower_case=False, strip_accents=True), "é") == [[CLS, E, SEP]]


def test_settings_overrule_a_tokenizer_json_only_where_they_speak(folder):
    as_json(folder)
    assert ids(opened(folder), "Good") == [[CLS, GOOD, SEP]]
    assert ids(opened(folder, do_lower_case=False), "Good") == [[CLS, UNK, SEP]]
    assert ids(opened(folder, tokenizer_class="PreTrainedTokenizerFast"), "Good") == [
        [CLS, GOOD, SEP]
    ]


@pytest.mark.parametrize("place", ["tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("name", ["BertTokenizer", "BertTokenizerFast"])
def test_the_class_is_what_the_settings_name_else_what_the_configuration_names(folder, place, name):
    (folder / place).write_text(json.dumps({"tokenizer_class": name}))
    assert ids(opened(folder, model_type="roberta"), "good films") == [
        [CLS, GOOD, FILM, PLURAL, SEP]
    ]


def test_the_class_of_the_settings_goes_before_that_of_the_configuration(folder):
    (folder / "config.json").write_text('{"tokenizer_class": "BertJapaneseTokenizer"}')
    assert ids(opened(folder, tokenizer_class="BertTokenizer"), "good") == [[CLS, GOOD, SEP]]


@pytest.mark.parametrize("place", ["tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("from_json", [True, False])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("BertJapaneseTokenizer", "is program code"),
        ("BertweetTokenizer", "is program code"),
        ("HerbertTokenizerFast", "write PreTrainedTokenizerFast for tokenizer_class"),
        ("MyTokenizer", "read are BertTokenizer, "),
        (7, "read are BertTokenizer, "),
        (["BertTokenizer"], "read are BertTokenizer, "),
        ({"a": 1}, "read are BertTokenizer, "),
    ],
)
def test_a_class_that_is_not_read_is_refused(folder, place, from_json, name, why):
    if from_json:
        as_json(folder)
    (folder / place).write_text(json.dumps({"tokenizer_class": name}))
    with pytest.raises(UnsupportedModel, match=why):
        opened(folder)


def test_a_class_that_cuts_words_otherwise_than_the_file_is_refused(folder):
    as_json(folder)
    with pytest.raises(BadFile, match="cuts words by WordPiece, but its tokenizer_class by BPE"):
        opened(folder, model_type="roberta")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"do_lower_case": True}, "do_lower_case"),
        ({"strip_accents": False}, "strip_accents"),
        ({"tokenize_chinese_chars": False}, "tokenize_chinese_chars"),
    ],
)
def test_a_setting_that_the_file_has_no_place_for_is_refused(folder, settings, key):
    as_json(folder, normalizer={"type": "NFC"})
    assert ids(opened(folder), "good") == [[CLS, GOOD, SEP]]
    with pytest.raises(BadFile, match=f"has {key}, but the normalizer of tokenizer.json has noth"):
        opened(folder, **settings)


def test_the_unknown_token_of_the_settings_goes_before_that_of_the_file(folder):
    as_json(folder)
    settings = {"unk_token": "[MASK]"}
    assert ids(opened(folder, **settings), "awful") == [[CLS, 4, SEP]]
    with pytest.raises(BadFile, match="the vocabulary lacks the unk_token 'x'"):
        opened(folder, **settings | {"unk_token": "x"})


USER = {"content": "<user>", "lstrip": False, "rstrip": False, "normalized": False}
ADDED = [  # by the file that adds it
    ("tokenizer_config.json", {"added_tokens_decoder": {"11": USER | {"special": False}}}),
    ("tokenizer_config.json", {"extra_special_tokens": ["<user>"]}),
    ("tokenizer_config.json", {"extra_special_tokens": {"user_token": "<user>"}}),
    ("tokenizer_config.json", {"additional_special_tokens": ["<user>"]}),
    ("tokenizer_config.json", {"user_token": "<user>"}),
    ("tokenizer_config.json", {"mask_token": USER}),
    ("added_tokens.json", {"<user>": 11}),
    ("special_tokens_map.json", {"additional_special_tokens": ["<user>"]}),
    ("special_tokens_map.json", {"extra_special_tokens": [USER]}),
]


@pytest.mark.parametrize("described", ["by a vocabulary", "by a file", "by a file alone"])
@pytest.mark.parametrize(("place", "content"), ADDED)
def test_added_tokens_of_every_file_are_looked_for(folder, place, content, described):
    if described != "by a vocabulary":
        as_json(folder)
    if described == "by a file alone":
        (folder / "config.json").write_text(json.dumps(GENERIC))
    (folder / place).write_text(json.dumps(content))
    assert ids(opened(folder), "good<user>film") == [[CLS, GOOD, len(WORDS), FILM, SEP]]


def test_a_class_does_not_know_an_added_token_of_the_file_that_the_settings_leave_out(folder):
    rust = opened(folder)._rust
    rust.add_tokens(["<user>"])
    rust.save(str(folder / "tokenizer.json"))
    with_it, without = [CLS, GOOD, len(WORDS), SEP], [CLS, GOOD, UNK, UNK, UNK, SEP]
    assert ids(opened(folder), "good <user>") == [with_it]
    assert ids(opened(folder, added_tokens_decoder={}), "good <user>") == [without]
    assert ids(opened(folder, added_tokens_decoder={}, **GENERIC), "good <user>") == [with_it]


@pytest.mark.parametrize("from_json", [True, False])
def test_special_tokens_are_cut_like_other_words_where_the_settings_say_so(folder, from_json):
    if from_json:
        as_json(folder)
    (cut,) = ids(opened(folder, split_special_tokens=True), "good [SEP] bad")
    assert cut == [CLS, GOOD, UNK, UNK, UNK, BAD, SEP]


@pytest.mark.parametrize("said", [None, "left", "right"])
@pytest.mark.parametrize("in_file", ["Left", "Right"])
def test_a_long_text_loses_the_end_that_the_settings_name_else_the_file(folder, in_file, said):
    truncation = {"direction": in_file, "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    as_json(folder, truncation=truncation)
    settings = {"truncation_side": said} if said else {}
    tokenizer = opened(folder, positions=4, **settings)
    kept = BAD if (said or in_file.lower()) == "left" else GOOD
    assert ids(tokenizer, "good good bad bad") == [[CLS, kept, kept, SEP]]


def test_a_roberta_frames_pairs_with_two_separators_and_no_types(roberta):
    tokenizer = opened(roberta, model_type="roberta")
    (encoded,) = tokenizer.encode([("ba", "ba")])
    mask = tokenizer._rust.get_vocab_size() - 1
    merged = mask - 1
    assert encoded.ids.tolist() == [0, merged, 2, 2, merged, 2]
    assert encoded.types.tolist() == [0] * 6
    assert ids(tokenizer, "<mask>") == [[0, mask, 2]]


def test_padding_and_truncation_of_a_tokenizer_json_are_dropped(folder):
    rust = opened(folder)._rust
    rust.enable_padding(length=50)
    rust.enable_truncation(4)
    rust.save(str(folder / "tokenizer.json"))
    assert ids(opened(folder), "good good good") == [[CLS, GOOD, GOOD, GOOD, SEP]]


def test_the_limit_is_the_smaller_of_settings_and_positions(folder):
    assert opened(folder, positions=20).limit == 20
    assert opened(folder, positions=20, model_max_length=9).limit == 9
    assert opened(folder, positions=20, max_len=9.0).limit == 9
    assert opened(folder, positions=20, model_max_length=10**30).limit == 20
    assert opened(folder, positions=20, model_max_length=1e30).limit == 20
    assert opened(folder, positions=20, model_max_length=None, max_len=9).limit == 20


def test_a_long_text_keeps_its_frame_and_says_what_it_was(folder):
    (encoded,) = opened(folder, positions=5).encode(["good bad film good bad"])
    assert encoded.ids.tolist() == [CLS, GOOD, BAD, FILM, SEP]
    assert (encoded.full_length, encoded.truncated) == (7, True)


def test_a_long_text_may_lose_its_beginning(folder):
    tokenizer = opened(folder, positions=5, truncation_side="left")
    assert ids(tokenizer, "good good bad film bad") == [[CLS, BAD, FILM, BAD, SEP]]


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (1, 9, (1, 4)),
        (9, 1, (4, 1)),
        (9, 9, (2, 3)),
        (9, 8, (3, 2)),
        (2, 3, (2, 3)),
        (0, 9, (0, 5)),
    ],
)
def test_of_a_pair_the_longer_is_cut_first(folder, first, second, kept):
    (encoded,) = opened(folder, positions=8).encode([("good " * first, "bad " * second)])
    expected = [CLS, *[GOOD] * kept[0], SEP, *[BAD] * kept[1], SEP]
    assert encoded.ids.tolist() == expected
    assert encoded.types.tolist() == [0] * (kept[0] + 2) + [1] * (kept[1] + 1)
    assert encoded.full_length == first + second + 3


@pytest.mark.parametrize(("max_length", "length"), [(None, 8), (99, 8), (8, 8), (5, 5), (4, 4)])
def test_max_length_only_lowers_the_limit(folder, max_length, length):
    tokenizer = opened(folder, positions=8)
    for text in ("good " * 20, ("good " * 20, "bad")):
        (encoded,) = tokenizer.encode([text], Tokenization(max_length=max_length))
        assert (len(encoded), encoded.truncated) == (length, True)


@pytest.mark.parametrize("max_length", [3, 0, -7])
def test_max_length_is_no_less_than_a_pair_needs(folder, roberta, max_length):
    for path, model_type, least in [(folder, "bert", 4), (roberta, "roberta", 5)]:
        tokenizer = opened(path, model_type=model_type)
        encoded = tokenizer.encode(
            ["good bad good", ("good", "bad")], Tokenization(max_length=max_length)
        )
        assert tokenizer.least == least
        assert [len(each) for each in encoded] == [least, least]


def test_a_text_alone_may_have_more_special_ids_than_a_pair(folder):
    frame = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    post = {"type": "TemplateProcessing", "single": [*[frame] * 6, first]}
    special = {"[CLS]": {"id": "[CLS]", "ids": [CLS], "tokens": ["[CLS]"]}}
    as_json(
        folder, post_processor=post | {"pair": [frame, first, second], "special_tokens": special}
    )
    (encoded,) = opened(folder, **GENERIC).encode(["good " * 9], Tokenization(max_length=1))
    assert encoded.ids.tolist() == [*[CLS] * 6, GOOD]


@pytest.mark.parametrize(
    ("truncation", "first", "second", "kept"),
    [
        ("only_first", 9, 4, (1, 4)),
        ("only_first", 9, 0, (5, 0)),
        ("only_second", 4, 9, (4, 1)),
        ("only_second", 0, 9, (0, 5)),
        ("only_first", 2, 3, (2, 3)),
        ("only_second", 2, 3, (2, 3)),
        ("do_not_truncate", 2, 3, (2, 3)),
    ],
)
def test_only_the_chosen_text_of_a_pair_is_cut(folder, truncation, first, second, kept):
    tokenizer = opened(folder, positions=8)
    pair = ("good " * first, "bad " * second)
    (encoded,) = tokenizer.encode([pair], Tokenization(truncation))
    assert encoded.ids.tolist() == [CLS, *[GOOD] * kept[0], SEP, *[BAD] * kept[1], SEP]
    assert encoded.types.tolist() == [0] * (kept[0] + 2) + [1] * (kept[1] + 1)
    assert encoded.full_length == first + second + 3


def test_the_chosen_text_of_a_pair_may_lose_its_beginning(folder):
    tokenizer = opened(folder, positions=6, truncation_side="left")
    (encoded,) = tokenizer.encode([("film", "bad bad good film")], Tokenization("only_second"))
    assert encoded.ids.tolist() == [CLS, FILM, SEP, GOOD, FILM, SEP]


@pytest.mark.parametrize("own", ["left", "right"])
def test_the_end_that_a_long_text_loses_may_be_chosen(folder, own):
    tokenizer = opened(folder, positions=5, truncation_side=own)
    kept = {"left": [BAD, FILM, GOOD], "right": [GOOD, BAD, FILM]}
    for direction in (None, "left", "right"):
        tokenization = Tokenization(direction=direction)
        (encoded,) = tokenizer.encode(["good bad film good"], tokenization)
        assert encoded.ids.tolist() == [CLS, *kept[direction or own], SEP]


def test_a_text_alone_is_a_first_text(folder):
    tokenizer = opened(folder, positions=5)
    (encoded,) = tokenizer.encode(["good bad film good"], Tokenization("only_first"))
    assert encoded.ids.tolist() == [CLS, GOOD, BAD, FILM, SEP]
    (encoded,) = tokenizer.encode(["good bad film"], Tokenization("only_second"))
    assert encoded.ids.tolist() == [CLS, GOOD, BAD, FILM, SEP]


@pytest.mark.parametrize(
    ("truncation", "text", "length"),
    [
        ("do_not_truncate", "secret " * 7, 9),
        ("do_not_truncate", ("secret " * 3, "secret " * 3), 9),
        ("only_second", "secret " * 7, 9),
        ("only_second", ("secret " * 5, "secret"), 9),
        ("only_second", ("secret " * 9, "secret " * 9), 21),
        ("only_first", ("secret", "secret " * 5), 9),
        ("only_first", ("", "secret " * 6), 9),
    ],
)
def test_a_cut_that_truncation_does_not_allow_is_refused(folder, truncation, text, length):
    tokenizer = opened(folder, positions=8)
    for max_length in (None, 8, 9):
        with pytest.raises(BadInput) as refusal:
            tokenizer.encode(["good", "bad", text], Tokenization(truncation, max_length=max_length))
        assert str(refusal.value) == (
            f"text 3 has {length} tokens, more than the 8 that the model reads, and "
            + (
                "it must not be truncated; shorten it, or let it be truncated"
                if truncation == "do_not_truncate"
                else f"truncation '{truncation}' does not cut it to that; shorten it, or use "
                "'longest_first'"
            )
        )


def test_a_refusal_names_a_lowered_limit_as_such(folder):
    with pytest.raises(BadInput, match="has 7 tokens, more than the 6 that max_length allows, and"):
        opened(folder).encode(["good " * 5], Tokenization("do_not_truncate", max_length=6))


def test_a_pair_of_very_long_texts_takes_no_time(folder):
    """What is cut off is not kept: parts of one with parts of the other would be a million here."""
    began = time.perf_counter()
    (encoded,) = opened(folder, positions=64).encode([("e" * 60_000, "good?" * 60_000)])
    assert time.perf_counter() - began < 10
    assert (len(encoded), encoded.full_length) == (64, 120_004)


def test_a_word_without_end_takes_no_time(folder, roberta):
    began = time.perf_counter()
    for model_type in ("bert", "roberta"):
        tokenizer = opened(folder if model_type == "bert" else roberta, model_type=model_type)
        tokenizer.encode(["b" * 300_000, "\u4e00" * 100_000, " " * 300_000])
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize("text", ["\ud800", "good \udfff", ("good", "\ud83d"), ("\ud83d", "good")])
def test_half_a_surrogate_pair_is_refused_by_its_number(folder, text):
    with pytest.raises(BadInput) as refusal:
        opened(folder).encode(["good", "bad", text])
    assert str(refusal.value) == "text 3 is not valid Unicode: it holds half of a surrogate pair"


@pytest.mark.parametrize(
    ("text", "came"),
    [
        (None, "NoneType"),
        (7, "int"),
        (b"good", "bytes"),
        (["good", "bad"], "list"),
        (("good",), "tuple"),
        (("good", "bad", "film"), "tuple"),
        (("good", None), "NoneType"),
    ],
)
def test_what_is_no_text_is_refused_by_its_number(folder, text, came):
    with pytest.raises(BadInput) as refusal:
        opened(folder).encode(["good", text])
    assert str(refusal.value) == f"text 2 must be a string or a pair of strings, not {came}"


def test_threads_share_a_tokenizer(folder):
    tokenizer = opened(folder, positions=6)
    texts = ["good", "bad films", ("good " * 9, "bad"), "film " * 50]
    expected = ids(tokenizer, *texts)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ids(tokenizer, *texts), range(200)))
    assert answers == [expected] * 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_may_fork_after_texts_were_encoded(folder):
    """The library's own threads would warn, and hang at worst."""
    code = (
        "import os, sys, pathlib\n"
        "from labelwise.engine.tokenizer.tokenizer import Tokenizer\n"
        "tokenizer = Tokenizer.open(pathlib.Path(sys.argv[1]), 512, 'bert')\n"
        "tokenizer.encode(['good', 'bad'] * 50)\n"
        "child = os.fork()\n"
        "child and os.waitpid(child, 0)\n"
        "tokenizer.encode(['good', 'bad'] * 50)\n"
        "print(*tokenizer.encode(['good'])[0].ids, flush=True)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key[:4] != "TOKE"}
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(  # noqa: S603
        command, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "2 5 3\n2 5 3\n"
    assert "parallelism" not in done.stderr


def test_added_tokens_come_after_the_vocabulary(folder):
    (folder / "added_tokens.json").write_text('{"masterpiece": 11}')
    assert ids(opened(folder), "masterpiece good") == [[CLS, len(WORDS), GOOD, SEP]]


def test_a_vocabulary_is_a_word_a_line(folder):
    """As the library reads it: blanks at the end count for nothing, and of two the last counts."""
    path = folder / "vocab.txt"
    text = "[UNK]\r\n[CLS] \n[SEP]\t\n\n\u2028\na\u2028b\nb\u3000\nc\x0bd\x85\nc\rd\nb\n\x1c!\n\n"
    for end in ("", "e", "e\r\n"):
        path.write_bytes((text + end).encode())
        expected = tokenizers.models.WordPiece.read_file(str(path))
        assert json.loads(opened(folder)._rust.to_str())["model"]["vocab"] == expected


def test_merges_are_pairs_after_their_version(roberta):
    before = ids(opened(roberta, model_type="roberta"), "baba")
    (roberta / "merges.txt").write_bytes(b"#version: 0.2\r\nb a\r\n")
    assert ids(opened(roberta, model_type="roberta"), "baba") == before
    for broken in (b"ba\n", b"b a b\n", b"b a\n\n", b"\xff"):
        (roberta / "merges.txt").write_bytes(broken)
        with pytest.raises(BadFile, match=r"merges\.txt cannot be used: "):
            opened(roberta, model_type="roberta")


def test_special_tokens_may_have_other_names(folder):
    (folder / "vocab.txt").write_text("<u>\n<c>\n<e>\ngood")
    special = {"unk_token": "<u>", "cls_token": {"content": "<c>"}, "sep_token": "<e>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    assert ids(opened(folder), "good awful") == [[1, 3, 0, 2]]


def test_a_dropout_for_training_is_not_drawn(roberta):
    rust = opened(roberta, model_type="roberta")._rust
    content = json.loads(rust.to_str())
    content["model"]["dropout"] = 0.9
    (roberta / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = opened(roberta, model_type="roberta")
    assert len({tuple(row) for row in ids(tokenizer, *["babababa"] * 20)}) == 1


def test_a_folder_without_a_tokenizer_says_what_was_looked_for(tmp_path):
    for model_type, wanted in [
        ("bert", "tokenizer.json, or vocab.txt"),
        ("roberta", "tokenizer.json, or vocab.json and merges.txt"),
        ("xlm-roberta", "tokenizer.json, or tokenizer.model or sentencepiece.bpe.model or "),
    ]:
        with pytest.raises(BadFile, match=f"looked for {wanted}"):
            opened(tmp_path, model_type=model_type)


def test_a_vocabulary_of_another_class_is_not_mistaken_for_a_known_one(folder):
    """Tokenizers with rules of their own also keep a vocab.txt."""
    with pytest.raises(UnsupportedModel, match="BertJapaneseTokenizer is program code"):
        opened(folder, tokenizer_class="BertJapaneseTokenizer")
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(BadFile, match=r"looked for tokenizer\.json, or vocab\.json and merges"):
        opened(folder, model_type="roberta")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"model": {"type": "WordPiece"}}',
        b'{"version": "1.0", "model": {"type": "Oracle", "vocab": {}}}',
        b"[" * 100_000,
    ],
)
def test_a_broken_tokenizer_json_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(BadFile, match=r"tokenizer\.json cannot be used: ") as refusal:
        opened(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("nested", [False, True])
def test_a_frame_of_undefined_tokens_is_refused(folder, nested, capfd):
    """The library would panic, with a note on stderr."""
    frame = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}]
    post = {"type": "TemplateProcessing", "single": [], "pair": frame, "special_tokens": {}}
    if nested:
        post = {"type": "Sequence", "processors": [post]}
    as_json(folder, post_processor=post)
    with pytest.raises(BadFile, match=r"cannot be used: .* names '\[CLS\]' without an id"):
        opened(folder)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("setting", "most"), [(10**9, 1000), (1000, 1000), (5, 5)])
def test_the_letters_of_a_word_have_an_end(folder, setting, most):
    """Cutting up a word takes the square of its letters."""
    model = json.loads(opened(folder)._rust.to_str())["model"]
    as_json(folder, model=model | {"max_input_chars_per_word": setting})
    longest = "film" + "s" * (most - 4)
    assert ids(opened(folder, positions=2000), longest, longest + "s") == [
        [CLS, FILM, *[PLURAL] * (most - 4), SEP],
        [CLS, UNK, SEP],
    ]


TOKENIZER_FILES = [
    ("tokenizer.json", "bert"),
    ("tokenizer_config.json", "bert"),
    ("special_tokens_map.json", "bert"),
    ("added_tokens.json", "bert"),
    ("vocab.txt", "bert"),
    ("vocab.json", "roberta"),
    ("merges.txt", "roberta"),
]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.parametrize(("name", "model_type"), TOKENIZER_FILES)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.usefixtures("roberta")
def test_what_is_no_regular_file_is_not_read(folder, name, model_type, kind):
    path = folder / name
    path.unlink(missing_ok=True)
    make = {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero")}
    make.get(kind, os.mkdir)(path)
    with pytest.raises(BadFile, match=f"/{name} is not a regular file$"):
        opened(folder, model_type=model_type)


@pytest.mark.parametrize(("name", "model_type"), TOKENIZER_FILES)
@pytest.mark.usefixtures("roberta")
def test_a_file_of_absurd_size_is_not_read(folder, name, model_type):
    with (folder / name).open("wb") as file:
        file.truncate(10**11)  # sparse
    with pytest.raises(BadFile, match=f"/{name} is larger than"):
        opened(folder, model_type=model_type)


@pytest.mark.parametrize(("name", "model_type"), TOKENIZER_FILES)
@pytest.mark.usefixtures("roberta")
def test_a_link_to_nowhere_is_named(folder, name, model_type):
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder / "nowhere")
    with pytest.raises(BadFile, match=f"/{name} is missing"):
        opened(folder, model_type=model_type)


def test_a_tokenizer_that_fails_on_a_text_does_not_quote_it(folder):
    content = json.loads(opened(folder)._rust.to_str())["model"]
    del content["vocab"]["[UNK]"]
    tokenizer = opened(as_json(folder, model=content, added_tokens=[]))
    assert ids(tokenizer, "good") == [[CLS, GOOD, SEP]]
    with pytest.raises(BadFile) as refusal:
        tokenizer.encode(["good", "secret"])
    assert str(refusal.value) == "the tokenizer fails on text 2; its files are broken"


def test_a_vocabulary_that_lacks_a_needed_word_is_refused(folder, roberta):
    (folder / "vocab.txt").write_text("[CLS]\n[SEP]\ngood")
    with pytest.raises(BadFile, match=r"vocab\.txt cannot be used: it lacks '\[UNK\]'"):
        opened(folder)
    (roberta / "merges.txt").write_text("#version: 0.2\nb zz\n")
    with pytest.raises(BadFile, match=r"merges\.txt cannot be used: "):
        opened(roberta, model_type="roberta")


def test_a_vocabulary_that_is_no_text_is_refused(folder, roberta):
    (folder / "vocab.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadFile, match=r"vocab\.txt cannot be used: "):
        opened(folder)
    (roberta / "vocab.json").write_text('["good"]')
    with pytest.raises(BadFile, match=r"vocab\.json does not hold a JSON object"):
        opened(roberta, model_type="roberta")
    (roberta / "vocab.json").write_text('{"good": "bad"}')
    with pytest.raises(BadFile, match=r"vocab\.json and .* cannot be used: "):
        opened(roberta, model_type="roberta")


def test_a_frame_without_special_ids_is_refused(folder):
    with pytest.raises(BadFile, match="puts no special tokens around a text"):
        opened(
            as_json(
                folder,
                post_processor={"type": "ByteLevel"}
                | dict.fromkeys(("add_prefix_space", "trim_offsets", "use_regex"), True),
            ),
            **GENERIC,
        )


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"model_max_length": "512"}, "model_max_length must be a number, not '512'"),
        ({"model_max_length": True}, "model_max_length must be a number"),
        ({"model_max_length": float("nan")}, "model_max_length must be a number"),
        ({"model_max_length": 3}, "the model reads 3 tokens at most; .* needs 4"),
        ({"model_max_length": -1}, "the model reads -1 tokens at most"),
        ({"do_lower_case": "yes"}, "do_lower_case must be true or false, not 'yes'"),
        ({"cls_token": 7}, "a special token must be text, not 7"),
        ({"cls_token": {"lstrip": True}}, "a special token must be text"),
        ({"added_tokens_decoder": {"x": "y"}}, "ids of the added tokens must be whole numbers"),
        ({"added_tokens_decoder": [3]}, "ids of the added tokens must be whole numbers"),
        ({"added_tokens_decoder": 3}, "ids of the added tokens must be whole numbers"),
        ({"added_tokens_decoder": {"3": 4}}, "a special token must be text, not 4"),
        ({"additional_special_tokens": "x"}, "extra_special_tokens must be a list"),
    ],
)
def test_impossible_settings_are_named(folder, settings, fault):
    with pytest.raises(BadFile, match=fault):
        opened(folder, **settings)


def test_settings_that_are_no_object_are_refused(folder):
    (folder / "special_tokens_map.json").write_text("[1]")
    with pytest.raises(BadFile, match=r"special_tokens_map\.json does not hold a JSON object"):
        opened(folder)


@pytest.mark.parametrize("number", ["Infinity", "NaN", "null", '"x"', "[]"])
def test_impossible_ids_of_added_tokens_are_refused(folder, number):
    (folder / "added_tokens.json").write_text('{"masterpiece": ' + number + "}")
    with pytest.raises(BadFile, match="ids of the added tokens must be whole numbers"):
        opened(folder)


def test_code_that_the_settings_ask_for_is_not_run(folder):
    settings = {"auto_map": {"AutoTokenizer": ["code.Evil", None]}, "no_such_key": 1}
    assert ids(opened(folder, **settings), "good") == [[CLS, GOOD, SEP]]
