"""The Kubernetes manifests: right by Kubernetes' own schemas, in accord with each other, and tried as a pod would."""

from __future__ import annotations

import os
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from admin.cli import app
from config.load import load
from tests.deploy.conftest import ROOT
from tests.support.container import Image
from tests.support.pki import DAY, Pair, self_signed
from tests.support.ports import free_port
from tests.support.snigate import wait_for
from tests.support.tls_client import shown

pytestmark = pytest.mark.timeout(400)  # the image is built once, for which packages are fetched

DIRECTORY = ROOT / "deploy/kubernetes"
CONFIGURATION = DIRECTORY / "snigate.toml"
KUSTOMIZATION = yaml.safe_load((DIRECTORY / "kustomization.yaml").read_text())
MANIFESTS = {
    one["kind"]: one for name in KUSTOMIZATION["resources"] for one in [yaml.safe_load((DIRECTORY / name).read_text())]
}
DEPLOYMENT = MANIFESTS["Deployment"]["spec"]
POD = DEPLOYMENT["template"]["spec"]
(CONTAINER,) = POD["containers"]
PORTS = {one["name"]: one["containerPort"] for one in CONTAINER["ports"]}
GROUP = POD["securityContext"]["fsGroup"]


@pytest.mark.parametrize("version", ["1.27", "1.37"])
@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_is_what_kubernetes_expects(kind: str, version: str) -> None:
    kubernetes_validate.validate(MANIFESTS[kind], version, strict=True)


def test_the_validator_would_find_a_misspelt_key() -> None:
    wrong = {**MANIFESTS["Service"], "spec": {**MANIFESTS["Service"]["spec"], "selectors": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_kustomize_is_given_every_file_and_names_what_the_pod_asks_for() -> None:
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    listed = {"kustomization.yaml", *KUSTOMIZATION["resources"], *generated["files"]}
    assert listed == {path.name for path in DIRECTORY.iterdir()}
    assert generated["files"] == [CONFIGURATION.name]
    assert {"name": "configuration", "configMap": {"name": generated["name"]}} in POD["volumes"]
    (image,) = KUSTOMIZATION["images"]
    assert image["name"] == CONTAINER["image"]
    assert image["newTag"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert KUSTOMIZATION["namespace"] == MANIFESTS["Namespace"]["metadata"]["name"]


def test_everybody_means_the_same_pods() -> None:
    labels = DEPLOYMENT["template"]["metadata"]["labels"]
    (spread,) = POD["topologySpreadConstraints"]
    for selector in (
        DEPLOYMENT["selector"]["matchLabels"],
        spread["labelSelector"]["matchLabels"],
        MANIFESTS["Service"]["spec"]["selector"],
        MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels.items()


def test_the_ports_are_those_that_snigate_listens_on_and_need_no_privilege() -> None:
    config = load(CONFIGURATION)
    assert config.metrics is not None
    listening = {address.port for listener in config.listeners for address in listener.bind}
    assert set(PORTS.values()) == listening | {config.metrics.listen.port}
    assert PORTS["metrics"] == config.metrics.listen.port
    assert min(PORTS.values()) > 1024
    assert DEPLOYMENT["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(PORTS["metrics"])
    allowed = [port["port"] for rule in MANIFESTS["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]]
    assert sorted(allowed) == sorted(PORTS)
    published = {port["targetPort"] for port in MANIFESTS["Service"]["spec"]["ports"]}
    assert published == set(PORTS) - {"metrics"}


def test_probes_ask_what_the_metrics_listener_answers() -> None:
    asked = {name: CONTAINER[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {one["port"] for one in asked.values()} == {"metrics"}
    assert {name: one["path"] for name, one in asked.items()} == {
        "startupProbe": "/readyz",
        "readinessProbe": "/readyz",
        "livenessProbe": "/healthz",
    }


def test_there_is_time_to_leave_and_to_drain_and_no_pod_goes_before_another_has_come() -> None:
    server = load(CONFIGURATION).server
    probe = CONTAINER["readinessProbe"]
    assert server.predrain is not None
    assert probe["periodSeconds"] * probe["failureThreshold"] < server.predrain
    assert POD["terminationGracePeriodSeconds"] > server.predrain + server.drain + 5
    assert DEPLOYMENT["replicas"] >= 2
    assert DEPLOYMENT["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert MANIFESTS["PodDisruptionBudget"]["spec"]["maxUnavailable"] < DEPLOYMENT["replicas"]


def test_the_memory_limit_is_more_than_strangers_can_fill_before_they_are_known() -> None:
    server = load(CONFIGURATION).server
    assert server.workers is not None
    overlong, idle = 143_000, 35_000  # bytes, docs/limits.md: the worst ClientHello, and the dearest idle connection
    busy = server.most_handshakes * overlong + (server.max_connections - server.most_handshakes) * idle
    processes = 6 * 40_000_000  # each with what it does not share
    limit = CONTAINER["resources"]["limits"]["memory"]
    assert limit.endswith("Gi")
    assert server.workers * busy + processes < int(limit.removesuffix("Gi")) << 30


def test_the_pod_keeps_to_the_restricted_profile_as_the_images_user(image: Image) -> None:
    pod, container = POD["securityContext"], CONTAINER["securityContext"]
    assert MANIFESTS["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod["runAsNonRoot"] is True
    assert f"{pod['runAsUser']}:{pod['runAsGroup']}" == image.stage.user
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(image.stage.ports) <= set(PORTS.values())


def test_what_is_mounted_is_what_the_configuration_and_the_image_speak_of(image: Image) -> None:
    config = load(CONFIGURATION)
    mounts = {one["name"]: Path(one["mountPath"]) for one in CONTAINER["volumeMounts"]}
    assert set(mounts) == {one["name"] for one in POD["volumes"]}
    assert not any("subPath" in one for one in CONTAINER["volumeMounts"])
    assert mounts["configuration"] / CONFIGURATION.name == Path(image.stage.command[-1])
    assert [str(mounts["state"])] == image.stage.volumes
    assert config.server.state_directory.parent == mounts["state"]
    secrets = {one["name"]: one["secret"] for one in POD["volumes"] if "secret" in one}
    assert secrets
    for name, secret in secrets.items():
        assert mounts[name].parent in config.certificates.directories
        assert secret["defaultMode"] == 0o440  # root's, and of the pod's group


def placed(places: dict[str, str], directory: Path) -> Path:
    """The configuration, with other places in it."""
    text = CONFIGURATION.read_text()
    for documented, other in places.items():
        assert documented in text
        text = text.replace(documented, other)
    path = directory / CONFIGURATION.name
    path.write_text(text)
    return path


def write_secret(directory: Path, version: str, pair: Pair) -> None:
    """A Secret of kubernetes.io/tls, as the kubelet writes it and changes it: by one rename."""
    held = directory / f"..{version}"
    held.mkdir()
    for name, data in (("tls.crt", pair.fullchain_pem), ("tls.key", pair.key_pem)):
        (held / name).write_bytes(data)
        (held / name).chmod(0o440)
        os.chown(held / name, 0, GROUP)
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    (directory / "..new").symlink_to(held.name)
    (directory / "..new").rename(directory / "..data")


def test_strangers_who_stall_cannot_take_more_memory_than_the_pod_has() -> None:
    server, limit = load(CONFIGURATION).server, CONTAINER["resources"]["limits"]["memory"]
    assert server.workers is not None
    unfinished, idle, processes = 143_000, 35_000, 250_000_000  # docs/limits.md
    connections = server.most_handshakes * unfinished + (server.max_connections - server.most_handshakes) * idle
    assert server.workers * connections + processes < int(limit.removesuffix("Gi")) << 30


def test_the_configuration_passes_check_with_a_certificate_for_its_host(tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir()
    self_signed("www.example.com").write(tmp_path / "certs", "www")
    path = placed({"/certs": f"{tmp_path}/certs", "/var/lib/snigate": str(tmp_path)}, tmp_path)
    done = CliRunner().invoke(app, ["check", "--config", str(path)])
    assert "nothing is wrong" in done.output
    assert done.exit_code == 0


def test_a_pod_serves_a_secret_takes_up_its_renewal_and_leaves_before_it_refuses(image: Image, tmp_path: Path) -> None:
    ports = {name: free_port() for name in (*PORTS, "admin")}
    etc, secret, state = (tmp_path / name for name in ("etc", "secret", "state"))
    for made in (tmp_path, etc, secret, state):
        made.mkdir(exist_ok=True)
        made.chmod(0o755)
    os.chown(state, 0, GROUP)
    state.chmod(0o2777)  # as an emptyDir is
    places = {f'":{PORTS[name]}"': f'"127.0.0.1:{ports[name]}"' for name in PORTS}
    path = placed({**places, 'predrain = "15s"': 'predrain = "5s"'}, etc)
    path.write_text(path.read_text() + f'\n[admin]\nlisten = "127.0.0.1:{ports["admin"]}"\n')
    first, renewed = self_signed("www.example.com"), self_signed("www.example.com", not_after=400 * DAY)
    write_secret(secret, "1", first)
    volumes = {"configuration": etc, "www-example-com": secret, "state": state}
    mounts = {volumes[one["name"]]: one["mountPath"] for one in CONTAINER["volumeMounts"]}

    def status(probe: str) -> int:
        try:
            address = f"http://127.0.0.1:{ports['metrics']}{CONTAINER[probe]['httpGet']['path']}"
            with urllib.request.urlopen(address, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def serves(pair: Pair) -> bool:
        return shown(ports["https"], "www.example.com").fingerprint == pair.fingerprint

    with image.run(image.stage.command, mounts, tmp_path / "log") as pod:
        wait_for(lambda: status("startupProbe") == 200, "it has started")
        assert (status("readinessProbe"), status("livenessProbe")) == (200, 200)
        assert serves(first)
        write_secret(secret, "2", renewed)
        wait_for(lambda: serves(renewed), "the renewed certificate is served")
        pod.tell_to_stop()
        wait_for(lambda: status("readinessProbe") == 503, "readiness fails")
        assert serves(renewed)
        assert status("livenessProbe") == 200
        assert pod.wait() == 0
    assert "Traceback" not in pod.log
