// The list of messages and pushes: one entry each, from any sender.
//
// Two streams arrive here and know nothing of each other: the answers on the
// WebSocket, and the stages of every message of every client on /journey. What
// joins them is the message_id, <terminator>.<connection>.<sequence>: our n-th message
// has the sequence n, and which connection is ours shows at our first message.

import { byId, duration, element, pretty, say } from "./dom.js";
import { SENT, drawTrack, hasArrived, inside, note, waits } from "./journey.js";

const MOST_ENTRIES = 100;
const MOST_STRANGERS = 10_000;

// What is shown before there is a message: the way that it will take.
const NOBODYS = { path: "socket", stages: new Map() };

const entries = [];
const byMessageId = new Map();
const strangers = new Set();
let selected = null;
let following = true;
let numbered = 0;
let ours = () => null;

export const nextNumber = () => numbered + 1;

// The program that holds our connection tells which it is.
export const setConnection = (getter) => { ours = getter; };

export function addEntry(entry) {
  numbered += 1;
  Object.assign(entry, { number: numbered, stages: entry.stages ?? new Map(), row: makeRow() });
  entry.row.button.addEventListener("click", () => select(entry, entry !== entries[0]));
  if (entry.message_id) byMessageId.set(entry.message_id, entry);
  entries.unshift(entry);
  byId("list").prepend(entry.row.item);
  while (entries.length > MOST_ENTRIES) forget(entries.pop());
  byId("clear").hidden = false;
  // What was not asked for does not hide a message that is in flight, or held.
  const isAside = entry.path === "server" && selected !== null && !outcome(selected).done;
  if (selected === null || (following && !isAside)) select(entry, false);
  else draw(entry);
  return entry;
}

// The entry of this journey, made if need be.
export function ensureEntry(message_id, entry) {
  return byMessageId.get(message_id) ?? addEntry({ ...entry, message_id });
}

function forget(entry) {
  entry.row.item.remove();
  if (entry.message_id) byMessageId.delete(entry.message_id);
  if (selected === entry) select(entries[0] ?? null, false);
}

export function clear() {
  while (entries.length) forget(entries.pop());
  byId("clear").hidden = true;
  byId("last").hidden = true;
}

// A person who looks at an older message is not dragged away from it by a newer one.
function select(entry, stay) {
  const before = selected;
  selected = entry;
  following = !stay;
  for (const one of [before, entry]) if (one) one.row.button.setAttribute("aria-current", String(one === entry));
  byId("track").classList.toggle("fresh", entry !== null && !outcome(entry).done);
  drawSelected();
}

// What has waited, and comes through at last, is what a person waits to see: unless they look at something older.
export function follow(entry) {
  if (following && entries.includes(entry)) select(entry, false);
}

function outcome(entry) {
  const { answer, told } = entry;
  if (entry.path === "push") return pushed(entry, told);
  if (answer?.error) return { text: answer.error.code, kind: "bad", done: true };
  if (answer) return { text: answer.type, kind: entry.path === "server" && answer.type === "auth.required" ? "wait" : "good", done: true };
  if (entry.failed) return { text: entry.failed, kind: "bad", done: true };
  if (waits(entry)) return { text: "held", kind: "wait" };
  if (entry.path === "other") return hasArrived(entry) ? { text: "answered", kind: "", done: true } : { text: "on its way", kind: "wait" };
  return { text: "on its way", kind: "wait" };
}

function pushed(entry, told) {
  if (hasArrived(entry)) return { text: "arrived", kind: "good", done: true };
  if (entry.stages.has("worker given_up")) return { text: "dropped", kind: "bad", done: true };
  if (told?.error) return { text: told.error.code, kind: "bad", done: true };
  if (told?.outcome === "no_recipient") return { text: "no recipient", kind: "bad", done: true };
  if (waits(entry) || told?.outcome === "held") return { text: "held", kind: "wait" };
  if (told?.outcome === "delivered") return { text: `delivered to ${told.connections}`, kind: "good", done: true };
  return { text: "on its way", kind: "wait" };
}

// ---- Stages as they happen.

export function onStage(stage) {
  const entry = byMessageId.get(stage.message_id) ?? welcome(stage);
  if (!entry) return;
  note(entry, stage);
  draw(entry);
}

// The entry of something that is heard of for the first time.
function welcome(stage) {
  const at = `${stage.by} ${stage.stage}`;
  if (at === SENT.queue) return ensureEntry(stage.message_id, { path: "queue", what: "injected", how: "by the queue" });
  if (stage.message_id.startsWith("p:")) return at === "worker push" || at === SENT.push ? ensureEntry(stage.message_id, { path: "push", what: "pushed", how: "by the queue" }) : null;
  return ofClient(stage, at === SENT.socket);
}

function ofClient(stage, first) {
  const cut = stage.message_id.lastIndexOf(".");
  if (cut < 0) return null;
  const [name, sequence] = [stage.message_id.slice(0, cut), Number(stage.message_id.slice(cut + 1))];
  const connection = ours();
  if (first && connection && connection.name === null && !strangers.has(name)) {
    const mine = connection.sent.get(sequence);
    if (mine && !mine.message_id && String(mine.bytes) === stage.fields.bytes) connection.name = name;
  }
  let entry = null;
  if (connection?.name === name) {
    entry = connection.sent.get(sequence) ?? null;
    if (entry) {
      entry.message_id = stage.message_id;
      byMessageId.set(stage.message_id, entry);
    }
  } else if (first) {
    if (strangers.size >= MOST_STRANGERS) strangers.clear();
    strangers.add(name);
    entry = ensureEntry(stage.message_id, { path: "other", what: "another client's", how: `${stage.fields.bytes} bytes` });
  }
  return entry;
}

// ---- Drawing.

function makeRow() {
  const item = element("li");
  const button = element("button");
  button.type = "button";
  const row = { item, button };
  for (const part of ["number", "what", "how", "tag", "took"]) {
    row[part] = element("span", part);
    button.append(row[part]);
  }
  item.append(button);
  return row;
}

// Drawn once a frame at most, however many stages arrive.
const stale = new Set();
export function draw(entry) {
  if (stale.size === 0) requestAnimationFrame(drawStale);
  stale.add(entry);
}

function drawStale() {
  for (const entry of stale) drawRow(entry);
  if (stale.has(selected)) drawSelected();
  stale.clear();
}

function drawRow(entry) {
  const { text, kind } = outcome(entry);
  entry.row.number.textContent = `#${entry.number}`;
  say(entry.row.what, entry.what);
  say(entry.row.how, entry.how);
  say(entry.row.tag, text);
  entry.row.tag.dataset.kind = kind;
  entry.row.took.textContent = inside(entry);
  if (entry !== entries[0]) return;
  byId("last").hidden = false;
  say(byId("last-outcome"), `#${entry.number}: ${text}.`);
}

export function drawSelected() {
  const entry = selected;
  byId("journey-hint").hidden = entry !== null;
  byId("track").hidden = entry?.path === "server";
  byId("texts").hidden = entry === null;
  byId("outcome").replaceChildren();
  drawTrack(entry ?? NOBODYS);
  if (!entry) return;
  drawRow(entry);
  const { text, kind } = outcome(entry);
  const tag = element("span", "tag", `#${entry.number} ${text}`);
  tag.dataset.kind = kind;
  byId("outcome").append(tag);
  byId("sent").textContent = entry.sent ? pretty(entry.sent) : "Only the client that sent it knows.";
  byId("sent").parentElement.hidden = entry.path === "server";
  byId("answer").textContent = answerText(entry);
  byId("answer-title").textContent = answerTitle(entry);
}

function answerTitle(entry) {
  const title = { push: "Outcome", server: "Received" }[entry.path] ?? "Answer";
  return entry.took_ms === undefined ? title : `${title}, after ${duration(entry.took_ms * 1000)} in this browser`;
}

function answerText(entry) {
  if (entry.path === "push") return entry.told ? pretty(entry.told) : "Only the backend that pushed is told.";
  if (entry.answer) return pretty(entry.answer);
  if (entry.failed) return "The connection closed before an answer came.";
  if (entry.path === "other") return "Only the client that asked gets it.";
  if (waits(entry)) return "It waits for a fresh token.";
  return "…";
}
