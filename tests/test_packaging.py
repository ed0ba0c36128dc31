"""The mapping of folders to `bitsim.*` in pyproject.toml, kept whole: editable installs hide its gaps."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS: dict[str, Any] = PYPROJECT["tool"]["setuptools"]
FOLDERS = ("energy_tables", "simulator", "runtime", "training", "reports")
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
CORE: list[str] = PYPROJECT["project"]["dependencies"]


def folders_with(pattern: str) -> set[str]:
    """Dotted names, as imported, of the folders that directly hold a file like `pattern`."""
    found = (path.parent for folder in FOLDERS for path in (ROOT / folder).rglob(pattern))
    return {".".join(("bitsim", *path.relative_to(ROOT).parts)) for path in found}


def pins() -> dict[str, str]:
    """Name to version of each line of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_folder_is_mapped() -> None:
    assert SETUPTOOLS["package-dir"] == {f"bitsim.{folder}": folder for folder in FOLDERS}


def test_packages_are_the_folders_with_an_init_file() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(folders_with("__init__.py"))


def test_no_module_lies_outside_a_package() -> None:
    assert folders_with("*.py") <= set(SETUPTOOLS["packages"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_type_checkers_have_a_link_to(folder: str) -> None:
    link = ROOT / ".typecheck" / "bitsim" / folder
    if link.is_file():
        pytest.skip("this checkout has no symbolic links: git wrote the link as a text file")
    assert link.is_symlink()
    assert link.resolve() == (ROOT / folder).resolve()


def test_every_data_file_is_packaged() -> None:
    package = ROOT / "energy_tables"
    patterns = SETUPTOOLS["package-data"]["bitsim.energy_tables"]
    packaged = {path for pattern in patterns for path in package.glob(pattern)}
    on_disk = {path for path in (package / "data").rglob("*") if path.is_file()}
    assert on_disk == packaged


def test_the_command_has_a_module() -> None:
    module, _, function = PYPROJECT["project"]["scripts"]["bitsim"].partition(":")
    path = (ROOT / module.removeprefix("bitsim.").replace(".", "/")).with_suffix(".py")
    assert f"def {function}(" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", [*CORE, *(text for extra in EXTRAS.values() for text in extra)])
def test_requirement_parses(text: str) -> None:
    requirement = Requirement(text)
    if requirement.name == PYPROJECT["project"]["name"]:
        assert requirement.extras <= set(EXTRAS)
    else:
        assert requirement.specifier, "a lower bound is missing"


@pytest.mark.parametrize("text", [*CORE, *EXTRAS["test"]])
def test_pin_satisfies(text: str) -> None:
    requirement = Requirement(text)
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


def test_pins_install_on_a_machine_without_a_gpu() -> None:
    assert not [name for name in pins() if name.startswith("nvidia")]
