"""Traces for OpenTelemetry: one trace and one request id from an HTTP request through all the tasks that follow from it."""
import contextlib
import http.server
import json
import os
import subprocess
import threading
import uuid

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import processes
from rust_worker import rust_worker, settings_of
from stack import free_ports
from waiting import SOON, wait_until

pytestmark = pytest.mark.needs_api


class Collector(http.server.ThreadingHTTPServer):
    """Takes what `OTEL_EXPORTER_OTLP_ENDPOINT` sends, as a collector does."""

    def __init__(self):
        self.spans, self.status = [], 200
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf" and self.server.status == 200:
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    service = {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"]
                    for scope in resource.scope_spans:
                        self.server.spans.extend((service, span) for span in scope.spans)
            self.send_response(self.server.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    def find(self, trace_id):
        return [(service, span) for service, span in list(self.spans) if span.trace_id.hex() == trace_id]


@pytest.fixture
def collector():
    with contextlib.closing(Collector()) as one:
        yield one
        one.shutdown()


Collector.close = Collector.server_close


@contextlib.contextmanager
def api_beside(http, log, **settings):
    """A second API, with other settings."""
    pid = processes.listener(http.base_url.port)
    env, program = pid and settings_of(pid), f"/proc/{pid}/exe"
    if not env or not os.path.exists(program):
        pytest.skip("the stack's API is no process of this machine")
    port = free_ports(1)[0]
    env.update(settings, API_PORT=str(port))
    with open(log, "wb") as output:
        process = subprocess.Popen([os.path.realpath(program)], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=http.headers, timeout=SOON) as one:
            def answers():
                assert process.poll() is None, log.read_text()
                with contextlib.suppress(httpx.TransportError):
                    return one.get("/health").status_code == 200
            wait_until(answers, lambda: f"the API answers: {log.read_text()[-2000:]}", 60)
            yield one
    finally:
        process.terminate()
        process.wait(40)


def lines(log, **fields):
    found = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [one for one in found if all(one.get("span", {}).get(name) == value for name, value in fields.items())]


def test_one_trace_and_one_request_id_from_the_request_to_its_last_task(stack, client, http, collector, tmp_path):
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200", "LOG_FORMAT": "json", "LOG_LEVEL": "info"}
    trace_id, caller, request_id = uuid.uuid4().hex, uuid.uuid4().hex[:16], f"e2e-{uuid.uuid4()}"
    api_log, worker_log = tmp_path / "api.log", tmp_path / "worker.log"
    with rust_worker(stack, client, worker_log, **settings) as (queue, _, _), api_beside(http, api_log, **settings) as api:
        body = {"task": "demo.compose", "args": [queue], "queue": queue}
        headers = {"traceparent": f"00-{trace_id}-{caller}-01", "X-Request-Id": request_id}
        answer = api.post("/v1/tasks", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        # The request, the task, a chain of three, a chord of four and its body.
        wait_until(lambda: len(collector.find(trace_id)) >= 10, lambda: f"all spans came: {[s.name for _, s in collector.spans]}", 30)
        failing = api.post("/v1/tasks", json={"task": "demo.fail", "args": ["on purpose"], "queue": queue}).json()
        other = wait_until(lambda: [span for _, span in collector.spans if span.name == "run/demo.fail"], "the failure came")

    spans = collector.find(trace_id)
    by_id = {span.span_id: (service, span) for service, span in spans}
    names = sorted(span.name for _, span in spans)
    assert names == sorted(["POST /v1/tasks", "run/demo.compose", *["run/demo.add"] * 7, "run/demo.echo"])
    [(service, request)] = [one for one in spans if one[1].name == "POST /v1/tasks"]
    assert (service, request.parent_span_id.hex(), request.kind) == ("petiole-api", caller, Span.SPAN_KIND_SERVER)
    [(service, root)] = [one for one in spans if one[1].name == "run/demo.compose"]
    assert (service, root.parent_span_id, root.kind) == ("petiole-worker", request.span_id, Span.SPAN_KIND_CONSUMER)

    def depth(span):
        return 0 if span.name == "run/demo.compose" else 1 + depth(by_id[span.parent_span_id][1])
    # Four members and the chain's first step come from the task itself; each further step from the one before.
    assert sorted(depth(span) for _, span in spans if span.name == "run/demo.add") == [1, 1, 1, 1, 1, 2, 3]
    assert [depth(span) for _, span in spans if span.name == "run/demo.echo"] == [2]

    assert other[0].status.code == Status.STATUS_CODE_ERROR and "on purpose" in other[0].status.message
    assert other[0].trace_id.hex() != trace_id and failing["task_id"]

    # From the log to the trace, and from the request to each of its tasks
    assert lines(api_log, request_id=request_id, trace_id=trace_id)
    ended = [line for line in lines(worker_log, request_id=request_id, trace_id=trace_id) if " succeeded in " in line["message"]]
    assert sorted(line["span"]["task_name"] for line in ended) == sorted(["demo.compose", *["demo.add"] * 7, "demo.echo"])
    assert all(line["span"]["task_id"] in line["message"] for line in ended)


def test_a_request_id_follows_its_tasks_without_any_collector(stack, client, http, tmp_path):
    log, request_id = tmp_path / "log", f"e2e-{uuid.uuid4()}"
    with rust_worker(stack, client, log, LOG_FORMAT="json", LOG_LEVEL="info") as (queue, _, _):
        body = {"task": "demo.compose", "args": [queue], "queue": queue}
        assert http.post("/v1/tasks", json=body, headers={"X-Request-Id": request_id}).status_code == 202
        wait_until(lambda: len([line for line in lines(log, request_id=request_id) if " succeeded in " in line["message"]]) == 9,
                   lambda: f"all tasks have it: {log.read_text()[-3000:]}", 20)
    assert "trace_id" not in log.read_text()


def test_a_collector_that_is_away_is_told_of_once_and_costs_no_task(stack, client, http, collector, tmp_path):
    log = tmp_path / "log"
    collector.status = 400
    with rust_worker(stack, client, log, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="100") as (queue, _, process):
        for n in range(5):
            assert client.send("demo.add", n, 1, queue=queue).get(timeout=SOON) == n + 1
        wait_until(lambda: "traces do not reach the collector" in log.read_text(), "it says so")
        process.terminate()
        assert process.wait(20) == 0
    assert log.read_text().count("traces do not reach the collector") == 1


def test_an_endpoint_that_is_none_is_named(stack, client, tmp_path):
    with pytest.raises(AssertionError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        with rust_worker(stack, client, tmp_path / "log", OTEL_EXPORTER_OTLP_ENDPOINT="no url at all"):
            pass
