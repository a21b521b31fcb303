"""A folder's tokenizer files -> the Rust tokenizer that they describe.

``tokenizer.json`` says nearly everything. Older folders have only a vocabulary, as ``vocab.txt``
(WordPiece), as ``vocab.json`` and ``merges.txt`` (byte-level BPE), or as a SentencePiece model: the
rest is then what the tokenizer's class says. Either is changed by ``tokenizer_config.json``,
``special_tokens_map.json`` and ``added_tokens.json``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import tokenizers
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors

from labelwise.engine.files import MAX_BYTES, exists, read_file, read_lines, read_object
from labelwise.engine.tokenizer import bounds
from labelwise.engine.tokenizer import sentencepiece as sentencepiece_files
from labelwise.engine.tokenizer.classes import (
    BY_MODEL_TYPE,
    CAMEMBERT,
    CLASSES,
    SPECIAL,
    tokenizer_class,
)
from labelwise.errors import BadFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from labelwise.engine.tokenizer.classes import TokenizerClass

_MAX_VOCABULARY = 16 * 2**20
_NO_CHARACTER = "\U0010ffff"  # which no vocabulary has
_MAX_LETTERS = 1000  # of a word; cutting one up takes the square of them


# Keys of special tokens beside those that have a key each. Once the settings are read, _NAMED holds
# those with a name of their own, _EXTRA the others, and _ADDITIONAL, which is the older key, those
# that ``special_tokens_map.json`` alone has; None where they do not count.
_NAMED = "model_specific_special_tokens"
_EXTRA, _ADDITIONAL = "extra_special_tokens", "additional_special_tokens"


class TokenizerFiles(NamedTuple):
    """The tokenizer that the files of a folder describe."""

    rust: tokenizers.Tokenizer  # without padding and truncation
    typed: bool  # the model is told the type of each token
    keeps_end: bool  # a text that is too long loses its beginning


def read_settings(folder: Path) -> dict[str, Any]:
    """``tokenizer_config.json`` with what older files add to it; may be {}.

    That is the class that ``config.json`` names, and, unless the settings have added tokens of
    their own, the special tokens of ``special_tokens_map.json``.

    Raises:
        BadFile: One of them is there and is not a JSON object.
    """
    settings = _read_optional(folder / "tokenizer_config.json")
    if not settings.get("tokenizer_class"):
        settings["tokenizer_class"] = _read_optional(folder / "config.json").get("tokenizer_class")
    older = {}
    if settings.get("added_tokens_decoder") is None:
        older = _read_optional(folder / "special_tokens_map.json")
    return settings | older | _extra(settings, older)


def _extra(settings: Mapping[str, Any], older: Mapping[str, Any]) -> dict[str, Any]:
    """The special tokens without a key of their own that both files have, as transformers joins
    them: an object names its tokens; of a list under the older key only one counts.
    """
    both = {key: settings[key] for key in (_EXTRA, _ADDITIONAL) if key in settings}
    if _ADDITIONAL in both and not both.get(_EXTRA):
        both[_EXTRA] = both.pop(_ADDITIONAL)
    named = both.pop(_EXTRA) if isinstance(both.get(_EXTRA), dict) else {}
    if isinstance(older.get(_EXTRA), dict):
        named, _ = named | older[_EXTRA], both.pop(_EXTRA, None)
    elif _EXTRA in older:
        known = both.get(_EXTRA) or []
        both[_EXTRA] = [*known, *(token for token in older[_EXTRA] or () if token not in known)]
    last = None if _EXTRA in both else older.get(_ADDITIONAL, both.get(_ADDITIONAL)) or []
    if isinstance(last, dict):
        named, last = named | last, []
    for key, value in ((_EXTRA, both.get(_EXTRA)), (_ADDITIONAL, last)):
        if not isinstance(value or [], list):
            raise BadFile(f"tokenizer_config.json: {key} must be a list or an object")
    return {_NAMED: named, _EXTRA: both.get(_EXTRA) or [], _ADDITIONAL: last}


def read_tokenizer(folder: Path, model_type: str, settings: Mapping[str, Any]) -> TokenizerFiles:
    """The tokenizer in *folder*, as transformers' class for it reads the files.

    Raises:
        BadFile: No file of it is there, or one is broken or contradicts another.
        UnsupportedModel: The folder asks for a class that is not read here.
    """
    kind = tokenizer_class(settings.get("tokenizer_class"), model_type)
    rust = _from_json(folder)
    file_side = rust.truncation["direction"] if rust and rust.truncation else "right"
    if rust is None:
        rust, settings = _from_vocabulary(folder, kind, settings)
    elif kind.model:
        _overrule(rust, folder, kind, settings)
    with guarded(f"the tokenizer in {folder}"):
        declared = _declared(folder, rust, settings)
        if kind.model:
            rust = _without_added_tokens(rust)
        added = _added_tokens(rust, declared, kind, settings)
        bounds.check_tokens([token.content for token in added])
        rust.add_tokens(added)
        if kind.model:
            _frame(rust, kind, settings)
    rust.encode_special_tokens = _flag(settings, "split_special_tokens", default=False)
    rust.no_padding()
    rust.no_truncation()
    side = _one_of(settings, "truncation_side", ("left", "right")) or file_side
    return TokenizerFiles(rust, _is_typed(kind, model_type, settings), side == "left")


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
        rust = tokenizers.Tokenizer.from_buffer(bounds.checked(read_file(path, MAX_BYTES)))
    model = rust.model  # a reference: what is set here counts
    if isinstance(model, models.BPE):
        model.dropout = None  # made for training: it draws lots for the ids
    elif isinstance(model, models.WordPiece):
        model.max_input_chars_per_word = min(model.max_input_chars_per_word, _MAX_LETTERS)
    return rust


def _overrule(
    rust: tokenizers.Tokenizer, folder: Path, kind: TokenizerClass, settings: Mapping[str, Any]
) -> None:
    """Let ``tokenizer_config.json`` have the last word where both files speak.

    So does transformers. Where the settings are silent it goes on to overrule with defaults, which
    here would lower-case texts for a cased vocabulary; this leaves ``tokenizer.json`` as it is: see
    docs/decisions/0007-what-the-tokenizer-file-says.md
    """
    cuts = type(rust.model).__name__
    if cuts != kind.model:
        raise BadFile(
            f"{folder}/tokenizer.json cuts words by {cuts}, but its tokenizer_class by "
            f"{kind.model}; if the file is right, write PreTrainedTokenizerFast for tokenizer_class"
        )
    if settings.get("unk_token") is not None:
        _overrule_unknown(rust, folder, _content(settings["unk_token"]))
    for key, part, trait in _TRAITS[kind.model]:
        value = _flag(settings, key, default=None)
        if value is None:
            continue
        found = _part(getattr(rust, part), trait)
        if found is None:
            raise BadFile(
                f"{folder}: tokenizer_config.json has {key}, but the {part} of tokenizer.json has "
                f"nothing like it; take {key} out, or write PreTrainedTokenizerFast for "
                "tokenizer_class, if the file is right"
            )
        setattr(found, trait, _SCHEMES[value] if trait == "prepend_scheme" else value)


def _overrule_unknown(rust: tokenizers.Tokenizer, folder: Path, unknown: str) -> None:
    """Let *unknown* stand for what the model of *rust* does not know."""
    if isinstance(rust.model, models.WordPiece):
        if rust.model.token_to_id(unknown) is None:
            raise BadFile(f"{folder}: the vocabulary lacks the unk_token {unknown!r:.40}")
        rust.model.unk_token = unknown
    elif isinstance(rust.model, models.Unigram):
        used = rust.model.id_to_token(rust.model.tokenize(_NO_CHARACTER)[0].id)
        if used != unknown:
            raise BadFile(
                f"{folder}: unk_token is {unknown!r:.40} in tokenizer_config.json, but "
                f"tokenizer.json uses {used!r:.40}; if the file is right, take unk_token out"
            )


# What settings mean to a tokenizer that cuts words in that way: the part of it, and its trait.
_TRAITS = {
    "WordPiece": (
        ("do_lower_case", "normalizer", "lowercase"),
        ("strip_accents", "normalizer", "strip_accents"),
        ("tokenize_chinese_chars", "normalizer", "handle_chinese_chars"),
    ),
    "BPE": (("add_prefix_space", "pre_tokenizer", "add_prefix_space"),),
    "Unigram": (("add_prefix_space", "pre_tokenizer", "prepend_scheme"),),
}
_SCHEMES = {True: "always", False: "never"}


def _part(whole: Any, trait: str) -> Any:
    """The part of *whole*, a normalizer or pre-tokenizer or a sequence of them, with that trait."""
    parts = list(whole) if type(whole).__name__ == "Sequence" else [whole]
    return next((part for part in parts if hasattr(part, trait)), None)


def _without_added_tokens(rust: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """*rust* as its class makes it anew: it has the words of the model alone, and no frame."""
    bare = tokenizers.Tokenizer(rust.model)
    for part in ("normalizer", "pre_tokenizer"):
        if (found := getattr(rust, part)) is not None:
            setattr(bare, part, found)
    return bare


def _from_vocabulary(
    folder: Path, kind: TokenizerClass, settings: Mapping[str, Any]
) -> tuple[tokenizers.Tokenizer, Mapping[str, Any]]:
    """The tokenizer that *kind* makes of the vocabulary in *folder*, without special tokens, and
    the *settings* with what else the vocabulary says.
    """
    paths = [folder / name for name in kind.files]
    found = [path for path in paths if exists(path)]
    if kind.model == "Unigram" and found:
        return _sentencepiece(found[0], kind, settings)
    if not paths or found != paths:
        raise _missing(folder, kind)
    with guarded(" and ".join(map(str, paths))):
        if kind.model == "WordPiece":
            unknown = _content(_special_tokens(kind, settings).get("unk_token"))
            return _word_piece(paths[0], unknown, settings), settings
        return _byte_level(paths[0], paths[1], settings), settings


def _missing(folder: Path, kind: TokenizerClass) -> BadFile:
    """The error for a *folder* that has neither ``tokenizer.json`` nor the files of *kind*."""
    joint = " or " if kind.model == "Unigram" else " and "
    wanted = "tokenizer.json" + (f", or {joint.join(kind.files)}" if kind.files else "")
    return BadFile(
        f"{folder} has no tokenizer that can be read here; looked for {wanted}; if transformers "
        "reads it, AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes "
        "tokenizer.json"
    )


def _sentencepiece(
    path: Path, kind: TokenizerClass, settings: Mapping[str, Any]
) -> tuple[tokenizers.Tokenizer, Mapping[str, Any]]:
    """The tokenizer that *kind* makes of the SentencePiece model at *path*, and the *settings*:
    symbols of the model take the place of additional tokens there, where those count.
    """
    special = _special_tokens(kind, settings)
    names = {name: _content(entry) for name, entry in special.items()}
    spaced = _flag(settings, "add_prefix_space", default=True)
    cutter = sentencepiece_files.xlm_roberta
    if kind is CAMEMBERT:
        cutter = sentencepiece_files.camembert
    with guarded(str(path)):
        model = sentencepiece_files.read_model(path)
        rust = sentencepiece_files.assembled(
            cutter(model, names), model.charsmap, add_prefix_space=spaced
        )
        if settings.get(_ADDITIONAL, ()) is not None:
            settings = {**settings, _ADDITIONAL: model.symbols()}
    return rust, settings


def _word_piece(path: Path, unknown: str, settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    words = read_lines(path, _MAX_VOCABULARY)
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
    lines = read_lines(merges, _MAX_VOCABULARY)
    pairs = [line.partition(" ")[::2] for line in lines if not line.startswith("#version")]
    vocabulary = read_object(words, _MAX_VOCABULARY)
    bounds.check_merges(vocabulary, pairs)
    rust = tokenizers.Tokenizer(models.BPE(vocabulary, pairs))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=_flag(settings, "add_prefix_space", default=False)
    )
    return rust


def _frame(rust: tokenizers.Tokenizer, kind: TokenizerClass, settings: Mapping[str, Any]) -> None:
    """Put the special tokens of *kind* around each text, whatever ``tokenizer.json`` has there."""
    special = _special_tokens(kind, settings)
    first, last = (_content(special.get(name)) for name in kind.frame)
    numbers = [(token, rust.token_to_id(token)) for token in sorted({first, last})]
    for token, number in numbers:
        if number is None:
            raise BadFile(f"the tokenizer lacks {token!r:.40}, which begins or ends each text")
    single = [first, "$A", last]
    second = ["$B:1", f"{last}:1"] if kind.model == "WordPiece" else [last, "$B", last]
    rust.post_processor = processors.TemplateProcessing(
        single=single, pair=single + second, special_tokens=numbers
    )


def _is_typed(kind: TokenizerClass, model_type: str, settings: Mapping[str, Any]) -> bool:
    """Whether the model is told the type of each token."""
    inputs = settings.get("model_input_names")
    if isinstance(inputs, list):
        return "token_type_ids" in inputs
    # The generic class tells no model. It did when most of its folders were made: see decision 7.
    return kind.typed if kind.model else CLASSES[BY_MODEL_TYPE[model_type]].typed


def _special_tokens(kind: TokenizerClass, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The special tokens by name, such as ``cls_token``, each as the files write it."""
    given = {name: value for name, value in settings.items() if name.endswith("_token")}
    found = {**dict.fromkeys(SPECIAL), **kind.special, **given, **settings.get(_NAMED, {})}
    if kind is CAMEMBERT and isinstance(found["mask_token"], str):
        found["mask_token"] = {"content": found["mask_token"], "lstrip": True}
    flags = (None, True, False)  # add_bos_token and its kind end alike
    return {name: value for name, value in found.items() if value not in flags}


def _added_tokens(
    rust: tokenizers.Tokenizer,
    declared: Sequence[Any],
    kind: TokenizerClass,
    settings: Mapping[str, Any],
) -> list[AddedToken]:
    """The tokens to look for in a text before it is cut into words, beside those of *rust*.

    First come those that a file has *declared*. Those new to the vocabulary get their numbers in
    this order.
    """
    named = _special_tokens(kind, settings).values()
    names = {_content(entry) for entry in named}
    known = {_content(entry) for entry in (*declared, *rust.get_added_tokens_decoder().values())}
    more = [entry for entry in (*named, *_unnamed(settings)) if _content(entry) not in known]
    return [_token(entry, special=_content(entry) in names) for entry in (*declared, *more)]


def _unnamed(settings: Mapping[str, Any]) -> list[Any]:
    """The special tokens that have no name."""
    found = [*settings.get(_EXTRA, ()), *(settings.get(_ADDITIONAL) or ())]
    return [_token(entry, special=True) if isinstance(entry, str) else entry for entry in found]


def _declared(folder: Path, rust: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> list[Any]:
    """The added tokens that a file gives numbers, in their order: those of the settings, else of
    ``added_tokens.json`` and of the tokenizer itself.
    """
    decoder = settings.get("added_tokens_decoder")
    try:
        if decoder is None:
            given = [settings[name] for name in SPECIAL if settings.get(name)]
            special = {_content(entry) for entry in (*given, *settings.get(_EXTRA, ()))}
            older = _read_optional(folder / "added_tokens.json")
            decoder = {
                int(number): _token(content, special=content in special)
                for content, number in older.items()
            }
            decoder |= rust.get_added_tokens_decoder()
        return [decoder[number] for number in sorted(decoder, key=int)]
    except (AttributeError, TypeError, ValueError, LookupError, OverflowError):
        raise BadFile(f"{folder}: the ids of the added tokens must be whole numbers") from None


def _content(entry: Any) -> str:
    """The text of a token as the files write it: that alone, or an object."""
    content = entry.get("content") if isinstance(entry, dict) else getattr(entry, "content", entry)
    if not isinstance(content, str):
        raise BadFile(f"tokenizer_config.json: a special token must be text, not {entry!r:.40}")
    if len(content) > bounds.MAX_TOKEN:
        raise BadFile(
            f"the tokenizer has a special token of {len(content):,} characters, "
            f"more than {bounds.MAX_TOKEN}"
        )
    return content


def _token(entry: Any, *, special: bool) -> AddedToken:
    """A token as the files write it; *special* makes one that is not."""
    if isinstance(entry, AddedToken):
        entry = entry.__getstate__()
    traits = entry if isinstance(entry, dict) else {}
    return AddedToken(
        _content(entry),
        single_word=bool(traits.get("single_word")),
        lstrip=bool(traits.get("lstrip")),
        rstrip=bool(traits.get("rstrip")),
        normalized=bool(traits.get("normalized", not special)),
        special=special or bool(traits.get("special")),
    )


def _one_of(settings: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> str | None:
    """One of *choices*, or None where the settings are silent."""
    value = settings.get(key)
    if value is None or value in choices:
        return value
    raise BadFile(f"tokenizer_config.json: {key} must be {' or '.join(choices)}, not {value!r:.40}")


def _flag(settings: Mapping[str, Any], key: str, *, default: bool | None) -> Any:
    """True, False or, where the settings are silent, *default*."""
    value = settings.get(key)
    if value is not None and not isinstance(value, bool):
        raise BadFile(f"tokenizer_config.json: {key} must be true or false, not {value!r:.40}")
    return default if value is None else value


def _read_optional(path: Path) -> dict[str, Any]:
    return read_object(path) if exists(path) else {}
