// The page of `countersign dev`: mint tokens, send messages and pushes, and watch each
// travel from the socket to the queue, through a worker, and back; or wait for a fresh
// token, and come through.

import { changeSettings, inject, loadSettings, push, revoke } from "./backend.js";
import { authenticate, connect, disconnect, isOpen, logOut, send, showIdle, watchStanding } from "./connection.js";
import { byId, saying } from "./dom.js";
import { clear, drawSelected, onStage } from "./messages.js";
import { drawToken, hasToken, mintWanted } from "./tokens.js";
import { showViews } from "./views.js";

const TOKEN_EVERY_MS = 250;

function watchJourneys() {
  const source = new EventSource("journey");
  const say = (text) => {
    byId("watching").textContent = text;
    byId("watching").dataset.well = String(text === "watching");
  };
  return new Promise((ready) => {
    source.addEventListener("ready", () => { say("watching"); ready(); });
    source.addEventListener("missed", (event) => say(`watching; ${event.data} stages came too fast to show`));
    source.addEventListener("message", (event) => onStage(JSON.parse(event.data)));
    source.addEventListener("error", () => say("the program cannot be reached; trying again"));
  });
}

// What a person wrote into a field for JSON.
function json(id) {
  const text = byId(id).value.trim();
  try {
    return text === "" ? undefined : JSON.parse(text);
  } catch (error) {
    byId(id).focus();
    throw new Error(`The payload is not JSON: ${error.message}`);
  }
}

function written() {
  const message = { type: byId("type").value };
  const payload = json("payload");
  return payload === undefined ? message : { ...message, payload };
}

const onMessage = saying("payload-fault");
const onConnection = saying("connection-fault");
const onSettings = saying("settings-fault");
const onBackend = saying("backend-fault");
const on = (id, event, act) => byId(id).addEventListener(event, act);

on("connect", "click", () => (isOpen() ? disconnect() : connect()));
on("authenticate", "click", () => onConnection(authenticate));
on("wanted-answer", "click", () => onConnection(authenticate));
on("forget", "click", () => onConnection(logOut));
on("token-form", "submit", (event) => {
  event.preventDefault();
  onMessage(mintWanted);
});
on("token-copy", "click", () => onMessage(() => navigator.clipboard.writeText(byId("token-text").textContent)));
for (const button of document.querySelectorAll("[data-send]")) {
  button.addEventListener("click", () => onMessage(async () => send(button.dataset.send, written())));
}
document.querySelector("[data-inject]").addEventListener("click", () => onMessage(async () => inject(written())));
on("push-form", "submit", (event) => {
  event.preventDefault();
  onBackend(async () => push(byId("recipient").value, json("push-payload") ?? null));
});
for (const button of document.querySelectorAll("[data-revoke]")) {
  button.addEventListener("click", () => onBackend(async () => revoke(button.dataset.revoke, Number(byId("grace").value))));
}
for (const field of document.querySelectorAll("[data-setting]")) {
  field.addEventListener("change", () => onSettings(() => changeSettings().catch((error) => {
    byId("settings-state").textContent = "";
    return loadSettings().then(() => { throw error; });
  })));
}
on("clear", "click", clear);
// Another subject or lifetime is meant for the next message, not for the token that is there.
for (const id of ["subject", "lifetime"]) on(id, "change", () => onMessage(async () => { if (hasToken()) await mintWanted(); }));
on("subject", "change", () => { byId("recipient").value = byId("subject").value; });
setInterval(drawToken, TOKEN_EVERY_MS);

showViews();
showIdle();
drawSelected();
onMessage(async () => {
  const about = await (await fetch("about")).json();
  byId("socket-url").textContent = about.socket;
  await loadSettings();
  await watchJourneys();
  connect(about);
  watchStanding();
});
