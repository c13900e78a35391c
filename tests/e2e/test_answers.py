"""Questions are answered from the documents, texts are worked on, files are read; what is hostile harms nobody."""
import io
import json
import uuid
import zipfile

import httpx
import pytest

from test_documents import ready
from test_http import accepted, final, problem
from waiting import PATIENCE, wait_until

pytestmark = pytest.mark.needs_api

COLLECTION = f"e2e-answers-{uuid.uuid4().hex[:8]}"
QUESTION = {"question": "Which animals can feel electricity?", "collection": COLLECTION}
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.fixture(scope="module")
def shark(http):
    """The id of the document that answers."""
    texts = ["The blue whale is the heaviest animal that ever lived.", "Golden eagles build their eyries on cliffs.",
             "Sharks sense electric fields with their snout."]
    ids = [accepted(http.post("/v1/documents", json={"text": text, "collection": COLLECTION}))["id"] for text in texts]
    return [ready(http, document_id, 60)["id"] for document_id in ids][-1]


def stream(http, body):
    """The events of a streamed answer, as [name, data]."""
    with http.stream("POST", "/v1/answers", json=body, headers={"Accept": "text/event-stream"}) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        events, name = [], None
        for line in answer.iter_lines():
            if line.startswith("event:"):
                name = line[6:].strip()
            elif line.startswith("data:"):
                events.append((name, json.loads(line[5:])))
        return events


def test_a_question_is_answered_by_a_task(http, shark, client):
    answer = http.post("/v1/answers", json=QUESTION)
    task_id = accepted(answer)["task_id"]
    assert httpx.URL(answer.headers["Location"]).path == f"/v1/tasks/{task_id}"
    found = final(http, task_id)["result"]
    assert found["citations"][0]["document_id"] == shark and "[1]" in found["answer"] and found["model"]
    # It is an ordinary task: Python may send it, too.
    assert client.send("answers.generate", kwargs=QUESTION).get(timeout=30 * PATIENCE)["answer"] == found["answer"]


def test_a_question_is_answered_as_a_stream(http, shark):
    events = stream(http, QUESTION)
    assert [name for name, _ in events[:-1]] == ["token"] * (len(events) - 1) and len(events) > 1
    name, found = events[-1]
    assert name == "done" and found["citations"][0]["document_id"] == shark
    assert "".join(data["text"] for _, data in events[:-1]) == found["answer"]


def test_a_conversation_goes_on(http, shark):
    talk = str(uuid.uuid4())
    for question in (QUESTION["question"], "And with which part of their body?"):
        events = stream(http, {**QUESTION, "question": question, "conversation_id": talk})
        assert "snout" in events[-1][1]["answer"], events
    turns = http.get(f"/v1/conversations/{talk}").json()["items"]
    assert [turn["question"] for turn in turns] == [QUESTION["question"], "And with which part of their body?"]
    assert http.delete(f"/v1/conversations/{talk}").status_code == 204
    problem(http.get(f"/v1/conversations/{talk}"), 404)


def test_nothing_known(http):
    task_id = accepted(http.post("/v1/answers", json={"question": "Who won?", "collection": COLLECTION + "-void"}))["task_id"]
    found = final(http, task_id)["result"]
    assert found["citations"] == [] and found["answer"]


@pytest.mark.parametrize("kind, data, check", [
    ("text.summarize", {"text": "Tides rise twice a day. The moon pulls the water. My aunt sells shoes. The sun pulls too, "
                                "and spring tides are high.", "sentences": 2}, lambda out: len(out["sentences"]) == 2),
    ("text.classify", {"text": "Simmer the onions in butter.", "labels": ["sport", "cooking"]},
     lambda out: out["label"] == "cooking"),
    ("text.extract", {"text": "Pay 20 EUR by 2030-03-12."},
     lambda out: [item["value"] for item in out["items"]] == ["20 EUR", "2030-03-12"]),
])
def test_texts(http, kind, data, check):
    event = accepted(http.post("/v1/events", json={"type": kind, "data": data}))

    def done():
        found = http.get(f"/v1/events/{event['id']}").json()
        assert found["state"] != "failed", found
        return found if found["state"] == "succeeded" else None
    found = wait_until(done, lambda: f"{kind} succeeds: {http.get('/v1/events/' + event['id']).text}", 60)
    assert check(found["output"]), found


def upload(http, name, content, kind, **fields):
    return http.post("/v1/documents", files={"file": (name, content, kind)}, data={"collection": COLLECTION + "-files", **fields})


def docx(document):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", document)
    return buffer.getvalue()


WORD = '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>%s</w:body></w:document>'


@pytest.mark.parametrize("name, content, kind, word", [
    ("p.html", "<html><head><script>evil()</script></head><body><h1>Bees</h1><p>Bees dance.</p></body></html>".encode(),
     "text/html", "Bees dance."),
    ("w.docx", docx(WORD % "<w:p><w:r><w:t>Wasps build paper nests.</w:t></w:r></w:p>"), DOCX, "Wasps build paper nests."),
])
def test_files_are_read(http, name, content, kind, word):
    collection = f"{COLLECTION}-{name}"
    document = accepted(upload(http, name, content, kind, collection=collection))
    ready(http, document["id"], 60)
    hits = http.post("/v1/search", json={"query": "insects", "collection": collection}).json()["hits"]
    assert word in hits[0]["text"] and "evil" not in hits[0]["text"], hits


@pytest.mark.parametrize("name, content, kind", [
    ("bomb.docx", docx(WORD % ("<w:p/>" * 22_000_000)), DOCX),
    ("entities.docx", docx('<!DOCTYPE x [<!ENTITY a "aaaaaaaa">]>' + WORD % "<w:p><w:r><w:t>&a;</w:t></w:r></w:p>"), DOCX),
    ("torn.pdf", b"%PDF-1.7\ngarbage", "application/pdf"),
    ("torn.docx", docx(WORD % "<w:p/>")[:100], DOCX),
], ids=["bomb", "entities", "torn-pdf", "torn"])
def test_hostile_files_fail_with_a_reason(http, client, name, content, kind):
    document_id = accepted(upload(http, name, content, kind))["id"]

    def failed():
        found = http.get(f"/v1/documents/{document_id}").json()
        assert found["state"] != "ready", found
        return found if found["state"] == "failed" else None
    found = wait_until(failed, lambda: f"{name} fails: {http.get(f'/v1/documents/{document_id}').text}", 100)
    assert found["error"] and "panicked" not in found["error"]
    assert client.send("demo.add", 1, 1).get(timeout=20 * PATIENCE) == 2


def test_a_deep_page_is_read_or_refused(http, client):
    document_id = accepted(upload(http, "deep.html", b"<div>" * 20_000 + b"The deep sea.", "text/html"))["id"]
    path = f"/v1/documents/{document_id}"
    wait_until(lambda: http.get(path).json()["state"] in ("ready", "failed"), lambda: http.get(path).text, 100)
    assert client.send("demo.add", 1, 1).get(timeout=20 * PATIENCE) == 2
