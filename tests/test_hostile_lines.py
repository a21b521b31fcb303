"""What a server holds of the machine, and how soon it answers others, while it is attacked."""

from __future__ import annotations

import pytest

from hostile_lines import ACCESS_TOKEN, BODIES, FLOODS, LITTLE, RUDE, overload, pressed, server
from hostile_tools import check_log, needs_proc

pytestmark = needs_proc

SHARE = 0.05  # of an attack, in its short form


HOSTILE = pytest.mark.hostile
QUICK = {
    *("header_lines", "trailers", "pipelined", "long_texts", "large_bodies"),
    *("silent_readers", "silent_downloads", "resets"),
}


def names(attacks):
    return [attack.__name__ for attack in attacks]


def some(attacks):
    """*attacks* as parameters; the quick suite has a few of each kind."""
    return [
        pytest.param(one, id=one.__name__, marks=[] if one.__name__ in QUICK else HOSTILE)
        for one in attacks
    ]


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with server(tmp_path_factory.mktemp("serve")) as one:
        yield one
        check_log(one.log)


@pytest.mark.parametrize("attack", some(FLOODS))
def test_a_small_flood_takes_little_memory(attack, live):
    pressed(live, attack, SHARE).check(growth=LITTLE)


@pytest.mark.slow
@pytest.mark.parametrize("attack", some(BODIES))
def test_many_bodies_take_bounded_memory(attack, live):
    pressed(live, attack, SHARE).check()


@pytest.mark.parametrize("attack", some(RUDE))
def test_a_few_rude_callers_harm_nobody(attack, live):
    pressed(live, attack, SHARE).check(growth=LITTLE)


@pytest.mark.hostile
@pytest.mark.parametrize("token", [False, True], ids=["open", "without the access token"])
@pytest.mark.parametrize("attack", FLOODS + BODIES, ids=names(FLOODS + BODIES))
def test_an_attack_takes_bounded_memory_and_others_are_answered(attack, token, tmp_path):
    with server(tmp_path, token=token) as live:
        pressed(live, attack).check()
        check_log(live.log, ACCESS_TOKEN)


@pytest.mark.hostile
@pytest.mark.parametrize("attack", RUDE, ids=names(RUDE))
def test_rude_callers_harm_nobody(attack, tmp_path):
    with server(tmp_path) as live:
        pressed(live, attack).check()
        check_log(live.log)


@pytest.mark.parametrize(
    ("connections", "seconds"),
    [
        pytest.param(200, 2, marks=pytest.mark.slow),
        pytest.param(1_000, 20, marks=pytest.mark.hostile),
    ],
)
def test_too_many_texts_are_answered_in_time_or_refused(connections, seconds, tmp_path):
    overload(tmp_path, connections=connections, seconds=seconds).check()
