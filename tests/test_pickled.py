"""`pytorch_model.bin` in both formats, written here opcode by opcode: read, or refused unharmed."""

from __future__ import annotations

import io
import json
import pickle
import struct
import time
import tracemalloc
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelwise.engine.checkpoint.checkpoint import Checkpoint
from labelwise.errors import BadFile

FORMATS = ("zip", "old")
TERA = 10**13

# A pickle, opcode by opcode.


def text(content):
    return b"X" + struct.pack("<I", len(content.encode())) + content.encode()


def number(value):
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def storage(key="0", length=6, kind="Float"):
    where = text("storage") + f"ctorch\n{kind}Storage\n".encode() + text(key) + text("cpu")
    return b"(" + where + number(length) + b"tQ"


def tensor(
    shape=(2, 3), strides=(3, 1), offset=0, stored=None, rest=b"\x89ccollections\nOrderedDict\n)R"
):
    parts = (stored or storage()) + number(offset) + numbers(shape) + numbers(strides)
    return REBUILD + b"(" + parts + rest + b"tR"


def mapping(entries):
    """An OrderedDict with what torch adds to a state dict: an attribute of versions."""
    pairs = b"".join(text(name) + value for name, value in entries.items())
    return b"ccollections\nOrderedDict\n)R(" + pairs + b"u}" + text("_metadata") + b"}sb"


def state(**entries):
    return b"\x80\x02" + mapping(entries) + b"."


SIX = {"0": np.arange(6, dtype="<f4")}

# A file around it.


def zipped(pickled, storages, order=b"little"):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        if order:
            archive.writestr("archive/byteorder", order)
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/.data/serialization_id", b"0" * 40)
    return packed.getvalue()


def in_row(pickled, storages, *, little=b"\x88"):
    start = b"\x80\x02" + number(0x1950A86A20F9469CFC6C) + b".\x80\x02M\xe9\x03."
    system = b"\x80\x02}(" + text("protocol_version") + b"M\xe9\x03"
    system += text("little_endian") + little + text("type_sizes") + b"}" + text("int") + b"K\x04su."
    keys = b"\x80\x02](" + b"".join(map(text, storages)) + b"e."
    arrays = (struct.pack("<q", a.size) + a.tobytes() for a in storages.values())
    return start + system + pickled + keys + b"".join(arrays)


WRITERS = {"zip": zipped, "old": in_row}


@pytest.fixture(params=FORMATS)
def wrap(request):
    """Bytes of a file in one of the formats, from a pickle and its storages."""
    return WRITERS[request.param]


@pytest.fixture
def opened(tmp_path):
    """Write the bytes of `pytorch_model.bin` and open the folder."""
    checkpoints = []

    def open_bytes(content):
        (tmp_path / "pytorch_model.bin").write_bytes(content)
        checkpoints.append(Checkpoint.open(tmp_path))
        return checkpoints[-1]

    yield open_bytes
    for checkpoint in checkpoints:
        checkpoint.close()


@pytest.fixture
def refused(opened):
    """Open bytes that must be refused in one line, and give that line back."""

    def refuse(content, match=""):
        with pytest.raises(BadFile, match=r"/pytorch_model\.bin cannot be used: [^\n]+$") as caught:
            opened(content)
        assert str(caught.value).isprintable()
        assert match in str(caught.value)

    return refuse


# What it gives.


def test_a_tensor_is_read(wrap, opened):
    checkpoint = opened(wrap(state(a=tensor()), SIX))
    assert checkpoint.shape("a") == (2, 3)
    array = checkpoint.take("a", (2, 3))
    assert array.dtype == np.float32
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("kind", "stored", "expected"),
    [
        ("Half", np.array([1.5, 6e-8], "<f2"), [1.5, 2.0**-24]),
        ("BFloat16", np.array([0x3F80, 0xC040], "<u2"), [1.0, -3.0]),
        ("Double", np.array([0.5, 1e300], "<f8"), [0.5, np.inf]),
    ],
)
def test_each_type_of_weight_becomes_float32(wrap, opened, kind, stored, expected):
    one = tensor((2,), (1,), stored=storage(length=2, kind=kind))
    array = opened(wrap(state(a=one), {"0": stored})).take("a", (2,))
    assert array.dtype == np.float32
    assert array.tolist() == expected


def test_half_stays_half_when_asked_as_stored(wrap, opened):
    one = tensor((2,), (1,), stored=storage(length=2, kind="Half"))
    array = opened(wrap(state(a=one), {"0": np.ones(2, "<f2")})).take_stored("a", (2,))
    assert array.dtype == np.float16


def test_whole_numbers_may_lie_there_but_are_no_weights(wrap, opened):
    ids = tensor((2,), (1,), stored=storage("1", 2, "Long"))
    checkpoint = opened(wrap(state(ids=ids, a=tensor()), {**SIX, "1": np.ones(2, "<i8")}))
    assert checkpoint.take("a", (2, 3)).shape == (2, 3)
    with pytest.raises(BadFile, match="ids is stored as I64"):
        checkpoint.take("ids", (2,))


def test_windows_on_one_storage(wrap, opened):
    """Tied, transposed, every second, the last, a scalar, none."""
    checkpoint = opened(
        wrap(
            state(
                tied=tensor(),
                turned=tensor((3, 2), (1, 3)),
                second=tensor((3,), (2,), offset=1),
                last=tensor((1, 1), (99, 99), offset=5),
                scalar=tensor((), (), offset=4),
                none=tensor((0, 4), (4, 1), offset=6),
            ),
            SIX,
        )
    )
    assert checkpoint.take("tied", (2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert checkpoint.take("turned", (3, 2)).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert checkpoint.take("turned", (3, 2)).flags.c_contiguous
    assert checkpoint.take("second", (3,)).tolist() == [1, 3, 5]
    assert checkpoint.take("last", (1, 1)).tolist() == [[5]]
    assert checkpoint.take("scalar", ()).shape == ()
    assert checkpoint.take("scalar", ()) == 4
    assert checkpoint.take("none", (0, 4)).shape == (0, 4)


def test_layers_that_are_one_layer_are_read(wrap, opened):
    """Each is a weight of its own, and takes its own memory."""
    names = [f"layer{number}" for number in range(4)]
    checkpoint = opened(wrap(state(**dict.fromkeys(names, tensor())), SIX))
    for name in names:
        assert checkpoint.take(name, (2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("shape", "strides"), [((500, 100), (100, 1)), ((500, 100), (0, 1)), ((50_000,), (0,))]
)
def test_weights_that_share_numbers_take_a_few_times_their_file(wrap, opened, shape, strides):
    """Each would be a copy: of a small file, tens of gigabytes."""
    names = [f"layer{number}" for number in range(1000)]
    one = tensor(shape, strides, stored=storage(length=50_000))
    zeros = np.zeros(50_000, "<f4")
    checkpoint = opened(wrap(state(**dict.fromkeys(names, one)), {"0": zeros}))
    for name in names[:4]:
        assert checkpoint.take(name, shape).shape == shape
        assert checkpoint.take(name, shape).shape == shape  # again is not more
    refused = "share their numbers, and take more than 4 times its size"
    with pytest.raises(BadFile, match=refused):
        _ = [checkpoint.take(name, shape) for name in names]


def test_a_shard_by_many_names_is_one_file(tmp_path, wrap):
    names = [f"layer{number}" for number in range(100)]
    one = tensor((50_000,), (1,), stored=storage(length=50_000))
    pickle_ = wrap(state(**dict.fromkeys(names, one)), {"0": np.zeros(50_000, "<f4")})
    (tmp_path / "0.bin").write_bytes(pickle_)
    for number in range(1, 100):
        (tmp_path / f"{number}.bin").hardlink_to(tmp_path / "0.bin")
    index = {"weight_map": {name: f"{number}.bin" for number, name in enumerate(names)}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with Checkpoint.open(tmp_path) as checkpoint, pytest.raises(BadFile, match="share their num"):
        _ = [checkpoint.take(name, (50_000,)) for name in names]


def test_parameters_and_old_names(wrap, opened):
    parameter = (
        b"ctorch._utils\n_rebuild_parameter\n" + tensor() + b"\x88ccollections\nOrderedDict\n)R"
    )
    older = (
        b"ctorch._utils\n_rebuild_tensor\n(" + storage() + number(0) + numbers((6,)) + numbers((1,))
    )
    entries = {"module.n.gamma": parameter + b"\x87R", "module.n.beta": older + b"tR"}
    checkpoint = opened(wrap(state(**entries), SIX))
    assert checkpoint.take("n.weight", (2, 3))[1, 2] == 5
    assert checkpoint.take("n.bias", (6,))[5] == 5
    assert checkpoint.unused() == []


def test_old_storages_end_with_no_view(opened):
    """The older format gives storages a sixth part, which is None."""
    one = tensor(stored=storage().removesuffix(b"tQ") + b"NtQ")
    assert opened(in_row(state(a=one), SIX)).take("a", (2, 3))[1, 2] == 5


def test_a_zip_from_before_the_byte_order_was_written(opened):
    assert opened(zipped(state(a=tensor()), SIX, order=None)).take("a", (2, 3))[1, 2] == 5


def test_opening_does_not_read_the_numbers(wrap, opened):
    big = tensor((4_000_000,), (1,), stored=storage(length=4_000_000))
    small = tensor((2, 3), (3, 1), stored=storage("1"))
    content = wrap(state(big=big, small=small), {"0": np.zeros(4_000_000, "<f4"), "1": SIX["0"]})
    checkpoint, peak = measured(lambda: opened(content))
    assert peak < 2e6
    array, peak = measured(lambda: checkpoint.take("small", (2, 3)))
    assert array[1, 2] == 5
    assert peak < 1e5


def test_shards_are_read_through_their_index(tmp_path, wrap):
    for shard in ("one", "two"):
        (tmp_path / f"{shard}.bin").write_bytes(wrap(state(**{shard: tensor()}), SIX))
    index = {"weight_map": {"one": "one.bin", "two": "two.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with Checkpoint.open(tmp_path) as checkpoint:
        assert checkpoint.take("two", (2, 3))[1, 2] == 5
        assert checkpoint.unused() == ["one"]


def test_a_shard_without_its_weight_is_named(tmp_path, wrap):
    (tmp_path / "one.bin").write_bytes(wrap(state(a=tensor()), SIX))
    index = {"weight_map": {"a": "one.bin", "b": "one.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(BadFile, match=r"places 'b' in one\.bin"):
        Checkpoint.open(tmp_path)


# Pickles that act.


def short(content):
    return b"\x8c" + bytes([len(content)]) + content.encode()


def called(module, name, *arguments):
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def acting_pickles(order):
    """Pickles by which Python's own unpickler runs the shell command *order*."""
    two = b"\x80\x02"
    code = text(f"__import__('os').system({order!r})")
    system = b"cos\nsystem\n"
    run = called("os", "system", text(order))
    imported = called("builtins", "__import__", text("os"))
    found = b"cbuiltins\ngetattr\n(" + imported + text("system") + b"tR"
    mapped = called("builtins", "map", system, b"]" + text(order) + b"a")
    return {
        "call": two + run + b".",
        "without protocol": run + b".",
        "stack global": b"\x80\x04"
        + short("posix")
        + short("system")
        + b"\x93"
        + text(order)
        + b"\x85R.",
        "stack global in protocol 2": two
        + text("os")
        + text("system")
        + b"\x93"
        + text(order)
        + b"\x85R.",
        "inst": two + b"(" + text(order) + b"iposix\nsystem\n.",
        "obj": two + b"(" + system + text(order) + b"o.",
        "eval": two + called("builtins", "eval", code) + b".",
        "eval as Python 2 spells it": two + called("__builtin__", "eval", code) + b".",
        "getattr of an import": two + found + text(order) + b"\x85R.",
        "list of a map": two + called("builtins", "list", mapped) + b".",
        "as a value": state(a=run),
        "as a key": two + b"}" + run + b"Ns.",
        "as an attribute": two
        + called("collections", "OrderedDict")
        + b"}"
        + text("a")
        + run
        + b"sb.",
    }


ACTING = sorted(acting_pickles(""))


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "executed"


@pytest.mark.parametrize("acting", ACTING)
def test_nothing_is_executed(wrap, refused, marker, acting):
    refused(wrap(acting_pickles(f"touch {marker}")[acting], {}))
    assert not marker.exists()


@pytest.mark.parametrize("acting", ACTING)
def test_python_would_have_executed_it(marker, acting):
    """Or the test above shows nothing."""
    pickle.loads(acting_pickles(f"touch {marker}")[acting])  # noqa: S301 - harmless, and ours
    assert marker.exists()


@pytest.mark.parametrize("place", ["protocol", "system", "keys"])
def test_nothing_is_executed_around_the_state_dict(refused, marker, place):
    """The older format is a row of pickles; each could act."""
    acting = acting_pickles(f"touch {marker}")["call"]
    whole = in_row(state(a=tensor()), SIX)
    starts = {
        "protocol": 15,
        "system": 21,
        "keys": whole.index(state(a=tensor())) + len(state(a=tensor())),
    }
    refused(whole[: starts[place]] + acting, "'os system'")
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "os system",
        "torch.storage _load_from_bytes",
        "torch load",
        "torch._utils _rebuild_wrapper_subclass",
        "torch FloatStorage.__init__",
        "collections OrderedDict.__class__",
        "collections Counter",
        "torch FloatTensor",
        "builtins dict",
    ],
)
def test_the_name_that_is_asked_for_is_named(wrap, refused, name):
    module, _, member = name.partition(" ")
    asked = f"\x02c{module}\n{member}\n)R.".encode()
    refused(wrap(b"\x80" + asked, {}), f"its pickle asks for {name!r}, which is no part")


def test_a_long_name_is_cut_and_cannot_reach_the_terminal(wrap, refused):
    refused(wrap(b"\x80\x02c\x1b[31m" + b"a" * 100 + b"\nb\n.", {}), r"'\x1b[31maaa")


# Pickles that are shaped wrongly.

TOWER = b")q\x00" + b"h\x00\x86q\x00" * 200  # a tuple with two to the 200th leaves
SHAPED = {
    "attributes on a name": b"ctorch\nFloatStorage\n}b.",
    "slots on a name": b"ctorch\nFloatStorage\nN}" + text("x") + b"Ns\x86b.",
    "attributes on a function": REBUILD + b"}" + text("__defaults__") + b")sb.",
    "attributes on a tensor": tensor() + b"}" + text("offset") + number(99) + b"sb.",
    "slots on a dict": b"}N}\x86b.",
    "call of a tensor": tensor() + b")R.",
    "call of a storage": storage() + b")R.",
    "call of a storage type": b"ctorch\nFloatStorage\n)R.",
    "call with a list": b"ccollections\nOrderedDict\n]R.",
    "dict from arguments": b"ccollections\nOrderedDict\n](K\x01K\x02t" + b"a\x85R.",
    "NEWOBJ": b"ccollections\nOrderedDict\n)\x81.",
    "NEWOBJ_EX": b"ccollections\nOrderedDict\n)}\x92.",
    "EXT1": b"\x82\x01)R.",
    "EXT4": b"\x84\x01\x00\x00\x00)R.",
    "PERSID": b"Pstorage\n.",
    "DUP": b"}2.",
    "FRAME": b"\x95" + struct.pack("<Q", 1 << 60) + b"}.",
    "BINBYTES8": b"\x8e" + struct.pack("<Q", 1 << 60),
    "BYTEARRAY8": b"\x96" + struct.pack("<Q", 1 << 60),
    "BINUNICODE8": b"\x8d" + struct.pack("<Q", 1 << 60),
    "LONG4": b"\x8b" + struct.pack("<i", 2**31 - 1),
    "text of four gigabytes": b"X\xff\xff\xff\xff",
    "text that is not UTF-8": b"X\x01\x00\x00\x00\xff.",
    "name without end": b"c" + b"a" * 10_000_000,
    "nothing": b"",
    "stop at once": b".",
    "tuple of nothing": b"\x87.",
    "tuple without mark": b"t.",
    "below the mark": b"K\x01(\x85t.",
    "recalled but never remembered": b"h\x07.",
    "remembered under four billion": b"Nr\xff\xff\xff\xff.",
    "deep marks": b"(" * 200_000 + b".",
    "deep lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep tuples": b")" + b"\x85" * 100_000 + b".",
    "a list in itself": b"]q\x00h\x00a.",
    "dicts without end": b"}" * 300_000,
    "key of a deep tuple": b"}" + TOWER + b"Ns.",
    "value of a deep tuple": b"}" + text("a") + TOWER + b"s.",
    "storage of a deep tuple": TOWER + b"Q.",
    "storage with a deep view": storage().removesuffix(b"tQ") + TOWER + b"tQ.",
    "arguments of a deep tuple": REBUILD + TOWER + b"R.",
    "shape of a deep tuple": REBUILD + b"(" + storage() + b"K\x00" + TOWER + b"h\x00tR.",
    "odd number of items": b"}(" + text("a") + b"u.",
    "key twice": b"}(" + text("a") + tensor() + text("a") + tensor() + b"u.",
    "key that is a number": b"}K\x01" + tensor() + b"s.",
    "items for a tensor": tensor() + text("a") + b"Ns.",
    "nested state dict": mapping({"state_dict": mapping({"a": tensor()})}) + b".",
    "a number beside the tensors": mapping({"a": tensor(), "epoch": b"K\x03"}) + b".",
    "a bare tensor": tensor() + b".",
    "a list of tensors": b"](" + tensor() + b"e.",
    "parameter of nothing": b"ctorch._utils\n_rebuild_parameter\n)R.",
    "parameter of a number": b"ctorch._utils\n_rebuild_parameter\nK\x01\x85R.",
}  # fmt: skip


def measured(action):
    """What *action* gives, and the most bytes it held at once."""
    tracemalloc.start()
    try:
        return action(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shaped", SHAPED)
def test_a_badly_shaped_pickle_is_refused_at_small_cost(wrap, refused, shaped):
    content = wrap(b"\x80\x02" + SHAPED[shaped], SIX)
    began = time.process_time()
    _, peak = measured(lambda: refused(content))
    assert peak < 100e6
    assert time.process_time() - began < 20


@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5, 255])
def test_other_protocols_are_refused(wrap, refused, protocol):
    refused(wrap(b"\x80" + bytes([protocol]) + b"}.", {}), f"in pickle protocol {protocol},")


def test_a_pickle_longer_than_any_state_dict_is_refused(wrap, refused):
    texts = (text("a" * 65_000) + b"q\x00") * 520
    refused(wrap(b"\x80\x02" + texts, {}), "its pickle is longer than 33554432 bytes")


# Tensors that lie.

LIES = {
    "negative size": tensor((-2, 3)),
    "two negative sizes": tensor((-2, -3)),
    "negative stride": tensor(strides=(-3, 1)),
    "negative offset": tensor(offset=-1),
    "offset one too far": tensor(offset=1),
    "stride one too far": tensor(strides=(4, 1)),
    "size one too far": tensor((2, 4)),
    "repeated without end": tensor((2**40,), (0,)),
    "size beyond all machines": tensor((2**100,), (1,)),
    "sizes whose product overflows": tensor((2**32, 2**32), (0, 0)),
    "stride beyond all machines": tensor((1,), (2**2000,)),
    "offset beyond all machines": tensor((0,), (1,), offset=2**200),
    "nothing of an impossible size": tensor((0, 2**63), (1, 1)),
    "more axes than strides": tensor((2, 3), (1,)),
    "too many axes": tensor((1,) * 9, (1,) * 9),
    "size that is text": tensor().replace(numbers((2, 3)), b"(" + text("2") + b"K\x03t"),
    "size that is none": tensor().replace(numbers((2, 3)), b"N"),
    "storage that is none": tensor(stored=b"N"),
    "too few parts": REBUILD + b"(" + storage() + b"K\x00tR",
    "negated lazily": tensor(rest=b"\x89N}" + text("neg") + b"\x88s"),
    "storage of another kind": tensor(stored=storage(kind="Quint8")),
    "storage as module": tensor(stored=storage().replace(text("storage"), text("module"))),
    "storage with a view": tensor(stored=storage().removesuffix(b"tQ") + b"K\x01tQ"),
    "storage of negative length": tensor(stored=storage(length=-6)),
    "storage with a number for key": tensor(stored=storage().replace(text("0"), b"K\x00")),
    "storage of ten terabytes": tensor(stored=storage(length=TERA)),
    "ten terabytes in full": tensor((TERA,), (1,), stored=storage(length=TERA)),
    "storage shorter than claimed": tensor(stored=storage(length=7)),
    "storage longer than claimed": tensor((5,), (1,), stored=storage(length=5)),
    "storage that is not there": tensor(stored=storage("1")),
    "storage elsewhere": tensor((2,), (1,), stored=storage("../version", 2, "Byte")),
    "storage of two types": tensor() + b"q\x00" + tensor(stored=storage(kind="Int")) + b"\x86",
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_tensor_that_lies_is_refused_before_it_is_built(wrap, refused, lie):
    content = wrap(state(a=LIES[lie]), SIX)
    # Now and then something else of the process takes memory at the same time.
    assert min(measured(lambda: refused(content))[1] for _ in range(3)) < 2e6


# Files that lie.


def test_big_endian_numbers_are_refused(refused):
    refused(zipped(state(a=tensor()), SIX, order=b"big"), "not in little-endian byte order")
    refused(in_row(state(a=tensor()), SIX, little=b"\x89"), "not in little-endian byte order")


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"hello", b"PK\x03\x04", b"PK\x05\x06" + bytes(18)]
)
def test_neither_format_is_refused(refused, content):
    refused(content)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_cut_anywhere_is_refused(refused, form):
    whole = WRITERS[form](state(a=tensor()), SIX)
    for length in range(0, len(whole), 7):
        refused(whole[:length])


def test_old_storages_must_fit_the_file(refused):
    whole = in_row(state(a=tensor()), SIX)
    count = struct.pack("<q", 6)
    for claimed in (TERA, 5, 7, -6, -(2**63), 2**63 - 1):
        refused(whole.replace(count + SIX["0"].tobytes(), struct.pack("<q", claimed) + bytes(24)))


def test_old_storages_are_listed_once_and_used(refused):
    listed = b"](" + text("0") + b"e."
    whole = in_row(state(a=tensor()), SIX)
    refused(whole.replace(listed, b"](" + text("0") * 2 + b"e.") + bytes(40), "listed twice")
    refused(whole.replace(listed, b"](" + text("9") + b"e."), "belongs to no tensor")
    refused(whole.replace(listed, b"]."), "lacks the numbers")
    refused(whole.replace(listed, b"}."), "not a list of names")
    refused(whole.replace(listed, b"]K\x00a."), "not a list of names")


def entry_edited(offset, new):
    """A zip file whose directory says *new* at *offset* for the storage."""
    content = bytearray(zipped(state(a=tensor()), SIX))
    name = content.rindex(b"archive/data/0")
    content[name - 46 + offset : name - 46 + offset + len(new)] = new
    return bytes(content)


@pytest.mark.parametrize(
    ("offset", "new", "match"),
    [
        (8, b"\x01\x00", "encrypted"),
        (10, b"\x08\x00", "compressed"),
        (20, b"\x01\x00\x00\x00", "compressed"),
        (20, b"\xf0\xff\xff\xff" * 2, "outside the file"),
        (20, b"\x17\x00\x00\x00" * 2, "another length"),
        (42, b"\xf0\xff\xff\xff", "outside the file"),
        (42, b"\x01\x00\x00\x00", "outside the file"),
        (46, b"archive/data/\n", "lacks the numbers"),
        (46, b"archive/versio", "lacks the numbers"),
        (46, b"elsewher/data/", "lacks the numbers"),
    ],
)
def test_a_zip_directory_that_lies_is_refused(refused, offset, new, match):
    refused(entry_edited(offset, new), match)


def test_a_zip_entry_of_ten_terabytes_is_refused(refused):
    """In the extra field for sizes beyond 32 bits."""
    packed = io.BytesIO(zipped(state(a=tensor()), SIX))
    with zipfile.ZipFile(packed, "a") as archive:
        for entry in archive.infolist():
            if entry.filename == "archive/data/0":
                entry.file_size = entry.compress_size = TERA
        archive.writestr("archive/more", b"")
    refused(packed.getvalue(), "outside the file")


def test_a_zip_bomb_is_refused(refused):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    _, peak = measured(lambda: refused(packed.getvalue(), "compressed"))
    assert peak < 2e6


def test_a_zip_directory_of_many_megabytes_is_refused(refused):
    content = zipped(state(a=tensor()), SIX)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 5_000_000, len(content), 0)
    _, peak = measured(lambda: refused(content + bytes(5_000_000) + end, "zip directory is longer"))
    assert peak < 15e6  # of which the file's own bytes, twice


@pytest.mark.parametrize("extra", ["archive/data/0", "archive/data.pkl"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_an_entry_twice_is_refused(refused, extra):
    packed = io.BytesIO(zipped(state(a=tensor()), SIX))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(extra, SIX["0"].tobytes())
    refused(packed.getvalue())


@pytest.mark.parametrize(
    "name", ["other/data.pkl", "a/b/data.pkl", "data.pkl", "archive/other.pkl"]
)
def test_a_zip_has_exactly_one_pickle(refused, name):
    packed = io.BytesIO(zipped(state(a=tensor()), SIX) if name.startswith("other") else b"")
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(name, b"")
    refused(packed.getvalue(), "without exactly one data.pkl")


# Anything at all.

VALID = {
    form: wrapped(
        state(a=tensor(), b=tensor((3, 2), (1, 3), stored=storage("1", kind="Half"))),
        {**SIX, "1": np.ones(6, "<f2")},
    )
    for form, wrapped in WRITERS.items()
}


def mutated(content, changes):
    """Bytes set, cut out or doubled, one change after the other."""
    content = bytearray(content)
    for kind, place, value in changes:
        at = place % (len(content) + 1)
        if kind == "set":
            content[at : at + 1] = bytes([value])
        elif kind == "cut":
            del content[at : at + value]
        else:
            content[at:at] = content[at : at + value]
    return bytes(content)


CHANGE = st.tuples(
    st.sampled_from(["set", "set", "cut", "double"]), st.integers(0, 2000), st.integers(0, 255)
)


@pytest.mark.parametrize("form", FORMATS)
@settings(
    max_examples=300,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(changes=st.lists(CHANGE, min_size=1, max_size=4))
def test_a_damaged_file_is_read_or_refused(tmp_path, form, changes):
    """Never anything else."""
    (tmp_path / "pytorch_model.bin").write_bytes(mutated(VALID[form], changes))
    with suppress(BadFile), Checkpoint.open(tmp_path) as checkpoint:
        for name in checkpoint.unused():
            checkpoint.take(name, checkpoint.shape(name))
