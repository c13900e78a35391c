"""The tour of the README by the generated client: mypy checks it against the client's types, then it runs."""
import os
import time
from collections.abc import Callable
from typing import TypeVar

from petiole_client import AuthenticatedClient
from petiole_client.api.answers import create_answer
from petiole_client.api.documents import create_document, delete_document, get_document
from petiole_client.api.events import create_event, get_event
from petiole_client.api.search import search
from petiole_client.api.tasks import get_task, send_task
from petiole_client.api.workflows import send_workflow
from petiole_client.models import (
    Accepted, AnswerRequest, ChainStep, Document, DocumentRequest, DocumentRequestMetadataType0, EventWithSteps, Hits,
    MetadataFilter, Problem, SearchRequest, SentTask, Task, TaskRequest, TextExtractEventRequest,
)

T = TypeVar("T")
client = AuthenticatedClient(
    base_url=os.environ.get("API_URL", "http://localhost:8080"), token=os.environ.get("API_KEY") or "none",
)
COLLECTION = f"tour-py-{int(time.time() * 1000)}"


def until(what: str, look: Callable[[], T | None]) -> T:
    end = time.time() + 120
    while (found := look()) is None:
        assert time.time() < end, f"not in time: {what}"
        time.sleep(0.3)
    return found


# a document, followed until it can be found
metadata = DocumentRequestMetadataType0.from_dict({"year": 1804})
created = create_document.sync(client=client, body=DocumentRequest(
    text="The Jacquard loom weaves flowers and leaves.", title="looms", collection=COLLECTION, metadata=metadata))
assert isinstance(created, Accepted), created
document_id = created.id


def ready() -> Document | None:
    found = get_document.sync(client=client, id=document_id)
    assert isinstance(found, Document) and found.state != "failed", found
    return found if found.state == "ready" else None


until("the document", ready)

# search, with a filter
hits = search.sync(client=client, body=SearchRequest(
    query="machines for textiles", collection=COLLECTION, top_k=3,
    filter_=MetadataFilter.from_dict({"year": {"$lt": 1900}})))
assert isinstance(hits, Hits) and hits.hits[0].document_id == document_id, hits
assert "loom" in hits.hits[0].snippet


def result(task_id: str) -> object:
    done = get_task.sync(client=client, id=task_id, wait=60.0)
    assert isinstance(done, Task) and done.state == "SUCCESS", done
    return done.result


# an answer, as a task that is waited for
asked = create_answer.sync(client=client, body=AnswerRequest(question="What does the loom weave?", collection=COLLECTION))
assert isinstance(asked, SentTask), asked
assert "flowers" in str(result(asked.task_id))

# an event
event = create_event.sync(client=client, body=TextExtractEventRequest.from_dict(
    {"type": "text.extract", "data": {"text": "Pay 1,250 EUR by 12 March 2030.", "kinds": ["amount"]}}))
assert isinstance(event, Accepted), event
event_id = event.id


def over() -> EventWithSteps | None:
    found = get_event.sync(client=client, id=event_id)
    assert isinstance(found, EventWithSteps) and found.state != "failed", found
    return found if found.state == "succeeded" else None


until("the event", over)

# a task, a workflow
sent = send_task.sync(client=client, body=TaskRequest(task="demo.add", args=[2, 3]))
assert isinstance(sent, SentTask) and result(sent.task_id) == 5
flow = send_workflow.sync(client=client, body=ChainStep.from_dict(
    {"chain": [{"task": "demo.add", "args": [1, 1]}, {"task": "demo.add", "args": [10]}]}))
assert flow is not None and not isinstance(flow, Problem) and result(flow.task_id) == 12

# a mistake is told as a problem
wrong = search.sync(client=client, body=SearchRequest(query=""))
assert isinstance(wrong, Problem) and wrong.status == 422, wrong

assert delete_document.sync_detailed(client=client, id=document_id).status_code == 204
print("the Python client did the tour")
