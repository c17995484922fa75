// The panels of the console that show figures: tiles, counters, latencies, and what was decided lately.

import { ago, count, drawing, element, rate, say } from "./dom.js";
import { Histogram, Series, buckets, sum } from "./rates.js";

const BARS = 30;
const MOST_EVENTS = 40;
const REFUSALS_NOT = new Set(["handled", "closed", "held", "again", "authenticated", "forgotten", "release"]);

const is = (...names) => {
  const wanted = new Set(names.map((name) => `countersign_${name}`));
  return (metric) => wanted.has(metric);
};
const of = (name, label, ...values) => (metric, labels) => metric === `countersign_${name}` && values.includes(labels[label]);
const either = (...tests) => (metric, labels) => tests.some((test) => test(metric, labels));
const closed = (metric, { code }) => metric === "countersign_terminator_connections_closed_total" && code !== "client";

const TILES = [
  { id: "connections", name: "Connections", of: [is("terminator_connections")] },
  { id: "messages", name: "Messages", unit: "/s", counter: true, of: [is("terminator_messages_received_total"), is("worker_messages_total")] },
  { id: "answers", name: "Answers", unit: "/s", counter: true, of: [of("terminator_replies_total", "outcome", "delivered"), of("worker_messages_total", "outcome", "handled")] },
  { id: "pushes", name: "Pushes", unit: "/s", counter: true, of: [is("worker_pushes_total")] },
  { id: "in-flight", name: "In flight", of: [is("terminator_messages_in_flight"), is("worker_in_flight")] },
  { id: "ending", name: "Expire in a minute", of: [of("terminator_grants_expiring", "within", "60s")] },
  { id: "held-in", name: "Held in", of: [is("terminator_held_inbound")], wait: true },
];

// What may come of a message, a push or a connection: good, to wait for, or bad.
const COUNTERS = [
  { id: "granted", name: "authenticated", kind: "good", hint: "a connection was authenticated by a token", of: is("worker_grants_total") },
  { id: "handled", name: "handled", kind: "good", hint: "a message reached the handler, and was answered", of: of("worker_messages_total", "outcome", "handled") },
  { id: "held", name: "held", kind: "wait", hint: "a message, a reply or a push waits for a fresh token", of: either(of("worker_holds_total", "result", "missing", "expired"), is("worker_writes_held_total")) },
  { id: "released", name: "released", kind: "good", hint: "a held message, reply or push was delivered", of: either(of("worker_held_messages_completed_total", "result", "handled"), is("worker_writes_released_total")) },
  { id: "pushed", name: "pushed", kind: "good", hint: "a push was delivered", of: of("worker_pushes_total", "outcome", "delivered") },
  { id: "given-up", name: "dropped", kind: "bad", hint: "held for too long, or too much was held", of: either(is("worker_holds_dropped_total"), of("worker_held_messages_completed_total", "result", "expired", "mismatch"), of("worker_holds_total", "result", "overflow")) },
  { id: "expired", name: "expired", kind: "wait", hint: "a token that has expired", of: of("worker_token_verifications_total", "kind", "expired") },
  { id: "invalid", name: "invalid", kind: "bad", hint: "a token that is not acceptable", of: of("worker_token_verifications_total", "kind", "invalid") },
  { id: "revoked", name: "revoked", kind: "bad", hint: "a token that was revoked", of: is("worker_tokens_revoked_total") },
  { id: "unavailable", name: "unavailable", kind: "bad", hint: "store or keys are unavailable: authentication is temporarily unavailable", of: of("worker_token_verifications_total", "kind", "unavailable") },
  { id: "keys-replaced", name: "keys replaced", kind: "good", hint: "new keys are in force", of: is("worker_key_replacements_total") },
  { id: "keys-unread", name: "keys unread", kind: "bad", hint: "a source of keys is unavailable, or its keys cannot be used; the last good ones stay in force", of: of("worker_key_reloads_total", "result", "failed", "refused") },
  { id: "refused", name: "refused", kind: "bad", hint: "a message was answered with an error", of: (metric, { outcome }) => metric === "countersign_worker_messages_total" && !REFUSALS_NOT.has(outcome) },
  { id: "auth-expired", name: "expired", kind: "wait", hint: "a connection's authentication expired", of: is("terminator_auth_expirations_total") },
  { id: "asked", name: "re-authentication requested", kind: "wait", hint: "a client was asked for a fresh token", of: is("terminator_reauth_requests_total") },
  { id: "given-back", name: "returned", kind: "wait", hint: "a reply or push could not be written, because its connection had expired or closed", of: is("terminator_undelivered_total") },
  { id: "busy", name: "busy", kind: "bad", hint: "a message could not be published, and was refused", of: is("terminator_messages_refused_total") },
  { id: "turned-away", name: "turned away", kind: "bad", hint: "a handshake was refused", of: is("terminator_handshakes_refused_total") },
  { id: "closed", name: "closed", kind: "bad", hint: "the terminator closed a socket", of: closed },
];

const LATENCIES = [
  { id: "queue", name: "message queued", metric: "countersign_terminator_publish_confirm_duration_seconds" },
  { id: "handler", name: "handler", metric: "countersign_worker_handler_duration_seconds" },
  { id: "answer", name: "answer queued", metric: "countersign_worker_publish_confirm_duration_seconds" },
];

// Bars of the last minute.
function bars() {
  const chart = drawing("svg", { class: "bars", viewBox: `0 0 ${BARS * 4} 24`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const all = Array.from({ length: BARS }, (_, index) => {
    const bar = drawing("rect", { x: index * 4, width: 3, y: 23.25, height: 0.75 });
    chart.append(bar);
    return bar;
  });
  return {
    chart,
    draw(values) {
      const most = Math.max(...values, 1);
      all.forEach((bar, index) => {
        const height = values[index] > 0 ? Math.max(2, (24 * values[index]) / most) : 0.75;
        bar.setAttribute("y", (24 - height).toFixed(2));
        bar.setAttribute("height", height.toFixed(2));
        bar.classList.toggle("some", values[index] > 0);
      });
    },
  };
}

// A gauge over the last minute, as an area.
function line() {
  const chart = drawing("svg", { class: "line", viewBox: "0 0 120 24", preserveAspectRatio: "none", "aria-hidden": "true" });
  const [area, edge] = [drawing("path", { class: "area" }), drawing("path", { class: "edge" })];
  chart.append(area, edge);
  return {
    chart,
    draw(samples, now) {
      const most = Math.max(...samples.map(({ value }) => value), 1);
      const point = ({ at, value }) => `${(120 - (120 * (now - at)) / 60_000).toFixed(1)} ${(23 - (21 * value) / most).toFixed(1)}`;
      const points = samples.map(point);
      if (points.length === 0) return;
      edge.setAttribute("d", `M${points.join("L")}`);
      const [from, to] = [points[0], points.at(-1)].map((one) => one.split(" ")[0]);
      area.setAttribute("d", `M${from} 24L${points.join("L")}L${to} 24Z`);
    },
  };
}

// Numbers of the moment. Which source a tile has is settled by who is there: a terminator's figure before a worker's.
export function tiles(root) {
  const made = TILES.map((tile) => {
    const box = element("div", "tile");
    box.id = `tile-${tile.id}`;
    box.hidden = true;
    const value = element("span", "value", "0");
    const number = element("dd");
    number.append(value);
    if (tile.unit) number.append(element("span", "unit", tile.unit));
    const chart = tile.counter ? bars() : line();
    box.append(element("dt", "", tile.name), number, chart.chart);
    root.append(box);
    return { ...tile, box, value, chart, caches: tile.of.map(() => new Map()), series: new Series(), gauge: [] };
  });
  return {
    look({ figures }, now) {
      for (const tile of made) {
        const sums = tile.of.map((test, index) => sum(figures, test, tile.caches[index]));
        const value = sums.find((one) => one !== null) ?? null;
        tile.box.hidden = value === null;
        if (value === null) continue;
        if (tile.counter) tile.series.add(now, value);
        else {
          tile.gauge.push({ at: now, value });
          while (tile.gauge.length > 2 && tile.gauge[1].at < now - 60_000) tile.gauge.shift();
        }
        say(tile.value, tile.counter ? rate(tile.series.rate(now)) : count(value));
        tile.box.dataset.some = String(Boolean(tile.wait) && value > 0);
      }
    },
    draw(now) {
      for (const tile of made) {
        if (tile.box.hidden) continue;
        if (tile.counter) tile.chart.draw(tile.series.bins(now, BARS));
        else tile.chart.draw(tile.gauge, now);
      }
    },
  };
}

export function counters(root) {
  const made = COUNTERS.map((counter) => {
    const item = element("li");
    item.id = `counter-${counter.id}`;
    item.dataset.kind = counter.kind;
    item.title = counter.hint;
    item.hidden = true;
    const [total, chart] = [element("span", "total", "0"), bars()];
    item.append(element("span", "dot"), element("span", "name", counter.name), chart.chart, total);
    root.append(item);
    return { ...counter, item, total, chart, cache: new Map(), series: new Series() };
  });
  return {
    look({ figures }, now) {
      for (const counter of made) {
        const value = sum(figures, counter.of, counter.cache);
        counter.item.hidden = value === null;
        if (value === null) continue;
        counter.series.add(now, value);
        say(counter.total, count(value));
        counter.item.dataset.none = String(value === 0);
      }
    },
    draw(now) {
      for (const counter of made) if (!counter.item.hidden) counter.chart.draw(counter.series.bins(now, BARS));
    },
  };
}

// On a scale of powers of ten, from a tenth of a millisecond to ten seconds.
const place = (seconds) => Math.min(100, Math.max(0, (Math.log10(Math.max(seconds, 1e-4)) + 4) * 20));
function time(seconds) {
  if (seconds === null) return "–";
  if (seconds < 0.001) return `${Number((seconds * 1e6).toPrecision(2))} µs`;
  return seconds < 1 ? `${Number((seconds * 1000).toPrecision(2))} ms` : `${seconds.toFixed(1)} s`;
}

export function latencies(root) {
  const made = LATENCIES.map((latency) => {
    const item = element("li");
    item.id = `latency-${latency.id}`;
    item.hidden = true;
    const [median, most] = [element("span", "p50", "–"), element("span", "p99", "–")];
    const scale = drawing("svg", { class: "scale", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
    scale.append(drawing("rect", { class: "ground", x: 0, y: 3, width: 100, height: 2 }));
    const span = drawing("rect", { class: "span", y: 2.5, height: 3, width: 0 });
    const mark = drawing("rect", { class: "mark", y: 0, height: 8, width: 1.2 });
    scale.append(span, mark);
    item.append(element("span", "name", latency.name), median, most, scale);
    root.append(item);
    return { ...latency, item, median, most, span, mark, histogram: new Histogram() };
  });
  return {
    look({ figures }, now) {
      for (const latency of made) {
        const found = buckets(figures, latency.metric);
        // Nothing was measured yet: whether it ever will be here, its neighbours know.
        latency.item.hidden = found.length === 0;
        if (found.length > 0) latency.histogram.add(now, found);
      }
    },
    draw() {
      for (const latency of made) {
        const [median, most] = [latency.histogram.quantile(0.5), latency.histogram.quantile(0.99)];
        say(latency.median, time(median));
        say(latency.most, time(most));
        latency.item.dataset.none = String(median === null);
        if (median === null) continue;
        latency.mark.setAttribute("x", place(median) - 0.6);
        latency.span.setAttribute("x", place(median));
        latency.span.setAttribute("width", Math.max(0.5, place(most) - place(median)));
      }
    },
  };
}

const KINDS = { granted: "good", released: "good", held: "wait", forgotten: "", left: "" };
const WORDS = { missing: "no token counted", expired: "its token has expired", expiring: "its token is about to expire", revoked: "its token was revoked" };

// What was decided lately, what came first at the bottom. What is decided again and again about one connection is one
// row, which stays in its place, so that a flood neither sweeps away what is rare nor makes the list unreadable.
export function events(root, hint) {
  const rows = new Map();
  let known = new Set();
  const eventOf = ({ at_ms, connection, sequence, what, why }) => [at_ms, connection, sequence, what, why].join(" ");
  const make = ({ connection, what }) => {
    const item = element("li");
    const tag = element("span", "tag", what);
    tag.dataset.kind = KINDS[what] ?? "bad";
    const where = element("span", "where mono", short(connection));
    where.title = connection;
    const [why, when, times] = [element("span", "told"), element("span", "when"), element("span", "times")];
    const reason = element("span", "why");
    reason.append(why, " ", times);
    item.append(tag, where, reason, when);
    // It comes once, not each time that it is shown again.
    item.classList.add("fresh");
    item.addEventListener("animationend", () => item.classList.remove("fresh"));
    root.prepend(item);
    return { item, why, when, times, at_ms: 0, count: 0 };
  };
  const note = (event) => {
    const key = [event.connection, event.what, event.why].join(" ");
    const row = rows.get(key) ?? make(event);
    rows.set(key, row);
    row.count += 1;
    row.at_ms = Math.max(row.at_ms, event.at_ms);
    const about = event.id ? `message ${event.id}` : event.sequence ? `message ${event.sequence}` : "";
    say(row.why, [about, WORDS[event.why] ?? event.why].filter(Boolean).join(": "));
    say(row.times, row.count > 1 ? `×${count(row.count)}` : "");
  };
  const forgetOldest = () => {
    const [oldest] = [...rows].sort(([, a], [, b]) => a.at_ms - b.at_ms);
    oldest[1].item.remove();
    rows.delete(oldest[0]);
  };
  return {
    look({ events: all = [], at_ms }) {
      for (const event of all) if (!known.has(eventOf(event))) note(event);
      known = new Set(all.map(eventOf));
      while (rows.size > MOST_EVENTS) forgetOldest();
      for (const row of rows.values()) say(row.when, ago((at_ms - row.at_ms) / 1000));
      hint.hidden = rows.size > 0;
    },
  };
}

// Of a connection's id what tells it from its neighbours; the whole stands in its title.
export const short = (id) => (id ? `…${id.slice(Math.max(0, id.lastIndexOf(".") - 4))}` : "");

// Whether what is needed is there.
export function checks(root) {
  return {
    look({ readiness }) {
      const all = Object.entries(readiness?.checks ?? {});
      const told = JSON.stringify(all);
      if (root.dataset.told === told) return;
      root.dataset.told = told;
      root.replaceChildren(...all.map(([name, state]) => {
        const chip = element("span", "tag", state === "ok" ? name : `${name}: ${state}`);
        chip.dataset.kind = state === "ok" ? "good" : "bad";
        return chip;
      }));
    },
  };
}

