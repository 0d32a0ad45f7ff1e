"""The command ``fanwire``: one module a command, each imported when it is called.

Exit status, the same for every command:

    0    done
    1    the hub refused, was not reached, or could not start; one sentence says why
    2    the command line or the configuration is wrong
    130  interrupted (Ctrl-C)

A reader that goes away (``fanwire tail log | head -1``) ends the command quietly with 0.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Any

import click

from channels.errors import FanwireError, SettingsError, UsageError

__all__ = ["main"]

#: Commands in the order of their help. Their modules have an attribute ``command``.
_COMMANDS = (
    "serve",
    "publish",
    "tail",
    "approvals",
    "usage",
    "token",
    "channels",
    "database",
    "config",
    "version",
)


class _Wrong(click.ClickException):
    """The command line or the configuration is wrong, in one sentence."""

    exit_code = 2


class _Commands(click.Group):
    """Imports a command only when it is needed, and turns every ending into an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f".{cmd_name}", __name__).command
        if not isinstance(command, click.Command):
            raise TypeError(f"hub.cli.{cmd_name} has no command")
        return command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        try:
            return super().invoke(ctx)
        except (SettingsError, UsageError) as error:
            raise _Wrong(error.message) from None
        except FanwireError as error:
            raise click.ClickException(error.message) from None
        except BrokenPipeError:
            _drop_output()
            ctx.exit(0)
        except KeyboardInterrupt:
            ctx.exit(130)


def _drop_output() -> None:
    """Point standard output nowhere, so that flushing it at the exit does not fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def main() -> None:
    """Fanwire: publish what happens, watch it arrive.

    Exit status: 0 done, 1 the hub refused or was not reached, 2 wrong usage or
    configuration, 130 interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # An event may hold characters that the terminal's encoding does not have.
        sys.stdout.reconfigure(errors="backslashreplace")
