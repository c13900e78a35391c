// The tour of the README by a client whose types come from the description: what does not fit does not compile.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const baseUrl = process.env.API_URL ?? "http://localhost:8080";
const key = process.env.API_KEY;
const api = createClient<paths>({ baseUrl, headers: key ? { "X-API-Key": key } : {} });
const collection = `tour-ts-${Date.now()}`;

async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const end = Date.now() + 120_000;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    assert(Date.now() < end, `not in time: ${what}`);
    await new Promise((done) => setTimeout(done, 300));
  }
}

// a document, followed until it can be found
const created = await api.POST("/v1/documents", {
  body: { text: "The Jacquard loom weaves flowers and leaves.", title: "looms", collection, metadata: { year: 1804 } },
});
assert.equal(created.response.status, 202);
const id = created.data!.id;
await until("the document", async () => {
  const { data } = await api.GET("/v1/documents/{id}", { params: { path: { id } } });
  assert.notEqual(data!.state, "failed");
  return data!.state === "ready" ? data : undefined;
});

// search, with a filter
const found = await api.POST("/v1/search", {
  body: { query: "machines for textiles", collection, filter: { year: { $lt: 1900 } }, top_k: 3 },
});
assert.equal(found.data!.hits[0]!.document_id, id);
assert.match(found.data!.hits[0]!.snippet, /loom/);

// an answer, as a task that is waited for
const asked = await api.POST("/v1/answers", { body: { question: "What does the loom weave?", collection } });
assert(asked.data && "task_id" in asked.data);
const answered = await api.GET("/v1/tasks/{id}", {
  params: { path: { id: asked.data.task_id }, query: { wait: 60 } },
});
assert.equal(answered.data!.state, "SUCCESS");

// an event
const event = await api.POST("/v1/events", {
  body: { type: "text.extract", data: { text: "Pay 1,250 EUR by 12 March 2030.", kinds: ["amount"] } },
});
await until("the event", async () => {
  const { data } = await api.GET("/v1/events/{id}", { params: { path: { id: event.data!.id } } });
  return data!.state === "succeeded" ? data : undefined;
});

// a task, a workflow
const sent = await api.POST("/v1/tasks", { body: { task: "demo.add", args: [2, 3] } });
const sum = await api.GET("/v1/tasks/{id}", { params: { path: { id: sent.data!.task_id }, query: { wait: 30 } } });
assert.equal(sum.data!.result, 5);
const flow = await api.POST("/v1/workflows", {
  body: { chain: [{ task: "demo.add", args: [1, 1] }, { task: "demo.add", args: [10] }] },
});
const last = await api.GET("/v1/tasks/{id}", { params: { path: { id: flow.data!.task_id }, query: { wait: 30 } } });
assert.equal(last.data!.result, 12);

// a mistake is told as a problem
const wrong = await api.POST("/v1/search", { body: { query: "" } });
assert.equal(wrong.error!.status, 422);
assert.equal(wrong.error!.errors![0]!.field, "query");

const gone = await api.DELETE("/v1/documents/{id}", { params: { path: { id } } });
assert.equal(gone.response.status, 204);
console.log("the TypeScript client did the tour");
