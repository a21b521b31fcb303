"""The checkpoint reader: which files it reads, what it gives, what it refuses."""

from __future__ import annotations

import json
import os
import struct
import sys
import time
import tracemalloc

import numpy as np
import pytest

from labelwise.engine.checkpoint.checkpoint import Checkpoint
from labelwise.engine.checkpoint.stored import contiguous_strides
from labelwise.errors import BadFile, MissingWeight

TYPE_NAMES = {"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "u1": "F8_E4M3", "b1": "BOOL"}


def header_of(tensors, bfloat16=()):
    """A safetensors header and data for arrays; names in *bfloat16* hold its bits as uint16."""
    header, data = {}, b""
    for name, array in tensors.items():
        dtype = "BF16" if name in bfloat16 else TYPE_NAMES[array.dtype.str[1:]]
        end = len(data) + array.nbytes
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(data), end]}
        data += array.tobytes()
    return header, data


DEEP = b"[" * 5_000 + b"]" * 5_000  # more than every reader bears, or less


def write_raw(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write(path, tensors, bfloat16=()):
    write_raw(path, *header_of(tensors, bfloat16))


@pytest.fixture
def model(tmp_path):
    """Write arrays to `model.safetensors` and open the folder."""
    opened = []

    def save(tensors, bfloat16=()):
        write(tmp_path / "model.safetensors", tensors, bfloat16)
        opened.append(Checkpoint.open(tmp_path))
        return opened[-1]

    yield save
    for checkpoint in opened:
        checkpoint.close()


def halves():
    """Every pattern of sixteen bits."""
    return np.arange(65_536, dtype="<u2")


def bits(array):
    return array.view(np.uint32)


# What it gives.


def test_float32_comes_as_it_is(model):
    """Non-finite weights included."""
    weights = np.array([[1.5, -0.0, np.inf], [np.nan, 1e-45, -np.inf]], "<f4")
    array = model({"a": weights}).take("a", (2, 3))
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    assert np.array_equal(bits(array), bits(weights))


def test_every_float16_is_exact(model):
    weights = halves().view("<f2")
    array = model({"a": weights}).take("a", (65_536,))
    with np.errstate(invalid="ignore"):
        expected = weights.astype("<f4")
    assert array.dtype == np.float32
    assert np.array_equal(array, expected, equal_nan=True)
    assert np.array_equal(np.signbit(array), np.signbit(weights))
    assert array[1] == 2.0**-24  # the smallest subnormal


def test_float16_longer_than_one_piece_keeps_its_shape(model):
    weights = np.random.default_rng(0).normal(size=(300, 701)).astype("<f2")
    array = model({"a": weights}).take("a", (300, 701))
    assert array.dtype == np.float32
    assert np.array_equal(array, weights)


def test_every_bfloat16_is_exact(model):
    array = model({"a": halves()}, bfloat16=["a"]).take("a", (65_536,))
    assert array.dtype == np.float32
    assert np.array_equal(bits(array), np.arange(65_536, dtype=np.uint32) << 16)
    assert array[0x3F80] == 1.0
    assert array[0xC000] == -2.0


def test_bfloat16_is_found_among_other_tensors(model):
    tensors = {
        "a": np.ones(3, "<f4"),
        "b": np.array([0x3F80, 0x4000], "<u2"),
        "c": np.ones(2, "<f2"),
    }
    assert model(tensors, bfloat16=["b"]).take("b", (2,)).tolist() == [1.0, 2.0]


def test_float64_is_rounded(model):
    """Without a warning where it is beyond float32."""
    array = model({"a": np.array([0.1, 1e300, -1e300])}).take("a", (3,))
    assert array.dtype == np.float32
    assert array.tolist() == [np.float32(0.1), np.inf, -np.inf]


@pytest.mark.parametrize(
    ("weights", "bfloat16", "expected"),
    [
        (np.ones(2, "<f2"), (), np.float16),
        (np.ones(2, "<f4"), (), np.float32),
        (np.ones(2, "<f8"), (), np.float32),
        (np.array([0x3F80, 0x3F80], "<u2"), ("a",), np.float32),
    ],
    ids=["F16", "F32", "F64", "BF16"],
)
def test_stored_type_stays_where_numpy_has_it(model, weights, bfloat16, expected):
    checkpoint = model({"a": weights}, bfloat16)
    array = checkpoint.take_stored("a", (2,))
    assert array.dtype == expected
    assert array.tolist() == [1.0, 1.0]
    assert checkpoint.unused() == []


def test_scalars_and_empty_tensors(model):
    checkpoint = model({"scalar": np.array(2.5, "<f4"), "empty": np.ones((0, 3), "<f2")})
    assert checkpoint.take("scalar", ()).shape == ()
    assert checkpoint.take("scalar", ()) == 2.5
    assert checkpoint.take("empty", (0, 3)).shape == (0, 3)


def test_taking_one_weight_does_not_read_the_others(model):
    checkpoint = model({"big": np.zeros(4_000_000, "<f4"), "small": np.ones(1_000_000, "<f2")})
    tracemalloc.start()
    try:
        checkpoint.take("small", (1_000_000,))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 7e6  # 2 MB as stored and 4 MB widened


def test_names_are_spelled_as_today(model):
    one = np.ones(1, "<f4")
    checkpoint = model(
        {
            "bert.LayerNorm.gamma": 2 * one,
            "bert.LayerNorm.beta": 3 * one,
            "bert.gamma.dense": 4 * one,
        }
    )
    assert checkpoint.take("bert.LayerNorm.weight", (1,)) == 2
    assert checkpoint.take("bert.LayerNorm.bias", (1,)) == 3
    assert "bert.gamma.dense" in checkpoint
    assert "bert.LayerNorm.gamma" not in checkpoint


@pytest.mark.parametrize(
    "wrapper", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.model."]
)
def test_what_wraps_all_names_is_taken_off(model, wrapper):
    one = np.ones(1, "<f4")
    checkpoint = model({f"{wrapper}bert.a": one, f"{wrapper}module": 2 * one})
    assert checkpoint.unused() == ["bert.a", "module"]


def test_what_wraps_some_names_stays(model):
    """Nobody knows what the program that wrote it does with the others."""
    one = np.ones(1, "<f4")
    checkpoint = model({"model.bert.a": one, "classifier": one})
    assert checkpoint.unused() == ["classifier", "model.bert.a"]


@pytest.mark.parametrize("stored", ["bert.a", "a"])
@pytest.mark.parametrize("asked", ["bert.a", "a"])
def test_the_base_may_be_missing_or_be_there_for_the_head_too(tmp_path, stored, asked):
    write(tmp_path / "model.safetensors", {stored: np.full(1, 7, "<f4"), "bertha": np.ones(1)})
    with Checkpoint.open(tmp_path, "bert") as checkpoint:
        assert asked in checkpoint
        assert checkpoint.shape(asked) == (1,)
        assert checkpoint.take(asked, (1,)) == 7
        assert checkpoint.unused() == ["bertha"]


@pytest.mark.parametrize("asked", ["bert.a", "a"])
def test_a_weight_with_the_base_and_without_is_ambiguous(tmp_path, asked):
    write(tmp_path / "model.safetensors", {"a": np.ones(1, "<f4"), "bert.a": np.zeros(1, "<f4")})
    with (
        Checkpoint.open(tmp_path, "bert") as checkpoint,
        pytest.raises(BadFile, match=r"holds (bert\.)?a and (bert\.)?a, and either may be meant"),
    ):
        checkpoint.take(asked, (1,))


def test_names_of_absurd_length_take_no_time(model):
    began = time.perf_counter()
    model({"model." * 300_000 + "a": np.ones(1, "<f4")})
    assert time.perf_counter() - began < 5


def test_unused_weights_are_listed(model):
    one = np.ones(1, "<f4")
    checkpoint = model({"c": one, "a": one, "b": one, "d": one})
    assert repr(checkpoint) == "<Checkpoint [4 weights, 0 taken]>"
    checkpoint.take("b", (1,))
    checkpoint.take_stored("d", (1,))
    assert checkpoint.shape("c") == (1,)
    assert checkpoint.unused() == ["a", "c"]
    assert repr(checkpoint) == "<Checkpoint [4 weights, 2 taken]>"


# What it refuses.


def test_a_missing_weight_is_named(model):
    checkpoint = model({"a": np.ones(1, "<f4")})
    for ask in (lambda: checkpoint.take("b.c", (1,)), lambda: checkpoint.shape("b.c")):
        with pytest.raises(MissingWeight, match=r"has no weight b\.c among its 1\. "):
            ask()


def test_a_wrong_shape_names_both(model):
    checkpoint = model({"a": np.ones((2, 3), "<f4")})
    with pytest.raises(BadFile, match=r"model\.safetensors: .* a has .* \(2, 3\), .* \(3, 2\)"):
        checkpoint.take("a", (3, 2))
    assert checkpoint.unused() == ["a"]


@pytest.mark.parametrize("kind", ["<i8", "u1", "?"])
def test_other_types_may_lie_there_but_are_no_weights(model, kind):
    array = np.ones(2, kind)
    checkpoint = model({"ids": array, "a": np.ones(1, "<f4")})
    assert checkpoint.take("a", (1,)) == 1
    with pytest.raises(BadFile, match=rf"ids is stored as {TYPE_NAMES[array.dtype.str[1:]]}"):
        checkpoint.take("ids", (2,))


def test_two_names_for_one_weight_are_refused(model):
    with pytest.raises(BadFile, match=r"both called 'n\.weight'"):
        model({"n.gamma": np.ones(1, "<f4"), "n.weight": np.ones(1, "<f4")})


def test_nothing_is_taken_after_close(model):
    checkpoint = model({"a": np.ones(1, "<f4")})
    checkpoint.close()
    with pytest.raises(BadFile, match=r"model\.safetensors cannot be used"):
        checkpoint.take("a", (1,))


def test_a_file_cut_while_open_is_refused(model, tmp_path):
    checkpoint = model({"a": np.ones(100_000, "<f4")})
    os.truncate(tmp_path / "model.safetensors", 1000)
    with pytest.raises(BadFile, match="ends before its weights do"):
        checkpoint.take("a", (100_000,))


def test_an_empty_folder_lists_what_was_looked_for(tmp_path):
    with pytest.raises(BadFile) as caught:
        Checkpoint.open(tmp_path)
    for name in ("model.safetensors", "pytorch_model.bin"):
        assert f"{name}, {name}.index.json" in str(caught.value)


def test_a_missing_folder_holds_no_weights(tmp_path):
    with pytest.raises(BadFile, match="nowhere holds no weights"):
        Checkpoint.open(tmp_path / "nowhere")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that even root cannot read")
def test_an_unreadable_file_is_said_so(tmp_path):
    (tmp_path / "model.safetensors").symlink_to("/proc/self/mem")
    with pytest.raises(BadFile, match=r"model\.safetensors cannot be read: "):
        Checkpoint.open(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "one.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_weights_are_a_regular_file(tmp_path, name, kind):
    """Opening a pipe would wait for ever, and a device never ends."""
    make = {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero")}
    make.get(kind, os.mkdir)(tmp_path / name)
    if name == "one.safetensors":
        index(tmp_path, {"weight_map": {"a": name}})
    with pytest.raises(BadFile, match=f"/{name} is not a regular file$"):
        Checkpoint.open(tmp_path)


def test_a_link_to_nowhere_is_named(tmp_path):
    """Weights of the other format are not taken in its place."""
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "nowhere")
    (tmp_path / "pytorch_model.bin").write_bytes(b"never opened")
    with pytest.raises(BadFile, match=r"/model\.safetensors is missing"):
        Checkpoint.open(tmp_path)


def test_many_axes_take_no_time():
    shape = (1,) * 200_000
    began = time.perf_counter()
    assert contiguous_strides(shape) == shape
    assert time.perf_counter() - began < 5


def spans(**offsets):
    return {
        name: {"dtype": "F32", "shape": [2], "data_offsets": list(span)}
        for name, span in offsets.items()
    }


BROKEN = {
    "empty": b"",
    "seven bytes": b"\x01" * 7,
    "header beyond the file": struct.pack("<Q", 100) + b"{}",
    "header of an exabyte": struct.pack("<Q", 1 << 60) + b"{}",
    "not JSON": (b"hello", b""),
    "not UTF-8": (b"\xff\xfe", b""),
    "a list": (b"[]", b""),
    "deep JSON": (b'{"a":' + b"[" * 100_000, b""),
    "deep where nobody looks": (
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":%b}}' % DEEP,
        bytes(8),
    ),
    "overlap": (spans(a=(0, 8), b=(4, 12)), bytes(12)),
    "hole": (spans(a=(0, 8), b=(12, 20)), bytes(20)),
    "outside": (spans(a=(0, 8)), bytes(4)),
    "more than the tensors": (spans(a=(0, 8)), bytes(12)),
    "backwards": (spans(a=(8, 0)), bytes(8)),
    "negative": (spans(a=(-8, 0)), bytes(8)),
    "span of another size": (spans(a=(0, 12)), bytes(12)),
    "unknown type": ({"a": {"dtype": "Q", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
    "size overflow": (
        {"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 8]}},
        bytes(8),
    ),
    "axes without end": (
        {"a": {"dtype": "F32", "shape": [1] * 200_000, "data_offsets": [0, 4]}},
        bytes(4),
    ),
    "a long header": (b"{}" + b" " * 10_000_000, b""),
    "a name twice": (
        b"{%b,%b}" % ((b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}',) * 2),
        bytes(8),
    ),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "model.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write_raw(path, *content)
    with pytest.raises(BadFile, match=r"/model\.safetensors cannot be used: .+[^.]$") as caught:
        Checkpoint.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_error_holds_nothing_a_terminal_acts_upon(tmp_path):
    write_raw(tmp_path / "model.safetensors", spans(**{"\x1b[31m\n": (4, 12)}), bytes(12))
    with pytest.raises(BadFile) as caught:
        Checkpoint.open(tmp_path)
    assert str(caught.value).isprintable()


# Which file.


def test_safetensors_come_before_pickle(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"never opened")
    (tmp_path / "model.safetensors.index.json").write_text("never opened")
    write(tmp_path / "model.safetensors", {"a": np.ones(1, "<f4")})
    with Checkpoint.open(tmp_path) as checkpoint:
        assert checkpoint.take("a", (1,)) == 1


def index(folder, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "model.safetensors.index.json").write_text(text)


def test_shards_are_read_through_their_index(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"never opened")
    write(tmp_path / "one.safetensors", {"a": np.ones(1, "<f4"), "left": np.ones(1, "<f4")})
    write(tmp_path / "two.safetensors", {"n.gamma": np.full(2, 7, "<f2")})
    shards = {"a": "one.safetensors", "n.gamma": "two.safetensors"}
    index(tmp_path, {"metadata": {"total_size": 8}, "weight_map": shards})
    with Checkpoint.open(tmp_path) as checkpoint:
        assert checkpoint.take("a", (1,)).tolist() == [1]
        assert checkpoint.take("n.weight", (2,)).tolist() == [7, 7]
        assert checkpoint.unused() == []


def test_a_missing_shard_is_named(tmp_path):
    index(tmp_path, {"weight_map": {"a": "model-00001-of-00002.safetensors"}})
    with pytest.raises(BadFile, match=r"names model-00001-of-00002\.safetensors, which is not"):
        Checkpoint.open(tmp_path)


def test_a_weight_missing_from_its_shard_is_named(tmp_path):
    write(tmp_path / "one.safetensors", {"a": np.ones(1, "<f4")})
    index(tmp_path, {"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}})
    with pytest.raises(BadFile, match=r"places 'b' in one\.safetensors"):
        Checkpoint.open(tmp_path)


def test_a_broken_shard_is_named(tmp_path):
    (tmp_path / "one.safetensors").write_bytes(b"")
    index(tmp_path, {"weight_map": {"a": "one.safetensors"}})
    with pytest.raises(BadFile, match=r"/one\.safetensors cannot be used"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize(
    "shard",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/b",
        "a\\b",
        "C:b",
        "a\0b",
        "a\nb",
        "\ud800",
        "*",
        "a?",
        "[ab]",
        "x" * 256,
        "é" * 128,
        3,
        None,
        ["a"],
    ],
)
def test_a_shard_is_a_plain_file_name(tmp_path, shard):
    index(tmp_path, {"weight_map": {"a": shard}})
    with pytest.raises(BadFile, match="which is not a file of its folder"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        f'{{"weight_map": {{"a": "model.safetensors"}}, "x": {DEEP.decode()}}}',
        '{"weight_map": []}',
        '{"weight_map": {}}',
        '{"weight_map": 1}',
        '{"weight_map": {"a": "x", "a": "x"}}',
        "\udcff",
    ],
)
def test_a_broken_index_is_refused(tmp_path, content):
    path = tmp_path / "model.safetensors.index.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(BadFile, match=r"/model\.safetensors\.index\.json cannot be used: "):
        Checkpoint.open(tmp_path)


def test_an_index_without_end_is_refused(tmp_path):
    (tmp_path / "model.safetensors.index.json").symlink_to("/dev/zero")
    with pytest.raises(BadFile, match=r"index\.json is not a regular file$"):
        Checkpoint.open(tmp_path)


def test_files_are_closed_when_a_later_one_is_broken(tmp_path):
    """An open file that is forgotten is a ResourceWarning, and so a failure here."""
    write(tmp_path / "one.safetensors", {"a": np.ones(1, "<f4")})
    (tmp_path / "two.safetensors").write_bytes(b"")
    index(tmp_path, {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})
    with pytest.raises(BadFile):
        Checkpoint.open(tmp_path)
