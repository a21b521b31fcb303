"""A folder's tokenizer files -> the Rust tokenizer that they describe.

``tokenizer.json`` says everything. Older folders have only a vocabulary, as ``vocab.txt``
(WordPiece), as ``vocab.json`` and ``merges.txt`` (byte-level BPE), or as a SentencePiece model: the
rest is then what BERT, RoBERTa and their kin agreed on, changed by ``tokenizer_config.json`` and
``special_tokens_map.json``.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import tokenizers
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors

from labelwise.engine import sentencepiece_files
from labelwise.engine.files import exists, read_file, read_lines, read_object
from labelwise.errors import BadFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


_MOST_BYTES = 64 * 2**20  # of tokenizer.json; 17 MB is the largest of the known models
_MOST_VOCABULARY = 16 * 2**20
_MOST_LETTERS = 1000  # of a word; cutting one up takes the square of them


@dataclass(frozen=True, slots=True)
class _Style:
    """What one kind of tokenizer agreed on, and its files leave out."""

    typed: bool  # the second text of a pair has type 1
    files: tuple[str, ...]  # of the vocabulary
    special: Mapping[str, str]  # in the order in which those new to the vocabulary get their ids


_BERT = _Style(
    typed=True,
    files=("vocab.txt",),
    special={
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    },
)
_ROBERTA = _Style(
    typed=False,
    files=("vocab.json", "merges.txt"),
    special={
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "cls_token": "<s>",
        "mask_token": "<mask>",
    },
)
_OTHER = replace(_ROBERTA, files=())
_XLM_ROBERTA = replace(_ROBERTA, files=sentencepiece_files.NAMES)  # any one of them
_CAMEMBERT = replace(_XLM_ROBERTA)
_STYLES = {  # by tokenizer class, or by model type where no class is named
    "BertTokenizer": _BERT,
    "DistilBertTokenizer": _BERT,
    "ElectraTokenizer": _BERT,
    "RobertaTokenizer": _ROBERTA,
    "XLMRobertaTokenizer": _XLM_ROBERTA,
    "CamembertTokenizer": _CAMEMBERT,
    "bert": _BERT,
    "distilbert": _BERT,
    "electra": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _XLM_ROBERTA,
    "camembert": _CAMEMBERT,
}
# These cut texts in Python, some with a program of their own: no file can say what they do.
_IN_PYTHON = frozenset(
    [
        "BartphoTokenizer",
        "BertGenerationTokenizer",
        "BertJapaneseTokenizer",
        "BertweetTokenizer",
        "FlaubertTokenizer",
        "PhobertTokenizer",
        "RoCBertTokenizer",
        "TapasTokenizer",
        "XLMTokenizer",
    ]
)


def read_settings(folder: Path) -> dict[str, Any]:
    """``tokenizer_config.json`` with the special tokens of ``special_tokens_map.json``; may be {}.

    Raises:
        BadFile: One of them is there and is not a JSON object.
    """
    settings = _read_optional(folder / "tokenizer_config.json")
    if settings.get("added_tokens_decoder") is None:  # else newer than the second file
        settings |= _read_optional(folder / "special_tokens_map.json")
    return settings


def read_tokenizer(
    folder: Path, model_type: str, settings: Mapping[str, Any]
) -> tuple[tokenizers.Tokenizer, bool]:
    """The tokenizer in *folder*, without padding or truncation, and whether its types count.

    Raises:
        BadFile: No file of it is there, or one is broken.
    """
    kind = str(settings.get("tokenizer_class") or model_type).removesuffix("Fast")
    style = _STYLES.get(kind) or _STYLES.get(model_type, _OTHER)
    rust = _from_json(folder)
    if rust is None:
        rust = _from_vocabulary(folder, kind, settings)
    elif kind in _STYLES:
        _overrule(rust, settings)
    if rust.post_processor is None:
        _frame(rust, style, settings)
    rust.no_padding()
    rust.no_truncation()
    inputs = settings.get("model_input_names")
    return rust, "token_type_ids" in inputs if isinstance(inputs, list) else style.typed


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Turn whatever the Rust library makes of a bad file, a panic included, into a `BadFile`."""
    try:
        yield
    except BadFile:
        raise
    except BaseException as reason:
        if not fails(reason):
            raise
        why = str(reason).partition("\n")[0]
        raise BadFile(f"{what} cannot be used: {why:.150}") from None


def fails(reason: BaseException) -> bool:
    """Whether *reason* is a failure, of the Rust library too, and no request to end."""
    # A panic derives from BaseException, and its class cannot be imported.
    return isinstance(reason, Exception) or type(reason).__name__ == "PanicException"


def _from_json(folder: Path) -> tokenizers.Tokenizer | None:
    """The tokenizer of ``tokenizer.json``; None where there is no such file."""
    path = folder / "tokenizer.json"
    if not exists(path):
        return None
    with guarded(str(path)):
        rust = tokenizers.Tokenizer.from_buffer(read_file(path, _MOST_BYTES))
        if rust.post_processor is not None:
            _check_frame(json.loads(rust.post_processor.__getstate__()))
    model = rust.model  # a reference: what is set here counts
    if isinstance(model, models.BPE):
        model.dropout = None  # made for training: it draws lots for the ids
    elif isinstance(model, models.WordPiece):
        model.max_input_chars_per_word = min(model.max_input_chars_per_word, _MOST_LETTERS)
    return rust


def _check_frame(post: Mapping[str, Any]) -> None:
    """ValueError where a template lacks a special token that it names: Rust would panic."""
    for part in post.get("processors", []):
        _check_frame(part)
    for piece in (*post.get("single", []), *post.get("pair", [])):
        if "SpecialToken" in piece and piece["SpecialToken"]["id"] not in post["special_tokens"]:
            raise ValueError(f"its frame names {piece['SpecialToken']['id']!r:.40} without an id")


def _overrule(rust: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
    """Let ``tokenizer_config.json`` have the last word where both files speak.

    So does transformers. Where the settings are silent it goes on to overrule with defaults, which
    here would lower-case texts for a cased vocabulary; this leaves ``tokenizer.json`` as it is.
    """
    normalizer, splitter = rust.normalizer, rust.pre_tokenizer
    if isinstance(normalizer, normalizers.BertNormalizer):
        for key, trait in (
            ("do_lower_case", "lowercase"),
            ("strip_accents", "strip_accents"),
            ("tokenize_chinese_chars", "handle_chinese_chars"),
        ):
            setattr(normalizer, trait, _flag(settings, key, default=getattr(normalizer, trait)))
    if isinstance(splitter, pre_tokenizers.ByteLevel):
        default = splitter.add_prefix_space
        splitter.add_prefix_space = _flag(settings, "add_prefix_space", default=default)


def _from_vocabulary(folder: Path, kind: str, settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """The tokenizer that the style of *kind* makes of the vocabulary in *folder*."""
    style = _STYLES.get(kind, _OTHER)
    if style.files == sentencepiece_files.NAMES:
        return _from_sentencepiece(folder, style, settings)
    paths = [folder / name for name in style.files]
    if not paths or not all(map(exists, paths)):
        raise _missing(folder, kind, " and ".join(style.files))
    special = _special_tokens(style, settings)
    added = _added_tokens(folder, special, settings)
    with guarded(" and ".join(map(str, paths))):
        if style is _BERT:
            rust = _word_piece(paths[0], special["unk_token"].content, settings)
        else:
            rust = _byte_level(paths[0], paths[1], settings)
        rust.add_tokens(added)
    return rust


def _from_sentencepiece(
    folder: Path, style: _Style, settings: Mapping[str, Any]
) -> tokenizers.Tokenizer:
    """The tokenizer that *style* makes of the SentencePiece model in *folder*, with its frame."""
    path = next((folder / name for name in style.files if exists(folder / name)), None)
    if path is None:
        raise _missing(folder, "", " or ".join(style.files))
    special = _special_tokens(style, settings)
    names = {name: token.content for name, token in special.items()}
    spaced = _flag(settings, "add_prefix_space", default=True)
    kin = sentencepiece_files.camembert if style is _CAMEMBERT else sentencepiece_files.xlm_roberta
    with guarded(str(path)):
        model = sentencepiece_files.read_model(path)
        cutter = kin(model, names)
        rust = sentencepiece_files.assembled(cutter, model.charsmap, add_prefix_space=spaced)
        # In transformers the model's symbols displace what special_tokens_map.json adds.
        own = _read_optional(folder / "tokenizer_config.json")
        if "extra_special_tokens" not in settings and "additional_special_tokens" not in own:
            settings = {**settings, "additional_special_tokens": model.symbols()}
        rust.add_tokens(_added_tokens(folder, special, settings))
    _frame(rust, style, {"cls_token": names["bos_token"], "sep_token": names["eos_token"]})
    return rust


def _missing(folder: Path, kind: str, files: str) -> BadFile:
    """What to say of a *folder* that has neither ``tokenizer.json`` nor *files*."""
    if kind in _IN_PYTHON:
        return BadFile(
            f"{folder} has no tokenizer that can be read here: {kind} cuts texts by code of its "
            "own; take a model that comes with a tokenizer.json"
        )
    wanted = "tokenizer.json" + (f", or {files}" if files else "")
    return BadFile(
        f"{folder} has no tokenizer that can be read here; looked for {wanted}; if transformers "
        "reads it, AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes "
        "tokenizer.json"
    )


def _word_piece(path: Path, unknown: str, settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    words = read_lines(path, _MOST_VOCABULARY)
    vocabulary = {word.rstrip(): number for number, word in enumerate(words)}
    if unknown not in vocabulary:
        raise ValueError(f"it lacks {unknown!r:.40}, which stands for what it does not know")
    rust = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    rust.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=_flag(settings, "tokenize_chinese_chars", default=True),
        strip_accents=_flag(settings, "strip_accents", default=None),
        lowercase=_flag(settings, "do_lower_case", default=True),
    )
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return rust


def _byte_level(words: Path, merges: Path, settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    lines = read_lines(merges, _MOST_VOCABULARY)
    pairs = [line.partition(" ")[::2] for line in lines if not line.startswith("#version")]
    rust = tokenizers.Tokenizer(models.BPE(read_object(words, _MOST_VOCABULARY), pairs))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=_flag(settings, "add_prefix_space", default=False)
    )
    return rust


def _frame(rust: tokenizers.Tokenizer, style: _Style, settings: Mapping[str, Any]) -> None:
    """Put the special ids of *style* around each text."""
    special = _special_tokens(style, settings)
    first, last = special["cls_token"].content, special["sep_token"].content
    numbers = [(token, rust.token_to_id(token)) for token in sorted({first, last})]
    for token, number in numbers:
        if number is None:
            raise BadFile(f"the tokenizer lacks {token!r:.40}, which begins or ends each text")
    second = ["$B:1", f"{last}:1"] if style.typed else [last, "$B", last]
    with guarded("the tokenizer's special tokens"):
        rust.post_processor = processors.TemplateProcessing(
            single=[first, "$A", last], pair=[first, "$A", last, *second], special_tokens=numbers
        )


def _special_tokens(style: _Style, settings: Mapping[str, Any]) -> dict[str, AddedToken]:
    """The special tokens by name, such as ``cls_token``."""
    return {
        name: _token(settings.get(name) or default, special=True)
        for name, default in style.special.items()
    }


def _added_tokens(
    folder: Path, special: Mapping[str, AddedToken], settings: Mapping[str, Any]
) -> list[AddedToken]:
    """What is looked for in a text before it is cut into words; new ids are given in this order."""
    named = {token.content for token in special.values()}
    extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    if not isinstance(extra, list):
        raise BadFile("tokenizer_config.json: extra_special_tokens must be a list")
    tokens: dict[str, AddedToken] = {}
    for token in (
        *(_token(entry, special=_content(entry) in named) for entry in _added(folder, settings)),
        *special.values(),
        *(_token(entry, special=True) for entry in extra),
    ):
        tokens.setdefault(token.content, token)
    return list(tokens.values())


def _added(folder: Path, settings: Mapping[str, Any]) -> Sequence[Any]:
    """The added tokens of the settings, else of ``added_tokens.json``, by their ids."""
    decoder = settings.get("added_tokens_decoder")
    try:
        if decoder is not None:
            return [decoder[number] for number in sorted(decoder, key=int)]
        numbers = _read_optional(folder / "added_tokens.json")
        return sorted(numbers, key=lambda content: int(numbers[content]))
    except (TypeError, ValueError, LookupError, OverflowError):
        raise BadFile(f"{folder}: the ids of the added tokens must be whole numbers") from None


def _content(entry: Any) -> str:
    content = entry.get("content") if isinstance(entry, dict) else entry
    if not isinstance(content, str):
        raise BadFile(f"tokenizer_config.json: a special token must be text, not {entry!r:.40}")
    return content


def _token(entry: Any, *, special: bool) -> AddedToken:
    """A token as the files write it: its text alone, or an object."""
    traits = entry if isinstance(entry, dict) else {}
    return AddedToken(
        _content(entry),
        single_word=bool(traits.get("single_word")),
        lstrip=bool(traits.get("lstrip")),
        rstrip=bool(traits.get("rstrip")),
        normalized=bool(traits.get("normalized", not special)),
        special=special or bool(traits.get("special")),
    )


def _flag(settings: Mapping[str, Any], key: str, *, default: bool | None) -> Any:
    """True, False or, where the settings are silent, *default*."""
    value = settings.get(key)
    if value is not None and not isinstance(value, bool):
        raise BadFile(f"tokenizer_config.json: {key} must be true or false, not {value!r:.40}")
    return default if value is None else value


def _read_optional(path: Path) -> dict[str, Any]:
    return read_object(path) if exists(path) else {}
