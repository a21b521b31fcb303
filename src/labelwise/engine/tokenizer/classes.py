"""The tokenizer classes that are read: the one list of them.

A class of transformers brings what the files of a folder leave out: which files hold the
vocabulary, which special tokens there are, and whether the model is told the type of each token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labelwise.engine.tokenizer import sentencepiece as sentencepiece_files
from labelwise.errors import UnsupportedModel

if TYPE_CHECKING:
    from collections.abc import Mapping

# The names of special tokens, in the order in which those new to the vocabulary get their numbers.
SPECIAL = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


@dataclass(frozen=True, slots=True, eq=False)
class TokenizerClass:
    """The decisions of a class of transformers where the files of a folder are silent."""

    model: str  # how it cuts words, as the Rust library calls it; empty where the file decides
    files: tuple[str, ...]  # of the vocabulary, where there is no tokenizer.json; for Unigram one
    special: Mapping[str, str]  # the special tokens that it has, by name
    typed: bool  # the model is told which token is of the second text of a pair
    frame: tuple[str, str] = ("cls_token", "sep_token")  # what begins a text, and what ends it


_BERT = TokenizerClass(
    model="WordPiece",
    files=("vocab.txt",),
    special={
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    },
    typed=True,
)
_DISTILBERT = replace(_BERT, typed=False)
_ROBERTA = TokenizerClass(
    model="BPE",
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
    typed=False,
)
_XLM_ROBERTA = TokenizerClass(
    model="Unigram",
    files=sentencepiece_files.NAMES,
    special=_ROBERTA.special,
    typed=False,
    frame=("bos_token", "eos_token"),
)
CAMEMBERT = replace(_XLM_ROBERTA)
_FILE_ALONE = TokenizerClass("", (), {}, typed=False)

# By their names without a "Fast" at the end.
CLASSES: Mapping[str, TokenizerClass] = {
    "BertTokenizer": _BERT,
    "ElectraTokenizer": _BERT,
    "MobileBertTokenizer": _BERT,
    "DistilBertTokenizer": _DISTILBERT,
    "RobertaTokenizer": _ROBERTA,
    "BartTokenizer": _ROBERTA,
    "LongformerTokenizer": _ROBERTA,
    "XLMRobertaTokenizer": _XLM_ROBERTA,
    "CamembertTokenizer": CAMEMBERT,
    "PreTrainedTokenizer": _FILE_ALONE,
    "TokenizersBackend": _FILE_ALONE,
}
# The class of a folder that names none.
BY_MODEL_TYPE: Mapping[str, str] = {
    "bert": "BertTokenizer",
    "camembert": "CamembertTokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}
# Classes that are program code: no file of a folder says what they do.
_CODE = {
    "BartphoTokenizer",
    "BertGenerationTokenizer",
    "BertJapaneseTokenizer",
    "BertTokenizerLegacy",
    "BertweetTokenizer",
    "FlaubertTokenizer",
    "PhobertTokenizer",
    "RoCBertTokenizer",
    "TapasTokenizer",
    "XLMTokenizer",
}


def tokenizer_class(name: object, model_type: str) -> TokenizerClass:
    """The class that a folder calls *name*, or that of its *model_type* where it names none.

    Raises:
        UnsupportedModel: It is not read here; the message says what to do.
    """
    name = name or BY_MODEL_TYPE.get(model_type, "TokenizersBackend")
    found = CLASSES.get(name.removesuffix("Fast")) if isinstance(name, str) else None
    if found is not None:
        return found
    if isinstance(name, str) and name in _CODE:
        raise UnsupportedModel(
            f"the tokenizer class {name} is program code that no file of the folder describes, and "
            "it is not read here; choose a model that has a tokenizer.json"
        )
    raise UnsupportedModel(
        f"the tokenizer class {name!r:.60} is not read here; read are {', '.join(CLASSES)}. If "
        "tokenizer.json says all that it does, write PreTrainedTokenizerFast for tokenizer_class"
    )


def table() -> str:
    """The classes as a Markdown table."""
    rows = [("class", "cuts words by", "files, where there is no tokenizer.json"), ("---",) * 3]
    for name, found in CLASSES.items():
        joint = " or " if found.model == "Unigram" else " and "
        files = joint.join(f"`{file}`" for file in found.files)
        rows.append((f"`{name}`", found.model or "as tokenizer.json says", files or "none"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
