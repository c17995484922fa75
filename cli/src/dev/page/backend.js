// The other side: how the workers decide, and what a backend and an operator put into the queue.

import { byId, post } from "./dom.js";
import { connect, connectionName, disconnect, isOpen } from "./connection.js";
import { addEntry, draw, ensureEntry, nextNumber } from "./messages.js";
import { TOKENS, noteRevokedSubject, shown } from "./tokens.js";

// The settings as the workers call them, and the fields that stand for them.
const SETTINGS = {
  strategy: "strategy",
  "on-unauthenticated": "on-unauthenticated",
  "on-expired-push": "on-expired-push",
  "hold-ttl": "hold-ttl",
};

// ---- How it is decided.

export async function loadSettings() {
  show(await (await fetch("settings")).json());
}

function show(settings) {
  for (const [name, id] of Object.entries(SETTINGS)) {
    const field = byId(id);
    // What was given by a flag may be none of the choices.
    if (![...field.options].some((option) => option.value === settings[name])) field.add(new Option(settings[name], settings[name]));
    field.value = settings[name];
    const hint = byId(`${id}-hint`);
    if (hint) hint.textContent = field.selectedOptions[0]?.dataset.hint ?? "";
  }
}

// Other settings mean other workers. What they decide is carried by what they grant, so the connection begins anew.
export async function changeSettings() {
  const wanted = Object.fromEntries(Object.entries(SETTINGS).map(([name, id]) => [name, byId(id).value]));
  byId("settings-state").textContent = "other workers begin …";
  show(await post("settings", wanted));
  byId("settings-state").textContent = "in force; connected anew, because a grant keeps the policies that it was given with";
  if (isOpen()) disconnect();
  connect();
}

// ---- Messages by the queue, pushes, revocations.

export async function inject(message) {
  const whole = { id: `queue-${nextNumber()}`, ...message, token: await TOKENS.good.make() };
  const asked = performance.now();
  const { message_id, answer } = await post("inject", whole);
  const entry = ensureEntry(message_id, { path: "queue" });
  Object.assign(entry, { what: message.type, how: `by the queue, ${TOKENS.good.how()}`, sent: shown(whole), answer });
  entry.took_ms = performance.now() - asked;
  if (!answer) entry.failed = "no answer";
  draw(entry);
}

export async function push(subject, payload) {
  const asked = performance.now();
  const { message_id, outcome } = await post("push", { subject, payload });
  const entry = ensureEntry(message_id, { path: "push" });
  Object.assign(entry, { what: "push", how: `for ${subject}`, sent: payload, told: outcome ?? { outcome: "no outcome in time" } });
  entry.took_ms = performance.now() - asked;
  draw(entry);
}

export async function revoke(target, grace_s) {
  const whom = target === "connection" ? { connection: connectionName() } : { subject: byId("recipient").value };
  if (target === "connection" && !whom.connection) throw new Error("Nothing was sent on this connection yet, so it is not known yet.");
  const { outcome } = await post("revoke", { ...whom, grace_s });
  if (outcome?.outcome === "revoked" && whom.subject) noteRevokedSubject(whom.subject, grace_s);
  addEntry({ path: "server", what: "revocation", how: target === "connection" ? "of this connection" : `of ${whom.subject}`, answer: outcome ? { type: outcome.outcome, ...outcome } : { type: "no outcome in time" } });
}
