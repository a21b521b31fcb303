"""Ids, types and truncation are what transformers makes of the same folder."""

import itertools
import json
import random

import pytest
import tokenizers

import labelwise
from labelwise.engine.tokenizer import tokenizer as text_module
from labelwise.engine.tokenizer.tokenizer import Tokenization, Tokenizer
from labelwise.errors import BadInput

pytestmark = pytest.mark.parity

WORDS = [
    "",
    " ",
    "A wonderful film, start to finish!",
    "Crème brûlée à la carte; Ångström ÉCOLE İstanbul ǅ ﬁne straße",
    "e\u0301 versus \u00e9, o\u0302\u0323",
    "我爱北京天安门 and 日本語テスト 한국어 \u3000wide",
    "no 𠀀𪜎 word",
    "\U0001f600\U0001f469\u200d\U0001f4bb flags \U0001f1eb\U0001f1f7 ok\ufe0f",
    "tab\tnew\nline\r\n\x0bfeed\x0c\x00nul\x01\x7f\ufffd\x85 end",
    "zero\u200bwidth\u200d\u2060joined\ufeff soft\u00adhyphen nb\u00a0space",
    "[CLS] typed [SEP] by [sep] hand [MASK][MASK] <s> </s> <pad> <mask> <unk> [UNK]",
    "x" * 99,
    "x" * 100,
    "x" * 101,
    "word" * 80 + " tail",
    "don't can't I'LL we're 3.14 1,000 e-mail@host.org #tag @user http://a.b/c?d=e&f",
    "MiXeD CaSe and UPPER and lower",
    "عربى עברית हिन्दी ไทย Ελληνικά Ωμέγα ς Кириллица Ёж",
    "``quotes'' “curly” \u2018single\u2019 — dash … ellipsis ¿qué?",
    "  leading and   many   spaces  ",
    "$+<=>^`|~ ₿ € ∑ ½ ² ™",
]
LONG = [(" ".join(WORDS) + " ") * 3, "dull " * 700, "一" * 900]
PAIRS = [
    *itertools.pairwise([*WORDS, *LONG]),
    ("dull " * 700, "short"),
    ("", "good " * 700),
    ("dull " * 700, "good " * 701),
    ("dull " * 701, "good " * 700),
    (LONG[0] * 2, LONG[0] * 3),
    (LONG[0] * 3, LONG[0] * 2),
]
LONG_ONES = {text for text in (*LONG, *PAIRS) if len("".join(text)) > 500}  # may be read in part

TRUNCATIONS = ["longest_first", "only_first", "only_second"]


@pytest.fixture(autouse=True)
def little_is_read_at_first(monkeypatch):
    """Texts of a thousand characters are far too long for these limits."""
    monkeypatch.setattr(text_module, "_FEW_CHARACTERS", 0)


@pytest.fixture(scope="module")
def wordpiece():
    """A real vocabulary, and every character of the texts, in both cases."""
    path = labelwise.__path__[0] + "/builtin/minilm-l6-sst2/tokenizer.json"
    vocabulary = tokenizers.Tokenizer.from_file(path).get_vocab()
    words = sorted(vocabulary, key=vocabulary.get)
    letters = sorted(
        {letter for letter in "".join(WORDS) if letter.strip() and letter.isprintable()}
    )
    extra = [form for letter in letters for form in (letter, f"##{letter}")]
    return [*words, *(form for form in extra if form not in vocabulary)]


@pytest.fixture(scope="module")
def byte_pairs():
    """A byte-level BPE as RoBERTa has it: its vocabulary and merges."""
    trained = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(
        WORDS * 2, vocab_size=700, special_tokens=special, show_progress=False
    )
    return json.loads(trained.to_str())["model"]


def write(folder, model_type, **files):
    """A model's folder: each of *files* by the first part of its name, JSON unless it is a str."""
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        suffix = ".txt" if name in ("vocab", "merges") and isinstance(content, str) else ".json"
        (folder / f"{name}{suffix}").write_text(text, encoding="utf-8")
    return folder


def assert_same(folder, model_type, *, limit):
    """Labelwise and transformers read every text and pair of *folder* alike."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = Tokenizer.open(folder, limit, model_type)
    assert ours.limit == min(limit, theirs.model_max_length)
    for text in [*WORDS, *LONG, *PAIRS]:
        both = text if isinstance(text, tuple) else (text, None)
        expected = theirs(*both, truncation=True, max_length=ours.limit)
        (actual,) = ours.encode([text])
        assert actual.ids.tolist() == expected["input_ids"]
        # Types of a kind of model that does not read them are nought here, and absent there.
        silent = [0] * len(actual)
        assert actual.types.tolist() == expected.get("token_type_ids", silent)
        whole = len(theirs(*both, verbose=False)["input_ids"])
        assert actual.truncated == (whole > ours.limit)
        assert actual.full_length == whole or (text in LONG_ONES and actual.full_length < whole)
    short = [*WORDS, *itertools.pairwise(WORDS)]
    for text, truncation, most in itertools.product(short, TRUNCATIONS, (9, 30)):
        assert_cut_alike(ours, theirs, text, truncation, most)


def assert_cut_alike(ours, theirs, text, truncation, most):
    """Both read *text* alike, or both refuse it; whether they read it."""
    batches = [[part] for part in (text if isinstance(text, tuple) else (text,))]
    try:
        expected = theirs(*batches, truncation=truncation, max_length=most)
    except Exception as refusal:  # noqa: BLE001 - the library raises no narrower one
        assert "Truncation error" in str(refusal)  # noqa: PT017
        with pytest.raises(BadInput):
            ours.encode([text], Tokenization(truncation, max_length=most))
        return False
    (actual,) = ours.encode([text], Tokenization(truncation, max_length=most))
    assert [actual.ids.tolist()] == expected["input_ids"]
    assert [actual.types.tolist()] == expected.get("token_type_ids", [[0] * len(actual)])
    return True


@pytest.mark.parametrize("strip_accents", [None, True, False])
@pytest.mark.parametrize("do_lower_case", [True, False])
def test_a_vocab_txt_is_read_alike(wordpiece, tmp_path, do_lower_case, strip_accents):
    settings = {"do_lower_case": do_lower_case, "strip_accents": strip_accents}
    settings["model_max_length"] = 64
    write(tmp_path, "bert", vocab="\n".join(wordpiece), tokenizer_config=settings)
    assert_same(tmp_path, "bert", limit=512)


def test_a_vocab_txt_without_settings_is_read_alike(wordpiece, tmp_path):
    write(tmp_path, "distilbert", vocab="\n".join(wordpiece) + "\n")
    assert_same(tmp_path, "distilbert", limit=33)


def test_special_tokens_of_every_form_are_read_alike(wordpiece, tmp_path):
    words = ["<unk>" if word == "[UNK]" else word for word in wordpiece]
    special = {
        "unk_token": "<unk>",
        "cls_token": {"content": "<s>", "lstrip": False, "normalized": False},
        "mask_token": {"content": "[MASK]", "lstrip": True, "rstrip": False, "normalized": True},
    }
    write(
        tmp_path,
        "electra",
        vocab="\n".join(words),
        tokenizer_config={"tokenize_chinese_chars": False, "model_max_length": 1e30},
        special_tokens_map=special,
        added_tokens={"brûlée": len(words) + 1, "typed": len(words)},
    )
    assert_same(tmp_path, "electra", limit=100)


def test_added_tokens_in_the_settings_are_read_alike(wordpiece, tmp_path):
    traits = {"lstrip": False, "rstrip": True, "normalized": False, "single_word": True}
    settings = {
        "tokenizer_class": "BertTokenizerFast",
        "truncation_side": "left",
        "added_tokens_decoder": {
            "103": {"content": "[MASK]", **traits, "special": True},
            str(len(wordpiece)): {"content": "wonderful", **traits, "special": False},
        },
        "additional_special_tokens": ["#tag"],
    }
    write(tmp_path, "bert", vocab="\n".join(wordpiece), tokenizer_config=settings)
    assert_same(tmp_path, "bert", limit=48)


@pytest.mark.parametrize("settings", [None, {"add_prefix_space": True, "model_max_length": 40}])
def test_a_vocab_json_with_merges_is_read_alike(byte_pairs, tmp_path, settings):
    merges = "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in byte_pairs["merges"]) + "\n"
    vocabulary = json.dumps(byte_pairs["vocab"])
    write(
        tmp_path, "roberta", merges=merges, **({"tokenizer_config": settings} if settings else {})
    )
    (tmp_path / "vocab.json").write_text(vocabulary)
    (tmp_path / "special_tokens_map.json").write_text(
        '{"mask_token": {"content": "<mask>", "lstrip": true, "normalized": true}}'
    )
    assert_same(tmp_path, "roberta", limit=77)


@pytest.mark.parametrize("limit", [63, 64])
def test_a_tokenizer_json_is_read_alike(tmp_path, limit):
    """Padding and truncation that its maker left in the file count for nothing."""
    source = labelwise.__path__[0] + "/builtin/minilm-l6-sst2/tokenizer.json"
    rust = tokenizers.Tokenizer.from_file(source)
    rust.enable_padding(length=20)
    rust.enable_truncation(10, strategy="only_first")
    rust.save(str(tmp_path / "tokenizer.json"))
    assert_same(write(tmp_path, "bert"), "bert", limit=limit)


@pytest.mark.parametrize("limit", [4, 5, 16, 17])
@pytest.mark.parametrize("side", ["left", "right"])
def test_any_two_lengths_are_truncated_alike(tmp_path, side, limit):
    source = labelwise.__path__[0] + "/builtin/minilm-l6-sst2/tokenizer.json"
    tokenizers.Tokenizer.from_file(source).save(str(tmp_path / "tokenizer.json"))
    write(tmp_path, "bert", tokenizer_config={"truncation_side": side})
    theirs = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.open(tmp_path, limit, "bert")
    words = random.Random(5).choices(["good", "bad", "dull", "plot"], k=20)  # noqa: S311
    pairs = [
        (" ".join(words[:a]), " ".join(words[-b:])) for a in range(1, 20) for b in range(1, 20)
    ]
    expected = theirs(
        [a for a, _ in pairs], [b for _, b in pairs], truncation=True, max_length=limit
    )
    assert [each.ids.tolist() for each in ours.encode(pairs)] == expected["input_ids"]


@pytest.mark.parametrize("truncation", TRUNCATIONS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_any_two_lengths_are_cut_or_refused_alike(tmp_path, side, truncation):
    source = labelwise.__path__[0] + "/builtin/minilm-l6-sst2/tokenizer.json"
    tokenizers.Tokenizer.from_file(source).save(str(tmp_path / "tokenizer.json"))
    write(tmp_path, "bert", tokenizer_config={"truncation_side": side})
    theirs = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.open(tmp_path, 512, "bert")
    words = random.Random(5).choices(["good", "bad", "dull", "plot"], k=10)  # noqa: S311
    firsts = [" ".join(words[:a]) for a in range(10)]
    seconds = [None, *(" ".join(words[-b:]) for b in range(1, 10)), ""]
    read = [
        assert_cut_alike(ours, theirs, a if b is None else (a, b), truncation, most)
        for a, b, most in itertools.product(firsts, seconds, (4, 5, 9, 12))
    ]
    assert any(read)
    assert all(read) == (truncation == "longest_first")


def test_settings_overrule_a_tokenizer_json_alike(tmp_path):
    source = labelwise.__path__[0] + "/builtin/minilm-l6-sst2/tokenizer.json"
    tokenizers.Tokenizer.from_file(source).save(str(tmp_path / "tokenizer.json"))
    settings = {"do_lower_case": False, "strip_accents": False, "tokenize_chinese_chars": False}
    write(tmp_path, "bert", tokenizer_config={**settings, "tokenizer_class": "BertTokenizer"})
    assert_same(tmp_path, "bert", limit=64)


@pytest.mark.parametrize("model_type", ["bert", "roberta"])
def test_a_tokenizer_json_without_a_post_processor_is_read_alike(byte_pairs, tmp_path, model_type):
    source = labelwise.__path__[0] + "/builtin/minilm-l6-sst2/tokenizer.json"
    if model_type == "roberta":
        rust = tokenizers.ByteLevelBPETokenizer(
            byte_pairs["vocab"], list(map(tuple, byte_pairs["merges"]))
        )
        rust.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
        content = json.loads(rust.to_str())
    else:
        content = json.loads(tokenizers.Tokenizer.from_file(source).to_str())
    write(tmp_path, model_type, tokenizer=content | {"post_processor": None})
    assert_same(tmp_path, model_type, limit=64)


@pytest.mark.parametrize("model_type", ["xlm-roberta", "camembert"])
def test_a_unigram_tokenizer_json_is_read_alike(tmp_path, model_type):
    transformers = pytest.importorskip("transformers")
    trained = tokenizers.SentencePieceUnigramTokenizer()
    options = {"special_tokens": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "unk_token": "<unk>"}
    trained.train_from_iterator(WORDS, vocab_size=600, show_progress=False, **options)
    vocabulary = [tuple(piece) for piece in json.loads(trained.to_str())["model"]["vocab"]]
    kinds = {
        "xlm-roberta": transformers.XLMRobertaTokenizer,
        "camembert": transformers.CamembertTokenizer,
    }
    kinds[model_type](vocab=vocabulary).save_pretrained(tmp_path)
    assert_same(write(tmp_path, model_type), model_type, limit=64)
