// The way of a message or a push, station by station.

import { byId, duration, element } from "./dom.js";

// What happens where. `at` names who tells of the stage and how they call it. What does not happen to every
// message has a station only where it happened. That the queue has something is `confirmed` to what put it there, perhaps
// after a worker has it.
const TRACKS = {
  socket: [
    { name: "Socket", at: "terminator forward" },
    { name: "Queue", at: "terminator queue", confirmed: true },
    { name: "Worker", at: "worker worker" },
    { name: "Verdict", at: "worker verdict" },
    { name: "Sent again", at: "worker again", rare: true },
    { name: "Held", at: "worker held", rare: true, waits: true },
    { name: "Given up", at: "worker expired", rare: true },
    { name: "Given up", at: "worker refused", rare: true },
    { name: "Logged out", at: "worker forgotten", rare: true },
    { name: "Grant", at: "worker granted" },
    { name: "Handler", at: "worker handler" },
    { name: "Return", at: "terminator return" },
    { name: "Given back", at: "terminator bounced", rare: true, waits: true },
    { name: "Held", at: "worker held-out", rare: true, waits: true },
    { name: "Socket", at: "terminator socket" },
  ],
  queue: [
    { name: "Inject", at: "countersign inject" },
    { name: "Queue", at: "countersign queue", confirmed: true },
    { name: "Worker", at: "worker worker" },
    { name: "Verdict", at: "worker verdict" },
    { name: "Handler", at: "worker handler" },
    { name: "Reply", at: "worker return", confirmed: true },
    { name: "Fetched", at: "countersign fetch" },
  ],
  push: [
    { name: "Push", at: "countersign publish" },
    { name: "Queue", at: "countersign queue", confirmed: true },
    { name: "Worker", at: "worker push" },
    { name: "Held", at: "worker held-out", rare: true, waits: true },
    { name: "Given up", at: "worker given_up", rare: true },
    { name: "This page", at: "page received" },
  ],
};
TRACKS.other = TRACKS.socket;

export const SENT = { socket: "terminator forward", push: "countersign publish", queue: "countersign inject" };

// By what a stage is remembered. What is held of a client and what is held for one are two things.
export function keyOf(stage) {
  const name = stage.stage === "held" && stage.fields.key !== undefined ? "held-out" : stage.stage;
  return `${stage.by} ${name}`;
}

const track = (entry) => TRACKS[entry.path] ?? TRACKS.socket;
const last = (entry) => track(entry).at(-1).at;

export const hasArrived = (entry) => entry.stages.has(last(entry)) || entry.stages.has("worker released");

// What ends a wait of a client's message, and of something for a client.
const FREED_IN = ["worker handler", "worker released", "worker expired", "worker refused"];
const FREED_OUT = ["terminator socket", "page received", "worker given_up"];

// Whether it is waiting for a fresh token.
export function waits(entry) {
  const passed = (...ats) => ats.some((at) => entry.stages.has(at));
  if (passed("worker held") && !passed(...FREED_IN)) return true;
  return passed("terminator bounced", "worker held-out") && !passed(...FREED_OUT);
}

// Whether it waited once, or does.
export const hasWaited = (entry) => ["worker held", "worker held-out", "terminator bounced"].some((at) => entry.stages.has(at));

// A message that is held is settled at once, which is no answer; its answer comes another way.
const isSettlement = (entry, at) => at === "terminator return" && entry.stages.has("worker held");

// How far the program's clock is behind this browser's, at most, by what it told soonest after it happened.
let behind_us = Infinity;

const here_us = () => performance.now() * 1000;

// Notes a stage that the program tells. Stages come in the order of those who tell them; an entry began with its first.
export function note(entry, stage) {
  behind_us = Math.min(behind_us, here_us() - stage.at_us);
  // A message that is processed again passes a station twice; when it first did is what counts.
  const key = keyOf(stage);
  if (!entry.stages.has(key)) entry.stages.set(key, stage);
}

// It has arrived here. What a hold has released is told by its recipient alone.
export function received(entry) {
  const at = last(entry);
  if (!entry.stages.has(at)) entry.stages.set(at, { here_us: here_us(), fields: {} });
}

// When each station was passed, in microseconds from the first, along the way: no later station was passed before an earlier one.
function times(entry) {
  const told = [...entry.stages.values()].map(({ at_us }) => at_us).filter((at_us) => at_us !== undefined);
  if (told.length === 0) return new Map();
  const [began, latest] = [Math.min(...told), Math.max(...told)];
  const since = new Map();
  for (const [at, { at_us, here_us: arrived }] of entry.stages) {
    // What arrived here did so by this browser's clock.
    since.set(at, (at_us ?? Math.max(latest, arrived - behind_us)) - began);
  }
  const passed = track(entry).filter(({ at }) => since.has(at));
  passed.forEach(({ at, confirmed }, index) => {
    const next = passed[index + 1];
    if (confirmed && next) since.set(at, Math.min(since.get(at), since.get(next.at)));
  });
  return since;
}

// From the first stage to the last one.
export function inside(entry) {
  const end = times(entry).get(last(entry));
  return end === undefined ? "" : duration(end);
}

export function drawTrack(entry) {
  const passed = (at) => entry.stages.get(at);
  const stations = track(entry).filter(({ at, rare }) => !isSettlement(entry, at) && (!rare || passed(at)));
  const furthest = stations.findLastIndex(({ at }) => passed(at));
  const arrived = hasArrived(entry);
  const waiting = waits(entry);
  const since = times(entry);
  const drawn = stations.map((station, index) => {
    const stage = passed(station.at);
    const { note, refused } = remark(entry, station, stage, arrived);
    const states = [
      "station",
      stage ? "passed" : arrived ? "skipped" : "",
      refused ? "refused" : "",
      stage && station.waits ? "held" : "",
      stage && index === furthest && waiting ? "waiting" : "",
      index <= furthest ? "beyond" : "",
    ];
    const item = element("li", states.filter(Boolean).join(" "));
    item.append(
      element("span", "dot"),
      element("span", "name", station.name),
      element("span", "time", since.has(station.at) ? duration(since.get(station.at)) : "–"),
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
  while (list.children.length > drawn.length) list.lastChild.remove();
}

const VERDICTS = { valid: "valid", expired: "expired", invalid: "not valid", none: "no token", revoked: "revoked", unknown: "cannot be told" };
const RECORDED = { "Some(Changed)": "recorded", "Some(Unchanged)": "unchanged", "Some(Stale)": "a newer one stands" };

// What is to be said of a station beyond its time.
function remark(entry, station, stage, arrived) {
  const { fields } = stage ?? {};
  switch (station.at) {
    case "terminator forward":
    case "countersign inject":
    case "countersign publish":
      return { note: stage ? `${fields.bytes} bytes` : "" };
    case "worker verdict":
      if (!stage) return { note: arrived ? "not judged" : "" };
      if (["invalid", "expired", "revoked", "unknown"].includes(fields.kind)) return { note: VERDICTS[fields.kind], refused: true };
      if (fields.kind !== "valid") return { note: VERDICTS[fields.kind] ?? fields.kind };
      return { note: fields.cached === "true" ? "valid, cached" : "valid, checked" };
    case "worker granted":
      if (stage) return { note: RECORDED[fields.recorded] ?? "" };
      return { note: arrived && entry.stages.has("worker handler") ? "nothing new" : "" };
    case "worker expired":
      return { note: "no token in time", refused: true };
    case "worker refused":
      return { note: "another identity", refused: true };
    case "worker handler":
      if (!stage) return { note: arrived ? "not reached" : "" };
      return fields.ok === "true" ? { note: `took ${fields.took_us} µs` } : { note: "failed", refused: true };
    case "worker push":
      if (!stage) return { note: "" };
      return { note: fields.outcome === "delivered" ? `to ${fields.connections}` : fields.outcome.replaceAll("_", " "), refused: ["refused", "no_recipient"].includes(fields.outcome) };
    case "worker given_up":
      return { note: fields.why, refused: true };
    case "worker held":
    case "worker held-out":
    case "terminator bounced":
      return { note: fields.reason ?? fields.why ?? "" };
    default:
      return { note: "" };
  }
}
