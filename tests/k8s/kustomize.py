"""`kubectl kustomize` on a folder of k8s/, by whichever kubectl is installed.

The oldest that Debian still has (1.20) knows neither `patches` nor folders among `resources`; for that one the same is
written in its words, in a copy.
"""

import functools
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

FOLDER = Path(__file__).parents[2] / "k8s"
_PATCHES_SINCE = 21


@functools.cache
def render(name):
    """The objects of a kustomization."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "k8s"
        shutil.copytree(FOLDER, copy)
        if _minor() < _PATCHES_SINCE:
            for path in copy.rglob("kustomization.yaml"):
                path.write_text(yaml.safe_dump(_in_old_words(yaml.safe_load(path.read_text()), path.parent)))
        done = subprocess.run(["kubectl", "kustomize", str(copy / name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr  # deprecated fields are warned of
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def _minor():
    done = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout)["clientVersion"]["minor"].rstrip("+"))


def _in_old_words(kustomization, folder):
    resources = kustomization["resources"]
    bases = [each for each in resources if (folder / each).is_dir()]
    old = kustomization | {"bases": bases, "resources": [each for each in resources if each not in bases]}
    patches = old.pop("patches", [])
    assert all(set(each) == {"path"} for each in patches), patches
    return old | {"patchesStrategicMerge": [each["path"] for each in patches]}
