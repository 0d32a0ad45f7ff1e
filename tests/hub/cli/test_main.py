"""The command as a whole: help, and the small commands."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner, Result

from channels import Catalogue
from hub.cli import main
from tests.clients.fake_api import FakeApi, serving

from .process import fanwire, line, real_hub, run

SECRET = "a secret of thirty-two bytes or more"


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty directory, so that no configuration file is found."""
    monkeypatch.chdir(tmp_path)


def invoke(*arguments: str, **environ: str) -> Result:
    """Run the command inside this process."""
    return CliRunner(env={"FANWIRE_URL": None, **environ}).invoke(main, arguments)


def test_help_names_every_command() -> None:
    """And every command has help of its own that names its options."""
    result = invoke("--help")
    assert result.exit_code == 0
    for name in ("serve", "publish", "tail", "token", "channels", "config", "version"):
        assert re.search(rf"^  {name} ", result.output, re.MULTILINE)
        assert invoke(name, "-h").exit_code == 0
    assert invoke("nonsense").exit_code == 2


def test_serve_has_a_flag_for_what_operators_change() -> None:
    """The flags of the manual."""
    usage = invoke("serve", "--help").output
    for flag in [
        "host",
        "port",
        "workers",
        "redis-url",
        "data-dir",
        "api-key",
        "insecure",
        "config",
        "log-level",
    ]:
        assert f"--{flag}" in usage


def test_version() -> None:
    """Of Fanwire and of Python."""
    assert re.match(r"fanwire \S+ \(Python 3\.\d+\.\d+\)\n", invoke("version").output)


def test_config_shows_values_sources_and_no_secrets() -> None:
    """What the hub would take, and where it has it from."""
    Path("fanwire.toml").write_text('port = 9000\napi_key = "hush"\n')
    result = invoke("config", FANWIRE_HOST="::1", FANWIRE_TOKEN_HMAC_SECRET=SECRET)
    assert result.exit_code == 0
    rows = {row.split()[0]: row.split()[1:] for row in result.output.splitlines()}
    assert rows["port"] == ["9000", "fanwire.toml"]
    assert rows["host"] == ["::1", "FANWIRE_HOST"]
    assert rows["workers"] == ["1", "default"]
    assert rows["api_key"] == ["(set)", "fanwire.toml"]
    assert "hush" not in result.output
    assert SECRET not in result.output


@pytest.mark.parametrize("name", ["config", "serve", "token"])
def test_a_wrong_setting_is_one_sentence(name: str) -> None:
    """Status 2, and the key that was probably meant."""
    Path("fanwire.toml").write_text("prot = 9000\n")
    result = invoke(name)
    assert result.exit_code == 2
    assert result.output.startswith("Error: unknown setting 'prot' in fanwire.toml: did you mean")
    assert result.output.count("\n") == 1


def test_token_carries_what_the_rules_ask_for() -> None:
    """Claims as the hub reads them."""
    options = ["--user", "u1", "--workspace", "w1", "--workspace", "w2", "--scope", "queues"]
    result = invoke("token", *options, "--ttl", "2h", FANWIRE_TOKEN_HMAC_SECRET=SECRET)
    claims = jwt.decode(result.output.strip(), SECRET, algorithms=["HS256"])
    assert claims.pop("exp") - claims.pop("iat") == 7200
    assert claims == {"sub": "u1", "workspaces": ["w1", "w2"], "scopes": ["queues"]}


def test_token_takes_audience_and_issuer_from_the_configuration() -> None:
    """So that the hub that reads the same file takes the token."""
    Path("hub.toml").write_text(
        f'token_hmac_secret = "{SECRET}"\ntoken_audience = "a"\ntoken_issuer = "i"\n'
    )
    token = invoke("token", "--config", "hub.toml").output.strip()
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="a", issuer="i")
    assert claims["sub"] == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected a secret in FANWIRE_TOKEN_HMAC_SECRET"),
        (["--secret", "short"], "32 bytes; got 5 (from --token-hmac-secret)"),
        (["--secret", SECRET, "--ttl", "soon"], "expected a duration such as 90s"),
        (["--secret", SECRET, "--ttl", "0s"], "got 0 s"),
        (["--secret", SECRET, "--ttl", "999d"], "the hub takes tokens that live"),
    ],
)
def test_token_refuses_what_the_hub_would_refuse(options: list[str], message: str) -> None:
    """Status 2."""
    result = invoke("token", *options)
    assert result.exit_code == 2
    assert message in result.output


def test_channels_lists_names_and_subscribers() -> None:
    """Sorted by name."""
    api = FakeApi()
    api.logs = {"log:b": [1, 2], "log:a": []}
    with serving(api) as url:
        result = invoke("channels", "--pattern", "log:*", "--url", url)
    assert result.output == "     0  log:a\n     2  log:b\n"
    assert json.loads(api.requests[0].content) == {"pattern": "log:*"}


def test_channels_lists_what_is_declared_without_a_hub() -> None:
    """Every pattern of the catalogue."""
    output = invoke("channels", "--declared").output
    for declaration in Catalogue():
        assert declaration.pattern in output


async def test_a_hub_that_is_away_is_one_sentence() -> None:
    """Status 1."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        status, out, errors = await run("tail", "log:x", "--url", url)
    assert (status, out) == (1, "")
    assert errors.startswith("Error: no connection to ws://127.0.0.1")


async def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    """Status 2, and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status, _, errors = await run("serve", "--port", port, "--data-dir", str(tmp_path))
    assert status == 2
    assert f"port {port} of 127.0.0.1 is in use" in errors
    assert "Traceback" not in errors


async def test_the_commands_together_before_a_real_hub(tmp_path: Path) -> None:
    """What is published is seen by tail, with a key and a token, and listed."""
    secrets = {"FANWIRE_API_KEY": "key", "FANWIRE_TOKEN_HMAC_SECRET": SECRET}
    async with real_hub(tmp_path, **secrets) as url:
        _, token, _ = await run("token", "--user", "u1", "--workspace", "w1", **secrets)
        where = {"FANWIRE_URL": url, "FANWIRE_TOKEN": token.strip(), "FANWIRE_API_KEY": "key"}
        events = [
            {"specversion": "1.0", "id": f"n{n}", "source": "/test", "type": kind, "data": data}
            for n, (kind, data) in enumerate(
                [
                    ("notification.created", {"user": "u1", "notification": "n", "title": "Hi"}),
                    ("notification.resolved", {"user": "u1", "notification": "n"}),
                ]
            )
        ]
        text = "\n".join(json.dumps({**event, "time": "2026-05-01T12:00:00Z"}) for event in events)
        status, _, errors = await run(
            "publish", "notifications:u1", "-", text=text.encode(), **where
        )
        assert status == 0, errors
        async with fanwire(
            "tail", "notifications:u1", "--since", "all", "-n", "3", **where
        ) as tail:
            assert "notification.created" in await line(tail)
            assert "notification.resolved" in await line(tail)
            again = json.dumps({**events[1], "id": "n9", "time": "2026-05-01T12:00:00Z"})
            status, position, _ = await run("publish", "notifications:u1", again, **where)
            assert (status, position.split(":")[1]) == (0, "3\n")
            assert "notification.resolved" in await line(tail)
            assert await tail.wait() == 0
        _, listed, _ = await run("channels", **where)
        assert "notifications:u1" in listed
        status, _, errors = await run("tail", "notifications:u2", **where)
        assert status == 1
        status, _, errors = await run("publish", "log:x", "1", **{**where, "FANWIRE_API_KEY": "x"})
        assert (status, errors) == (1, "Error: the API key is wrong\n")
