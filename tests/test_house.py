"""Imports run one way, and our packages are the ones that are imported."""

import ast
import importlib.util
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"agents", "encoders", "envs", "viz", "world_model"}
MAY_IMPORT = {"agents": {"world_model"}}
"""What a package may import of the others; nothing where it is not named."""


def imported(file: Path) -> Iterator[str]:
    """Top-level names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_imports_run_one_way(package: str) -> None:
    forbidden = PACKAGES - {package} - MAY_IMPORT.get(package, set())
    # A script's neighbours are importable only while that script runs.
    forbidden |= {file.stem for file in sources("scripts")} | {"scripts", "tests"}
    for file in sources(package):
        wrong = forbidden.intersection(imported(file))
        assert not wrong, f"{file.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("folder", ["scripts", "tests"])
def test_nobody_imports_the_scripts_package(folder: str) -> None:
    # tensordict installs a stray package of that name: the import would succeed, and be wrong.
    for file in sources(folder):
        assert "scripts" not in set(imported(file)), f"{file.relative_to(ROOT)} imports scripts"


def test_shared_modules_of_scripts_hide_no_library() -> None:
    for file in sources("scripts"):
        if file.stem in {"cli", "composing", "schema", "usage"}:
            assert file.stem not in sys.stdlib_module_names


@pytest.mark.parametrize("script", [file.stem for file in sources("scripts") if "__main__" in file.read_text()])
def test_scripts_import_what_says_how_threads_wait_before_torch(script: str) -> None:
    before = takewhile(lambda name: name != "cli", imported(ROOT / "scripts" / f"{script}.py"))
    assert set(before) <= sys.stdlib_module_names


@pytest.mark.parametrize(("told", "answer"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_how_threads_wait_is_said_before_torch_is_imported(told: dict, answer: str) -> None:
    say = "import cli, os, sys; print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | told
    command = [sys.executable, "-c", say]
    ran = subprocess.run(command, cwd=ROOT / "scripts", env=environment, capture_output=True, text=True)
    assert ran.stdout.split() == ["False", answer], ran


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_packages_resolve_inside_the_repository(package: str) -> None:
    if not (ROOT / package).is_dir():
        pytest.skip(f"no {package}/ yet")
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None, f"{package}/ has no __init__.py"
    assert Path(spec.origin).is_relative_to(ROOT), spec.origin


def test_every_package_is_installed_by_name() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for file in (ROOT / package).rglob("__init__.py")
    }
    assert found <= listed, f"pyproject.toml lacks {sorted(found - listed)}"


def test_the_lock_holds_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    locked = {canonical(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if line[:1] != "#"}
    assert {canonical(one) for one in wanted} <= locked


def canonical(requirement: str) -> str:
    name = requirement
    for mark in "<>=!;[ ":
        name = name.partition(mark)[0]
    return name.lower().replace("_", "-")
