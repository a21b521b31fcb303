"""The settings of the server: one definition for flags, environment, file and documents."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from labelwise.commands.group import Group
from labelwise.errors import BadInput
from labelwise.options import EPILOG, table, with_settings
from labelwise.settings import Settings, is_loopback

DOCS = Path(__file__).parents[1] / "docs"
TOKEN = "lw-0123456789"  # noqa: S105 - nobody's


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """No file and no variable of this machine speaks for the tests."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("LABELWISE_")]:
        monkeypatch.delenv(name)


def serve(*arguments, **environment):
    """How a command with settings ends, and the settings that it was called with."""
    called = []

    @click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
    def main():
        """Text classification on your own machine."""

    @main.command(epilog=EPILOG)
    @with_settings
    def serve(settings):
        """Serve each MODEL."""
        called.append(settings)

    run = CliRunner().invoke(main, ["serve", *arguments], env=environment)
    return run, called


def settings_of(*arguments, **environment):
    run, [settings] = serve(*arguments, **environment)
    assert (run.exit_code, run.output) == (0, "")
    return settings


def refusal(*arguments, **environment):
    """The one line that a start ends with; the exit code is 2."""
    run, called = serve(*arguments, **environment)
    assert (run.exit_code, run.stdout, called) == (2, "", [])
    [line] = run.stderr.splitlines()
    return line.removeprefix("Error: ")


def config(text, name="labelwise.toml"):
    Path(name).write_text(text, encoding="utf-8")


def test_without_a_word_the_defaults_hold():
    assert settings_of() == Settings()
    assert Settings().port == 8000


def test_a_file_that_came_with_a_model_is_not_taken_for_the_users():
    config("port = 1")
    assert settings_of().port == 1
    Path("config.json").write_text("{}", encoding="utf-8")
    assert refusal() == (
        "labelwise.toml lies in the folder of a model, and may have come with it; "
        "if it is meant, give it with --config labelwise.toml"
    )
    assert settings_of("--config", "labelwise.toml").port == 1


@pytest.mark.skipif(os.name != "posix", reason="files have no such owners here")
def test_a_file_that_others_may_have_written_is_not_taken_for_the_users(monkeypatch):
    config("port = 1")
    Path("labelwise.toml").chmod(0o664)
    assert settings_of().port == 1
    Path("labelwise.toml").chmod(0o666)
    assert refusal().startswith("labelwise.toml may be written by every user; if it is meant")
    Path("labelwise.toml").chmod(0o600)
    owner = Path("labelwise.toml").stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    if owner != 0:
        assert refusal().startswith("labelwise.toml belongs to another user; if it is meant")
    else:
        assert settings_of().port == 1  # the system's own
        os.chown("labelwise.toml", 4_321, -1)
        assert refusal().startswith("labelwise.toml belongs to another user; if it is meant")
    assert settings_of("--config", "labelwise.toml").port == 1


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root gives files away")
def test_a_link_that_another_user_made_is_not_taken_for_the_users():
    config("port = 1", "mine.toml")
    Path("labelwise.toml").symlink_to("mine.toml")
    assert settings_of().port == 1
    os.chown("labelwise.toml", 4_321, -1, follow_symlinks=False)
    assert refusal().startswith("labelwise.toml belongs to another user; if it is meant")


def test_settings_do_not_change():
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1


GIVEN = {  # a setting: its flags, its variable, its line in the file, its value
    "models": (["a/b@main", "c"], "a/b@main c", '["a/b@main", "c"]', ("a/b@main", "c")),
    "dtype": (["--dtype", "int8"], "int8", '"int8"', "int8"),
    "allow_unverified_int8": (["--allow-unverified-int8"], "1", "true", True),
    "copies": (["--copies", "1"], "1", "1", 1),
    "host": (["--host", "::"], "::", '"::"', "::"),
    "port": (["--port", "0"], "0", "0", 0),
    "auth": (["--auth", "open"], "open", '"open"', "open"),
    "access_token_file": (["--access-token-file", "t"], "t", '"t"', Path("t")),
    "access_token": (None, TOKEN, f'"{TOKEN}"', TOKEN),
    "allowed_host": (
        ["--allowed-host", "a", "--allowed-host", "b"],
        " a  b ",
        '["a", "b"]',
        ("a", "b"),
    ),
    "public_url": (
        ["--public-url", "https://a.example/x/"],
        "https://a.example/x",
        '"https://a.example/x"',
        "https://a.example/x",
    ),
    "trusted_proxies": (
        ["--trusted-proxies", "10.0.0.0/8"],
        "10.0.0.0/8",
        '["10.0.0.0/8"]',
        ("10.0.0.0/8",),
    ),
    "withhold_files": (["--withhold-files"], "1", "true", True),
    "max_body_bytes": (["--max-body-bytes", "9_000"], "9_000", "9_000", 9_000),
    "max_texts": (["--max-texts", "9"], "9", "9", 9),
    "max_characters": (["--max-characters", "9"], "9", "9", 9),
    "max_waiting_texts": (["--max-waiting-texts", "9"], "9", "9", 9),
    "max_waiting_seconds": (["--max-waiting-seconds", "0.5"], "0.5", "0.5", 0.5),
    "cache_bytes": (["--cache-bytes", "0"], "0", "0", 0),
    "request_timeout": (["--request-timeout", "9"], "9", "9", 9.0),
    "log_format": (["--log-format", "json"], "json", '"json"', "json"),
    "log_requests": (["--log-requests"], "1", "true", True),
    "log_probes": (["--log-probes"], "1", "true", True),
}


def test_every_setting_is_tried():
    assert list(GIVEN) == [setting.name for setting in fields(Settings)]


@pytest.mark.parametrize("name", GIVEN)
def test_a_setting_is_a_flag_a_variable_and_a_key(name):
    flags, variable, line, value = GIVEN[name]
    Path("t").touch()
    expected = Settings(**{name: value})
    if flags:
        assert settings_of(*flags) == expected
    assert settings_of(**{f"LABELWISE_{name.upper()}": variable}) == expected
    config(f"{name} = {line}")
    assert settings_of() == expected
    assert type(getattr(settings_of(), name)) is type(value)


def test_a_flag_wins_over_the_environment_and_that_over_the_file():
    config('port = 1\nmax_texts = 1\nhost = "a"\nmodels = ["a"]\nallowed_host = ["a"]')
    environment = {"LABELWISE_PORT": "2", "LABELWISE_MAX_TEXTS": "2", "LABELWISE_MODELS": "b"}
    assert settings_of("--port", "3", **environment) == Settings(
        port=3, max_texts=2, host="a", models=("b",), allowed_host=("a",)
    )
    assert settings_of("c", "--allowed-host", "c", **environment).models == ("c",)


def test_an_empty_variable_counts_as_not_set():
    assert settings_of(LABELWISE_PORT="", LABELWISE_MODELS="", LABELWISE_ACCESS_TOKEN="") == (
        Settings()
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("PROT", "did you mean LABELWISE_PORT?"),
        ("ACCESS_TOKN", "did you mean LABELWISE_ACCESS_TOKEN?"),
        ("TOKEN", "did you mean LABELWISE_ACCESS_TOKEN?"),
        ("MODEL", "did you mean LABELWISE_MODELS?"),
        ("ALLOWED_HOSTS", "did you mean LABELWISE_ALLOWED_HOST?"),
        ("CONFIG_FILE", "did you mean LABELWISE_CONFIG?"),
        ("QQ", "unset it, or see --help"),
    ],
)
def test_a_variable_that_is_no_setting_stops_the_start(name, said):
    assert refusal(**{f"LABELWISE_{name}": "secret"}) == (
        f"LABELWISE_{name} in the environment is no setting; {said}"
    )
    assert settings_of(**{f"LABELWISE_{name}": ""}) == Settings()


def test_variables_of_the_tests_and_of_kubernetes_do_not():
    of_the_tests = {"SHARED": "/data", "NO_SKIPS": "1", "CLIENTS": "/clients", "BASE_MODEL": "/m"}
    of_a_service = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "80",
        "SERVICE_PORT_HTTP": "80",
        "PORT_80_TCP": "tcp://10.0.0.1:80",
        "PORT_80_TCP_PROTO": "tcp",
        "PORT_80_TCP_PORT": "80",
        "PORT_80_TCP_ADDR": "10.0.0.1",
        "API_PORT": "tcp://10.0.0.1:80",
        "API_SERVICE_HOST": "10.0.0.1",
    }
    variables = of_the_tests | of_a_service
    assert settings_of(**{f"LABELWISE_{name}": value for name, value in variables.items()}) == (
        Settings()
    )
    assert settings_of(LABEL="1", labelwise_port="1", MY_LABELWISE_PORT="1") == Settings()


def test_models_may_have_a_flag():
    assert settings_of("--model", "a", "-m", "b").models == ("a", "b")
    mixed = ("a", "--model=b", "--port", "1", "c", "-md", "--model", "e", "--", "--model")
    assert settings_of(*mixed).models == ("a", "b", "c", "d", "e", "--model")
    config('models = ["file"]')
    assert settings_of("--model", "a", LABELWISE_MODELS="variable").models == ("a",)
    assert settings_of("--model", "a").models == ("a",)


def test_a_lone_text_in_the_file_is_one_value():
    config('allowed_host = "a"\nmodels = "my models/a"')
    assert settings_of() == Settings(allowed_host=("a",), models=("my models/a",))


def test_another_file_is_named_by_a_flag_or_the_environment():
    config("port = 1")
    config("port = 2", "two.toml")
    config("port = 3", "three.toml")
    assert settings_of().port == 1
    assert settings_of(LABELWISE_CONFIG="two.toml").port == 2
    assert settings_of("--config", "three.toml", LABELWISE_CONFIG="two.toml").port == 3


def test_a_file_that_is_asked_for_must_exist():
    assert refusal("--config", "no.toml") == (
        "Invalid value for '--config': File 'no.toml' does not exist."
    )
    assert refusal(LABELWISE_CONFIG=".") == (
        "Invalid value for LABELWISE_CONFIG: File '.' is a directory."
    )


def test_a_file_that_is_none_is_refused():
    os.mkfifo("pipe")
    assert refusal("--config", "pipe") == "pipe is not a regular file"
    Path("labelwise.toml").mkdir()
    assert refusal() == "labelwise.toml is not a regular file"


def test_a_file_without_end_is_not_read():
    with Path("labelwise.toml").open("wb") as file:
        file.truncate(10**9)
    assert refusal().startswith("labelwise.toml is larger than 1,000,000 bytes")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("prot = 1", "labelwise.toml has an unknown key 'prot'; did you mean port?"),
        ("max-texts = 1", "unknown key 'max-texts'; did you mean max_texts?"),
        (
            "[zzz]\nport = 1",
            "unknown key 'zzz'; there are models, dtype, allow_unverified_int8, copies, host, ",
        ),
        ('config = "x"', "unknown key 'config'; there are "),
        ('"\\u001b[31m" = 1', "unknown key '\\x1b[31m'; there are "),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(line, said):
    config(line)
    assert said in refusal()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('port = "8000"', "port in labelwise.toml must be a whole number"),
        ("port = 1.0", "port in labelwise.toml must be a whole number"),
        ("port = true", "port in labelwise.toml must be a whole number"),
        ("port = [1]", "port in labelwise.toml must be a whole number"),
        (f"port = 0x{'f' * 5000}", "port in labelwise.toml must be a whole number"),
        ("request_timeout = nan", "request_timeout in labelwise.toml must be a number"),
        (f"request_timeout = {10**400}", "request_timeout in labelwise.toml must be a number"),
        ("request_timeout = 1979-05-27", "request_timeout in labelwise.toml must be a number"),
        ("host = 1", "host in labelwise.toml must be a text in quotes"),
        ('host = ["a"]', "host in labelwise.toml must be a text in quotes"),
        ('access_token_file = "a\\u0000"', "access_token_file in labelwise.toml must be a text"),
        ("access_token = 123456", "access_token in labelwise.toml must be a text in quotes"),
        ("models = [1]", "models in labelwise.toml must be a list of texts"),
        ("allowed_host = {}", "allowed_host in labelwise.toml must be a list of texts"),
        ("port = 70000", "Invalid value for port in labelwise.toml: 70000 is not in the range"),
        ('auth = "no"', "Invalid value for auth in labelwise.toml: 'no' is not one of"),
        ("max_texts = 0", "Invalid value for max_texts in labelwise.toml: 0 is not in the range"),
        (
            "max_waiting_seconds = -1",
            "Invalid value for max_waiting_seconds in labelwise.toml: -1 is not a number",
        ),
        (
            'access_token_file = "gone"',
            "Invalid value for access_token_file in labelwise.toml: File 'gone' does not exist.",
        ),
    ],
)
def test_a_value_in_the_file_that_does_not_fit_is_named(line, said):
    config(line)
    line = refusal()
    assert line.startswith(said)
    assert "123456" not in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"host = 'a'\nport =\n", "line 2"),
        (b"host = 'a'\nport = 1\nport = 2\n", "line 3"),
        (b"a = 1_\n", "line 1"),
        (b"host = '\xff'", "can't decode byte 0xff"),
        (b"a = " + b"[" * 100_000, "."),
        (b"port = " + b"9" * 5000, "4300 digits"),
    ],
)
def test_a_broken_file_is_named_with_its_line(content, said):
    Path("labelwise.toml").write_bytes(content)
    line = refusal()
    assert line.startswith("labelwise.toml is not valid TOML: ")
    assert re.search(said, line)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "65536"),
        ("port", "-1"),
        ("port", "http"),
        ("auth", "maybe"),
        ("max_body_bytes", "0"),
        ("max_texts", "0"),
        ("max_characters", "1.5"),
        ("max_waiting_texts", "-1"),
        ("max_waiting_seconds", "0"),
        ("max_waiting_seconds", "inf"),
        ("request_timeout", "nan"),
        ("request_timeout", "1e999"),
        ("request_timeout", "soon"),
        ("access_token_file", "gone"),
    ],
)
def test_a_value_out_of_bounds_is_named_with_where_it_came_from(name, value):
    flag, variable = f"--{name.replace('_', '-')}", f"LABELWISE_{name.upper()}"
    assert refusal(flag, value).startswith(f"Invalid value for '{flag}': ")
    line = refusal(**{variable: value})
    assert line.startswith(f"Invalid value for {variable}: ")
    assert value in line


@pytest.mark.parametrize("flags", [["--access-token", TOKEN], [f"--access-token={TOKEN}"]])
def test_an_access_token_on_the_command_line_is_refused_unseen(flags):
    assert refusal(*flags) == (
        "--access-token would be seen by every user of this machine; "
        "set LABELWISE_ACCESS_TOKEN, or give --access-token-file FILE"
    )


def test_an_access_token_is_never_shown():
    settings = settings_of(LABELWISE_ACCESS_TOKEN=TOKEN)
    assert settings.access_token == TOKEN
    assert TOKEN not in repr(settings)


def test_the_help_is_short_and_says_the_defaults():
    run, _ = serve("-h", LABELWISE_PORT="x")
    assert run.exit_code == 0
    assert len(run.stdout.splitlines()) <= 60
    assert "--max-body-bytes N" in run.stdout
    assert "default: 8000]" in run.stdout
    assert "--access-token " not in run.stdout
    assert " ".join(run.stdout.split()).endswith(EPILOG)


def test_an_access_token_is_the_first_line_of_its_file():
    Path("token").write_bytes(f" {TOKEN}\t\r\nnotes of somebody: \xe9\n".encode())
    assert Settings(access_token_file=Path("token")).read_access_token() == TOKEN


def test_files_may_begin_with_a_byte_order_mark():
    Path("token").write_text(TOKEN, encoding="utf-8-sig")
    assert Settings(access_token_file=Path("token")).read_access_token() == TOKEN
    config("\ufeffport = 1")
    assert settings_of().port == 1


def test_files_in_another_encoding_are_named_with_what_to_do():
    next_step = "is UTF-16; make UTF-8 of it, as iconv -f UTF-16 -t UTF-8 does"
    Path("labelwise.toml").write_text("port = 1", encoding="utf-16")
    assert refusal() == f"labelwise.toml {next_step}"
    Path("token").write_text(TOKEN, encoding="utf-16")
    with pytest.raises(BadInput, match=f"^token {next_step}$"):
        Settings(access_token_file=Path("token")).read_access_token()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("labels.example.com", "labels.example.com"),
        ("Labels_1", "Labels_1"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "[2001:db8::1]"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("labels.example.com:8000", "labels.example.com:8000"),
        ("labels.example.com.", "labels.example.com"),
        ("labels.example.com.:8000", "labels.example.com:8000"),
        ("[2001:DB8::1]:8000", "[2001:db8::1]:8000"),
    ],
)
def test_an_allowed_host_is_a_name_or_an_address_and_may_have_a_port(given, kept):
    assert settings_of("--allowed-host", given).allowed_host == (kept,)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("https://labels.example.com", "; give 'labels.example.com'."),
        ("http://labels.example.com:8000/x?y#z", "; give 'labels.example.com:8000'."),
        ("labels.example.com/", "; give 'labels.example.com'."),
        ("*.example.com", ", such as labels.example.com."),
        ("*", ", such as labels.example.com."),
        ("a,b", ", such as labels.example.com."),
        ("[::1]:http", ", such as labels.example.com."),
        ("labels.example.com:99999999", ", such as labels.example.com."),
        ("bücher.example", ", such as labels.example.com."),
    ],
)
def test_anything_else_about_an_allowed_host_is_refused(given, said):
    for place, line in [
        ("'--allowed-host'", refusal("--allowed-host", given)),
        ("LABELWISE_ALLOWED_HOST", refusal(LABELWISE_ALLOWED_HOST=given)),
    ]:
        assert line == f"Invalid value for {place}: {given!r} is not the name of a host{said}"


def test_an_access_token_may_come_from_the_environment_or_be_absent():
    assert Settings(access_token=f"{TOKEN}\n").read_access_token() == TOKEN
    assert Settings().read_access_token() is None


@pytest.mark.parametrize(
    "content",
    [b"", b"\n" + TOKEN.encode(), b" \t\nx", b"s\xc3\xa9cret", b"se cret", b"s\x00", b"\xff"],
)
def test_a_file_without_an_access_token_is_refused_unquoted(content):
    Path("token").write_bytes(content)
    with pytest.raises(BadInput, match=r"token (is empty|holds no access token); ") as caught:
        Settings(access_token_file=Path("token")).read_access_token()
    assert not re.search("s.?cret|lw-", str(caught.value))


@pytest.mark.parametrize("token", ["", " ", "sécret", "se cret", "\udcffcret"])
def test_what_is_no_access_token_is_refused_unquoted(token):
    with pytest.raises(
        BadInput, match=r"access_token (is empty|holds no access token); "
    ) as caught:
        Settings(access_token=token).read_access_token()
    assert "cret" not in str(caught.value)


def test_a_file_of_an_access_token_that_cannot_be_read_is_named(tmp_path):
    for path, said in [("gone", "gone does not exist"), (".", ". is not a regular file")]:
        with pytest.raises(BadInput, match=f"^{re.escape(said)}$"):
            Settings(access_token_file=Path(path)).read_access_token()
    closed = tmp_path / "closed"
    closed.touch(mode=0)
    if not os.access(closed, os.R_OK):  # the administrator may read everything
        with pytest.raises(BadInput, match=r"closed cannot be read: Permission denied"):
            Settings(access_token_file=closed).read_access_token()


def test_two_access_tokens_are_refused():
    both = Settings(access_token=TOKEN, access_token_file=Path("token"))
    with pytest.raises(BadInput, match="are both set; leave out one"):
        both.read_access_token()


@pytest.mark.parametrize("given", [{"access_token": TOKEN}, {"access_token_file": Path("token")}])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_an_access_token_that_is_given_is_needed(given, host):
    assert Settings(host=host, **given).needs_access_token()
    assert Settings(host=host, auth="required", **given).needs_access_token()
    with pytest.raises(BadInput, match="auth is open, but there is an access token"):
        Settings(host=host, auth="open", **given).needs_access_token()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "labels.example.com"])  # noqa: S104
def test_a_host_that_others_reach_needs_an_access_token_or_a_clear_word(host):
    with pytest.raises(BadInput, match=r"--access-token-file FILE .* --auth open$"):
        Settings(host=host).needs_access_token()
    assert not Settings(host=host, auth="open").needs_access_token()


def test_this_machine_alone_is_open_until_somebody_says_otherwise():
    assert not Settings().needs_access_token()
    assert not Settings(host="::1", auth="open").needs_access_token()
    with pytest.raises(BadInput, match="auth is required, but there is no access token; give"):
        Settings(auth="required").needs_access_token()


@pytest.mark.parametrize(
    "host",
    [
        *["localhost", "LocalHost", "a.localhost", "a-1.b.localhost"],
        *["127.0.0.1", "127.9.9.9", "::1", "[::1]"],
    ],
)
def test_names_and_addresses_of_this_machine_alone(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *["", ".localhost", "a..localhost", "localhost.", "localhost.example.com", "alocalhost"],
        *["localho\u017ft", "localhost:80", "localhost\n", "evil\n.localhost", "127.0.0.1\n"],
        *["127.1", "127.0.0.01", "0177.0.0.1", "2130706433", "127.0.0.1.example.com", "0.0.0.0"],  # noqa: S104
        *["[127.0.0.1]", "[::1", "::", "::2", "::ffff:127.0.0.1", "::1%lo", "10.0.0.1", "*"],
    ],
)
def test_everything_else_may_be_another_machine(host):
    assert not is_loopback(host)


def test_the_example_of_the_documents_works():
    text = (DOCS / "settings.md").read_text("utf-8")
    example, listed = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    config(listed)
    assert [one.id for one in settings_of().models] == ["", "acme/comments"]
    config(example)
    assert settings_of() == Settings(
        models=("./models/tickets", "distilbert/distilbert-base-uncased-finetuned-sst-2-english"),
        host="0.0.0.0",  # noqa: S104
        auth="required",
        allowed_host=("labels.example.com",),
        max_texts=256,
        request_timeout=20,
    )
    assert settings_of(LABELWISE_ACCESS_TOKEN=TOKEN).needs_access_token()


def test_the_documents_show_every_setting():
    part = f"<!-- settings -->\n{table()}\n<!-- end of settings -->"
    text = (DOCS / "settings.md").read_text("utf-8")
    assert part in text, "docs/settings.md is out of date; run: python docs/generate.py"


def test_the_generated_parts_are_rewritten_and_nothing_else(tmp_path):
    shutil.copytree(DOCS, tmp_path / "docs")
    document = tmp_path / "docs/settings.md"
    text = document.read_text("utf-8")
    document.write_text(text.replace("| `--host` |", "| `--toast` |"), "utf-8")
    subprocess.run([sys.executable, tmp_path / "docs/generate.py"], check=True)  # noqa: S603
    assert document.read_text("utf-8") == text


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"max_texts": -5}, "max_texts: -5 is not in the range"),
        ({"max_texts": 5.5}, "max_texts: 5.5 is not a whole number"),
        ({"max_texts": "five"}, "max_texts: 'five' is not a valid integer"),
        ({"copies": 3}, "copies: 3 is not in the range"),
        ({"port": 65_536}, "port: 65536 is not in the range"),
        ({"request_timeout": 0}, "request_timeout: 0 is not a number of seconds above 0"),
        ({"auth": "closed"}, "auth: 'closed' is not one of"),
        ({"allowed_host": ("a b",)}, "allowed_host: 'a b' is not the name of a host"),
        ({"log_requests": "perhaps"}, "log_requests: 'perhaps' is not a valid boolean"),
    ],
    ids=str,
)
def test_settings_are_checked_from_python_as_well(wrong, says):
    with pytest.raises(BadInput) as refused:
        Settings(**wrong)
    assert str(refused.value).startswith(says)


def test_settings_from_python_mean_what_they_mean_elsewhere():
    assert Settings(max_texts="5", log_requests="no") == Settings(max_texts=5, log_requests=False)
    assert Settings(allowed_host=("::1",)).allowed_host == ("[::1]",)
