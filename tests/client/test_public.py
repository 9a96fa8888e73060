"""The public names: they import, they are what they say, and they cost nothing until used."""

import subprocess
import sys

import pytest

import fabric
from tests.support.daemon import environment


@pytest.mark.parametrize("name", fabric.__all__)
def test_a_public_name_imports(name: str) -> None:
    found = getattr(fabric, name)
    assert found.__name__ == name
    assert found.__doc__


def test_nothing_else_is_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = fabric.Nothing
    assert fabric.__all__ == sorted(fabric.__all__)
    assert fabric.__version__.count(".") == 2


def test_importing_the_package_imports_no_driver() -> None:
    program = (
        "import sys, fabric\n"
        "assert not {'redis', 'pydantic', 'click', 'asyncio'} & set(sys.modules), sys.modules\n"
        "from fabric import *\n"
        "assert Fabric.connect and SyncFabric.connect and SignalType.STARTED\n"
    )
    subprocess.run([sys.executable, "-c", program], env=environment(), check=True)
