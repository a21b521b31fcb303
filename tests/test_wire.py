"""Bodies, without a server: bytes to queries, and what is said of bytes that are none."""

from __future__ import annotations

import json
import re
import tracemalloc
from time import process_time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labelwise.engine.nesting import MAX_LEVELS, check_depth
from labelwise.errors import BadInput, TooLarge
from labelwise.models.scores import Score
from labelwise.server.responses import json_response
from labelwise.server.wires import huggingface, json_bodies
from labelwise.server.wires.huggingface import Parameters
from labelwise.server.wires.json_bodies import decode, shown
from labelwise.server.wires.tei import ADVICE, PredictQuery
from labelwise.serving.classification import check_answer, check_size

MARK = "ZEBRA"  # stands for a text, which no message may repeat
DEEP = 100_000
ANY_TEXT = st.text(st.characters())  # halves of surrogate pairs, too
MARKED = st.text('[]{}"\\a')  # what a reader may take for structure
ANY_JSON = st.none() | st.booleans() | st.integers() | MARKED | ANY_TEXT


def texts(body):
    """The texts of *body*, bytes or what becomes JSON."""
    return read_query(body if isinstance(body, bytes) else json.dumps(body).encode())[0].texts


def parameters(**given):
    return read_query(json.dumps({"inputs": "a", "parameters": given}).encode())[0].parameters


def read_query(body, max_texts=1_024):
    return huggingface.read_query(body, max_texts)


def refusal(body, read=read_query):
    """What is said of *body*, bytes or what becomes JSON."""
    with pytest.raises(BadInput) as caught:
        read(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert MARK not in str(caught.value)
    return str(caught.value)


def predict(body):
    return decode(body, PredictQuery, 1_024, ADVICE).texts()


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ("a", ["a"]),
        ("", [""]),
        (["a", "b"], ["a", "b"]),
        ({"text": "a"}, ["a"]),
        ({"text": "a", "text_pair": None}, ["a"]),
        ({"text": "a", "text_pair": "b"}, [("a", "b")]),
        ({"text": "a", "text_pair": ""}, [("a", "")]),
        ([{"text": "a"}, "b", ["c", "d"]], ["a", "b", ("c", "d")]),
        ([["a", "b"]], [("a", "b")]),
        ([["a", "b"], ["c", "d"]], [("a", "b"), ("c", "d")]),
    ],
    ids=repr,
)
def test_inputs_are_texts_and_pairs(inputs, expected):
    assert texts({"inputs": inputs}) == expected
    if not isinstance(inputs, dict):
        assert texts(inputs) == expected  # the same, without an object around it


@pytest.mark.parametrize(
    ("inputs", "single"),
    [("a", True), ({"text": "a"}, True), (["a"], False), ([["a", "b"]], False)],
)
def test_a_list_of_one_is_not_a_single_text(inputs, single):
    assert read_query(json.dumps({"inputs": inputs}).encode())[0].is_single is single


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"Some text", "Some text"),
        (b" begins with a blank", " begins with a blank"),
        (b"ends with a line\n", "ends with a line\n"),
        (b"5", "5"),
        (b"-1.50e3", "-1.50e3"),
        (b"true", "true"),
        (b"nullify", "nullify"),
        (b"NaN", "NaN"),
        (b"\x00", "\x00"),
        ("żółw".encode(), "żółw"),
        (b"\xef\xbb\xbfwith a byte order mark", "with a byte order mark"),
        (b'\xef\xbb\xbf{"inputs":"a"}', "a"),
        (b' \n\t{"inputs":"a"}\n', "a"),
        (b'"a"', "a"),
        (b' "a"', "a"),
    ],
    ids=repr,
)
def test_what_does_not_begin_as_json_is_the_text(body, text):
    assert texts(body) == [text]


@pytest.mark.parametrize("body", [b"", b" \r\n\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n"], ids=repr)
def test_an_empty_body_is_refused(body):
    assert "empty" in refusal(body)


@pytest.mark.parametrize("body", [b"null", b" null\n", b"\xef\xbb\xbfnull"], ids=repr)
def test_null_is_no_text(body):
    assert refusal(body) == 'the body is null; send {"inputs": "your text"}'


def test_unknown_keys_are_ignored_whatever_they_hold():
    assert texts({"options": {"use_cache": False}, "model": "x", "inputs": "a"}) == ["a"]
    assert texts(b'{"x":' + b"[" * 99 + b"]" * 99 + b',"inputs":"a"}') == ["a"]
    assert texts(b'{"inputs":"a","x":' + b"1" * 5000 + b',"y":1e999}') == ["a"]


def test_of_equal_keys_the_last_counts():
    query, warnings = read_query(
        b'{"inputs":"a","parameters":{"top_k":1,"x":1},'
        b'"inputs":"b","parameters":{"top_k":2,"top_k":3,"y":1}}'
    )
    assert (query.texts, query.parameters.top_k) == (["b"], 3)
    assert warnings == ["parameters; y is unknown and was ignored"]


def test_unknown_parameters_are_named():
    body = {
        "inputs": "a",
        "parameters": {"top_k": 1, "pading": True, "x y": [], MARK: {"top_k": 0}},
    }
    query, warnings = read_query(json.dumps(body).encode())
    ignored = [f"parameters; {name} is unknown and was ignored" for name in ("pading", MARK)]
    assert (query.parameters.top_k, [one for one in warnings if "not a name" not in one]) == (
        1,
        ignored,
    )
    assert len(warnings) == 3


def test_at_most_ten_unknown_parameters_are_named():
    body = {"inputs": "a", "parameters": {f"x{number}": 1 for number in range(30)}}
    assert len(read_query(json.dumps(body).encode())[1]) == 10


@pytest.mark.parametrize("name", ["top_k", "function_to_apply", "truncation", "max_length"])
def test_a_parameter_beside_the_parameters_is_warned_of(name):
    for value in (1, None, MARK, {"x": []}):
        query, warnings = read_query(json.dumps({"inputs": "a", name: value}).encode())
        assert (query.texts, query.parameters) == (["a"], None)
        assert warnings == [f"parameters; {name} was ignored: it belongs in the object parameters"]


# Of each task: what the clients of the Hub send for it.
OTHER_TASKS = {
    "zero-shot-classification": {"inputs": MARK, "parameters": {"candidate_labels": [MARK]}},
    "token-classification": {"inputs": MARK, "parameters": {"aggregation_strategy": "simple"}},
    "fill-mask": {"inputs": "[MASK]", "parameters": {"targets": [MARK], "top_k": 1}},
    "question-answering": {"inputs": {"question": MARK, "context": MARK}, "parameters": {}},
    "table-question-answering": {"inputs": {"query": MARK, "table": {MARK: [MARK]}}},
    "sentence-similarity": {"inputs": {"source_sentence": MARK, "sentences": [MARK]}},
    "conversational": {"inputs": {"past_user_inputs": [], "generated_responses": [], "text": MARK}},
    "summarization": {"inputs": MARK, "parameters": {"clean_up_tokenization_spaces": True}},
    "translation": {"inputs": MARK, "parameters": {"src_lang": MARK, "tgt_lang": MARK}},
    "text-generation": {"inputs": MARK, "parameters": {"max_new_tokens": 9}, "stream": False},
}


@pytest.mark.parametrize("task", OTHER_TASKS)
def test_a_request_for_another_task_is_told_which_task_this_is(task):
    message = refusal(OTHER_TASKS[task])
    assert task in message
    assert "this server does text-classification" in message


@pytest.mark.parametrize(
    "inputs", [{"text": "a", "textpair": MARK}, [{"text": "a", "label": MARK}]]
)
def test_an_object_has_a_text_and_a_pair_alone(inputs):
    *_, name = inputs if isinstance(inputs, dict) else inputs[0]
    assert refusal({"inputs": inputs}) == f"inputs: an object has text and text_pair, not {name}"


@pytest.mark.parametrize("body", ["a", ["a"], {"inputs": "a"}, {"inputs": "a", "parameters": None}])
def test_without_parameters_none_is_unknown(body):
    query, warnings = read_query(json.dumps(body).encode())
    assert (query.parameters, warnings) == (None, [])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pading", "pading"),
        ("_x9", "_x9"),
        ("", "(not a name)"),
        ("two words", "(not a name)"),
        ("line\nbreak", "(not a name)"),
        ("żółw", "(not a name)"),
        ("x" * 41, "(not a name)"),
    ],
)
def test_a_parameter_is_shown_only_if_it_is_a_name(name, expected):
    assert shown(name) == expected


def test_parameters_have_their_values():
    given = {"function_to_apply": "none", "top_k": 10**30, "truncation": "only_first"}
    assert parameters(**given, max_length=7) == Parameters(**given, max_length=7)
    assert parameters(top_k=2.0, max_length=1e2) == Parameters(top_k=2, max_length=100)
    assert parameters(truncation=False) == Parameters(truncation=False)
    assert parameters(**dict.fromkeys(given)) == Parameters()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("top_k", [0, -1, 0.0, 1.5, "2", "", True, [], {}, [1]]),
        ("max_length", [0, -1, 1.5, "2", True, [], {}]),
        ("function_to_apply", ["default", "Softmax", "", MARK, 1, True, [], ["softmax"], {}]),
        ("truncation", ["right", "", MARK, 1, 0, [], {}]),
    ],
)
def test_a_bad_parameter_is_named(name, values):
    for value in values:
        message = refusal({"inputs": MARK, "parameters": {name: value}})
        assert message.startswith(f"{name} must be ")


@pytest.mark.parametrize("value", [[], "", MARK, 5, True, [{"top_k": 1}]], ids=repr)
def test_parameters_must_be_an_object(value):
    assert refusal({"inputs": MARK, "parameters": value}).startswith("parameters must be an object")


@pytest.mark.parametrize(
    "inputs",
    [
        None,
        5,
        True,
        [],
        {},
        [5],
        [None],
        [[]],
        [[MARK]],
        [[MARK, "b", "c"]],
        [[MARK, 5]],
        [[[MARK, "b"]]],
        {"text_pair": MARK},
        {"text": 5},
        {"text": None},
        {"text": [MARK]},
        {"text": MARK, "text_pair": 5},
        [{"text": MARK}, {}],
        [MARK, 5],
    ],
    ids=repr,
)
def test_bad_inputs_are_named(inputs):
    assert refusal({"inputs": inputs}).startswith("inputs ")
    if isinstance(inputs, list):
        assert refusal(inputs).startswith("inputs ")


@pytest.mark.parametrize(
    "body", [{}, {"text": MARK}, {"input": MARK}, {"parameters": {}}], ids=repr
)
def test_missing_inputs_are_named(body):
    assert refusal(body) == 'inputs is missing; send {"inputs": "your text"}'


@pytest.mark.parametrize(
    "value",
    [
        f"got `{MARK}`",
        f"Expected `str`, got `{MARK}`",
        f"x - at `$.inputs` {MARK}",
        "x - at `$.inputs`",
        "required field `inputs`",
        f"{MARK}\n - at `$.inputs.{MARK}`",
        "length",
    ],
)
def test_a_value_cannot_pretend_to_be_the_reason(value):
    message = refusal({"inputs": "a", "parameters": {"function_to_apply": value}})
    assert message == "function_to_apply must be one of softmax, sigmoid, none"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"inputs":"ZEBRA"', "at character 17"),
        (b'{"inputs":"ZEBRA', "at character 10"),
        (b'{"inputs":"ZEBRA"} ZEBRA', "at character 19"),
        (b'"ZEBRA" and more', "at character 8"),
        (b'{"inputs":"a\nZEBRA"}', "at character 12"),
        (b'{"inputs":"\x00ZEBRA"}', "at character 11"),
        (b'{"inputs":"\\ZEBRA"}', "at character 11"),
        (b'{"inputs":NaN,"x":"ZEBRA"}', "NaN is no value of JSON"),
        (b'{"inputs":"ZEBRA","x":-Infinity}', "-Infinity is no value of JSON"),
        (b"{'inputs':'ZEBRA'}", "at character 1"),
        (b'["ZEBRA",]', "at character [89]"),  # the bracket, or the comma before it
        (b"[ZEBRA] is a text that looks like JSON", "at character 1"),
        (b"{", "at character 1"),
    ],
    ids=repr,
)
def test_broken_json_is_refused_with_its_place(body, says):
    message = refusal(body)
    assert re.match(rf"the body is not valid JSON: [^;]*{says}(;|$)", message)


@pytest.mark.parametrize(
    ("body", "byte", "position"),
    [
        (b"\xc3\x28 ZEBRA", "0xc3", 0),
        (b"ZEBRA \xff", "0xff", 6),
        (b'{"inputs":"ZEBRA\xc3("}', "0xc3", 16),
        (b'{"ignored":"ZEBRA\xc3(","inputs":"a"}', "0xc3", 17),
        (b'{"inputs":"\\ud800\xed\xa0\x80"}', "0xed", 17),
        (b'["ZEBRA","\x80"]', "0x80", 10),
        (b'{"inputs":"a","parameters":{"ZEBRA\xff":1}}', "0xff", 34),
    ],
    ids=repr,
)
def test_bytes_that_are_no_utf_8_are_named_with_their_place(body, byte, position):
    message = refusal(body)
    assert message.startswith(f"'utf-8' codec can't decode byte {byte} in position {position}: ")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * DEEP,
        b"[" * DEEP + b"]" * DEEP,
        b'{"inputs":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"inputs":"\\ud800","x":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"inputs":"a","x":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"inputs":"a","parameters":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"inputs":"a","parameters":{"x":' + b"[" * DEEP + b"]" * DEEP + b"}}",
        b'{"inputs":"a","parameters":{"top_k":' + b"[" * DEEP + b"]" * DEEP + b"}}",
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b'{"a":' * DEEP,
    ],
    ids=lambda body: f"{body[:40].decode()}...",
)
def test_what_is_nested_too_deeply_is_refused(body):
    assert refusal(body) == "the body is JSON that is nested too deeply"


@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b'{"a":', b"}")], ids=["list", "object"])
def test_every_python_reads_a_hundred_levels_and_no_more(begin, end):
    def body(levels):
        return b'{"inputs":"a","x":' + begin * levels + b"1" + end * levels + b"}"

    assert texts(body(MAX_LEVELS - 1)) == ["a"]
    assert refusal(body(MAX_LEVELS)) == "the body is JSON that is nested too deeply"


def levels(value):
    """How many lists and objects of *value* lie in one another."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(levels, value), default=0) if isinstance(value, list) else 0


@given(st.recursive(ANY_JSON, lambda inner: st.lists(inner) | st.dictionaries(MARKED, inner)))
def test_brackets_in_strings_are_no_levels(value):
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    more = MAX_LEVELS - levels(value)
    check_depth(b"[" * more + body + b"]" * more)
    with pytest.raises(ValueError, match="nested too deeply"):
        check_depth(b"[" * (more + 1) + body + b"]" * (more + 1))


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (rb"\ud83d\ude00", "😀"),
        (rb"\ud800", "\ufffd"),
        (rb"\udc00", "\ufffd"),
        (rb"a\ud800b", "a\ufffdb"),
        (rb"\ude00\ud83d", "\ufffd\ufffd"),
        (rb"\ud83d\ud83d\ude00", "\ufffd😀"),
        (rb"\ufeff\ud800", "\ufeff\ufffd"),
    ],
    ids=repr,
)
def test_half_of_a_surrogate_pair_is_no_character(escaped, text):
    assert texts(b'{"inputs":"' + escaped + b'"}') == [text]
    assert texts(b'["' + escaped + b'","a"]') == [text, "a"]
    assert texts(b'{"inputs":{"text":"a","text_pair":"' + escaped + b'"}}') == [("a", text)]
    assert predict(b'{"inputs":"' + escaped + b'"}') == ([text], True)


def test_half_of_a_surrogate_pair_changes_nothing_else():
    query, warnings = read_query(
        b'{"inputs":"\\ud800","\\ud801":{"\\ud802":["\\ud803"]},"x":' + b"1" * 5000 + b","
        b'"parameters":{"top_k":2,"truncation":null,"\\ud804":1,"y":1e999}}'
    )
    assert query.texts == ["\ufffd"]
    assert query.parameters == Parameters(top_k=2)
    names = ("(not a name)", "y")
    assert warnings == [f"parameters; {name} is unknown and was ignored" for name in names]
    bad = b'{"inputs":"\\ud800","parameters":{"top_k":%s}}'
    for number in (b"1.5", b"1e999", b"0", b"1" * 5000):
        assert refusal(bad % number).startswith("top_k must be ")


ESCAPES = [rb"\ud83d", rb"\uDE00", rb"\u0041", rb"\\", rb"\"", rb"\n", b"u", b"d83d", "é".encode()]


@given(st.lists(st.sampled_from(ESCAPES)))
@example([rb"\\", rb"\ud83d", rb"\ude00"])
@example([rb"\\", b"u", b"d83d", rb"\uDE00"])
def test_halves_are_replaced_as_a_reader_of_json_finds_them(pieces):
    body = b'{"inputs":"' + b"".join(pieces) + b'"}'
    text = json.loads(body)["inputs"]
    assert texts(body) == [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")]


@given(st.lists(st.sampled_from(ESCAPES), min_size=1), st.integers(13, 40))
def test_halves_are_replaced_alike_wherever_a_long_body_is_cut(pieces, size):
    text = b"".join(pieces)
    body = b'{"inputs":"' + text * (2 * size // len(text) + 1) + b'"}'
    before, json_bodies._BLOCK_BYTES = json_bodies._BLOCK_BYTES, size
    try:
        found = texts(body)
    finally:
        json_bodies._BLOCK_BYTES = before
    text = json.loads(body)["inputs"]
    assert found == [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")]


@given(st.recursive(st.none() | st.booleans() | st.floats() | ANY_TEXT, st.lists) | st.binary())
def test_any_body_is_a_query_or_bad_input(body):
    for read in (read_query, predict):
        try:
            read(body if isinstance(body, bytes) else json.dumps({"inputs": body}).encode())
        except BadInput as error:
            assert "\n" not in str(error)  # noqa: PT017


@given(
    st.dictionaries(
        st.sampled_from(["inputs", "parameters", "top_k", "truncation", "text", "text_pair", "x"]),
        st.recursive(
            st.integers() | st.just(MARK) | st.none() | st.booleans(),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(
                        ["top_k", "truncation", "function_to_apply", "text", "text_pair"]
                    ),
                    inner,
                )
            ),
            max_leaves=8,
        ),
    )
)
def test_no_message_repeats_a_text(body):
    for read in (read_query, predict):
        try:
            read(json.dumps(body).encode())
        except BadInput as error:
            assert MARK not in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("options", "fresh"),
    [
        (b'{"use_cache": false}', True),
        (b'{"wait_for_model": true, "use_cache" : false }', True),
        (b'{"use_cache": true}', False),
        (b'{"use_cache": 0}', False),
        (b'{"use_cache": "false"}', False),
        (b"{}", False),
        (b"null", False),
        (b"[false]", False),
        (b'"use_cache"', False),
    ],
)
def test_of_the_options_only_one_counts(options, fresh):
    assert read_query(b'{"inputs": "a", "options": ' + options + b"}")[0].bypass_cache is fresh


def test_texts_and_characters_have_limits():
    few = ["ab", ("c", "def"), "😀"]
    assert check_size(few, max_texts=3, max_characters=7) == 7
    with pytest.raises(TooLarge, match=r"^3 texts in one request; send 2 at most$"):
        check_size(few, max_texts=2, max_characters=7)
    with pytest.raises(TooLarge, match=r"^7 characters in one request; send 6 at most$"):
        check_size(few, max_texts=3, max_characters=6)


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[' + b'"",' * 2_000_000 + b'"ZEBRA"]}',
        b'{"inputs":[' + b'["",""],' * 800_000 + b'"ZEBRA"]}',
        b'{"inputs":"a","x":[' + b"[]," * 2_000_000 + b'"ZEBRA"]}',
        b'{"inputs":"a","options":[' + b"[]," * 2_000_000 + b'"ZEBRA"]}',
        b"[" + b"{}," * 2_000_000 + b"{",
    ],
    ids=lambda body: body[:30].decode(),
)
def test_far_too_many_values_are_not_made_into_objects(body):
    tracemalloc.start()
    said = "the body has many more values than 1024 texts; send 1024 at most"
    assert refusal(body) == said
    assert refusal(body, predict) == said
    assert tracemalloc.get_traced_memory()[1] < 3 * len(body)  # the bytes, decoded, and cleared
    tracemalloc.stop()


def test_commas_in_texts_are_no_values():
    assert texts({"inputs": ["," * 200_000, '",' * 200_000]}) == ["," * 200_000, '",' * 200_000]
    pairs = [("a", "b")] * 1_024
    assert texts({"inputs": [{"text": a, "text_pair": b} for a, b in pairs]}) == pairs


@pytest.mark.parametrize("escapes", [rb"\ud83d \ude00 ", rb"\n\n\n\n\n\n\n", rb"\\\\\\\\"])
def test_a_body_full_of_escapes_and_a_half_is_read_in_a_moment(escapes):
    body = b'{"inputs":"' + rb"\ud800" + escapes * (9_600_000 // len(escapes)) + b'"}'
    started = process_time()
    assert len(texts(body)[0]) > 2_000_000
    # 0.5 s; a call of Python for every escape took more than two for those that are no halves.
    assert process_time() - started < 1.5


def test_scores_of_an_answer_have_a_limit():
    assert check_answer(1_024, 90, None) == 92_160
    assert check_answer(1_024, 4_271, 5) == 5_120
    assert check_answer(1, 100_000, None) == 100_000
    with pytest.raises(TooLarge) as refused:
        check_answer(1_024, 4_271, None)
    assert str(refused.value) == (
        "1024 texts with 4271 labels each are more than the 100000 scores of one answer; "
        "set top_k to 97 or less, or send fewer texts"
    )
    with pytest.raises(TooLarge, match=r"^1 texts with 200000 .*; set top_k to 100000 or less$"):
        check_answer(1, 200_000, None)
    with pytest.raises(TooLarge, match=r"; set top_k to 97 or less on the path /, or send fewer"):
        check_answer(1_024, 4_271, None, "set top_k to {} or less on the path /")
    with pytest.raises(TooLarge, match=r"^500 texts .* a model of 100000 labels; send 100 at most"):
        check_answer(500, 100_000, 1)


def test_scores_are_written_as_labels_and_numbers():
    assert (
        json_response([[Score('a"\n', 0.5)], []]).body == b'[[{"label":"a\\"\\n","score":0.5}],[]]'
    )


@pytest.mark.parametrize(
    ("inputs", "expected", "single"),
    [
        ("ab", ["ab"], True),
        (["ab"], ["ab"], True),
        (["ab", "c"], [("ab", "c")], True),
        ([["ab"]], ["ab"], False),
        ([["ab"], ["c", "d"]], ["ab", ("c", "d")], False),
    ],
    ids=repr,
)
def test_predict_takes_two_strings_for_a_pair(inputs, expected, single):
    assert predict(json.dumps({"inputs": inputs}).encode()) == (expected, single)
    assert predict(b"\xef\xbb\xbf" + json.dumps({"inputs": inputs}).encode()) == (expected, single)


@pytest.mark.parametrize("inputs", [["a", "b", "c"], ["ab", ["c"]], [["c"], MARK]], ids=repr)
def test_predict_refuses_a_list_that_could_be_either(inputs):
    assert "one text or one pair" in refusal({"inputs": inputs}, predict)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"inputs": {"text": MARK}}, "inputs must be a string, a list of one or two strings"),
        ({"inputs": [MARK, 5]}, "inputs must be "),
        ({"inputs": [[MARK, 5]]}, "inputs must be "),
        ({"inputs": []}, "inputs holds an empty list"),
        ({"inputs": [[]]}, "inputs holds an empty list"),
        ({"inputs": [["a", "b", "c"]]}, "inputs holds "),
        ({}, "inputs is missing"),
        ({"inputs": "a", "raw_scores": MARK}, "raw_scores must be true or false"),
        ({"inputs": "a", "truncate": 1}, "truncate must be true, false or null"),
        ([MARK], "inputs must be "),
        (MARK, "inputs must be "),
    ],
    ids=repr,
)
def test_predict_names_what_is_bad(body, says):
    assert refusal(body, predict).startswith(says)
