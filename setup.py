"""What is installed, and where. A checkout installed in place (`pip install -e`) stays as it is.

A wheel has `launch` and `conf` inside of `vocl`: beside it they would stand in the way of a user's own
launch.py and conf/. There launch's modules have the names `vocl.launch.*`; `vocl.commands.launching`
imports them under either.
"""

import re
import sys
from pathlib import Path

from setuptools import find_namespace_packages, setup
from setuptools.command.build_py import build_py

IN_PLACE = "editable_wheel" in sys.argv
MOVED = () if IN_PLACE else ("launch", "conf")
NAME = re.compile(r"(?<![\w.])launch(?=\.[a-z]|\s+import\b)")  # of the package, in its own modules
SHIPPED = ("here", "local", "slurm", "example")  # the others in conf/cluster are of one site: accounts, keys


class Build(build_py):
    """Copies the files, and calls `launch` by its name in the wheel."""

    def run(self) -> None:
        """As every build, then the names."""
        super().run()
        for path in (Path(self.build_lib) / "vocl" / "launch").rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            path.write_text(NAME.sub("vocl.launch", text), encoding="utf-8")


included = ["vocl*", "launch*", "hydra_plugins*", *([] if IN_PLACE else ["conf*"])]
found = find_namespace_packages(include=included)
sites = [path.name for path in Path("conf/cluster").glob("*.yaml") if path.stem not in SHIPPED]
setup(
    packages=[f"vocl.{name}" if name.partition(".")[0] in MOVED else name for name in found],
    package_dir={f"vocl.{name}": name for name in MOVED},
    exclude_package_data={"vocl.conf.cluster": sites},
    cmdclass={"build_py": Build},
)
