"""Every module can be the first one that is imported: none needs another to have been there before it."""

import subprocess
import sys

_SCRIPT = """
import importlib, pkgutil, sys
import squish_pl

names = [module.name for module in pkgutil.walk_packages(squish_pl.__path__, "squish_pl.")]
for name in names:
    for loaded in [other for other in sys.modules if other.partition(".")[0] == "squish_pl"]:
        del sys.modules[loaded]
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_can_come_first() -> None:
    # in a process of its own: modules that are loaded twice would be strangers to those of other tests
    run = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 100
