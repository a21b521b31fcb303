"""A classifier goes on in the processes that its own starts, however it starts them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from marks import slow
from padded import config, write_model, write_tokenizer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

BEGIN = """
import asyncio, multiprocessing, os, sys, threading, time, warnings
from labelwise.engine.onnx.backend import Cpu
from labelwise.engine import cpus as processors

warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork beside threads
processors.available = lambda: {processors}

from labelwise import Classifier

TEXTS = ["A delightful film. " * 8 + str(number) for number in range(20)]

def labels(classify):
    return [scores[0].label for scores in classify(TEXTS)]

def in_child(work):
    child = os.fork()
    if child == 0:
        work()
        sys.exit(7)  # the way of an orderly end: the runtime too is taken down
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def run(script, processors=2, seconds=40):
    """Run *script*, which may use so many *processors*; what it printed."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", BEGIN.format(processors=processors) + script],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("processors", [2, *slow(1, 5)])
def test_a_classifier_that_was_used_goes_on_in_a_forked_process_and_in_its_parent(processors):
    script = """
classify = Classifier()
before = labels(classify)

def work():
    assert labels(classify) == before
    assert classify("A delight.")[0].label == "POSITIVE"
    assert in_child(lambda: labels(classify)) == 7

assert in_child(work) == 7
assert labels(classify) == before
print("all")
"""
    assert run(script, processors) == "all\n"


@pytest.mark.parametrize("processors", [2, *slow(5)])
def test_a_fork_waits_for_the_batch_that_another_thread_runs(processors):
    script = """
classify = Classifier()
before, going = labels(classify), True

def use():
    while going:
        labels(classify)

threads = [threading.Thread(target=use) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(3):
    assert in_child(lambda: labels(classify)) == 7
going = False
for thread in threads:
    thread.join()
print("all")
"""
    assert run(script, processors) == "all\n"


@pytest.mark.parametrize("method", ["fork", *slow("forkserver", "spawn")])
def test_every_way_to_start_processes_works_with_a_parent_that_has_loaded_the_model(
    method, tmp_path
):
    (tmp_path / "worker.py").write_text(
        "from labelwise import Classifier\n"
        "classify = Classifier()\n"
        "first = classify('A delight.')[0].label\n"
        "def label(text):\n"
        "    return classify(text)[0].label\n"
    )
    script = f"""
sys.path.insert(0, {str(tmp_path)!r})
import worker

assert worker.first == "POSITIVE"
context = multiprocessing.get_context({method!r})
if {method!r} == "forkserver":
    context.set_forkserver_preload(["worker"])
with context.Pool(2) as pool:
    print(*pool.map(worker.label, ["A delight.", "Two hours I will not get back."] * 3))
"""
    assert run(script, 5).split() == ["POSITIVE", "NEGATIVE"] * 3


def test_a_batcher_starts_again_in_a_forked_process_and_leaves_what_waits_to_its_parent():
    script = """
from labelwise.serving.batcher import Batcher
from labelwise.engine.cpus import Streams

async def logits(batcher, model):
    return await batcher.run(model, model.encode(["A delight."]), time.monotonic() + 30)

model = Classifier().model
batcher = Batcher(Cpu(Streams(1, 1)), max_texts=100, max_seconds=1e6)
batcher.add(model)
batcher.start()
expected = asyncio.run(logits(batcher, model))

with batcher._changed:  # as another thread may hold it
    def work():
        assert (asyncio.run(logits(batcher, model)) == expected).all()
        assert batcher.is_alive()
        asyncio.run(batcher.close())

    assert in_child(work) == 7
assert (asyncio.run(logits(batcher, model)) == expected).all()
asyncio.run(batcher.close())
print("all")
"""
    assert run(script) == "all\n"


def test_a_forked_process_does_not_load_a_model_that_has_changed_since(tmp_path):
    write_tokenizer(write_model(tmp_path, config("bert")), config("bert"))
    script = f"""
from labelwise import BadModel

classify = Classifier({str(tmp_path)!r})
classify("w7")

def work():
    assert classify("w7")
    os.utime({str(tmp_path / "config.json")!r}, ns=(0, 0))
    assert classify("w7"), "what is loaded already stays"

def later():
    try:
        classify("w7")
    except BadModel as reason:
        assert "has changed since it was loaded" in str(reason)
        return
    raise AssertionError("it answered")

assert in_child(work) == 7
assert in_child(later) == 7
print("all")
"""
    assert run(script) == "all\n"
