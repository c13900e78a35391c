"""The manifests, against Kubernetes' own schemas and against what they are for. Needs no cluster."""
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "docker/kubernetes"
NAMES = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
DOCUMENTS = [(name, one) for name in NAMES for one in yaml.safe_load_all((FOLDER / name).read_text())]


def find(kind, name):
    return next(one for _, one in DOCUMENTS if (one["kind"], one["metadata"]["name"]) == (kind, name))


def test_every_manifest_is_listed():
    assert set(NAMES) | {"kustomization.yaml"} == {path.name for path in FOLDER.glob("*.yaml")}


@pytest.mark.parametrize("version", ("1.28", "1.33"))
@pytest.mark.parametrize("name, document", DOCUMENTS, ids=[f"{one['kind']}-{one['metadata']['name']}" for _, one in DOCUMENTS])
def test_schema(name, document, version):
    kubernetes_validate.validate(document, version, strict=True)


def test_the_check_finds_mistakes():
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**find("Deployment", "api"), "spec": {"replica": 2}}, "1.33", strict=True)


@pytest.mark.parametrize("name", ("api", "worker"))
def test_pods_are_confined_probed_and_budgeted(name):
    spec = find("Deployment", name)["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10001
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["limits"].keys() == {"cpu", "memory"}
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= spec["containers"][0].keys()
    labels = find("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    wanted = find("PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= labels.items()
    assert find("HorizontalPodAutoscaler", name)["spec"]["scaleTargetRef"]["name"] == name
