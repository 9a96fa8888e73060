"""The public names: they can be imported, and cost nothing until used."""

import dataclasses
import inspect
import subprocess
import sys

import pytest

import fabric
from fabric import errors
from tests.support.daemon import environment


@pytest.mark.parametrize("name", fabric.__all__)
def test_a_public_name_imports(name: str) -> None:
    found = getattr(fabric, name)
    assert found.__name__ == name
    assert found.__doc__


def test_every_error_is_public() -> None:
    found = {
        name
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, errors.FabricError)
    }
    assert found == {name for name in fabric.__all__ if name.endswith("Error")}


#: Settings that only workers use.
OF_WORKERS = {
    *("lease_ms", "batch_signals_max", "batch_bytes_max", "sessions_cached_max", "health_port"),
    "weight",
}


def test_every_setting_of_a_client_can_be_given() -> None:
    given = set(inspect.signature(fabric.Fabric.connect).parameters)
    assert given == {field.name for field in dataclasses.fields(fabric.Settings)} - OF_WORKERS


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
