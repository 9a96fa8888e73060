"""The files of docs/deploy/ are read by the tools that they are for."""

import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

KIT = Path(__file__).resolve().parents[2] / "docs" / "deploy"


def manifests() -> list[dict[str, object]]:
    return list(yaml.safe_load_all((KIT / "kubernetes.yaml").read_text()))


def test_the_manifests_are_what_kubernetes_reads() -> None:
    for document in manifests():
        kubernetes_validate.validate(document, "1.31", strict=True)
    kinds = [document["kind"] for document in manifests()]
    assert kinds == ["Deployment", "Deployment", "PodDisruptionBudget", "PodDisruptionBudget"]


def test_a_manifest_with_a_wrong_field_is_refused() -> None:
    (broken, *_) = manifests()
    broken["spec"]["replicas"] = "two"  # type: ignore[index] # a document of YAML
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.31", strict=True)


def test_the_compose_file_keeps_to_its_specification() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, KIT / "compose.yaml"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_the_unit_is_one_that_systemd_reads(tmp_path: Path) -> None:
    unit = (KIT / "signal-fabric@.service").read_text()
    path = tmp_path / "signal-fabric@.service"
    path.write_text(unit.replace("/opt/signal-fabric/bin/python", sys.executable))
    verify = [shutil.which("systemd-analyze") or "", "verify", str(path)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert path.name.partition("@")[0] not in done.stderr, done.stderr
