"""What is shipped: the wheel is complete, holds nothing else, and works outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("channels", "clients", "hub", "services")
#: Building and installing take seconds; a machine may be busy.
PATIENCE_S = 100


def run(*command: str | Path, cwd: Path) -> str:
    """Run ``command`` away from the checkout's import path; return what it printed."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "FANWIRE_", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        env=environment | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    (wheel,) = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it, and the dependencies of this one beside it."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(environment)
    python = environment / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=environment)
    # A .pth file found by way of another one is not read: an editable install stays out.
    site_packages = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=environment
    ).strip()
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(site_packages) / "dependencies.pth").write_text("\n".join(sorted(here)) + "\n")
    return environment


def _sources() -> set[str]:
    """Return every file of the four packages in this checkout."""
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not {"__pycache__", "node_modules"} & set(path.parts)
    }


def test_the_wheel_holds_the_four_packages_whole_and_nothing_else(wheel: Path) -> None:
    """Code, type markers, scripts and pages are all in it; tests and examples are not."""
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert shipped == _sources()
    assert {f"{package}/py.typed" for package in PACKAGES} <= shipped
    assert {Path(name).suffix for name in shipped} >= {".py", ".lua"}


def test_the_sdist_can_be_worked_on(built: Path) -> None:
    """The source archive holds the tests, the pins and the Makefile beside the packages."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        shipped = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"Makefile", "constraints.txt", "pyproject.toml", "LICENSE", "README.md"}
    wanted |= {"tests/conftest.py", "tests/js/package.json"}
    assert _sources() | wanted <= shipped
    assert not {name for name in shipped if "node_modules" in name or ".venv" in name}


def test_the_installed_wheel_imports_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    """Every package comes from the environment, finds its scripts and is owned by us alone."""
    code = """
import channels, clients, hub, services
from importlib.metadata import packages_distributions
from services.store.script import load_script
for package in (channels, clients, hub, services):
    print(package.__name__, package.__file__, *set(packages_distributions()[package.__name__]))
from importlib.resources import files
for path in files("services.store").joinpath("lua").iterdir():
    if path.name.endswith(".lua"):  # what scripts include stands in a folder
        load_script(path.name.removesuffix(".lua"))
"""
    said = run(installed / "bin" / "python", "-c", code, cwd=tmp_path)
    for line, package in zip(said.splitlines(), PACKAGES, strict=True):
        name, file, *owners = line.split()
        assert (name, owners) == (package, ["fanwire"])
        assert Path(file).is_relative_to(installed)


def test_the_embedded_server_runs_from_the_installed_wheel(
    installed: Path, tmp_path: Path, server_binary: None
) -> None:
    """The launcher beside the package is found and works where the wheel was installed."""
    code = """
from pathlib import Path
from services.store.embedded import EmbeddedServer
with EmbeddedServer(Path("data")) as server:
    print(server.url)
"""
    said = run(installed / "bin" / "python", "-c", code, cwd=tmp_path)
    assert said.startswith(("unix://:", "redis://:"))


def test_the_installed_command_tells_its_version(installed: Path, tmp_path: Path) -> None:
    """``fanwire version`` works in an environment that has nothing but the wheel of us."""
    said = run(installed / "bin" / "fanwire", "version", cwd=tmp_path)
    (wheel_info,) = installed.rglob("fanwire-*.dist-info")
    version = wheel_info.name.removeprefix("fanwire-").removesuffix(".dist-info")
    assert version in said


def test_nobody_else_owns_our_names_here() -> None:
    """Another wheel with a package of one of the four names would overwrite ours, or we its."""
    owners = packages_distributions()
    foreign = {name: set(owners.get(name, [])) - {"fanwire"} for name in PACKAGES}
    assert not any(foreign.values()), foreign


def test_make_tells_an_old_python_what_to_do(tmp_path: Path) -> None:
    """A Python that is too old is refused in two lines, before anything is made."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "lint", f"PYTHON={old}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2
    assert f"Fanwire needs Python 3.11 or newer; {old} is Python 3.9.2." in done.stderr
    assert "make lint PYTHON=python3.12" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_installed_command_makes_the_tables(installed: Path, tmp_path: Path) -> None:
    """Migrations are found by their paths, which are others there."""
    upgrade = ("database", "upgrade", "--database-url", "sqlite:///f.db")
    assert run(installed / "bin" / "fanwire", *upgrade, cwd=tmp_path).startswith("no tables -> ")
    assert (tmp_path / "f.db").exists()
