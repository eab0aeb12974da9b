"""What operators read: figures by the official Prometheus client's parsers, and deep health."""
import json

from harness import CLIENT_KEY, MODEL, OPERATOR_KEY, check, expect, require, user
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

PREFIX = "mcp_local_provider_"


def families(s, accept, parse):
    status, headers, body = s.request("GET", "/metrics", key=None, Accept=accept)
    expect((status, accept in headers["Content-Type"]), (200, True), f"status and type {headers['Content-Type']}")
    return {family.name: family for family in parse(body.decode())}


@check
def metrics(s):
    """operator: the official Prometheus client reads /metrics in both text forms, and /metrics.json agrees"""
    s.openai.chat.completions.create(model=MODEL, messages=user("say:counted"))
    "".join(c.choices[0].delta.content or "" for c in s.openai.chat.completions.create(model=MODEL, messages=user("say:counted"), stream=True))
    plain = families(s, "text/plain", text_string_to_metric_families)
    strict = families(s, "application/openmetrics-text", openmetrics.text_string_to_metric_families)
    expect(sorted(plain), sorted(strict), "families of the two forms")
    for kind, some in (("counter", "requests"), ("gauge", "links"), ("histogram", "time_to_first_token_seconds")):
        expect((plain[PREFIX + some].type, strict[PREFIX + some].type), (kind, kind), f"type of {some}")
    for family in plain.values():
        require(family.documentation and family.samples, f"{family.name} has no help or no sample")
    answers = [x.value for x in plain[PREFIX + "requests"].samples
               if x.labels == {"endpoint": "POST /v1/chat/completions", "dialect": "openai", "status": "200"}]
    require(len(answers) == 1 and answers[0] >= 2, f"answers counted: {answers}")
    figures = json.loads(s.request("GET", "/metrics.json", key=None)[2])["metrics"]
    expect({name.removesuffix("_total") for name in figures}, set(plain), "families of the JSON form")
    require(json.loads(s.request("GET", "/stats", key=None)[2])["metrics"], "no figures at /stats")


@check
def deep_health(s):
    """operator: deep health, for operators only, tells of every part"""
    expect([s.request("GET", "/health/deep", key=key)[0] for key in (None, CLIENT_KEY)], [401, 403], "statuses")
    status, _, body = s.request("GET", "/health/deep", key=OPERATOR_KEY)
    health = json.loads(body)
    expect((status, health["status"]), (200, "healthy"), f"status of {health}")
    require({"http", "hub", "links", "audit"} <= set(health["components"]), f"parts: {sorted(health['components'])}")
    require(health["system"]["resident_bytes"] > 1e6 and health["requests"]["completed"] > 0, f"figures: {health}")
