"""The main job: long real texts go in over HTTP, the worker embeds them, search finds passages by meaning."""
import json
import sysconfig
import uuid
from pathlib import Path

import httpx
import pytest

from stack import CHECKOUT
from waiting import SOON, wait_until

pytestmark = pytest.mark.needs_api

COLLECTION = f"e2e-{uuid.uuid4().hex[:8]}"

# Short texts, and questions that share no content word with the one that answers.
HANDBOOK = """\
The observatory's opening hours
The dome is open to guests each Friday after sunset, unless clouds cover the sky. Groups of more than twelve write to the
secretary beforehand.

Beekeeping on the roof
Two hives stand above the library. Whoever is allergic to stings keeps away from the terrace between May and August; the
harvest is sold in the canteen for the benefit of the apprentices.

Lost property
Umbrellas, scarves and wallets that nobody claims are kept by the porter for six weeks, then given to charity.

Noise
After ten in the evening instruments are played only in the cellar, whose walls are padded.

Fire
If the siren sounds, everybody leaves by the nearest stairs and gathers under the linden tree. The lifts stand still.
"""
QUESTIONS = [
    ("When can tourists look through the telescope?", "open to guests each Friday"),
    ("Who sells honey from insects?", "Two hives stand above"),
    ("Somebody found my purse, where do I pick it up?", "Umbrellas, scarves and wallets"),
    ("Where may I practise the violin at night?", "instruments are played only in the cellar"),
    ("emergency evacuation meeting point", "gathers under the linden tree"),
]


def real_texts():
    """{title: (text, question, words of the passage that answers)}: what is long and real on this machine."""
    licences = Path("/usr/share/common-licenses")
    python = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    found = {}
    if (licences / "GPL-3").exists():
        found["GPL-3"] = ((licences / "GPL-3").read_text(), "Who pays if the software is broken and must be fixed?",
                          "cost of all necessary servicing")
        found["Apache-2.0"] = ((licences / "Apache-2.0").read_text(), "May I print their brand on my own products?",
                               "does not grant permission to use the trade names")
    elif python.exists():
        found["Python"] = (python.read_text(), "Is there a guarantee that the software works?", "AS IS")
    assert found, "no licence text on this machine"
    return found


def squeezed(text):
    return " ".join(text.split()).lower()


def add_document(http, text, **fields):
    answer = http.post("/v1/documents", json={"text": text, "collection": COLLECTION, **fields})
    assert answer.status_code == 202, f"{answer.status_code}: {answer.text}"
    return answer


def ready(http, document_id, seconds=300):
    def done():
        found = http.get(f"/v1/documents/{document_id}").json()
        assert found["state"] in ("queued", "processing", "ready"), found
        return found if found["state"] == "ready" else None
    return wait_until(done, lambda: f"ready: {http.get(f'/v1/documents/{document_id}').text}", seconds)


def search(http, query, **fields):
    answer = http.post("/v1/search", json={"query": query, "collection": COLLECTION, **fields})
    assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
    return answer.json()["hits"]


@pytest.fixture(scope="module")
def loaded(http):
    """{title: document}: everything is in and ready."""
    texts = {title: text for title, (text, _, _) in real_texts().items()}
    texts["README"] = (CHECKOUT / "README.md").read_text()
    texts["handbook"] = HANDBOOK
    ids = {title: add_document(http, text, title=title, metadata={"source": title}).json()["id"]
           for title, text in texts.items()}
    return {title: ready(http, document_id) for title, document_id in ids.items()}


def test_accepted(http):
    answer = add_document(http, "A short note on tides.", title="tides", collection=COLLECTION + "-short")
    found = answer.json()
    assert found["state"] == "queued"
    uuid.UUID(found["id"]), uuid.UUID(found["task_id"])
    assert http.get(httpx.URL(answer.headers["Location"]).path).json()["id"] == found["id"]
    assert ready(http, found["id"], 60)["chunks"] == 1


def test_long_texts_are_ready(http, loaded):
    for title, document in loaded.items():
        assert document["title"] == title and document["collection"] == COLLECTION
        assert document["metadata"] == {"source": title} and document["error"] is None
        assert document["chunks_done"] == document["chunks"] >= 1
        assert document["created_at"] <= document["updated_at"]
    longest = max(loaded, key=lambda title: loaded[title]["chunks"])
    assert loaded[longest]["chunks"] >= 10


def test_listed_by_pages(http, loaded):
    seen, cursor = [], None
    while True:
        query = {"limit": 2, "collection": COLLECTION, "state": "ready", **({"cursor": cursor} if cursor else {})}
        answer = http.get("/v1/documents", params=query).json()
        assert len(answer["items"]) <= 2
        seen += [item["id"] for item in answer["items"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(document["id"] for document in loaded.values())


@pytest.mark.parametrize("question, passage", QUESTIONS, ids=[passage.split()[0] for _, passage in QUESTIONS])
def test_found_by_meaning(http, loaded, question, passage):
    hits = search(http, question, top_k=3)
    assert len(hits) == 3
    assert any(squeezed(passage) in squeezed(hit["text"]) for hit in hits), [hit["text"][:80] for hit in hits]


def test_found_by_meaning_in_long_texts(http, loaded):
    for title, (_, question, passage) in real_texts().items():
        hits = search(http, question, top_k=5)
        assert any(squeezed(passage) in squeezed(hit["text"]) for hit in hits), (title, [hit["text"][:80] for hit in hits])


@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
def test_modes(http, loaded, mode):
    hits = search(http, "umbrellas and scarves", mode=mode)
    assert "umbrellas" in hits[0]["text"].lower(), hits[:2]


def test_hits(http, loaded):
    hits = search(http, "patents of contributors", top_k=5)
    titles = {document["id"]: title for title, document in loaded.items()}
    assert len(hits) == 5 and len({hit["chunk_id"] for hit in hits}) == 5
    for hit in hits:
        assert hit["title"] == titles[hit["document_id"]] == hit["metadata"]["source"]
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_filter(http, loaded):
    hits = search(http, "permission to copy", filter={"source": "handbook"})
    assert hits and {hit["title"] for hit in hits} == {"handbook"}
    assert search(http, "permission to copy", filter={"source": "nothing"}) == []


def test_upload(http):
    answer = http.post("/v1/documents", files={"file": ("handbook.txt", HANDBOOK.encode(), "text/plain")},
                       data={"title": "uploaded", "collection": COLLECTION + "-upload"})
    assert answer.status_code == 202, answer.text
    document = ready(http, answer.json()["id"], 60)
    assert (document["title"], document["collection"]) == ("uploaded", COLLECTION + "-upload")
    assert search(http, "allergy", collection=COLLECTION + "-upload")


def test_deleted_document_is_gone_from_search(http):
    place = COLLECTION + "-gone"
    document_id = add_document(http, "Axolotls regrow their limbs.", collection=place).json()["id"]
    ready(http, document_id, 60)
    assert search(http, "salamander regeneration", collection=place)
    assert http.delete(f"/v1/documents/{document_id}").status_code == 204
    assert search(http, "salamander regeneration", collection=place) == []
    for answer in (http.get(f"/v1/documents/{document_id}"), http.delete(f"/v1/documents/{document_id}")):
        assert answer.status_code == 404


def test_event_ingests_and_succeeds(http, client):
    place = COLLECTION + "-event"
    answer = http.post("/v1/events", json={"type": "document.ingest", "data": {
        "text": "Volcanoes eject ash that cools the climate for years. Krakatoa dimmed the sun in 1883.",
        "title": "volcano", "collection": place, "metadata": {"kind": "geology"}}})
    assert answer.status_code == 202, answer.text
    found = answer.json()
    assert found["state"] == "queued"
    path = httpx.URL(answer.headers["Location"]).path

    def done():
        event = http.get(path).json()
        assert event["state"] in ("queued", "running", "succeeded"), event
        return event if event["state"] == "succeeded" else None
    event = wait_until(done, lambda: f"the event succeeds: {http.get(path).text}", 120)
    assert (event["id"], event["type"], event["task_id"]) == (found["id"], "document.ingest", found["task_id"])
    assert event["data"]["title"] == "volcano" and event["error"] is None
    document = ready(http, event["output"]["document_id"], 60)
    assert document["metadata"] == {"kind": "geology"}
    assert "Krakatoa" in search(http, "eruptions make the weather colder", collection=place)[0]["text"]
    # Its task is an ordinary Celery task.
    result = client.result(found["task_id"])
    result.get(timeout=SOON)
    assert result.state == "SUCCESS"


def test_application_task_by_the_python_client(http, client):
    place = COLLECTION + "-again"
    document_id = add_document(http, "The violin has four strings tuned in fifths.", collection=place).json()["id"]
    ready(http, document_id, 60)
    client.send("documents.ingest", kwargs={"document_id": document_id}).get(timeout=SOON)
    assert ready(http, document_id, 60)["chunks"] == 1
    assert len(search(http, "bowed instrument", collection=place)) == 1, "ingested twice, stored once"


def test_a_document_that_comes_again_replaces_its_passages_at_once(http):
    """While the new content is worked on the old one is found; then only the new one is."""
    place = COLLECTION + "-replaced"
    text = "\n\n".join(f"Herons stand in pond number {n} and wait for frogs." for n in range(60))
    document_id = add_document(http, "Herons stand in the reeds.", collection=place).json()["id"]
    ready(http, document_id, 60)
    answer = http.put(f"/v1/documents/{document_id}", json={"text": text.replace("Herons", "Storks"), "collection": place})
    assert (answer.status_code, answer.json()["id"]) == (202, document_id), answer.text
    seen = set()

    def replaced():
        birds = {hit["text"].split()[0] for hit in search(http, "birds in the water", collection=place, mode="vector")}
        seen.add(frozenset(birds))
        return birds == {"Storks"}
    wait_until(replaced, lambda: f"the new passages are found: {seen}", 120)
    assert seen <= {frozenset({"Herons"}), frozenset({"Storks"})}, f"both or none were found: {seen}"
    document = ready(http, document_id, 60)
    assert document["revision"] == 2 and document["chunks"] > 1


def test_a_document_is_followed_as_a_stream(http):
    text = "\n\n".join(f"Paragraph {n} tells of the tides, the moon and the sun in many words." * 4 for n in range(80))
    document_id = add_document(http, text, collection=COLLECTION + "-stream").json()["id"]
    events, name = [], None
    with http.stream("GET", f"/v1/documents/{document_id}/events", timeout=120) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("event:"):
                name = line[6:].strip()
            elif line.startswith("data:"):
                events.append((name, json.loads(line[5:])))
    assert [events[-1][0], events[-1][1]["state"]] == ["state", "ready"], events[-1]
    done = [document["chunks_done"] for _, document in events]
    assert done == sorted(done) and any(kind == "progress" for kind, _ in events), done


def test_snippets_mark_the_words(http, loaded):
    hit = search(http, "umbrellas and scarves", mode="keyword")[0]
    assert "<mark>Umbrellas</mark>" in hit["snippet"] and "<mark>scarves</mark>" in hit["snippet"], hit["snippet"]


def test_re_ranking_puts_the_passage_that_answers_first(http, loaded):
    for question, passage in QUESTIONS:
        hits = search(http, question, top_k=3, rerank=True)
        assert any(squeezed(passage) in squeezed(hit["text"]) for hit in hits), (question, hits)
        scores = [hit["score"] for hit in hits]
        assert scores == sorted(scores, reverse=True)


def test_the_words_of_a_german_document_have_german_forms(http):
    place = COLLECTION + "-german"
    document_id = add_document(http, "Die alten Häuser am Fluss stehen leer.", collection=place, language="german").json()["id"]
    ready(http, document_id, 60)
    assert search(http, "Haus", collection=place, mode="keyword")
    assert search(http, "houses", collection=place, mode="keyword") == []


def test_a_file_that_is_none_becomes_a_failed_document(http):
    for name, content, kind, reason in [
        ("a.txt", b"\xff\xfe", "text/plain", "UTF-8"), ("a.pdf", b"no PDF", "application/pdf", "no PDF"),
        ("a.txt", b"", "text/plain", "no text"),
    ]:
        answer = http.post("/v1/documents", files={"file": (name, content, kind)}, data={"collection": COLLECTION + "-bad"})
        assert answer.status_code == 202, answer.text
        path = httpx.URL(answer.headers["Location"]).path
        found = wait_until(lambda: (d := http.get(path).json())["state"] == "failed" and d, "it fails", 60)
        assert reason in found["error"], found
