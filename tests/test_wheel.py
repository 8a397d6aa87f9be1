"""The installed package, in a folder that has a launch.py and a conf/ of its own; what it depends on."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from running import TINY

CHECKOUT = Path(__file__).resolve().parent.parent
SHIPPED = ("vocl/conf/config.yaml", "vocl/launch/cli.py", "vocl/conf/cluster/slurm.yaml", "vocl/py.typed")
PACKAGES = ("vocl", "launch", "hydra_plugins")


def _run(folder: Path, *command: str, code: int = 0, **variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=folder, env=kept | variables, capture_output=True, text=True)
    assert done.returncode == code, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git would have, and a cluster file of one site beside it."""
    pytest.importorskip("setuptools", "77")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=CHECKOUT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("needs a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith(("results/", "tests/")) and (CHECKOUT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((CHECKOUT / name).read_bytes())
    (source / "conf" / "cluster" / "mine.yaml").write_text("account: mine\n")
    pip = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-w", str(out)]
    _run(source, *pip)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel; what it depends on is taken from this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    there = folder / "bin" / "python"
    said = _run(folder, str(there), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    site = Path(said.strip())
    install = [sys.executable, "-m", "pip", "--python", str(there), "install", "--no-deps", "--no-index"]
    _run(folder, *install, str(wheel))
    others = [place for place in sys.path if Path(place).name in ("site-packages", "dist-packages")]
    (site / "others.pth").write_text("\n".join(others) + "\n")
    return there


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's folder."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("mine: 1\n")
    for name in ("launch", "conf"):
        (tmp_path / f"{name}.py").write_text("OURS = False\nprint('the file of the user')\n")
    return tmp_path


def test_a_wheel_has_no_name_that_a_user_may_have(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"vocl", "hydra_plugins"}
    assert [name for name in names if name.startswith("hydra_plugins")] == ["hydra_plugins/vocl_launcher.py"]
    assert {*SHIPPED} <= set(names)
    assert not any(name.endswith("mine.yaml") for name in names)
    for name in names:
        if name.endswith(".py"):
            tree = ast.parse(zipfile.ZipFile(wheel).read(name))
            assert "launch" not in {root for root, _ in _imported(tree)}, name


@pytest.mark.slow
def test_installed_it_works_beside_a_users_own_launch_and_conf(python: Path, home: Path) -> None:
    vocl = str(python.parent / "vocl")
    assert "1 runs: 1 new" in _run(home, vocl, "plan", "debug=tiny")
    assert "the file of the user" not in _run(home, str(python), "-m", "vocl.train", "--cfg", "job")
    one = [*TINY, "train.steps=2", "cluster=local", "cluster.slots=1"]
    _run(home, str(python), "-m", "vocl.train", "-m", *one)
    (folder,) = (home / "results" / "runs").iterdir()
    assert json.loads((folder / "result.json").read_text())["steps"] == 2
    assert "1 run: 1 done" in _run(home, vocl, "status", PYTHONPATH=str(home))
    said = _run(home, str(python), "-c", "import vocl.train, launch, conf; print(launch.OURS, conf.OURS)")
    assert said.endswith("False False\n")


def test_from_a_checkout_a_users_own_launch_is_not_taken_for_ours(home: Path) -> None:
    command = [sys.executable, "-m", "vocl.train", "-m", "no_such=1"]
    said = _run(home, *command, code=2, PYTHONPATH=str(CHECKOUT))
    assert said.startswith("no_such: ") and said.count("\n") == 1
    code = "import launch, sys; from vocl.train import main; sys.exit(main(['-m', 'seed=0']))"
    said = _run(home, sys.executable, "-c", code, code=2, PYTHONPATH=str(CHECKOUT))
    assert f"{home}/launch.py: was imported as launch" in said


def test_a_project_of_yaml_alone(tmp_path: Path) -> None:
    group = tmp_path / "mine" / "conf" / "experiment"
    group.mkdir(parents=True)
    (group / "quick.yaml").write_text("# @package _global_\ntrain: {steps: 3}\n")
    words = [f"project={tmp_path / 'mine'}", "experiment=quick", f"runtime.root={tmp_path}/results"]
    command = [sys.executable, "-m", "launch.cli", "plan", *words]
    assert "1 runs: 1 new" in _run(tmp_path, *command, PYTHONPATH=str(CHECKOUT))


def _imported(tree: ast.AST) -> set[tuple[str, str]]:
    """Imported modules, each with its root before it."""
    found = [name.name for n in ast.walk(tree) if isinstance(n, ast.Import) for name in n.names]
    found += [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module and not n.level]
    return {(name.partition(".")[0], name) for name in found}


def _distribution(name: str) -> str:
    return re.match(r"[\w-]+", name)[0].lower().replace("_", "-")


def _outside(trees: Iterable[ast.AST]) -> dict[str, set[str]]:
    """Imported packages that are not the repository's, with the distributions that give each."""
    roots = {root for tree in trees for root, _ in _imported(tree)} - set(sys.stdlib_module_names)
    own = {*PACKAGES, "tests", *(path.stem for path in (CHECKOUT / "tests").rglob("*.py"))}
    own |= {path.stem for path in (CHECKOUT / "benchmarks").glob("*.py")}
    known = metadata.packages_distributions()
    return {root: {_distribution(n) for n in known.get(root, [root])} for root in roots - own}


def _trees(*folders: str) -> Iterator[ast.AST]:
    for path in (path for folder in folders for path in (CHECKOUT / folder).rglob("*.py")):
        yield ast.parse(path.read_text(encoding="utf-8"))


def _notebooks() -> Iterator[ast.AST]:
    for path in (CHECKOUT / "notebooks").glob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                yield ast.parse("".join(cell["source"]))


def test_every_dependency_is_imported_and_every_import_is_a_dependency() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    names = {_distribution(each) for each in project["dependencies"]}
    given = _outside(_trees(*PACKAGES))
    assert names <= set().union(*given.values())
    extra = {_distribution(each) for each in project["optional-dependencies"]["search"]}  # imported when used
    assert [root for root, by in given.items() if not by & (names | extra)] == []
    names |= {_distribution(each) for each in project["optional-dependencies"]["dev"]}
    given = _outside([*_trees("tests", "benchmarks"), *_notebooks()])
    extra = {_distribution(each) for each in project["optional-dependencies"]["search"]}  # imported when used
    assert [root for root, by in given.items() if not by & (names | extra)] == []


@pytest.mark.parametrize("variant", ["", "cpu"])
def test_make_says_what_it_is_about_to_do(variant: str, tmp_path: Path) -> None:
    said = _run(CHECKOUT, "make", "-n", "demo", f"VENV={tmp_path}/venv", f"TORCH={variant}")
    assert "GB to download" in said and "training 6 runs" in said
    assert ("https://download.pytorch.org/whl/cpu torch torchvision" in said) == (variant == "cpu")
