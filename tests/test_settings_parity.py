"""Whatever the settings beside a tokenizer say, its tokens are those of transformers, or it is
refused: over classes, files, added tokens and every key that changes tokens.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import tokenizers
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

import sentencepiece_model
from labelwise import Classifier
from labelwise.engine.tokenizer.classes import CLASSES
from labelwise.engine.tokenizer.tokenizer import Tokenizer
from labelwise.errors import LabelwiseError
from padded import MODEL_TYPES, config, write_model

pytestmark = pytest.mark.parity

LIMIT = 12
TEXTS = [
    "a really good film",
    "",
    "hello <user> see [URL]now",
    "a [SEP] b </s> c [MASK]<mask> new <mask>film",
    "Crème BRÛLÉE 我爱 <user><USER>  [url]",
    "one two three four five six seven eight nine ten",
    "<ent>good<extra> new_tok wonderful",
]
PAIRS = [("a good", "film"), ("", "<user>"), (TEXTS[5], TEXTS[0]), ("a [SEP]", "</s> b")]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
KINDS = ("WordPiece", "BPE", "Unigram")
MODEL_TYPE_OF = {"WordPiece": "bert", "BPE": "roberta", "Unigram": "xlm-roberta"}


@pytest.fixture(scope="module")
def made():
    """By kind, a tokenizer.json as transformers writes it, and the vocabulary files."""
    transformers = pytest.importorskip("transformers")
    letters = sorted({letter for text in TEXTS for letter in text.lower() if letter.strip()})
    words = ["good", "film", "really", "hello", "see", "now", "new", "one", "a"]
    word_piece = [*BERT, *words, *letters, *(f"##{letter}" for letter in letters)]
    trained = tokenizers.ByteLevelBPETokenizer()
    trained.train_from_iterator(TEXTS, 320, special_tokens=ROBERTA, show_progress=False)
    pairs = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in pairs["merges"]]
    pieces = [(token, 0.0) for token in ROBERTA[:4]] + [("▁", -2.0)]
    pieces += [(f"▁{word}", -3.0) for word in words] + [(letter, -5.0) for letter in letters]
    pieces += [("<mask>", 0.0)]
    made = {
        "WordPiece": transformers.BertTokenizer(
            vocab={word: number for number, word in enumerate(dict.fromkeys(word_piece))}
        ),
        "BPE": transformers.RobertaTokenizer(vocab=pairs["vocab"], merges=merges),
        "Unigram": transformers.XLMRobertaTokenizer(vocab=pieces),
    }
    files = {
        "WordPiece": {"vocab.txt": "\n".join(dict.fromkeys(word_piece)) + "\n"},
        "BPE": {
            "vocab.json": json.dumps(pairs["vocab"]),
            "merges.txt": "#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n",
        },
        "Unigram": {"sentencepiece.bpe.model": sentencepiece_model.model(pieces[4:-1])},
    }
    return {kind: (json.loads(made[kind]._tokenizer.to_str()), files[kind]) for kind in KINDS}


IGNORED = (
    "add_bos_token",
    "add_eos_token",
    "clean_up_tokenization_spaces",
    "do_basic_tokenize",
    "trim_offsets",
    "use_fast",
)
maybe = st.none() | st.booleans()
flag = {"single_word": st.booleans(), "lstrip": st.booleans(), "rstrip": st.booleans()}
token = st.sampled_from(["<user>", "[URL]", "<ent>", "<extra>", "new_tok", "wonderful", "film"])


@st.composite
def entry(draw, content=token):
    traits = {name: draw(value) for name, value in flag.items()}
    traits |= {"normalized": draw(st.booleans()), "special": draw(st.booleans())}
    return {"content": draw(content), **traits}


@st.composite
def folders(draw):
    """What a folder holds: the kind of its tokenizer, which files, and what they say."""
    kind = draw(st.sampled_from(KINDS))
    from_json = draw(st.booleans())
    said = {}
    fitting = [name for name, found in CLASSES.items() if found.model in {kind, ""}]
    for place in ("config", "tokenizer_config"):
        if draw(st.integers(0, 2)) == 0:
            name = draw(st.sampled_from(fitting if draw(st.integers(0, 5)) else sorted(CLASSES)))
            name = "PreTrainedTokenizer" if name == "TokenizersBackend" else name
            said[place] = name + draw(st.sampled_from(["", "Fast"]))
    keys = {
        "split_special_tokens": maybe,
        "truncation_side": st.sampled_from([None, "left", "right"]),
        "model_input_names": st.sampled_from(
            [None, ["input_ids", "attention_mask"], ["input_ids", "token_type_ids"]]
        ),
        "extra_special_tokens": st.none()
        | st.lists(token, max_size=2, unique=True)
        | st.dictionaries(st.sampled_from(["a_token", "b"]), token, max_size=2),
        "additional_special_tokens": st.none() | st.lists(token, max_size=2, unique=True),
        "image_token": st.none() | token,
        "model_max_length": st.sampled_from([None, 10]),
        "do_lower_case": maybe,
        "strip_accents": maybe,
        "tokenize_chinese_chars": maybe,
        "add_prefix_space": maybe,
        "unk_token": st.sampled_from([None, "[UNK]", "<unk>"]),
        "mask_token": st.none()
        | entry(st.sampled_from(["[MASK]", "<mask>"])).map(
            lambda one: one | {"__type": "AddedToken"}
        ),
    }
    keys |= dict.fromkeys(IGNORED, maybe) | {
        "padding_side": st.sampled_from(["left", "right"]),
        "never_split": st.just(["film"]),
        "max_length": st.just(5),
        "stride": st.just(2),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(keys)), max_size=5, unique=True))
    said["settings"] = {key: value for key in chosen if (value := draw(keys[key])) is not None}
    if draw(st.integers(0, 2)) == 0:
        entries = draw(st.lists(entry(), max_size=3, unique_by=lambda one: one["content"]))
        first = draw(st.sampled_from([4, 60, 1000]))
        said["settings"]["added_tokens_decoder"] = {
            str(first + number): one for number, one in enumerate(entries)
        }
    if draw(st.integers(0, 2)) == 0:
        names = draw(st.lists(token, max_size=2, unique=True))
        said["added_tokens.json"] = {name: 1000 - number for number, name in enumerate(names)}
    if draw(st.integers(0, 2)) == 0:
        said["special_tokens_map.json"] = {"additional_special_tokens": [draw(token)]}
    said["json_side"] = draw(st.sampled_from([None, "left", "right"])) if from_json else None
    said["json_added"] = draw(st.none() | entry()) if from_json else None
    return kind, from_json, said


def write(folder, made, drawn):
    """*folder* with what was *drawn*; its model type."""
    kind, from_json, said = drawn
    content, files = made[kind]
    content, files = json.loads(json.dumps(content)), dict(files)
    if said["json_side"]:
        content["truncation"] = {
            "direction": said["json_side"].title(),
            "max_length": 8,
            "strategy": "LongestFirst",
            "stride": 0,
        }
    if said["json_added"]:
        rust = tokenizers.Tokenizer.from_str(json.dumps(content))
        rust.add_tokens([tokenizers.AddedToken(**said["json_added"])])
        content = json.loads(rust.to_str())
    if from_json:
        files = {"tokenizer.json": json.dumps(content)}
    model_type = MODEL_TYPE_OF[kind]
    config = {"model_type": model_type}
    config |= {"tokenizer_class": said["config"]} if "config" in said else {}
    of_tokenizer = dict(said["settings"])
    if "tokenizer_config" in said:
        of_tokenizer["tokenizer_class"] = said["tokenizer_config"]
    files |= {"config.json": json.dumps(config)}
    if of_tokenizer:
        files["tokenizer_config.json"] = json.dumps(of_tokenizer)
    for name in ("added_tokens.json", "special_tokens_map.json"):
        if name in said:
            files[name] = json.dumps(said[name])
    for name, text in files.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return model_type


def is_generic(drawn):
    name = drawn[2].get("tokenizer_config") or drawn[2].get("config")
    return name is not None and not CLASSES[name.removesuffix("Fast")].model


@settings(deadline=None, max_examples=400, suppress_health_check=list(HealthCheck))
@given(drawn=folders())
def test_tokens_are_those_of_transformers_or_the_folder_is_refused(made, drawn):
    transformers = pytest.importorskip("transformers")
    note(json.dumps(drawn))

    with TemporaryDirectory() as name:
        folder = Path(name)
        model_type = write(folder, made, drawn)
        try:
            ours = Tokenizer.open(folder, LIMIT, model_type)
        except LabelwiseError as refusal:
            event(f"refused: {str(refusal).replace(name, '')[:50]}")
            return
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        for text in [*TEXTS, *PAIRS]:
            both = text if isinstance(text, tuple) else (text, None)
            expected = theirs(*both, truncation=True, max_length=ours.limit)
            (actual,) = ours.encode([text])
            assert actual.ids.tolist() == expected["input_ids"], text
            if is_generic(drawn) and "model_input_names" not in drawn[2]["settings"]:
                continue  # types of the generic class: decision 7
            silent = [0] * len(actual)
            assert actual.types.tolist() == expected.get("token_type_ids", silent), text


TYPED = ["input_ids", "token_type_ids", "attention_mask"]
KIND_OF = {"bert": 0, "distilbert": 0, "electra": 0, "roberta": 1, "camembert": 2, "xlm-roberta": 2}


@pytest.mark.parametrize("inputs", [None, TYPED, ["input_ids", "attention_mask"]])
@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize("types", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("model_type", "from_json"),
    list(itertools.product(MODEL_TYPES, [True, False])),
)
def test_types_count_where_they_do_in_transformers(  # noqa: PLR0917 - what it varies
    made, tmp_path, model_type, types, from_json, generic, inputs
):
    torch, transformers = map(pytest.importorskip, ("torch", "transformers"))
    content, files = made[KINDS[KIND_OF[model_type]]]
    if from_json:  # its second text is of type 1, whatever the kind of its model
        files = {"tokenizer.json": json.dumps(content | {"post_processor": frame(content)})}
    said = {"tokenizer_class": "PreTrainedTokenizerFast"} if generic else {}
    said |= {"model_input_names": inputs} if inputs else {}
    for name, text in (files | {"tokenizer_config.json": json.dumps(said)}).items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    write_model(tmp_path, config(model_type, vocab_size=400, type_vocab_size=types))

    try:
        ours = Classifier(tmp_path)
    except LabelwiseError:
        if not ((types == 0 and model_type != "distilbert") or (generic and not from_json)):
            raise
        return
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for pair in [("a good film", None), ("a good", "film")]:
        batch = tokenizer(*pair, return_tensors="pt")
        if generic and inputs is None and model_type in {"bert", "electra"}:  # decision 7
            batch["token_type_ids"] = torch.tensor([batch.encodings[0].type_ids])
        if types == 1:  # a table of one row: what it has for the second text is an error there
            batch.pop("token_type_ids", None)
        with torch.no_grad():
            expected = model(**batch).logits.numpy()[0]
        text = pair if pair[1] else pair[0]
        given = {score.label: score.score for score in ours(text, function_to_apply="none")}
        assert [given[label] for label in ours.model.labels] == pytest.approx(expected, abs=1e-4)


def frame(content):
    """A frame as BERT has it, of the special tokens of *content*."""
    numbers = {token["content"]: token["id"] for token in content["added_tokens"]}
    first, last = ("[CLS]", "[SEP]") if "[CLS]" in numbers else ("<s>", "</s>")
    template = tokenizers.processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(token, numbers[token]) for token in (first, last)],
    )
    return json.loads(template.__getstate__())
