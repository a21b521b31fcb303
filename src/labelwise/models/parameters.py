"""The parameters of a classification: one meaning and one refusal, in process and over HTTP."""

from __future__ import annotations

from contextlib import suppress
from numbers import Integral
from typing import get_args

from labelwise.engine.tokenizer.tokenizer import Truncation
from labelwise.errors import BadInput
from labelwise.models.scores import FUNCTIONS, Function

TRUNCATIONS: tuple[Truncation, ...] = get_args(Truncation)
_PADDINGS = ("longest", "max_length", "do_not_pad")

# What to give instead of what came, by the name of the parameter.
ADVICE = {
    "top_k": "top_k must be a whole number from 1; leave it out for all labels",
    "function_to_apply": f"function_to_apply must be one of {', '.join(FUNCTIONS)}",
    "truncation": f"truncation must be true, false, or one of {', '.join(TRUNCATIONS)}",
    "max_length": "max_length must be a whole number from 1",
}


def read_function(name: object) -> Function | None:
    """A function by its name, in any case; None for None.

    Raises:
        BadInput: It is anything else; the message names the three values.
    """
    if name is None:
        return None
    for function in FUNCTIONS:
        if isinstance(name, str) and name.lower() == function:
            return function
    raise BadInput(ADVICE["function_to_apply"])


def read_top_k(top_k: object) -> int | None:
    """The number of labels to give; None for None, which means all.

    Raises:
        BadInput: It is not a whole number from 1.
    """
    return None if top_k is None else read_whole(top_k, ADVICE["top_k"])


def read_truncation(truncation: object) -> Truncation:
    """A truncation by its name; true and None are the default, false is none at all.

    Raises:
        BadInput: It is anything else.
    """
    if truncation is None or truncation is True:
        return "longest_first"
    if truncation is False:
        return "do_not_truncate"
    for name in TRUNCATIONS:
        # An enumeration of transformers is a string as well; what is given back is none.
        if isinstance(truncation, str) and truncation == name:
            return name
    raise BadInput(ADVICE["truncation"])


def read_max_length(max_length: object) -> int | None:
    """The most tokens of a text; None for None, which means as many as the model reads.

    Raises:
        BadInput: It is not a whole number from 1.
    """
    return None if max_length is None else read_whole(max_length, ADVICE["max_length"])


def check_padding(padding: object) -> None:
    """Accept what transformers calls a padding: nothing is ever padded, and no score depends on it.

    Raises:
        BadInput: It is anything else.
    """
    named = isinstance(padding, str) and padding in _PADDINGS
    if padding is not None and not isinstance(padding, bool) and not named:
        raise BadInput(
            f"padding is true, false, or one of {', '.join(_PADDINGS)}; leave it out: "
            "nothing is ever padded here"
        )


def check_batch_size(batch_size: object) -> None:
    """Accept a whole number: the engine makes its batches itself, and no score depends on them.

    Raises:
        BadInput: It is anything else.
    """
    if batch_size is not None:
        read_whole(
            batch_size,
            "batch_size is a whole number from 1; leave it out: the engine makes its batches "
            "itself",
        )


def check_return_all_scores(value: object, top_k: int | None) -> None:
    """Accept what asks for all labels beside a *top_k* that does not say otherwise.

    Raises:
        BadInput: It asks for the best label alone, or for all beside a *top_k*.
    """
    if value is not None and (value is not True or top_k is not None):
        raise BadInput(
            "return_all_scores can only be True, without top_k: all labels are given anyway; "
            "for the best alone use top_k=1"
        )


def check_device(device: object) -> None:
    """Accept the processor, as "cpu", -1 or None, or as a device of torch.

    Raises:
        BadInput: It is another device.
    """
    if device is not None and str(device).partition(":")[0] not in {"cpu", "-1"}:
        raise BadInput(
            f"there is no device {str(device)!r:.40} here: Labelwise computes on the processor; "
            "leave device out, or use 'cpu'"
        )


def read_whole(value: object, advice: str) -> int:
    """*value* as a whole number from 1; a number of another type, as 1.0, may be one.

    Raises:
        BadInput: It is none; the message is *advice*.
    """
    if isinstance(value, Integral | float) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):  # of numbers that are not finite
            number = int(value)
            if number == value and number >= 1:
                return number
    raise BadInput(advice)
