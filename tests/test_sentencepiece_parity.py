"""A SentencePiece model gives the ids that transformers makes of the same folder."""

import io
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelwise.engine.tokenizer.tokenizer import Tokenizer

pytestmark = pytest.mark.parity

CORPUS = [
    "A wonderful film, start to finish! The finest I saw this year; don't miss it.",
    "Crème brûlée à la carte; Ångström École İstanbul straße ﬁne 3.14 1,000",
    "我爱北京天安门 日本語テスト 한국어 عربى עברית हिन्दी ไทย Ελληνικά Кириллица",
    "dull and dreary, two hours I will not get back ½ ² ™ € 😀 👩‍💻",
]
SPACES = " \t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u1680\u2003\u2028\u202f\u3000\u200b\u200d\u2060\ufeff▁"
ODD = [
    "e\u0301",
    "o\u0302\u0323",
    "ﬁ",
    "①",
    "\uff21",
    "ǅ",
    "ㅎ",
    "\x00",
    "\x01",
    "\x7f",
    "\ufffd",
    "𪜎",
]
SPECIAL = ["<s>", "</s>", "<pad>", "<unk>", "<mask>", "\uff1cmask\uff1e", "<s>NOTUSED", "<0x41>"]
OWN = ["[usr]", "fi", "[ctl]", "[new]", "[mapped]", "wonder", "[bos]", "[mask]"]
WORDS = " ".join(CORPUS).split()
TEXTS = st.lists(
    st.sampled_from([*WORDS, *"aeinst019.,!'-", *SPACES, *ODD, *SPECIAL, *OWN])
    | st.text(max_size=5),
    max_size=12,
).map("".join)

RULES = ["nmt_nfkc", "nmt_nfkc_cf", "identity"]
SYMBOLS = {
    "user_defined_symbols": ["[usr]", "fi"],
    "control_symbols": ["[ctl]"],
    "byte_fallback": True,
}
MASK = {"lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
WORD = {"lstrip": False, "rstrip": True, "normalized": True, "single_word": True}
SETTINGS = {
    "none": {},
    "no-prefix": {"tokenizer_config": {"add_prefix_space": False}},
    "map": {
        "special_tokens_map": {
            "mask_token": {"content": "<mask>", **MASK},
            "additional_special_tokens": ["[mapped]"],
        },
        "added_tokens": {"[new]": 2001, "wonder": 2000},
    },
    "extra": {"tokenizer_config": {"additional_special_tokens": ["[new]"], "sep_token": "[sep]"}},
    "names": {
        "tokenizer_config": {
            f"{name}_token": f"[{name}]" for name in ("bos", "eos", "pad", "unk", "mask", "cls")
        }
    },
    "decoder": {
        "tokenizer_config": {
            "tokenizer_class": "XLMRobertaTokenizer",
            "added_tokens_decoder": {
                "2000": {"content": "<mask>", **MASK, "special": True},
                "2001": {"content": "wonder", **WORD, "special": False},
            },
            "extra_special_tokens": [],
        }
    },
}


@cache
def trained(kind, rules, *, symbols):
    """A small SentencePiece model."""
    sentencepiece = pytest.importorskip("sentencepiece")
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 5),
        model_writer=file,
        model_type=kind,
        vocab_size=600,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name=rules,
        minloglevel=2,
        **(SYMBOLS if symbols else {}),
    )
    return file.getvalue()


@cache
def both(of, rules, *, symbols, name):
    """Labelwise's tokenizer and transformers' for the same folder."""
    model_type, kind = of
    transformers = pytest.importorskip("transformers")
    with TemporaryDirectory() as home:
        folder = Path(home)
        (folder / "sentencepiece.bpe.model").write_bytes(trained(kind, rules, symbols=symbols))
        for file, content in {"config": {"model_type": model_type}, **SETTINGS[name]}.items():
            (folder / f"{file}.json").write_text(json.dumps(content))
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        return Tokenizer.open(folder, 512, model_type), theirs


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("symbols", [False, True])
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(
    "of",
    [("xlm-roberta", "unigram"), ("xlm-roberta", "bpe"), ("camembert", "unigram")],
)
@settings(deadline=None, max_examples=60)
@given(texts=st.tuples(TEXTS, TEXTS))
def test_every_text_and_pair_is_read_alike(of, rules, symbols, name, texts):
    ours, theirs = both(of, rules, symbols=symbols, name=name)
    single, pair = ours.encode([texts[0], texts])
    assert [single.ids.tolist()] == theirs([texts[0]])["input_ids"]
    assert [pair.ids.tolist()] == theirs([texts[0]], [texts[1]])["input_ids"]
    assert not pair.types.any()


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("symbols", [False, True])
@settings(deadline=None, max_examples=300)
@given(words=st.lists(st.sampled_from(WORDS) | st.text("aeinst01.,!'-我한é€😀x∑", max_size=6)))
def test_camembert_reads_a_bpe_model_as_sentencepiece_does(rules, symbols, words):
    """It is the witness, as transformers fails on such a folder."""
    content = trained("bpe", rules, symbols=symbols)
    ours = opened_bpe(content)
    library = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_proto=content)
    text = " ".join(words).replace("fi", "").replace("ﬁ", "")  # symbols stand alone here
    expected = [number + 4 if number else 3 for number in library.encode(text)]
    assert ours.encode([text])[0].ids.tolist() == [5, *expected, 6]


@cache
def opened_bpe(content):
    with TemporaryDirectory() as home:
        (Path(home) / "sentencepiece.bpe.model").write_bytes(content)
        return Tokenizer.open(Path(home), 100_000, "camembert")


def test_transformers_fails_on_a_bpe_model_of_camembert(tmp_path):
    """When it no longer does, its ids are to be compared."""
    transformers = pytest.importorskip("transformers")
    content = trained("bpe", "identity", symbols=False)
    (tmp_path / "sentencepiece.bpe.model").write_bytes(content)
    (tmp_path / "config.json").write_text('{"model_type": "camembert"}')
    with pytest.raises(TypeError):
        transformers.AutoTokenizer.from_pretrained(tmp_path)
