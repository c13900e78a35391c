"use strict";
const $ = (id) => document.getElementById(id);
const make = (tag, text, attributes = {}) => {
  const element = Object.assign(document.createElement(tag), attributes);
  if (text !== undefined && text !== null) element.textContent = text;
  return element;
};

// --- the API ---------------------------------------------------------------------------------------------------------

const headers = (more = {}) => {
  const key = sessionStorage.getItem("key");
  return key ? { Authorization: `Bearer ${key}`, ...more } : more;
};

/** Asks the API; a refusal is thrown as the problem's detail. */
async function call(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers(options.headers) });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    if (response.status === 401) { $("key-form").hidden = false; $("key").focus(); }
    throw new Error(problem.detail || `${response.status} ${response.statusText}`);
  }
  return response;
}
const post = (path, body, more = {}) =>
  call(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...more } });

/** The server-sent events of a response, as [name, data]. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      let name = "message";
      const data = [];
      for (const line of block.split(/\r?\n/)) {
        if (line.startsWith("event:")) name = line.slice(6).trim();
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
      }
      if (data.length) yield [name, JSON.parse(data.join("\n"))];
    }
  }
}

/** Runs a form's work, its buttons disabled meanwhile, and shows what goes wrong. */
function working(form, status, work) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const buttons = form.querySelectorAll("button");
    const focused = document.activeElement;
    buttons.forEach((button) => { button.disabled = true; });
    say(status, "");
    try { await work(); } catch (error) { say(status, error.message, true); }
    buttons.forEach((button) => { button.disabled = false; });
    if (form.contains(focused)) focused.focus();
  });
}
function say(element, text, wrong = false) {
  element.hidden = false;
  element.textContent = text;
  element.classList.toggle("error", wrong);
}
// Enter sends, as in a one-line field; with Shift it is a new line.
for (const area of document.querySelectorAll("textarea")) {
  area.addEventListener("keydown", (event) => {
    const sends = event.key === "Enter" && !event.isComposing && (area.id === "question" ? !event.shiftKey : event.ctrlKey);
    if (sends) { event.preventDefault(); area.form.requestSubmit(); }
  });
}

// --- ask -------------------------------------------------------------------------------------------------------------

let conversation = null;
working($("ask-form"), $("answer"), async () => {
  const answer = $("answer");
  $("citations").replaceChildren();
  if (!$("talk").checked || !conversation) conversation = newId();
  const body = { question: $("question").value, conversation_id: conversation };
  if ($("ask-collection").value) body.collection = $("ask-collection").value;
  answer.setAttribute("aria-busy", "true");
  try {
    const response = await post("/v1/answers", body, { Accept: "text/event-stream" });
    const task = (response.headers.get("Location") || "").split("/").pop();
    if (task) watch(task, "answers.generate");
    for await (const [name, data] of events(response)) {
      if (name === "token") answer.append(data.text);
      if (name === "error") throw new Error(data.detail);
      if (name === "done") {
        answer.textContent = data.answer;
        $("citations").replaceChildren(...data.citations.map((citation) => {
          const item = make("li", null, { value: citation.number });
          item.append(make("b", citation.title || "untitled"), citation.text);
          return item;
        }));
        answer.append(make("small", `\n\n${data.model}${data.truncated ? ", cut off" : ""}`));
      }
    }
  } finally {
    answer.setAttribute("aria-busy", "false");
  }
});
function newId() {
  // crypto.randomUUID is there on https and localhost only
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

// --- search ----------------------------------------------------------------------------------------------------------

working($("search-form"), $("search-status"), async () => {
  const body = { query: $("query").value, mode: $("mode").value, top_k: 10 };
  if ($("search-collection").value) body.collection = $("search-collection").value;
  const { hits } = await (await post("/v1/search", body)).json();
  $("hits").replaceChildren(...hits.map((hit) => {
    const item = make("li");
    item.append(make("b", hit.title || "untitled"), highlighted(hit), " ", make("small", hit.score.toFixed(3)));
    return item;
  }));
  say($("search-status"), hits.length === 1 ? "1 hit" : `${hits.length} hits`);
});
/** The snippet of a hit, which is HTML: its marked words as marks. Everything else is text. */
function highlighted(hit) {
  const span = make("span");
  const { body } = new DOMParser().parseFromString(hit.snippet, "text/html");
  for (const { nodeName, textContent } of body.childNodes) {
    span.append(nodeName === "MARK" ? make("mark", textContent) : textContent);
  }
  return span;
}

// --- documents -------------------------------------------------------------------------------------------------------

working($("document-form"), $("document-status"), async () => {
  const files = [...$("file").files];
  const text = $("text").value;
  if (!files.length && !text.trim()) throw new Error("choose a file or write a text");
  const collection = $("collection").value;
  const title = $("title").value;
  const accepted = [];
  for (const file of files) {
    const form = new FormData();
    form.append("file", file);
    form.append("collection", collection);
    if (title && files.length === 1) form.append("title", title);
    accepted.push(await (await call("/v1/documents", { method: "POST", body: form })).json());
  }
  if (text.trim()) {
    const body = { text, collection };
    if (title) body.title = title;
    accepted.push(await (await post("/v1/documents", body)).json());
  }
  for (const document of accepted) watch(document.task_id, "documents.ingest");
  $("file").value = $("text").value = $("title").value = "";
  say($("document-status"), accepted.length === 1 ? "handed in" : `${accepted.length} documents handed in`);
  await list();
});

let next = null;
let timer = null;
async function list(cursor = null) {
  clearTimeout(timer);
  const page = await (await call(`/v1/documents?limit=20${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`)).json();
  next = page.next_cursor;
  $("more").hidden = !next;
  const rows = page.items.map(row);
  if (cursor) $("documents").append(...rows); else $("documents").replaceChildren(...rows);
  for (const { collection } of page.items) {
    if (![...$("collections").options].some((option) => option.value === collection)) {
      $("collections").append(make("option", null, { value: collection }));
    }
  }
  follow();
}
function row(document) {
  const line = make("tr");
  line.dataset.id = document.id;
  line.dataset.state = document.state;
  const remove = make("button", "Delete", { type: "button" });
  remove.setAttribute("aria-label", `Delete ${document.title || "untitled"}`);
  remove.addEventListener("click", async () => {
    try {
      await call(`/v1/documents/${document.id}`, { method: "DELETE" });
      const neighbour = line.nextElementSibling || line.previousElementSibling;
      line.remove();
      ((neighbour && neighbour.querySelector("button")) || $("collection")).focus();
      say($("document-status"), "deleted");
    } catch (error) { say($("document-status"), error.message, true); }
  });
  line.append(make("td", document.title || "untitled"), make("td", document.collection), make("td"), make("td"), make("td"));
  line.lastChild.append(remove);
  update(line, document);
  return line;
}
function update(line, document) {
  line.dataset.state = document.state;
  const [, , state, passages] = line.children;
  state.textContent = document.error ? `${document.state}: ${document.error}` : document.state;
  state.className = document.state;
  if (document.state === "processing" && document.chunks) {
    const bar = make("progress", null, { max: document.chunks, value: document.chunks_done });
    bar.setAttribute("aria-label", "passages done");
    passages.replaceChildren(bar);
  } else {
    passages.textContent = document.chunks || "";
  }
}
/** Looks after the documents that are not done yet. */
function follow() {
  clearTimeout(timer);
  const lines = [...$("documents").children].filter((line) => ["queued", "processing"].includes(line.dataset.state));
  if (!lines.length) return;
  timer = setTimeout(async () => {
    await Promise.all(lines.slice(0, 20).map(async (line) => {
      try { update(line, await (await call(`/v1/documents/${line.dataset.id}`)).json()); } catch { /* asked again */ }
    }));
    follow();
  }, 700);
}
$("more").addEventListener("click", () => list(next).catch((error) => say($("document-status"), error.message, true)));

// --- tasks -----------------------------------------------------------------------------------------------------------

const FINAL = ["SUCCESS", "FAILURE", "REVOKED", "REJECTED", "IGNORED"];
/** Shows a task and follows it until its end. */
async function watch(id, name) {
  const line = make("tr");
  line.append(make("td", name || id, { title: id }), make("td", "PENDING"), make("td"));
  $("tasks").prepend(line);
  while ($("tasks").children.length > 30) $("tasks").lastChild.remove();
  const [title, state, outcome] = line.children;
  const show = (task) => {
    title.textContent = task.name || name || id;
    state.textContent = task.state;
    state.className = task.error ? "failed" : "";
    const told = task.error ? `${task.error.type}: ${task.error.message}` : task.result;
    if (told !== null && told !== undefined) {
      outcome.textContent = (typeof told === "string" ? told : JSON.stringify(told)).slice(0, 300);
    }
    return FINAL.includes(task.state);
  };
  try {
    // a stream may break: then the task is asked for, and followed again
    for (let tries = 0; tries < 20; tries += 1) {
      const response = await call(`/v1/tasks/${encodeURIComponent(id)}/events`, { headers: { Accept: "text/event-stream" } });
      for await (const [event, data] of events(response)) {
        if (event === "progress") {
          state.textContent = "PROGRESS";
          outcome.textContent = JSON.stringify(data);
        } else if (show(data)) {
          return;
        }
      }
    }
  } catch (error) {
    state.textContent = error.message;
    state.className = "failed";
  }
}
working($("task-form"), $("workers"), async () => {
  watch($("task").value.trim());
  $("task").value = "";
});
$("demo").addEventListener("click", async () => {
  try {
    const sent = await (await post("/v1/tasks", { task: "demo.progress", args: [10, 5] })).json();
    watch(sent.task_id, "demo.progress");
  } catch (error) { say($("workers"), error.message, true); }
});

// --- begin -----------------------------------------------------------------------------------------------------------

async function begin() {
  const { flowerUrl, flowerPort } = document.body.dataset;
  if (!flowerUrl) $("flower").href = `${location.protocol}//${location.hostname}:${flowerPort}/`;
  try {
    const ready = await (await fetch("/ready")).json();
    const count = ready.checks && ready.checks.workers;
    say($("workers"), count ? `${count} worker${count === 1 ? "" : "s"} at work` : ready.detail || "not ready", !count);
  } catch (error) { say($("workers"), error.message, true); }
  try { await list(); } catch (error) { say($("document-status"), error.message, true); }
}
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value);
  say($("document-status"), "");
  begin();
});
begin();
