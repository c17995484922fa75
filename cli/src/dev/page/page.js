// The page of `countersign dev`: mint tokens, send messages, and watch each
// travel from the socket to the queue, through a worker, and back.
//
// Two streams arrive here and know nothing of each other: the answers on the
// WebSocket, and the stages of every message of every client on /journey. What
// joins them is the stamp, <terminator>.<connection>.<sequence>: our n-th message
// has the sequence n, and which connection is ours shows at our first message.

const MOST_ENTRIES = 100;
const MOST_TIMES = 1000;
const MOST_STRANGERS = 10_000;
const EXPIRED_AGO_S = 3600;

const byId = (id) => document.getElementById(id);

// What happens where. `at` names who tells of the stage and how they call it.
const SOCKET_TRACK = [
  { name: "Socket", at: "terminator forward" },
  { name: "Queue", at: "terminator queue" },
  { name: "Worker", at: "worker worker" },
  { name: "Verdict", at: "worker verdict" },
  { name: "Store", at: "worker store" },
  { name: "Handler", at: "worker handler" },
  { name: "Return", at: "terminator return" },
  { name: "Socket", at: "terminator socket" },
];
const QUEUE_TRACK = [
  { name: "Inject", at: "countersign inject" },
  { name: "Queue", at: "countersign queue" },
  { name: "Worker", at: "worker worker" },
  { name: "Verdict", at: "worker verdict" },
  { name: "Store", at: "worker store" },
  { name: "Handler", at: "worker handler" },
  { name: "Reply", at: "worker return" },
  { name: "Fetched", at: "countersign fetch" },
];

// What is shown before there is a message: the way that it will take.
const NOBODYS = { path: "socket", stages: new Map() };

let about = null;
let connection = null;
let token = null;
const entries = [];
const byStamp = new Map();
const strangers = new Set();
let selected = null;
let following = true;
let numbered = 0;

// ---- Messages: one entry each, whoever sent it.

function addEntry(entry) {
  numbered += 1;
  Object.assign(entry, { number: numbered, stages: new Map(), began_us: null, row: makeRow() });
  entry.row.button.addEventListener("click", () => select(entry, entry !== entries[0]));
  entries.unshift(entry);
  byId("list").prepend(entry.row.item);
  while (entries.length > MOST_ENTRIES) forget(entries.pop());
  byId("clear").hidden = false;
  if (following || selected === null) select(entry, false);
  else draw(entry);
  return entry;
}

function forget(entry) {
  entry.row.item.remove();
  if (entry.stamp) byStamp.delete(entry.stamp);
  if (selected === entry) select(entries[0] ?? null, false);
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

const passed = (entry, at) => entry.stages.get(at);
const track = (entry) => (entry.path === "queue" ? QUEUE_TRACK : SOCKET_TRACK);
const arrived = (entry) => entry.stages.has(track(entry).at(-1).at);

function outcome(entry) {
  const { answer } = entry;
  if (answer?.error) return { text: answer.error.code, kind: "bad", done: true };
  if (answer) return { text: answer.type, kind: "good", done: true };
  if (entry.failed) return { text: entry.failed, kind: "bad", done: true };
  if (entry.path === "other") return arrived(entry) ? { text: "answered", kind: "", done: true } : { text: "on its way", kind: "wait" };
  return { text: "on its way", kind: "wait" };
}

// ---- The journey: stages as they happen.

function onStage(stage) {
  const entry = byStamp.get(stage.stamp) ?? welcome(stage);
  if (!entry) return;
  // A message that is processed again passes a station twice; when it first did is what counts.
  const at = `${stage.by} ${stage.stage}`;
  if (!entry.stages.has(at)) entry.stages.set(at, stage);
  entry.began_us ??= stage.at_us;
  draw(entry);
}

// The entry of a message that is heard of for the first time.
function welcome(stage) {
  if (stage.by === "countersign" && stage.stage === "inject") return injected(stage.stamp);
  const cut = stage.stamp.lastIndexOf(".");
  if (cut < 0) return null;
  const [name, sequence] = [stage.stamp.slice(0, cut), Number(stage.stamp.slice(cut + 1))];
  const first = stage.by === "terminator" && stage.stage === "forward";
  if (first && connection && connection.name === null && !strangers.has(name)) {
    const mine = connection.sent.get(sequence);
    if (mine && !mine.stamp && String(mine.bytes) === stage.fields.bytes) connection.name = name;
  }
  let entry = null;
  if (connection?.name === name) {
    entry = connection.sent.get(sequence) ?? null;
  } else if (first) {
    if (strangers.size >= MOST_STRANGERS) strangers.clear();
    strangers.add(name);
    entry = addEntry({ path: "other", what: "another client's", how: `${stage.fields.bytes} bytes` });
  }
  if (entry) {
    entry.stamp = stage.stamp;
    byStamp.set(stage.stamp, entry);
  }
  return entry;
}

function injected(stamp) {
  let entry = byStamp.get(stamp);
  if (!entry) {
    entry = addEntry({ path: "queue", what: "injected", how: "by the queue", stamp });
    byStamp.set(stamp, entry);
  }
  return entry;
}

function watchJourneys() {
  const source = new EventSource("journey");
  const say = (text) => { byId("watching").textContent = text; };
  return new Promise((ready) => {
    source.addEventListener("ready", () => { say("watching"); ready(); });
    source.addEventListener("missed", (event) => say(`watching; ${event.data} stages came too fast to show`));
    source.addEventListener("message", (event) => onStage(JSON.parse(event.data)));
    source.addEventListener("error", () => say("the program cannot be reached; trying again"));
  });
}

// ---- The connection.

function connect() {
  const socket = new WebSocket(about.socket, about.subprotocol);
  const mine = { socket, name: null, sent: new Map(), ids: new Map(), count: 0, replies: 0, refused: 0, times: [], opened: false };
  connection = mine;
  showConnection("connecting", "");
  socket.addEventListener("open", () => {
    mine.opened = true;
    showConnection("connected", "open");
  });
  socket.addEventListener("message", (event) => onAnswer(mine, event.data));
  socket.addEventListener("close", (event) => onClose(mine, event));
  drawCounters();
}

function onClose(mine, { code, reason }) {
  for (const entry of mine.ids.values()) {
    entry.failed = "no answer";
    draw(entry);
  }
  mine.ids.clear();
  if (connection !== mine) return;
  drawCounters();
  const why = reason ? `${code}: ${reason}` : code;
  if (!mine.opened) showConnection("it could not be opened; is it still running?", "failed");
  else if (code === 1000 || code === 1005) showConnection("disconnected", "");
  else showConnection(`closed with ${why}`, "failed");
}

function onAnswer(mine, text) {
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    answer = { type: "not JSON", payload: text };
  }
  const entry = mine.ids.get(answer.id);
  if (!entry) {
    addEntry({ path: "server", what: "from the server", how: "unasked", answer });
    return;
  }
  mine.ids.delete(answer.id);
  entry.answer = answer;
  entry.took_ms = performance.now() - entry.sentAt;
  mine.times.push(entry.took_ms);
  if (mine.times.length > MOST_TIMES) mine.times.shift();
  if (answer.error) mine.refused += 1;
  else mine.replies += 1;
  draw(entry);
  drawCounters();
}

function showConnection(text, state) {
  byId("connection").textContent = text;
  byId("lamp").dataset.state = state;
  const open = isOpen();
  const opening = connection?.socket.readyState === WebSocket.CONNECTING;
  byId("connect").textContent = open ? "Disconnect" : "Connect";
  byId("connect").disabled = opening;
  for (const button of document.querySelectorAll("[data-send]")) button.disabled = !open;
}

const isOpen = () => connection?.socket.readyState === WebSocket.OPEN;

// ---- Tokens.

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error((await response.text()) || `status ${response.status}`);
  return response.json();
}

const mint = (subject, expires_in_s) => post("token", { subject, expires_in_s });

async function mintWanted() {
  const lifetime = Number(byId("lifetime").value);
  const asked = performance.now();
  const minted = await mint(byId("subject").value, lifetime);
  token = { ...minted, until: asked + lifetime * 1000 };
  byId("token-text").textContent = token.token;
  byId("token-claims").textContent = pretty(claims(token.token));
  byId("token-details").hidden = false;
  byId("token-life").hidden = false;
  drawToken();
}

const secondsLeft = () => (token ? Math.max(0, Math.ceil((token.until - performance.now()) / 1000)) : 0);

async function goodToken() {
  if (secondsLeft() === 0) await mintWanted();
  return token.token;
}

// A valid token but for its signature, of which one character is another. Not the last: not all of its bits count.
async function brokenToken() {
  const good = await goodToken();
  const at = good.lastIndexOf(".") + 10;
  return good.slice(0, at) + (good[at] === "A" ? "B" : "A") + good.slice(at + 1);
}

const TOKENS = {
  good: { how: () => `token of ${token.subject}`, make: goodToken },
  none: { how: () => "no token", make: async () => undefined },
  expired: { how: () => "expired token", make: async () => (await mint(byId("subject").value, -EXPIRED_AGO_S)).token },
  broken: { how: () => "broken token", make: brokenToken },
};

function claims(jwt) {
  const bytes = Uint8Array.from(atob(jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

// ---- Sending.

// The message as the person wrote it, or nothing, with the fault shown.
function written() {
  const text = byId("payload").value.trim();
  const message = { type: byId("type").value };
  try {
    if (text !== "") message.payload = JSON.parse(text);
    say("");
    return message;
  } catch (error) {
    say(`The payload is not JSON: ${error.message}`);
    byId("payload").focus();
    return null;
  }
}

const say = (fault) => { byId("payload-fault").textContent = fault; };

// What is shown of a message never holds its token.
const shown = ({ token: jwt, ...rest }) => (jwt === undefined ? rest : { ...rest, token: "…" });

async function send(kind) {
  const message = written();
  if (!message) return;
  const jwt = await TOKENS[kind].make();
  const mine = connection;
  if (!isOpen()) return;
  mine.count += 1;
  const whole = { id: String(mine.count), ...message, token: jwt };
  const text = JSON.stringify(whole);
  const bytes = new TextEncoder().encode(text).length;
  const entry = addEntry({ path: "socket", what: message.type, how: TOKENS[kind].how(), question: shown(whole), bytes });
  mine.sent.set(mine.count, entry);
  mine.sent.delete(mine.count - MOST_ENTRIES);
  mine.ids.set(whole.id, entry);
  entry.sentAt = performance.now();
  mine.socket.send(text);
  drawCounters();
}

async function inject() {
  const message = written();
  if (!message) return;
  const whole = { id: `queue-${numbered + 1}`, ...message, token: await goodToken() };
  const asked = performance.now();
  const { stamp, answer } = await post("inject", whole);
  const entry = injected(stamp);
  Object.assign(entry, { what: message.type, how: `by the queue, token of ${token.subject}`, question: shown(whole), answer });
  entry.took_ms = performance.now() - asked;
  if (!answer) entry.failed = "no answer";
  draw(entry);
}

// ---- Drawing. All text is set as text, never as markup.

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

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
function draw(entry) {
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
  entry.row.what.textContent = entry.what;
  entry.row.how.textContent = entry.how;
  entry.row.tag.textContent = text;
  entry.row.tag.dataset.kind = kind;
  entry.row.took.textContent = inside(entry);
  if (entry !== entries[0]) return;
  byId("last").hidden = false;
  byId("last-outcome").textContent = `#${entry.number}: ${text}.`;
}

// From the first stage to the last one that has come.
function inside(entry) {
  if (entry.began_us === null) return "";
  const last = passed(entry, track(entry).at(-1).at);
  return last ? ms(last.at_us - entry.began_us) : "";
}

const ms = (us) => `${(us / 1000).toFixed(2)} ms`;
const pretty = (value) => JSON.stringify(value, null, 2);

function drawSelected() {
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
  byId("sent").textContent = entry.question ? pretty(entry.question) : "Only the client that sent it knows.";
  byId("sent").parentElement.hidden = entry.path === "server";
  byId("answer").textContent = answerText(entry);
  byId("answer-title").textContent = entry.took_ms === undefined ? "Answer" : `Answer, after ${entry.took_ms.toFixed(1)} ms in this browser`;
}

function answerText(entry) {
  if (entry.answer) return pretty(entry.answer);
  if (entry.failed) return "The connection closed before an answer came.";
  if (entry.path === "other") return "Only the client that asked gets it.";
  return "…";
}

function drawTrack(entry) {
  const stations = track(entry);
  const furthest = stations.findLastIndex(({ at }) => entry.stages.has(at));
  const done = arrived(entry);
  const drawn = stations.map((station, index) => {
    const stage = passed(entry, station.at);
    const { note, refused } = remark(entry, station, stage, done);
    const state = stage ? "passed" : done ? "skipped" : "";
    const item = element("li", `station ${state} ${refused ? "refused" : ""} ${index <= furthest ? "beyond" : ""}`);
    item.append(
      element("span", "dot"),
      element("span", "name", station.name),
      element("span", "time", stage ? ms(stage.at_us - entry.began_us) : "–"),
      element("span", "note", note),
    );
    return item;
  });
  reconcile(byId("track"), drawn);
}

// Changes only what is different, so that a station that is passed already does not light up again.
function reconcile(list, drawn) {
  drawn.forEach((item, index) => {
    const present = list.children[index];
    if (!present) list.append(item);
    else if (present.className !== item.className || present.textContent !== item.textContent) present.replaceWith(item);
  });
}

const VERDICTS = { valid: "valid", expired: "expired", invalid: "not valid", none: "no token" };
const RECORDED = { Changed: "recorded", Unchanged: "unchanged", Stale: "a newer one stands" };

// What is to be said of a station beyond its time.
function remark(entry, station, stage, done) {
  const { fields } = stage ?? {};
  switch (station.at) {
    case "terminator forward":
    case "countersign inject":
      return { note: stage ? `${fields.bytes} bytes` : "" };
    case "worker verdict":
      if (!stage) return { note: done ? "not a message" : "", refused: done };
      if (fields.kind !== "valid") return { note: VERDICTS[fields.kind] ?? fields.kind, refused: true };
      return { note: fields.cached === "true" ? "valid, cached" : "valid, checked" };
    case "worker store":
      if (stage) return { note: RECORDED[fields.recorded] ?? fields.recorded };
      if (!done) return { note: "" };
      if (!entry.stages.has("worker handler")) return { note: "not reached" };
      return { note: entry.path === "queue" ? "no connection" : "nothing new" };
    case "worker handler":
      if (!stage) return { note: done ? "not reached" : "" };
      return fields.ok === "true" ? { note: `took ${fields.took_us} µs` } : { note: "failed", refused: true };
    default:
      return { note: "" };
  }
}

function drawCounters() {
  const { count = 0, replies = 0, refused = 0, times = [], ids } = connection ?? {};
  byId("count-sent").textContent = count;
  byId("count-replies").textContent = replies;
  byId("count-refused").textContent = refused;
  byId("count-waiting").textContent = ids?.size ?? 0;
  const sorted = times.toSorted((a, b) => a - b);
  byId("count-median").textContent = sorted.length ? `${sorted[sorted.length >> 1].toFixed(1)} ms` : "–";
}

function drawToken() {
  if (!token) return;
  const left = secondsLeft();
  const clock = left >= 3600 ? `${Math.floor(left / 3600)} h ${Math.floor((left % 3600) / 60)} min` : `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
  byId("token-state").textContent = left > 0 ? `${token.subject}, for another ${clock}` : `${token.subject}, expired; the next message mints a new one`;
  byId("token-life").value = left / token.expires_in_s;
}

// ---- What a person does.

const orSay = (act) => act().catch((error) => say(error.message));

byId("connect").addEventListener("click", () => {
  if (isOpen()) connection.socket.close(1000);
  else connect();
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  orSay(mintWanted);
});
byId("token-copy").addEventListener("click", () => orSay(() => navigator.clipboard.writeText(token.token)));
for (const button of document.querySelectorAll("[data-send]")) {
  button.addEventListener("click", () => orSay(() => send(button.dataset.send)));
}
document.querySelector("[data-inject]").addEventListener("click", () => orSay(inject));
byId("clear").addEventListener("click", () => {
  while (entries.length) forget(entries.pop());
  byId("clear").hidden = true;
  byId("last").hidden = true;
});
// Another subject or lifetime is meant for the next message, not for the token that is there.
for (const id of ["subject", "lifetime"]) byId(id).addEventListener("change", () => orSay(async () => token && mintWanted()));
setInterval(drawToken, 500);

showConnection("not connected", "");
drawSelected();
orSay(async () => {
  about = await (await fetch("about")).json();
  byId("socket-url").textContent = about.socket;
  await watchJourneys();
  connect();
});
