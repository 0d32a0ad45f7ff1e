"""Settings: three sources, nothing unknown, no secret shown."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from channels.errors import SettingsError
from hub.settings import Settings, is_loopback, load_settings

SECRET = "0123456789abcdef0123456789abcdef"


def _written(path: Path, text: str) -> Path:
    file = path / "fanwire.toml"
    file.write_text(text)
    return file


def test_defaults_need_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file, variables and flags the hub listens on loopback with its own Valkey."""
    monkeypatch.chdir(tmp_path)
    settings = load_settings(None, {}, {})
    assert (settings.host, settings.port, settings.redis_url) == ("127.0.0.1", 8000, None)
    assert {row.source for row in settings.rows()} == {"default"}


def test_later_sources_win(tmp_path: Path) -> None:
    """A flag beats a variable, a variable beats the file; each value knows where it is from."""
    file = _written(tmp_path, 'port = 1\nworkers = 2\nkey_prefix = "file"\n')
    environ = {"FANWIRE_PORT": "2", "FANWIRE_WORKERS": "3"}
    settings = load_settings(file, environ, {"port": 3, "workers": None})
    assert (settings.port, settings.workers, settings.key_prefix) == (3, 3, "file")
    assert settings.sources == {
        "port": "--port",
        "workers": "FANWIRE_WORKERS",
        "key_prefix": str(file),
    }


def test_the_working_directory_s_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``fanwire.toml`` needs not to be named, another file does."""
    _written(tmp_path, "port = 4\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}, {}).port == 4
    with pytest.raises(SettingsError, match="expected a configuration file at other"):
        load_settings("other.toml", {}, {})


def test_variables_are_understood_as_text() -> None:
    """Numbers, booleans and lists are written in variables as one expects."""
    settings = load_settings(
        None,
        {
            "FANWIRE_INSECURE": "true",
            "FANWIRE_PING_INTERVAL_S": "2.5",
            "FANWIRE_ALLOWED_ORIGINS": "https://a.example, https://b.example",
            "FANWIRE_REDIS_URL": "",
            "FANWIRE_URL": "http://elsewhere",
            "FANWIRE_TOKEN": "the clients'",
        },
        {},
    )
    assert settings.insecure
    assert settings.ping_interval_s == 2.5
    assert settings.allowed_origins == ("https://a.example", "https://b.example")
    assert settings.redis_url is None


@pytest.mark.parametrize(
    ("text", "environ", "message"),
    [
        ("prot = 1", {}, "unknown setting 'prot' in .*fanwire.toml: did you mean port"),
        ("", {"FANWIRE_PROT": "1"}, "unknown setting 'FANWIRE_PROT' in the environment: did you"),
        ("port = '1'", {}, r"fanwire.toml: port: expected `int`; got '1'"),
        ("port = 70000", {}, r"fanwire.toml: port: expected `int` <= 65535; got '70000'"),
        ("", {"FANWIRE_PORT": "many"}, "FANWIRE_PORT: port: expected `int`; got 'many'"),
        ("", {"FANWIRE_INSECURE": "maybe"}, "insecure: expected `bool`; got 'maybe'"),
        ("port = ", {}, "fanwire.toml cannot be read"),
        (
            '[[channels]]\npattern = "a:{b}"\nhistory = {size = -1}',
            {},
            r"fanwire.toml: channels\[0\].history.size: expected `int` >= 0",
        ),
        (
            '[[channels]]\npattern = "a:{b}"\nsubscribe = "member"',
            {},
            r"channels\[0\]: channel pattern 'a:\{b\}' has no parameter \{workspace\}.*fanwire",
        ),
        ('[[channels]]\npattern = "a:{b}"\nhistroy = 1', {}, "unknown field `histroy`"),
        ('token_hmac_secret = "short"', {}, "at least 32 bytes; got 5 .from"),
        ('insecure = true\nhost = "0.0.0.0"', {}, "loopback address .* got '0.0.0.0'"),
        ('allowed_origins = ["a.example"]', {}, "origins such as https://app.example.com"),
        ('redis_url = "https://x.upstash.io"', {}, "redis_url: expected a token .*fanwire.toml"),
        (
            'redis_url = "https://x.upstash.io"\nredis_token = "a b"',
            {},
            "token of printable ASCII",
        ),
        ('redis_url = "http://x.upstash.io"\nredis_token = "t"', {}, "expected https:// for x.up"),
        ("", {"UPSTASH_REDIS_REST_URL": "https://x.upstash.io"}, "UPSTASH_REDIS_REST_URL"),
        ('redis_token = "t"', {}, "redis_token goes with a redis_url of https://.*fanwire.toml"),
        (
            'redis_url = "redis://localhost"',
            {"FANWIRE_REDIS_TOKEN": "t"},
            "redis_token goes with .* FANWIRE_REDIS_TOKEN",
        ),
        ('redis_url = "ftp://x"', {}, "redis_url: expected a Redis URL"),
        ('[usage]\ntime_zone = "Wien"', {}, "fanwire.toml: usage: time_zone must be .*got 'Wien'"),
        ('[limits]\nrest = ["x"]', {}, "fanwire.toml: limits: there is no rate limit policy 'x'"),
        ('[budgets.user]\nmode = "odd"', {}, "fanwire.toml: budgets.user.mode"),
        ("[cache]\nttl = 1", {}, "unknown field `ttl`"),
        ("", {"FANWIRE_LIMITS": "x"}, "unknown setting 'FANWIRE_LIMITS' in the environment"),
        ('database_url = "mysql://h/d"', {}, "database_url: .*expected sqlite:///path"),
        ('log_level = "loud"', {}, "log_level: expected one of debug, .*, error; got 'loud'"),
    ],
)
def test_a_wrong_setting_is_named(
    tmp_path: Path, text: str, environ: dict[str, str], message: str
) -> None:
    """An unknown key or a wrong value is refused with its source, its key and what was expected."""
    with pytest.raises(SettingsError, match=message):
        load_settings(_written(tmp_path, text), environ, {})


def test_a_wrong_secret_is_not_told(tmp_path: Path) -> None:
    """Whatever stands where a secret is expected is not repeated."""
    for key in ("api_key", "token_hmac_secret", "redis_url", "redis_token"):
        with pytest.raises(SettingsError, match=f"{key}: expected `str") as refused:
            load_settings(_written(tmp_path, f"{key} = 424242"), {}, {})
        assert "424242" not in str(refused.value)


def test_upstash_over_tcp_is_taken(tmp_path: Path) -> None:
    """The seed's variable counts where nothing of ours names a Redis."""
    environ = {"UPSTASH_REDIS_URL": "rediss://default:secret@x.upstash.io:6379"}
    settings = load_settings(_written(tmp_path, ""), environ, {})
    assert settings.sources["redis_url"] == "UPSTASH_REDIS_URL"
    environ["FANWIRE_REDIS_URL"] = "redis://localhost"
    assert load_settings(_written(tmp_path, ""), environ, {}).redis_url == "redis://localhost"


REST = "https://x.upstash.io"
OTHER = "https://y.upstash.io"


@pytest.mark.parametrize(
    ("text", "environ", "url", "token"),
    [
        ("", {"FANWIRE_REDIS_URL": REST, "FANWIRE_REDIS_TOKEN": "t"}, REST, "t"),
        ("", {"UPSTASH_REDIS_REST_URL": REST, "UPSTASH_REDIS_REST_TOKEN": "t"}, REST, "t"),
        ("", {"UPSTASH_REDIS_URL": REST, "UPSTASH_REDIS_TOKEN": "t"}, REST, "t"),
        # The address in a file, its token in the environment.
        (f'redis_url = "{REST}"', {"FANWIRE_REDIS_TOKEN": "t"}, REST, "t"),
        # The seed's pair comes before the vendor's, and no token goes to another address.
        (
            "",
            {
                "UPSTASH_REDIS_URL": REST,
                "UPSTASH_REDIS_TOKEN": "t",
                "UPSTASH_REDIS_REST_URL": OTHER,
                "UPSTASH_REDIS_REST_TOKEN": "u",
            },
            REST,
            "t",
        ),
        (
            "",
            {
                "UPSTASH_REDIS_URL": "rediss://default:p@x.upstash.io:6379",
                "UPSTASH_REDIS_TOKEN": "t",
            },
            "rediss://default:p@x.upstash.io:6379",
            None,
        ),
        # A later address leaves behind what opened an earlier one.
        (
            "",
            {
                "UPSTASH_REDIS_REST_URL": REST,
                "UPSTASH_REDIS_REST_TOKEN": "t",
                "FANWIRE_REDIS_URL": "redis://localhost",
            },
            "redis://localhost",
            None,
        ),
        (
            f'redis_url = "{REST}"\nredis_token = "t"',
            {"FANWIRE_REDIS_URL": "redis://localhost"},
            "redis://localhost",
            None,
        ),
        (
            f'redis_url = "{REST}"\nredis_token = "t"',
            {"FANWIRE_REDIS_URL": OTHER, "FANWIRE_REDIS_TOKEN": "u"},
            OTHER,
            "u",
        ),
    ],
)
def test_an_address_and_its_token_stay_together(
    tmp_path: Path, text: str, environ: dict[str, str], url: str, token: str | None
) -> None:
    """A token is taken where it belongs to the address that is taken, and nowhere else."""
    settings = load_settings(_written(tmp_path, text), environ, {})
    assert (settings.redis_url, settings.redis_token) == (url, token)


def test_a_token_of_upstash_is_not_sent_elsewhere(tmp_path: Path) -> None:
    """An address of ours needs a token of ours."""
    environ = {
        "UPSTASH_REDIS_REST_URL": REST,
        "UPSTASH_REDIS_REST_TOKEN": "canary",
        "FANWIRE_REDIS_URL": OTHER,
    }
    with pytest.raises(SettingsError, match=r"a token for the REST address of y\.") as refused:
        load_settings(_written(tmp_path, ""), environ, {})
    assert "canary" not in str(refused.value)


def test_the_token_of_a_rest_address_is_not_shown() -> None:
    """The address is, as far as it is no secret."""
    settings = Settings(redis_url=REST, redis_token="token-canary", sources={"redis_url": "x"})
    shown = repr(settings) + str(list(settings.rows()))
    assert "canary" not in shown
    assert REST in shown


def test_secrets_are_never_shown() -> None:
    """Neither repr nor the listing shows a key, a secret or the password of a URL."""
    settings = Settings(
        api_key="key-canary",
        token_hmac_secret=SECRET,
        redis_url="redis://user:password-canary@localhost:6379/2",
    )
    shown = repr(settings) + str(list(settings.rows()))
    assert "canary" not in shown
    assert SECRET not in shown
    assert "localhost:6379 (database 2)" in shown


def test_a_worker_gets_the_same_settings() -> None:
    """Settings survive the way to another process."""
    settings = load_settings(None, {"FANWIRE_PORT": "9", "FANWIRE_API_KEY": "k"}, {})
    again = msgspec.json.decode(msgspec.json.encode(settings), type=Settings)
    assert again == settings
    assert again.sources == settings.sources


def test_declared_channels_join_the_built_in_ones(tmp_path: Path) -> None:
    """A ``[[channels]]`` table makes a channel of its own."""
    file = _written(
        tmp_path,
        '[[channels]]\npattern = "room:{room}"\nsubscribe = "authenticated"\n'
        "history = {size = 5, ttl_s = 60}\npresence = true\n",
    )
    declaration = load_settings(file, {}, {}).catalogue().find("room:r1").declaration
    assert declaration.subscribe.text == "authenticated"
    assert (declaration.history.size, declaration.history.ttl_s) == (5, 60)
    assert declaration.presence


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("localhost.example.com", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_only(host: str, *, expected: bool) -> None:
    """Only names that cannot be reached from elsewhere count as loopback."""
    assert is_loopback(host) is expected


def test_tables_say_how_services_behave(tmp_path: Path) -> None:
    """Policies, limits of budgets, the billing time zone, and how long caches keep."""
    text = """
        [usage]
        time_zone = "Europe/Vienna"

        [budgets.user]
        monthly_micro_usd = 5_000_000

        [budgets.budgets."org:acme"]
        mode = "track"

        [limits]
        rest = ["address", "slow"]
        trusted_proxies = ["10.0.0.0/8"]

        [[limits.policies]]
        name = "slow"
        limit = 5

        [cache]
        local_ttl_s = 0
    """
    settings = load_settings(_written(tmp_path, text), {}, {})
    assert settings.usage.zone.key == "Europe/Vienna"
    assert settings.budgets.user.monthly_micro_usd == 5_000_000
    assert settings.budgets.budgets["org:acme"].mode == "track"
    assert settings.limits.of("rest") == ("address", "slow")
    assert settings.cache.local_ttl_s == 0
    shown = {row.name: row.value for row in settings.rows()}
    assert '"time_zone":"Europe/Vienna"' in shown["usage"]


def test_the_database_is_beside_the_hubs_own_valkey(tmp_path: Path) -> None:
    """Unless one is named; with a Redis of one's own there is none by itself."""
    own = Settings(data_dir=str(tmp_path / "a b")).with_embedded_server("unix:///s")
    assert own.database_url == f"sqlite:///{quote(str(tmp_path))}/a%20b/fanwire.db"
    named = Settings(database_url="sqlite:////x.db").with_embedded_server("unix:///s")
    assert named.database_url == "sqlite:////x.db"
    assert Settings(redis_url="redis://localhost").database_url is None


def test_a_password_of_the_database_is_not_shown() -> None:
    """Where it is, is."""
    url = "postgresql://user:canary@db.example:5433/app"
    settings = Settings(database_url=url, sources={"database_url": "x"})
    shown = {row.name: row.value for row in settings.rows()}
    assert shown["database_url"] == "postgresql://db.example:5433/app"
    assert "canary" not in repr(settings)
