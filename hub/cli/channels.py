"""``fanwire channels``: which channels are active, which are declared."""

from __future__ import annotations

import click

from channels import Catalogue
from clients import Publisher

from .options import PATIENCE, api_key_option, url_option

__all__ = ["command"]


@click.command("channels")
@click.option("--pattern", default="", help="Only names that match, such as 'session:*'.")
@click.option("--declared", is_flag=True, help="What channels there can be, without a hub.")
@url_option
@api_key_option
def command(*, pattern: str, declared: bool, url: str, api_key: str) -> None:
    """List the active channels with their subscribers, or the declared ones."""
    if declared:
        _print_declared()
        return
    with Publisher(url, api_key=api_key, patience=PATIENCE) as publisher:
        for name, subscribers in sorted(publisher.channels(pattern).items()):
            click.echo(f"{subscribers:>6}  {name}")


def _print_declared() -> None:
    declarations = list(Catalogue())
    width = max(len(declaration.pattern) for declaration in declarations)
    for declaration in declarations:
        history = declaration.history
        click.echo(
            f"{declaration.pattern:<{width}}  subscribe: {declaration.subscribe.text}; "
            f"publish: {declaration.publish.text}; "
            f"history: {history.size:,} for {history.ttl_s:,} s"
        )
        click.echo(f"{'':<{width}}  {declaration.description}")
