"""What a module says it offers (``__all__``) is what it offers."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from types import ModuleType

import pytest

import channels
import clients
import hub
import services


def _modules() -> list[str]:
    names: list[str] = []
    for package in (channels, clients, hub, services):
        names.append(package.__name__)
        walked = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        names += [found.name for found in walked if not found.name.endswith("__main__")]
    return names


def _defined_in(module: ModuleType) -> set[str]:
    """Return the public classes and functions that ``module`` defines itself."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }


@pytest.mark.parametrize("name", _modules())
def test_public_is_what_is_listed(name: str) -> None:
    """Every listed name exists, once, and no public class or function is left out."""
    module = import_module(name)
    listed = list(getattr(module, "__all__", []))
    assert len(set(listed)) == len(listed), "a name is listed twice"
    assert [name for name in listed if not hasattr(module, name)] == []
    assert _defined_in(module) - set(listed) == set(), "public but not in __all__"
