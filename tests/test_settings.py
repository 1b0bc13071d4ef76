"""Settings: what is taken, what is refused, what is shown."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from headrace.engine.secrets import find_secret, secret
from headrace.engine.settings import Settings, settings_page
from headrace.engine.variables import SettingsError, variable


def problems(environ: dict[str, str], **overrides: object) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ, **overrides)
    return caught.value.problems


def source_of(settings: Settings, name: str) -> str:
    return next(origin.source for origin in settings.origins() if origin.name == name)


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = Settings.load({})
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.admin_token is None
    assert settings.debugger is False
    assert {origin.source for origin in settings.origins()} == {"default"}
    assert Settings.load({variable("port"): ""}).port == 8080


def test_the_process_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_PORT", "9999")
    assert Settings.load({}).port == 8080


def test_the_command_line_wins_over_the_environment() -> None:
    settings = Settings.load({"HEADRACE_PORT": "1", "HEADRACE_HOST": "::1"}, port=2, data=None)
    assert settings.port == 2
    assert source_of(settings, "port") == "command line"
    assert source_of(settings, "host") == "environment HEADRACE_HOST"
    assert source_of(settings, "data") == "default"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("debugger", "on", True),
        ("debugger", "off", False),
        ("time_zone", "Europe/Copenhagen", "Europe/Copenhagen"),
        ("trusted_proxies", "10.0.0.0/8, ::1", ("10.0.0.0/8", "::1/128")),
        ("trace_sample", "0.25", 0.25),
        ("workspace", "some/where", Path("some/where")),
        ("log_format", "console", "console"),
        ("store", "elasticsearch://h1,h2:9201/shop?refresh=1s", "elasticsearch://h1,h2:9201/shop?refresh=1s"),
        ("port", "0", 0),
    ],
)
def test_a_value_that_is_taken(name: str, text: str, value: object) -> None:
    assert getattr(Settings.load({variable(name): text}), name) == value
    assert getattr(Settings.load({}, **{name: text}), name) == value


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("port", "abc", "HEADRACE_PORT=abc: must be a whole number from 0 to 65535."),
        ("port", "65536", "HEADRACE_PORT=65536: must be a whole number"),
        ("port", "9" * 5000, "must be a whole number"),
        ("port", "tcp://10.0.0.1:8080", "enableServiceLinks"),
        ("body_limit_bytes", "0", "must be a whole number, at least 1"),
        ("debugger", "maybe", "must be on or off"),
        ("log_level", "loud", "must be one of debug, info, warning, error"),
        ("trace_sample", "nan", "must be a number from 0 to 1"),
        ("trace_sample", "1.1", "must be a number from 0 to 1"),
        ("time_zone", "Europe/Copenhagn", "Did you mean 'Europe/Copenhagen'?"),
        ("time_zone", "../etc/passwd", "must be an IANA time zone"),
        ("time_zone", "Europe", "must be an IANA time zone"),
        ("store", "postgres://here", "must be sqlite:, sqlite:PATH, elasticsearch://HOST:PORT/PREFIX or"),
        ("store", "elasticsearch:here", "must be sqlite:, "),
        ("store", "sqlite::memory:", "would be lost"),
        ("host", "http://here", "must be an address or a host name"),
        ("trusted_proxies", "10.0.0.0/8,nowhere", "nowhere"),
        ("trusted_proxies", "10.0.0.1/8", "has host bits set"),
        ("keep_events_days", "7", "must be 0 or at least HEADRACE_DEDUP_DAYS (28)"),
    ],
)
def test_a_value_that_is_refused(name: str, text: str, says: str) -> None:
    [problem] = problems({variable(name): text})
    assert says in problem
    assert len(problem) < 300


def test_all_problems_are_said_at_once_and_name_where_they_come_from(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    said = problems(
        {"HEADRACE_PORT": "x", "HEADRACE_DEBUGGER": "x", "HEADRACE_ADMIN_TOKEN_FILE": str(missing)},
        dedup_days=0,
    )
    assert len(said) == 4
    assert any(problem.startswith("--dedup-days=0: ") for problem in said)
    assert any(problem.startswith(f"HEADRACE_ADMIN_TOKEN_FILE={missing}: cannot be read") for problem in said)


def test_an_unknown_variable_is_warned_about() -> None:
    settings = Settings.load({"HEADRACE_PRT": "1", "HEADRACE_PORT_FILE": "x", "OTHER": "x"})
    assert len(settings.warnings) == 2
    assert "Did you mean 'HEADRACE_PORT'?" in settings.warnings[1]
    assert Settings.load({"HEADRACE_CRASH_AT": "somewhere", "HEADRACE_ADMIN_TOKEN": "x"}).warnings == ()


def test_an_unknown_variable_is_told_with_what_is_wrong() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.load({"HEADRACE_PRT": "1", "HEADRACE_PORT": "x"})
    assert len(raised.value.problems) == 1
    assert "HEADRACE_PORT=x: must be" in str(raised.value)
    assert "Warning: HEADRACE_PRT is not a setting. Did you mean 'HEADRACE_PORT'?" in str(raised.value)


@pytest.mark.parametrize("address", ["postgres://user:hush@h/db", "postgres://:hush@h", "x://a:hu/sh@hush@h"])
def test_a_password_in_an_address_is_not_shown(address: str) -> None:
    (problem,) = problems({"HEADRACE_STORE": address})
    assert "(hidden)@h" in problem
    assert "hush" not in problem
    assert "user" not in problem


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "elasticsearch://user:hush@h:9200/shop?refresh=1s",
            "elasticsearch://(hidden)@h:9200/shop?refresh=1s",
        ),
        (
            "elasticsearch+https://h/shop?api_key=hush%3D&ca=ca.pem",
            "elasticsearch+https://h/shop?api_key=(hidden)&ca=ca.pem",
        ),
        ("elasticsearch://h/shop?api%5Fkey=hush", "elasticsearch://h/shop?api%5Fkey=(hidden)"),
        ("elasticsearch://h/shop?key=hush&shards=2", "elasticsearch://h/shop?key=(hidden)&shards=2"),
        ("elasticsearch://h/shop?api_key=hush@hush", "elasticsearch://(hidden)"),
        ("elasticsearch://user:hush?a=hush@h/shop", "elasticsearch://(hidden)"),
    ],
)
def test_the_secrets_of_a_store_are_not_shown(url: str, shown: str, tmp_path: Path) -> None:
    file = tmp_path / "store"
    file.write_text(f"{url}\n")
    for environ in ({"HEADRACE_STORE": url}, {"HEADRACE_STORE_FILE": str(file)}):
        settings = Settings.load(environ)
        assert settings.store == url
        assert settings.warnings == ()
        [origin] = [origin for origin in settings.origins() if origin.name == "store"]
        assert origin.value == shown
        assert "hush" not in repr(settings) + str(settings) + str(settings.origins())


def test_an_unknown_override_is_a_mistake_in_the_program() -> None:
    with pytest.raises(TypeError, match="no such setting: prot"):
        Settings.load({}, prot=1)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        # That it cannot be set is what is tested.
        Settings.load({}).port = 1  # type: ignore[misc]


def test_secrets_come_from_the_environment_or_a_file_and_are_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("file-token\n")
    settings = Settings.load(
        {"HEADRACE_ADMIN_TOKEN_FILE": str(file), "HEADRACE_READ_TOKENS": "reader-1, reader-2"}
    )
    assert settings.admin_token == SecretStr("file-token")
    assert [token.get_secret_value() for token in settings.read_tokens] == ["reader-1", "reader-2"]
    assert source_of(settings, "admin_token") == f"file {file}"
    for text in (repr(settings), str(settings.origins())):
        assert "token-" not in text
        assert "file-token" not in text
        assert "reader-" not in text


def test_a_refused_secret_is_not_shown() -> None:
    [problem] = problems({"HEADRACE_ADMIN_TOKEN": "two words"})
    assert problem == "HEADRACE_ADMIN_TOKEN=(hidden): must be printable ASCII without spaces."
    assert "two" not in str(problems({"HEADRACE_READ_TOKENS": "fine,two words"}))


def test_a_secret_set_twice_is_refused(tmp_path: Path) -> None:
    environ = {"HEADRACE_ADMIN_TOKEN": "a", "HEADRACE_ADMIN_TOKEN_FILE": str(tmp_path / "t")}
    assert problems(environ) == (
        "HEADRACE_ADMIN_TOKEN and HEADRACE_ADMIN_TOKEN_FILE are both set: keep one of them.",
    )


def test_a_named_secret(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"from file\r\n")
    assert secret("SHOP_KEY", {"SHOP_KEY": "abc"}) == "abc"
    assert secret("SHOP_KEY", {"SHOP_KEY_FILE": str(file)}) == "from file"
    assert find_secret("SHOP_KEY", {}).problem == "SHOP_KEY is not set."
    file.write_bytes(b"\xff")
    assert "not a UTF-8 text" in find_secret("SHOP_KEY", {"SHOP_KEY_FILE": str(file)}).problem
    file.write_bytes(b"\n")
    assert "the file is empty" in find_secret("SHOP_KEY", {"SHOP_KEY_FILE": str(file)}).problem
    assert secret("SHOP_KEY", {"SHOP_KEY_FILE": str(tmp_path)}) is None
    assert secret("SHOP_KEY", {"SHOP_KEY_FILE": "a\0b"}) is None


def test_the_page_names_every_setting_with_its_meaning() -> None:
    page = settings_page()
    for name, field in Settings.model_fields.items():
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{variable(name)}` |")]
        assert field.description
        assert row.count("|") == 5
        assert field.description in row
