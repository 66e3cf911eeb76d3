"""The house: one import name, imports that run one way, doors that are doors, dependencies that are used."""

import ast
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"agents", "encoders", "envs", "viz", "world_model"}
MAY_IMPORT = {"agents": {"world_model"}}
"""What a package may import of the others; nothing where it is not named."""
LEAVES = {path.stem for path in (ROOT / "mindreel").glob("*.py")} & {
    "devices",
    "extras",
    "files",
    "names",
    "torch_files",
    "video_input",
}
"""Modules of `mindreel` that anyone may import, since they import nothing of ours."""


def imported(file: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(file: Path) -> set[str]:
    """What a file imports of ours, by the name that follows `mindreel.`."""
    return {name.split(".")[1] for name in imported(file) if name.startswith("mindreel.")}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def own_sources() -> list[Path]:
    """All code but tests, each file once."""
    folders = sorted(PACKAGES) + ["scripts"]
    links = {ROOT / "mindreel" / folder for folder in folders}
    composed = [file for file in sources("mindreel") if not links.intersection(file.parents)]
    return composed + [file for folder in folders for file in sources(folder)]


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_imports_run_one_way(package: str) -> None:
    allowed = {package} | MAY_IMPORT.get(package, set()) | LEAVES
    for file in sources(package):
        wrong = ours(file) - allowed
        assert not wrong, f"{file.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


def test_what_anyone_may_import_imports_nothing_of_ours() -> None:
    for name in LEAVES:
        assert not ours(ROOT / "mindreel" / f"{name}.py") - LEAVES, name


def test_only_one_name_is_imported() -> None:
    # openai-agents installs `agents`, tensordict a stray `scripts`: such an import would be of somebody else's code.
    for file in [*own_sources(), *sources("tests")]:
        wrong = {name.partition(".")[0] for name in imported(file)} & (PACKAGES | {"scripts"})
        assert not wrong, f"{file.relative_to(ROOT)} imports {', '.join(sorted(wrong))} without mindreel."


@pytest.mark.parametrize("folder", sorted(PACKAGES | {"scripts"}))
def test_packages_are_links_to_the_folders_of_the_top(folder: str) -> None:
    link = ROOT / "mindreel" / folder
    assert link.is_symlink() and link.resolve() == ROOT / folder
    spec = importlib.util.find_spec(f"mindreel.{folder}")
    assert spec is not None and spec.submodule_search_locations
    assert Path(next(iter(spec.submodule_search_locations))).resolve() == ROOT / folder


def test_scripts_are_doors() -> None:
    doors = sorted(file.stem for file in sources("scripts"))
    assert {path.name for path in (ROOT / "scripts").iterdir()} - {"__pycache__"} == {
        *(f"{door}.py" for door in doors),
        "presets",
    }
    for door in doors:
        text = (ROOT / "scripts" / f"{door}.py").read_text(encoding="utf-8")
        assert text.endswith('if __name__ == "__main__":\n    main(sys.argv[1:])\n'), door
        assert text.count("\n") <= 125, f"scripts/{door}.py is longer than two screens"
    from mindreel.__main__ import DOORS

    assert sorted(DOORS) == doors


@pytest.mark.parametrize("file", own_sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_nobody_imports_a_door(file: Path) -> None:
    assert "scripts" not in ours(file) or file.name == "__main__.py"


def test_folders_are_small_enough_to_be_read() -> None:
    for folder in {file.parent for file in own_sources()}:
        count = len([file for file in folder.glob("*.py") if file.name != "__init__.py"])
        assert count <= 13 or folder.name == "tasks", f"{folder.relative_to(ROOT)} holds {count} files"


def test_every_package_is_installed_by_name() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {"mindreel.scripts", "mindreel.scripts.presets"}
    for file in own_sources():
        if file.name == "__init__.py":
            parts = file.parent.relative_to(ROOT).parts
            found.add(".".join(parts if parts[0] == "mindreel" else ("mindreel", *parts)))
    assert listed == found


# ---- dependencies ----


def canonical(requirement: str) -> str:
    return re.split(r"[<>=!;\[ ]", requirement)[0].lower().replace("_", "-")


def test_the_lock_holds_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    locked = {canonical(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if line[:1] != "#"}
    assert {canonical(one) for one in wanted} <= locked


def test_every_dependency_is_imported_by_our_own_code() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {canonical(one) for one in project["dependencies"] if "python_version >= '3.13'" not in one}
    names = {name for file in own_sources() for name in imported(file)}
    modules = {name.partition(".")[0] for name in names}
    if any(name.startswith("torch.utils.tensorboard") for name in names):
        modules.add("tensorboard")  # which that module is made of
    provided = packages_distributions()
    used = {canonical(one) for module in modules for one in provided.get(module, ())}
    assert not declared - used, f"declared and not used: {sorted(declared - used)}"


# ---- how threads wait ----


@pytest.mark.parametrize(("given", "answer"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_how_threads_wait_is_set_before_torch_is_imported(given: dict, answer: str) -> None:
    say = "import mindreel, os, sys; print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | given
    ran = subprocess.run([sys.executable, "-c", say], env=environment, capture_output=True, text=True)
    assert ran.stdout.split() == ["False", answer], ran


@pytest.mark.parametrize("door", [file.stem for file in sources("scripts")])
def test_doors_leave_importing_torch_to_mindreel(door: str) -> None:
    # Sorted imports would put torch before mindreel, which says how its threads wait.
    found = {name.partition(".")[0] for name in imported(ROOT / "scripts" / f"{door}.py")}
    assert not found & {"torch", "tensordict", "torchrl"}


# ---- what is installed ----


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    copied = folder / "source"  # building leaves a build/ behind
    unwanted = shutil.ignore_patterns(".git", ".venv", "__pycache__", "runs", "results", "tests", "build", "*.egg-info")
    shutil.copytree(ROOT, copied, symlinks=True, ignore=lambda place, names: unwanted(place, names) - {"mindreel"})
    shutil.copytree(ROOT / "mindreel" / "runs", copied / "mindreel" / "runs", dirs_exist_ok=True)
    command = [sys.executable, "-m", "pip", "wheel", str(copied), "--no-deps", "--no-build-isolation", "-q"]
    built = subprocess.run([*command, "-w", str(folder)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"mindreel"}
    for file in own_sources():
        place = file.relative_to(ROOT)
        assert str(place if place.parts[0] == "mindreel" else Path("mindreel", place)) in names
    assert "mindreel/scripts/presets/demo.yaml" in names


def test_the_installed_command_works_beside_packages_of_the_same_names(wheel: Path, tmp_path: Path) -> None:
    """As after `pip install` in an empty environment beside openai-agents, which installs `agents`."""
    site = tmp_path / "site"
    for stranger in ("agents", "envs", "encoders", "scripts", "viz", "world_model"):
        (site / stranger).mkdir(parents=True)
        (site / stranger / "__init__.py").write_text("raise ImportError('somebody else')\n")
    zipfile.ZipFile(wheel).extractall(site)
    start = "import runpy, sys; sys.argv[0] = 'mindreel'; runpy.run_module('mindreel', run_name='__main__')"
    environment = os.environ | {"PYTHONPATH": str(site)}
    small = [
        "loop.updates=4",
        "loop.refreshes=0",
        "pretrain.steps=2",
        "probe.steps=2",
        "decoder_steps=2",
        "eval_episodes=1",
    ]
    command = [sys.executable, "-P", "-c", start, "train", "preset=smoke", "run=smoke", "env.num_envs=2", *small]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "smoke" / "report.html").is_file()
    where = [sys.executable, "-P", "-c", "import mindreel.agents.mpc as m; print(m.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
    assert Path(found.strip()).is_relative_to(site)
