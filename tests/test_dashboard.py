"""The dashboard, the alerts and the runbook: they name nothing that a running sidecar does not tell, and work together.

promtool comes with Debian's `prometheus`.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from sidecar.core.breaker import IN_A_ROW
from sidecar.core.metrics_table import families
from sidecar.sim.config import LimitRule, SimConfig
from sidecar.sim.faults import Fault
from tests.promql import named
from tests.rig import WATCHDOG_S, chat, running
from tests.scraping import scrape
from tests.servers import RedisServer

ROOT = Path(__file__).parents[1]
RULES = ROOT / "conf/alerts.yaml"
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((ROOT / "conf/grafana.json").read_text())
RUNBOOK = (ROOT / "docs/operations.md").read_text()
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ADDED = {"instance", "job"}  # by Prometheus, to everything it scrapes

BUSY_HOUSE = """
providers:
  - name: groq
    base_url: "{groq}"
    keys: [{name: a, env: KEY_A}, {name: b, env: KEY_B}]
    limits: [{model: "*", rpm: 500, concurrency: 8}]
  - name: cerebras
    base_url: "{cerebras}"
    keys: [{name: c, env: KEY_C}]
models:
  - {name: fast, chain: [groq/openai/gpt-oss-120b]}
  - {name: gone, chain: [groq/llama-3.1-8b-instant]}
  - {name: forbidden, chain: [groq/llama-3.3-70b-versatile]}
  - {name: spent, chain: [groq/qwen/qwen3-32b]}
  - {name: down, chain: [cerebras/gpt-oss-120b]}
wait: {max: 8s}
"""


def expressions():
    """Every expression, with where it stands."""
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], plain(target["expr"])
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], plain(annotation["expr"])


def plain(expression):
    """Without Grafana's variables."""
    return re.sub(r"\$(instance|provider)\b", ".*", expression.replace("$__rate_interval", "5m"))


def run(*words, given=None):
    """promtool; fails with what it says."""
    done = subprocess.run(["promtool", *words], input=given, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


async def told_by_a_busy_house(tmp_path, store):
    """A scrape in which every family has something to say."""
    sims = {"groq": SimConfig("groq", limits=(LimitRule(rpm=1000, tpm=100_000),)), "cerebras": SimConfig("cerebras")}
    config = (
        BUSY_HOUSE + f"state: {{path: {tmp_path}/state.db}}\ncache: {{enabled: true}}\nshare: {{url: '{store.url}'}}\n"
    )
    async with asyncio.timeout(2 * WATCHDOG_S), running(tmp_path, config, sims) as rig:
        missing = {"error": {"message": "no such model", "code": "model_not_found"}}
        rig.fault("groq", Fault("status", status=404, model="llama-3.1-8b-instant", body=json.dumps(missing)))
        rig.fault("groq", Fault("status", status=403, model="llama-3.3-70b-versatile"))
        rig.fault("groq", Fault("status", status=429, model="qwen/*", headers={"retry-after": "30"}))
        rig.fault("cerebras", Fault("status", status=500))
        for model in ("fast", "gone", "forbidden", "spent", "spent"):
            await rig.post(body=chat(model, stream=model == "fast"))
        for _ in range(IN_A_ROW):
            await rig.post(body=chat("down"), x_sidecar_fallback="off")
        rig.fault("groq", Fault("status", status=401, key="gsk_b"))
        await rig.post(body=chat("fast"), x_sidecar_key="b")
        rig.sidecar._observer.look()
        while True:
            told = await scrape(rig)
            if told.of("sidecar_state_saved_timestamp_seconds"):
                return told


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    with RedisServer() as store:
        return asyncio.run(told_by_a_busy_house(tmp_path_factory.mktemp("busy"), store))


@pytest.fixture(scope="module")
def labels(told):
    """The labels of every metric of a real scrape."""
    found: dict[str, set[str]] = {"up": set()}
    for sample in told.samples:
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_family_is_in_the_scrape(labels):
    for family in families().values():
        for name in family.samples:
            assert labels.get(name, set()) - {"le"} == set(family.labels), f"{name} has no sample, or other labels"


def test_no_panel_and_no_alert_names_what_is_not_there(labels):
    for where, expression in expressions():
        metrics, grouped = named(expression)
        assert metrics, where
        known: set[str] = set()
        for name, selected in metrics:
            assert name in labels, f"{where}: there is no {name}"
            assert selected <= labels[name] | ADDED, f"{where}: {name} has no {selected - labels[name]}"
            known |= labels[name]
        assert grouped <= known | ADDED, f"{where}: nothing there has {grouped - known}"


def test_no_legend_and_no_annotation_names_a_label_that_is_not_there(labels):
    for panel in PANELS:
        for target in panel["targets"]:
            known = set().union(*(labels[name] for name, _ in named(plain(target["expr"])).metrics)) | ADDED
            assert set(re.findall(r"{{\s*(\w+)\s*}}", target["legendFormat"])) <= known, panel["title"]
    for rule in ALERTS:
        known = set().union(*(labels[name] for name, _ in named(rule["expr"]).metrics)) | ADDED
        assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= known, rule["alert"]


def test_no_value_of_a_label_is_asked_for_that_never_comes(told):
    """Of labels that are closed sets: a fault or a state that is misspelt would never match anything."""
    sets = {
        "fault": {"none", "provider", "quota", "key", "caller", "sidecar"},
        "state": {"open", "half_open", "closed", "idle", "leased", "connecting"},
        "result": {"hit", "coalesced", "miss", "bypass"},
        "reason": {"rate_limited"},
        "event": {labels["event"] for labels, _ in told.of("sidecar_events_total")},
    }
    for where, expression in expressions():
        for label, values in re.findall(r'\b(fault|state|reason|event|result)\s*=~?\s*"([^"]*)"', expression):
            assert set(values.split("|")) <= sets[label], where


def test_every_family_is_shown():
    shown = {name for _, expression in expressions() for name, _ in named(expression).metrics}
    unseen = [family.name for family in families().values() if not shown & set(family.samples)]
    assert unseen == []


def test_the_scrape_is_as_promtool_wants_it(told):
    run("check", "metrics", given=told.text)


def test_every_expression_is_promql(tmp_path):
    rules = [{"record": f"x:y{at}", "expr": expression} for at, (_, expression) in enumerate(expressions())]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run("check", "rules", str(path))


def test_the_alerts_fire_and_are_quiet_as_they_should():
    assert f"{len(ALERTS)} rules found" in run("check", "rules", str(RULES))
    run("test", "rules", "tests/alerts.yaml")
    tried = yaml.safe_load((ROOT / "tests/alerts.yaml").read_text())["tests"]
    fired = {each["alertname"] for test in tried for each in test["alert_rule_test"] if each.get("exp_alerts")}
    quiet = {each["alertname"] for test in tried for each in test["alert_rule_test"] if not each.get("exp_alerts")}
    assert fired == quiet == {rule["alert"] for rule in ALERTS}


def headings():
    """The runbook's entries: heading, and its text."""
    parts = re.split(r"^### (.+)$", RUNBOOK, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_alert_leads_to_its_entry_and_every_entry_says_what_to_do():
    entries = headings()
    anchors = {heading.lower() for heading in entries}
    for rule in ALERTS:
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page == "docs/operations.md"
        assert anchor in anchors
        assert anchor == rule["alert"].lower()
        assert rule["labels"]["severity"] in ("page", "ticket")
    assert len(entries) >= 10
    for heading, text in entries.items():
        assert all(f"**{word}**" in text for word in ("Symptom", "Look", "Do")), heading


def test_the_runbook_names_only_what_is_there(labels):
    mentioned = set(re.findall(r"\b(?:sidecar|gen_ai_client)_[a-z_]+\b", RUNBOOK))
    assert mentioned <= set(labels) | set(families())


def test_the_dashboard_can_be_loaded():
    assert DASHBOARD["title"]
    assert DASHBOARD["uid"]
    assert "id" not in DASHBOARD, "Grafana gives one when it is imported"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies on another"
        assert at["x"] + at["w"] <= 24
        taken |= cells
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) - {"__rate_interval", "__all"} <= variables
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    for question in ("provider", "quota", "key", "us"):
        assert any(question in row for row in rows)


@pytest.mark.parametrize(
    ("expression", "metrics", "grouped"),
    [
        ("a", [("a", set())], set()),
        ('sum by (x, le) (rate(a_bucket{y="b{c}", z=~"d"}[5m])) > 0.5', [("a_bucket", {"y", "z"})], {"x", "le"}),
        ("a unless on (i) b > 0 or c", [("a", set()), ("b", set()), ("c", set())], {"i"}),
        ("a / ignoring (s) group_left () b", [("a", set()), ("b", set())], {"s"}),
        ("histogram_quantile(0.9, a)", [("a", set())], set()),
    ],
)
def test_what_an_expression_names(expression, metrics, grouped):
    assert named(expression) == (metrics, grouped)
