"""The kind of a folder, told from its files, its configuration and the names of its weights.

One kind is read: a text classifier as ``save_pretrained`` of transformers writes it. What is known
to be something else is refused by name, with what to do instead. transformers takes many of these
folders all the same, and classifies with a head of random numbers, or without the adapter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from labelwise.engine.files import exists, read_object
from labelwise.errors import BadFile, UnsupportedModel

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there is read

_CLASSIFIER = "ForSequenceClassification"
_ANOTHER = f"Give a model that was trained for text classification (...{_CLASSIFIER})"
_MERGE = (
    "Merge it with peft: `PeftModel.from_pretrained(base, FOLDER).merge_and_unload()"
    ".save_pretrained(NEW)`, and give the new folder"
)
_BEFORE = "Give the model as it was before; --dtype int8 computes that in 8-bit integers"
_EXPORTED = "Give the model that was exported or converted"
_TRANSFORMERS_4 = "Load them with transformers 4, `from_pretrained(FOLDER"
_TORCH = "Load them into the model with torch"
_SAVE = ", and save that with `save_pretrained`"


class Kind(NamedTuple):
    """Something that is not read: what shows it, what it is, and what to do instead."""

    marks: tuple[str, ...]
    what: str
    instead: str = _ANOTHER


ADAPTER = Kind(
    ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"),
    "an adapter (PEFT, LoRA)",
    _MERGE,
)
# By files that only they have.
EMBEDDERS = (
    Kind(("config_setfit.json", "model_head.pkl", "model_head.safetensors"), "a SetFit model"),
    Kind(
        ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
        "a model of sentence-transformers for embeddings",
    ),
)
# By how the name of a class in `architectures` ends.
TASKS = (
    Kind(("ForTokenClassification",), "labels each word"),
    Kind(("ForMaskedLM", "LMHeadModel", "ForCausalLM"), "predicts words"),
    Kind(("ForPreTraining",), "is to be trained further"),
    Kind(("ForQuestionAnswering",), "finds answers in a text"),
    Kind(("ForNextSentencePrediction",), "judges what follows a sentence"),
    Kind(("ForMultipleChoice",), "chooses between texts"),
    Kind(("BertModel", "CamembertModel", "ElectraModel", "RobertaModel"), "has no head"),
)
# By parts of names of weights, where a head for text classification is missing.
HEADS = (
    Kind(
        (".cls.predictions.", ".lm_head.", ".vocab_projector.", ".generator_predictions."),
        "a model that predicts words",
    ),
    Kind((".discriminator_predictions.",), "a model that is to be trained further"),
    Kind((".qa_outputs.",), "a model that finds answers in a text"),
    Kind((".seq_relationship.",), "a model that judges what follows a sentence"),
    Kind((".classifier.weight",), "a model that labels each word, or chooses between texts"),
)
# By parts of names of weights, whatever is missing.
UNMERGED = Kind((".lora_A", ".lora_embedding_A", ".base_layer."), "an adapter", _MERGE)
# By parts of names of weights, where one is missing or stored as no type of weights.
QUANTIZED = (
    Kind((".qweight",), "GPTQ or AWQ", _BEFORE),
    Kind((".SCB", ".absmax", ".quant_state."), "bitsandbytes", _BEFORE),
    Kind((".weight_scale", ".weight_packed"), "compressed-tensors", _BEFORE),
    Kind(("._packed_params",), "torch", _BEFORE),
)
# By endings of names of files, where the files that are read are missing.
OTHER_WEIGHTS = (
    Kind((".onnx",), "ONNX weights", _EXPORTED),
    Kind(("openvino_model.xml",), "OpenVINO weights", _EXPORTED),
    Kind((".gguf",), "GGUF weights", _EXPORTED),
    Kind((".h5", ".ckpt.index"), "TensorFlow weights", f"{_TRANSFORMERS_4}, from_tf=True)`{_SAVE}"),
    Kind((".msgpack",), "Flax weights", f"{_TRANSFORMERS_4}, from_flax=True)`{_SAVE}"),
    Kind(("model.pt", "model.pth", ".ckpt"), "PyTorch weights", f"{_TORCH}{_SAVE}"),
    Kind((".safetensors",), "weights by another name", f"If they are all, call it {WEIGHTS[0]}"),
)

# The small files that `check_folder` looks for.
MARKS = tuple(
    name for kind in (ADAPTER, *EMBEDDERS) for name in kind.marks if name.endswith(".json")
)


def check_folder(folder: Path) -> None:
    """Let pass what may be the folder of a text classifier.

    Raises:
        BadFile: It has no ``config.json``, or one that cannot be read.
        UnsupportedModel: It is known to be something else.
    """
    _check_files(folder, [ADAPTER])
    if not exists(folder / "config.json"):
        raise BadFile(f"{folder} has no config.json, so it is not a model in Hugging Face layout")
    config = read_object(folder / "config.json")
    _check_quantization(config)
    names = _architectures(config)
    if not any(name.endswith(_CLASSIFIER) for name in names):
        _check_files(folder, EMBEDDERS)  # a cross-encoder has some of their files, and classifies
        for kind in TASKS:
            for name in names:
                if name.endswith(kind.marks):
                    raise UnsupportedModel(
                        f"config.json: architectures names {name:.80}, which {kind.what}. "
                        f"{kind.instead}"
                    )


def check_weights(where: object, names: Iterable[str]) -> None:
    """Let pass weights with these *names*, whose files are *where*.

    Raises:
        UnsupportedModel: An adapter is among them: without it the scores would be others.
    """
    if _any_has(names, UNMERGED.marks):
        raise UnsupportedModel(
            f"the weights in {where} hold {UNMERGED.what} that is not merged. {UNMERGED.instead}"
        )


def no_weights(where: object, names: Iterable[str]) -> BadFile:
    """The error for *where*, whose files are *names*: none of them holds weights that are read."""
    looked_for = ", ".join(f"{name}, {name}.index.json" for name in WEIGHTS)
    message = f"{where} holds no weights: looked for {looked_for}"
    files = sorted(names)
    for kind in (ADAPTER, *OTHER_WEIGHTS):
        for name in files:
            if name.endswith(kind.marks):
                return BadFile(f"{message}. {name:.80} holds {kind.what}. {kind.instead}")
    return BadFile(message)


def missing_weight(missing: str, names: Iterable[str]) -> str:
    """The kind of the weights *names*, which lack the weight *missing*, and advice."""
    known = [f".{name}" for name in names]
    quantized = _quantized(known)
    if quantized:
        return quantized
    if missing.endswith(".weight") and ("classifier" in missing or "pooler" in missing):
        for kind in HEADS:
            if _any_has(known, kind.marks):
                return f"They are those of {kind.what}. {kind.instead}"
        if not _any_has(known, ("classifier.",)):
            return f"They have no head for a task. {_ANOTHER}"
    return "Check that config.json and the weights belong to the same model"


def other_type(names: Iterable[str]) -> str:
    """Advice where a weight among *names* is stored as a type that is not read."""
    return _quantized([f".{name}" for name in names]) or "Save the model again in float32"


def _quantized(names: Collection[str]) -> str:
    """Advice about weights that a tool quantized; empty where none did."""
    for kind in QUANTIZED:
        if _any_has(names, kind.marks):
            return f"They were quantized by {kind.what}. {kind.instead}"
    return ""


def _any_has(names: Iterable[str], marks: Collection[str]) -> bool:
    return any(mark in name for name in names for mark in marks)


def _architectures(config: Mapping[str, Any]) -> list[str]:
    """The names of classes in ``architectures``."""
    names = config.get("architectures") or []
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadFile("config.json: architectures must be a list of names")
    return names


def _check_quantization(config: Mapping[str, Any]) -> None:
    settings = config.get("quantization_config")
    if settings is None:
        return
    said = settings if isinstance(settings, dict) else {}
    bits = said.get("load_in_8bit") or said.get("load_in_4bit")  # as bitsandbytes wrote it first
    tool = said.get("quant_method") or ("bitsandbytes" if bits else "a tool")
    raise UnsupportedModel(
        f"config.json: quantization_config says that {tool!s:.40} quantized the weights, which "
        f"are not read. {_BEFORE}"
    )


def _check_files(folder: Path, kinds: Iterable[Kind]) -> None:
    for kind in kinds:
        for name in kind.marks:
            if exists(folder / name):
                raise UnsupportedModel(
                    f"{folder} holds {kind.what}, as {name} shows; that is not read. {kind.instead}"
                )
