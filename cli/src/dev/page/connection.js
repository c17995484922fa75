// Our connection: what is said on it, who is on it, and what waits for it.

import { byId, clock, element } from "./dom.js";
import { hasWaited, received, waits } from "./journey.js";
import { addEntry, draw, ensureEntry, follow, setConnection } from "./messages.js";
import { TOKENS, noteRevoked, shown } from "./tokens.js";

const MOST_KEPT = 100;
const MOST_TIMES = 1000;
const LOOK_EVERY_MS = 1000;
const DECISIONS_SHOWN = 8;
// The close code of a connection whose authentication was revoked.
const REVOKED = 4503;

let about = null;
let connection = null;
// What the last connection that closed had: who proves to be the same may take over what it left held.
let left = null;
// The messages that were held when their connection closed, by their ids: no two of the page's messages have the same.
const heldBehind = new Map();
let messages = 0;

setConnection(() => connection);

export const isOpen = () => connection?.socket.readyState === WebSocket.OPEN;
export const connectionName = () => connection?.name ?? null;

export function connect(to) {
  about = to ?? about;
  const socket = new WebSocket(about.socket, about.subprotocol);
  const mine = {
    socket, name: null, resume: null, required: null, known: null, opened: false,
    sent: new Map(), ids: new Map(), count: 0, replies: 0, refused: 0, times: [], jwt: null,
  };
  connection = mine;
  showConnection("connecting", "");
  socket.addEventListener("open", () => {
    mine.opened = true;
    showConnection("connected", "open");
  });
  socket.addEventListener("message", (event) => onFrame(mine, event.data));
  socket.addEventListener("close", (event) => onClose(mine, event));
  drawCounters();
  drawStanding();
}

export const disconnect = () => connection.socket.close(1000);

function onClose(mine, { code, reason }) {
  for (const [id, entry] of mine.ids) {
    // What is held is not lost: it may be answered on another connection.
    if (waits(entry)) heldBehind.set(id, entry);
    else entry.failed = "no answer";
    draw(entry);
  }
  while (heldBehind.size > MOST_KEPT) heldBehind.delete(heldBehind.keys().next().value);
  mine.ids.clear();
  if (code === REVOKED) noteRevoked(mine.jwt);
  if (mine.resume) left = mine.resume;
  if (connection !== mine) return;
  mine.required = null;
  drawCounters();
  drawStanding();
  const why = reason ? `${code}: ${reason}` : code;
  if (!mine.opened) showConnection("it could not be opened; is it still running?", "failed");
  else if (code === 1000 || code === 1005) showConnection("disconnected", "");
  else showConnection(`closed with ${why}`, "failed");
}

function onFrame(mine, text) {
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    message = { type: "not JSON", payload: text };
  }
  if (message.auth) authenticated(mine, message.auth);
  else if (message.type === "auth.ok") mine.resume = null;
  if (message.type === "auth.required") required(mine, message);
  if (message.type === "push") pushed(message);
  else if (!answered(mine, message)) addEntry({ path: "server", what: "from the server", how: "unasked", answer: message });
  look();
}

// Tells whether it answers a message of ours.
function answered(mine, answer) {
  const entry = mine.ids.get(answer.id) ?? heldBehind.get(answer.id);
  if (!entry) return false;
  mine.ids.delete(answer.id);
  heldBehind.delete(answer.id);
  entry.answer = answer;
  entry.took_ms = performance.now() - entry.sentAt;
  // How long something waited for a person says nothing of how fast it goes.
  if (hasWaited(entry)) {
    received(entry);
    follow(entry);
  } else mine.times.push(entry.took_ms);
  if (mine.times.length > MOST_TIMES) mine.times.shift();
  if (answer.error?.code === "token_revoked") noteRevoked(entry.jwt);
  if (answer.error) mine.refused += 1;
  else mine.replies += 1;
  draw(entry);
  drawCounters();
  return true;
}

// A push of this page has an entry already; another's gets its own.
function pushed(push) {
  const entry = ensureEntry(`p:${push.id}`, { path: "push", what: "pushed", how: "by another sender", sent: push });
  received(entry);
  if (hasWaited(entry)) follow(entry);
  draw(entry);
}

function authenticated(mine, auth) {
  mine.required = null;
  mine.resume = auth.resume ?? null;
  // It is named after its connection.
  if (auth.resume) mine.name ??= auth.resume.slice(0, auth.resume.lastIndexOf("."));
  left = null;
  drawStanding();
}

function required(mine, { reason, deadline_ms, held }) {
  mine.required = { reason, until: performance.now() + deadline_ms, held };
  drawStanding();
}

// ---- Sending.

// Sends one message with the kind of token that is asked for.
export async function send(kind, message) {
  const jwt = await TOKENS[kind].make();
  const mine = connection;
  if (!isOpen()) return;
  mine.count += 1;
  messages += 1;
  const whole = { id: String(messages), ...message, token: jwt };
  const text = JSON.stringify(whole);
  const bytes = new TextEncoder().encode(text).length;
  const entry = addEntry({ path: "socket", what: message.type, how: TOKENS[kind].how(), sent: shown(whole), bytes });
  // What a person has broken or let expire is not what the connection lives by.
  if (kind === "good" || kind === "fresh") mine.jwt = jwt;
  entry.jwt = jwt ?? mine.jwt;
  mine.sent.set(mine.count, entry);
  mine.sent.delete(mine.count - MOST_KEPT);
  mine.ids.set(whole.id, entry);
  entry.sentAt = performance.now();
  mine.socket.send(text);
  drawCounters();
}

export function authenticate() {
  const message = { type: "auth.authenticate" };
  if (left && byId("resume").checked) message.payload = { resume: left };
  return send("fresh", message);
}

export const logOut = () => send("none", { type: "auth.logout" });

// ---- What is known of it: asked of the store, as `countersign inspect` and `explain` do.

async function look() {
  const mine = connection;
  if (!mine?.name || document.hidden) return;
  const response = await fetch(`connection?id=${encodeURIComponent(mine.name)}`);
  if (!response.ok || connection !== mine) return;
  mine.known = await response.json();
  drawStanding();
}

export function watchStanding() {
  setInterval(() => look().catch(() => {}), LOOK_EVERY_MS);
  setInterval(drawStanding, 250);
}

const REASONS = {
  missing: "The connection is not authenticated.",
  expiring: "The token is about to expire.",
  expired: "The token has expired.",
  revoked: "The token was revoked.",
};

const LIMITS = {
  expiring: "It is good for another",
  expired: "The first held message is dropped in",
  revoked: "This connection is closed in",
};

function drawStanding() {
  const { known, required: wanted, socket } = connection ?? {};
  const open = socket?.readyState === WebSocket.OPEN;
  const until = known?.until ? known.until * 1000 - Date.now() : 0;
  const live = open && until > 0 && known.state === "live";
  byId("who").textContent = who(known, open);
  byId("who").dataset.state = live ? "live" : known?.subject && open ? "expired" : "";
  byId("who-left").textContent = live ? clock(until / 1000) : "";
  byId("held-in").textContent = known?.held.inbound ?? 0;
  byId("held-answers").textContent = known?.held.answers ?? 0;
  byId("held-pushes").textContent = known?.held.pushes ?? 0;
  for (const id of ["held-in", "held-answers", "held-pushes"]) byId(id).dataset.some = String(Number(byId(id).textContent) > 0);
  drawWanted(wanted, known, open);
  byId("resume-row").hidden = !(left && open);
  drawDecisions(known?.decisions ?? []);
}

function who(known, open) {
  if (!open) return "not connected";
  if (!known || known.state === "unknown") return "anonymous: not authenticated yet";
  if (known.state === "forgotten") return "anonymous: logged out";
  if (known.state === "closed") return "closed";
  return known.until * 1000 > Date.now() ? known.subject : `${known.subject}, expired`;
}

function drawWanted(wanted, known, open) {
  const banner = byId("wanted");
  banner.hidden = !wanted || !open;
  if (banner.hidden) return;
  const inbound = known?.held.inbound ?? wanted.held.inbound;
  const outbound = known ? known.held.answers + (known.held.pushes ?? 0) : wanted.held.outbound;
  const seconds = (wanted.until - performance.now()) / 1000;
  const over = wanted.reason === "expiring" && seconds <= 0;
  const waiting = inbound + outbound > 0 ? ` ${inbound} from here and ${outbound} for here wait.` : "";
  const limit = over ? "" : ` ${LIMITS[wanted.reason] ?? LIMITS.expired} ${clock(seconds)}.`;
  byId("wanted-text").textContent = `${REASONS[over ? "expired" : wanted.reason] ?? ""}${waiting}${limit}`;
}

function drawDecisions(decisions) {
  byId("decisions-box").hidden = decisions.length === 0;
  const drawn = decisions.slice(-DECISIONS_SHOWN).toReversed().map(({ at_ms, sequence, id, what, why }) => {
    const item = element("li");
    const name = id ? `message ${id}` : sequence ? `message ${sequence}` : "";
    item.append(element("span", "tag", what), element("span", "", [name, why].filter(Boolean).join(": ")), element("span", "time", `${clock((Date.now() - at_ms) / 1000)} ago`));
    return item;
  });
  byId("decisions").replaceChildren(...drawn);
}

function showConnection(text, state) {
  byId("connection").textContent = text;
  byId("lamp").dataset.state = state;
  const open = isOpen();
  const opening = connection?.socket.readyState === WebSocket.CONNECTING;
  byId("connect").textContent = open ? "Disconnect" : "Connect";
  byId("connect").disabled = opening;
  for (const button of document.querySelectorAll("[data-send], [data-auth]")) button.disabled = !open;
}

export function drawCounters() {
  const { count = 0, replies = 0, refused = 0, times = [], ids } = connection ?? {};
  byId("count-sent").textContent = count;
  byId("count-replies").textContent = replies;
  byId("count-refused").textContent = refused;
  byId("count-waiting").textContent = ids?.size ?? 0;
  const sorted = times.toSorted((a, b) => a - b);
  byId("count-median").textContent = sorted.length ? `${sorted[sorted.length >> 1].toFixed(1)} ms` : "–";
}

export const showIdle = () => showConnection("not connected", "");
