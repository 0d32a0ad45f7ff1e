"""``fanwire database``: the tables of the hub's database."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hub.cli import main
from tests.postgres import PostgresServer


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty directory, so that no configuration file is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FANWIRE_DATABASE_URL", raising=False)


def invoke(*arguments: str, **environ: str) -> Result:
    """Run the command inside this process."""
    return CliRunner(env=environ).invoke(main, ["database", *arguments])


def test_the_hubs_own_file_is_upgraded(tmp_path: Path) -> None:
    """From nothing to the newest revision; again there is nothing to do; looking makes no file."""
    before = invoke("current")
    assert (before.exit_code, before.output) == (0, "no tables (newest: 0001)\n")
    assert list(tmp_path.iterdir()) == []
    first, second = invoke("upgrade"), invoke("upgrade")
    assert (first.exit_code, first.output) == (0, "no tables -> 0001\n")
    assert (second.exit_code, second.output) == (0, "already at 0001\n")
    assert (tmp_path / ".fanwire" / "fanwire.db").exists()
    assert invoke("current").output == "0001 (newest: 0001)\n"


def test_the_url_comes_from_the_option_or_the_settings(
    shared_postgres: PostgresServer, tmp_path: Path
) -> None:
    """PostgreSQL by the flag, SQLite by the environment; no file of the hub's is made."""
    done = invoke("upgrade", "--database-url", shared_postgres.url)
    assert done.exit_code == 0
    named = f"sqlite:///{tmp_path / 'named.db'}"
    assert invoke("upgrade", FANWIRE_DATABASE_URL=named).exit_code == 0
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".db"] == ["named.db"]


def test_what_is_wrong_is_told() -> None:
    """2 for a wrong setting, 1 for a database that is away; no password in either."""
    wrong = invoke("upgrade", "--database-url", "mysql://u:canary@h/d")
    assert wrong.exit_code == 2
    assert "expected sqlite:///path or postgresql://" in wrong.output
    away = invoke("current", "--database-url", "postgresql://u:canary@127.0.0.1:1/d")
    assert away.exit_code == 1
    assert "not available" in away.output
    assert "canary" not in wrong.output + away.output
    nothing = invoke("upgrade", FANWIRE_REDIS_URL="redis://localhost")
    assert nothing.exit_code == 2
    assert "database_url" in nothing.output
