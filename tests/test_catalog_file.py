"""The shipped catalog is found where the package is: in a checkout and in a wheel."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

from sidecar.catalog_file import read_catalog
from sidecar.core.catalog import build

ROOT = Path(__file__).parents[1]


def _run(code, place):
    """What a fresh interpreter prints; `-I` leaves out the working directory, so `place` goes first by hand."""
    code = f"import sys; sys.path.insert(0, {str(place)!r}); {code}"
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_reads_the_file_in_conf():
    tree = yaml.safe_load((ROOT / "conf" / "providers.yaml").read_bytes())
    assert read_catalog() == build(tree)


def test_the_wheel_carries_it_and_the_program_alone(tmp_path):
    source = tmp_path / "source"  # a copy, so that the checkout stays clean
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("sidecar", "conf"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    wheel = _run("from setuptools import build_meta as b; w = b.build_wheel('..'); print(); print(w)", source)
    with zipfile.ZipFile(tmp_path / wheel.splitlines()[-1]) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"sidecar"}
    modules = {f"sidecar/{path.relative_to(source / 'sidecar')}" for path in (source / "sidecar").rglob("*.py")}
    assert modules <= set(names)
    shown = _run("from sidecar import catalog_file as c; print(c.__file__, c.read_catalog())", tmp_path / "installed")
    assert shown == f"{tmp_path / 'installed' / 'sidecar' / 'catalog_file.py'} {read_catalog()!r}"
