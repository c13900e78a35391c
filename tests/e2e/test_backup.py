"""A backup of a stack that runs, and the way back, without containers (tests/docker has it with them)."""
import os
import uuid

import httpx
import pytest

from waiting import SOON, wait_until

pytestmark = [pytest.mark.needs_api, pytest.mark.needs_scripts]


def test_what_was_saved_comes_back(stack, client, http, tmp_path):
    saved, later = (f"{name}-{uuid.uuid4().hex}" for name in ("saved", "later"))
    kept = http.post("/v1/documents", json={"title": saved, "text": "Petioles carry water into the blade of the leaf."}).json()["id"]
    wait_until(lambda: http.get(f"/v1/documents/{kept}").json()["state"] == "ready", "the document is ready", 60)
    result = client.send("demo.add", 20, 22)
    assert result.get(timeout=SOON) == 42
    queue = f"e2e-backup-{uuid.uuid4().hex[:8]}"
    client.send("demo.add", 1, 2, queue=queue)
    folder = stack.script("backup.sh", "--to", str(tmp_path)).strip().splitlines()[-1]
    assert sorted(os.listdir(folder)) == ["SHA256SUMS", "postgres.dump", "redis.rdb"]

    assert http.delete(f"/v1/documents/{kept}").status_code in (200, 204)
    other = http.post("/v1/documents", json={"title": later, "text": "This one came after the backup."}).json()["id"]
    client.backend.delete(f"celery-task-meta-{result.id}")
    with pytest.raises(AssertionError, match="nothing was changed"):
        stack.script("restore.sh", folder)
    assert http.get(f"/v1/documents/{other}").status_code == 200

    stack.script("restore.sh", folder, "--yes", seconds=600)
    client.reconnect()
    with httpx.Client(base_url=str(http.base_url), headers=http.headers, timeout=SOON) as again:
        assert again.get(f"/v1/documents/{kept}").json()["state"] == "ready"
        assert again.get(f"/v1/documents/{other}").status_code == 404
        hits = again.post("/v1/search", json={"query": "water in leaves"}).json()["hits"]
        assert any(hit["document_id"] == kept for hit in hits)
        # It works: the worker is there, and what it stores survives the next start of Redis.
        task = again.post("/v1/tasks", json={"task": "demo.add", "args": [3, 4]}).json()["task_id"]
        assert again.get(f"/v1/tasks/{task}?wait=20").json()["result"] == 7
    assert client.app.AsyncResult(result.id).result == 42
    assert client.queue_length(queue) == 1
    assert "healthy" in stack.script("status.sh")

    path = os.path.join(folder, "redis.rdb")
    with open(path, "wb") as file:
        file.write(b"REDIS, but not quite")
    with pytest.raises(AssertionError, match="damaged"):
        stack.script("restore.sh", folder, "--yes")
