"""Builds the wheel; with SIDECAR_COMPILE=1 in the environment, what a request runs through is compiled in it.

The same sources, made into extension modules by mypyc, for which a C compiler is needed; which, pyproject.toml says.
"""

import os
import sys
import tomllib
from pathlib import Path

from setuptools import Extension, setup

PROJECT = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text())
IS_ASKED = "egg_info" in sys.argv  # what it needs
# what a compiler of types has to know besides
NEEDED = ["mypy>=2", *PROJECT["project"]["dependencies"]]


def _extensions() -> list[Extension]:
    try:
        from mypyc.build import mypycify
    except ImportError:
        if IS_ASKED:
            return []  # it need not be there yet
        raise
    paths = [f"sidecar/{name}.py" for name in PROJECT["tool"]["sidecar"]["compiled"]]
    # at level 1 it takes half as long to compile as at 3, and a request takes as long
    made: list[Extension] = mypycify(paths, opt_level="1", multi_file=True, group_name="sidecar")
    for extension in made:
        # a warning of a newer compiler than mypyc's makers had is none of ours; what a debugger reads is not needed
        extension.extra_compile_args = [word for word in extension.extra_compile_args if word != "-Werror"] + ["-g0"]
    return made


if os.environ.get("SIDECAR_COMPILE") == "1":
    setup(setup_requires=NEEDED if IS_ASKED else [], ext_modules=_extensions())
else:
    setup()
