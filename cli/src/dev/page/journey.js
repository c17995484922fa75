// The way of a message or a push, station by station.

import { byId, duration, element } from "./dom.js";

// What happens where. `at` names who tells of the stage and how they call it. What does not happen to every
// message has a station only where it happened.
const TRACKS = {
  socket: [
    { name: "Socket", at: "terminator forward" },
    { name: "Queue", at: "terminator queue" },
    { name: "Worker", at: "worker worker" },
    { name: "Verdict", at: "worker verdict" },
    { name: "Sent again", at: "terminator again", rare: true },
    { name: "Held", at: "worker held", rare: true, waits: true },
    { name: "Released", at: "worker released", rare: true },
    { name: "Store", at: "worker store" },
    { name: "Handler", at: "worker handler" },
    { name: "Return", at: "terminator return" },
    { name: "Given back", at: "terminator bounced", rare: true, waits: true },
    { name: "Held", at: "worker held-out", rare: true, waits: true },
    { name: "Socket", at: "terminator socket" },
  ],
  queue: [
    { name: "Inject", at: "countersign inject" },
    { name: "Queue", at: "countersign queue" },
    { name: "Worker", at: "worker worker" },
    { name: "Verdict", at: "worker verdict" },
    { name: "Store", at: "worker store" },
    { name: "Handler", at: "worker handler" },
    { name: "Reply", at: "worker return" },
    { name: "Fetched", at: "countersign fetch" },
  ],
  push: [
    { name: "Push", at: "countersign publish" },
    { name: "Queue", at: "countersign queue" },
    { name: "Worker", at: "worker push" },
    { name: "Given back", at: "terminator bounced", rare: true, waits: true },
    { name: "Held", at: "worker held-out", rare: true, waits: true },
    { name: "Given up", at: "worker given_up", rare: true },
    { name: "Socket", at: "terminator socket" },
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
const last = (entry) => (entry.path === "push" ? "terminator socket" : track(entry).at(-1).at);
const done = (entry) => entry.stages.has("page received") || entry.stages.has(last(entry));

export const hasArrived = done;

// Where it waits just now, if it does.
export function waitsAt(entry) {
  if (done(entry)) return null;
  const passed = track(entry).filter(({ at }) => entry.stages.has(at));
  const furthest = passed.toSorted((a, b) => entry.stages.get(a.at).at_us - entry.stages.get(b.at).at_us).at(-1);
  return furthest?.waits ? furthest.name : null;
}

// From the first stage to the last one.
export function inside(entry) {
  const end = entry.stages.get("page received") ?? entry.stages.get(last(entry));
  return entry.began_us === null || !end ? "" : duration(end.at_us - entry.began_us);
}

export function drawTrack(entry) {
  const stations = track(entry).filter(({ at, rare }) => !rare || entry.stages.has(at));
  const furthest = stations.findLastIndex(({ at }) => entry.stages.has(at));
  const arrived = done(entry);
  const waits = waitsAt(entry);
  const drawn = stations.map((station, index) => {
    const stage = entry.stages.get(station.at);
    const { note, refused } = remark(entry, station, stage, arrived);
    const states = [
      "station",
      stage ? "passed" : arrived ? "skipped" : "",
      refused ? "refused" : "",
      stage && station.waits ? "held" : "",
      stage && index === furthest && waits ? "waiting" : "",
      index <= furthest ? "beyond" : "",
    ];
    const item = element("li", states.filter(Boolean).join(" "));
    item.append(
      element("span", "dot"),
      element("span", "name", station.name),
      element("span", "time", stage ? duration(stage.at_us - entry.began_us) : "–"),
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

const VERDICTS = { valid: "valid", expired: "expired", invalid: "not valid", none: "no token", grant: "the connection's", live: "the connection's" };
const RECORDED = { Changed: "recorded", Unchanged: "unchanged", Stale: "a newer one stands" };

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
      if (["invalid", "expired"].includes(fields.kind)) return { note: VERDICTS[fields.kind], refused: true };
      if (fields.kind !== "valid") return { note: VERDICTS[fields.kind] ?? fields.kind };
      return { note: fields.cached === "true" ? "valid, cached" : "valid, checked" };
    case "worker store":
      if (stage) return { note: RECORDED[fields.recorded] ?? fields.recorded };
      if (!arrived) return { note: "" };
      if (!entry.stages.has("worker handler")) return { note: "not reached" };
      return { note: entry.path === "queue" ? "no connection" : "nothing new" };
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
