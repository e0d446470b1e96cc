"""Public names: each exported once, by the package that it is defined in, and described on a page."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import griffe
import pytest

import ustoolkit

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "reference" / "api").glob("*.md"))
MODULES = {"ustoolkit.errors", "ustoolkit.run"}  # described by name, though no package exports them
APART = {"ustoolkit.commands", "ustoolkit.recipes"}  # the command line's own, and a folder of TOML files
PACKAGES = sorted(module.name for module in pkgutil.walk_packages(ustoolkit.__path__, "ustoolkit.") if module.ispkg)
PUBLIC = [name for name in PACKAGES if name not in APART]


def exported(package):
    return importlib.import_module(package).__all__


def described():
    """Identifiers on the pages, with the page of each."""
    return [(name, page.name) for page in PAGES for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)]


@pytest.mark.parametrize("package", PUBLIC)
def test_what_a_package_exports_is_there_and_its_own(package):
    names = exported(package)
    modules = {module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__)}
    assert names and len(names) == len(set(names))
    for name in names:
        value = getattr(importlib.import_module(package), name)
        home = getattr(value, "__module__", None) or package
        assert not home.startswith("ustoolkit") or f"{home}.".startswith(f"{package}."), f"{name} is of {home}"
        assert not name.startswith("_") and name not in modules, f"{package}.{name}: a module has that name"


def test_a_name_is_exported_by_one_package():
    homes = defaultdict(list)
    for package in PUBLIC:
        for name in exported(package):
            homes[name].append(package)
    assert not {name: packages for name, packages in homes.items() if len(packages) > 1}


def test_importing_the_packages_loads_no_tensorflow():
    script = f"import sys, {', '.join(PACKAGES)}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_a_name_that_is_not_exported_is_refused():
    with pytest.raises(AttributeError):
        getattr(importlib.import_module("ustoolkit.data"), "nothing_of_this_name")  # noqa: B009


def test_no_module_takes_private_names_of_another():
    taken = []
    for path in (path for folder in ("ustoolkit", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ustoolkit"):
                imported |= {alias.asname or alias.name: node.module for alias in node.names}
                taken += [f"{path.name}: {alias.name}" for alias in node.names if is_private(alias.name)]
        taken += [
            f"{path.name}: {node.value.id}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and is_private(node.attr)
            if isinstance(node.value, ast.Name) and node.value.id in imported
        ]
    assert not taken


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def test_every_exported_name_is_described_on_one_page():
    names = [name for name, _ in described()]
    assert len(names) == len(set(names)), "a name has two places"
    missing = {f"{package}.{name}" for package in PUBLIC for name in exported(package)} - set(names)
    assert not missing, f"not on any page of docs/reference/api/: {', '.join(sorted(missing))}"


@pytest.mark.parametrize(("identifier", "page"), described())
def test_what_a_page_describes_is_there(identifier, page):
    package, _, name = identifier.rpartition(".")
    assert package in {*PUBLIC, *MODULES}, f"{page}: {package} is not public"
    assert hasattr(importlib.import_module(package), name), f"{page}: {package} has no {name}"


def test_docstrings_of_what_is_described_are_understood(caplog):
    options = {"returns_multiple_items": False, "returns_named_value": False, "warn_missing_types": False}
    package = griffe.load(
        "ustoolkit",
        search_paths=[ROOT],
        extensions=griffe.load_extensions(str(ROOT / "website" / "docstring_sections.py")),
        docstring_parser="google",
        docstring_options=options,
        resolve_aliases=True,
    )
    caplog.clear()
    for name, page in described():
        found = package[name.removeprefix("ustoolkit.")]
        target = found.final_target if found.is_alias else found
        assert target.docstring, f"{page}: {name} has no docstring"
        for each in [target, *(target.members.values() if target.is_class else ())]:
            if each.docstring and not each.is_alias:
                texts = [part.value for part in each.docstring.parsed if part.kind is griffe.DocstringSectionKind.text]
                assert not any(re.search(r"^(Args|Returns|Raises):$", text, re.MULTILINE) for text in texts), each.path
    assert [record.getMessage() for record in caplog.records] == []


def test_links_between_pages_name_what_is_described():
    names = {name for name, _ in described()}
    for page in PAGES:
        assert set(re.findall(r"\]\[(ustoolkit[\w.]+)\]", page.read_text(encoding="utf-8"))) <= names


def test_the_example_runs(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", (PAGES[0].parent / "index.md").read_text(), re.DOTALL)
    command = [sys.executable, "-c", example]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0 <= float(done.stdout.split()[1]) <= 1
