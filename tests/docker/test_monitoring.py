"""The optional profile `monitoring`: rules that hold, and no figure that nobody gives."""
import json
import re
import shutil

import pytest
import yaml

from engine import CHECKOUT, run

FOLDER = CHECKOUT / "docker/monitoring"
# Functions, keywords and labels of PromQL
WORDS = re.compile(r"\b((?:http|petiole|flower|process)_[a-z_]+)\b")
# Given only while there is something to tell of
RARE = {"flower_task_prefetch_time_seconds", "petiole_queue_length", "petiole_queue_unacked"}


def expressions():
    rules = yaml.safe_load((FOLDER / "prometheus/alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads((FOLDER / "grafana/dashboards/petiole.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def names():
    return {name for _, expression in expressions() for name in WORDS.findall(re.sub(r"\{[^}]*\}|\bby \([^)]*\)", "", expression))}


def test_the_dashboard_shows_what_operators_ask_for():
    titles = {title for title, _ in expressions()}
    assert {"Queue length", "Task throughput", "Task latency", "Task failures", "Saturation of workers", "Saturation of the API"} <= titles


def test_rules_are_right_and_fire_when_they_should(tmp_path):
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian: package prometheus)")
    text = (FOLDER / "prometheus/prometheus.yml").read_text()
    (tmp_path / "key").write_text("key")
    shutil.copy(FOLDER / "prometheus/alerts.yml", tmp_path)
    shutil.copytree(FOLDER / "prometheus", tmp_path / "targets")
    (tmp_path / "prometheus.yml").write_text(
        text.replace("/etc/prometheus", str(tmp_path)).replace("/run/secrets/metrics_key", str(tmp_path / "key")))
    run("promtool", "check", "config", tmp_path / "prometheus.yml")
    run("promtool", "test", "rules", "alerts_test.yml", cwd=FOLDER / "prometheus")


@pytest.mark.engine
def test_every_figure_is_given_by_the_api_a_worker_or_flower(production, http):
    http.post("/v1/tasks", json={"task": "demo.fail", "args": ["on purpose"]})
    http.get(f"/v1/tasks/{http.post('/v1/tasks', json={'task': 'demo.add', 'args': [1, 2]}).json()['task_id']}?wait=20")
    code = ("import sys, urllib.request\n"
            "ask = urllib.request.Request('http://api:8080/metrics', headers={'Authorization': 'Bearer ' + sys.stdin.read()})\n"
            "print(urllib.request.urlopen(ask, timeout=10).read().decode())\n"
            "print(urllib.request.urlopen('http://worker:9808/metrics', timeout=10).read().decode())\n"
            "print(urllib.request.urlopen('http://127.0.0.1:5555/flower/metrics', timeout=10).read().decode())\n")
    page = production.execute("flower", "python", "-c", code, input=production.secrets()["API_KEYS"]).stdout
    given = {line.split("{")[0].split(" ")[0] for line in page.splitlines() if line and not line.startswith("#")}
    [target] = [one for one in yaml.safe_load_all((CHECKOUT / "docker/kubernetes/worker.yaml").read_text()) if one["kind"] == "HorizontalPodAutoscaler"]
    # What the workers in Kubernetes grow by is one of them.
    wanted = names() | {target["spec"]["metrics"][0]["external"]["metric"]["name"]}
    assert len(wanted) > 12
    assert not wanted - given - RARE, (wanted - given, sorted(given))
    declared = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}
    assert {name for name in RARE if name.startswith("flower_")} <= declared
