// The console: what a process does, while it does it. `mount` puts it into any page.

import { connections } from "./connections.js";
import { count, element, say } from "./dom.js";
import { Feed } from "./feed.js";
import { checks, counters, events, latencies, tiles } from "./panels.js";

const TICK_MS = 250;
const CHARTS_EVERY = 4;
const SUMMARY_EVERY_MS = 5000;

const STATES = {
  idle: "not watching",
  connecting: "connecting",
  live: "live",
  lost: "cannot be reached; trying again",
  paused: "paused: this is how it was",
};

function card(id, title, ...content) {
  const box = element("section", "card");
  box.id = id;
  box.setAttribute("aria-labelledby", `${id}-title`);
  const heading = element("h2", "", title);
  heading.id = `${id}-title`;
  box.append(heading, ...content);
  return box;
}

function list(className) {
  return element("ol", className);
}

// What stands above it all: whether it is live, what is there, and a way to stop and read.
function bar() {
  const root = element("div", "console-bar");
  const lamp = element("span", "lamp");
  const state = element("span", "", STATES.idle);
  state.id = "console-state";
  state.setAttribute("role", "status");
  const [chips, pause] = [element("span", "chips"), element("button", "small", "Pause")];
  pause.type = "button";
  pause.id = "console-pause";
  pause.setAttribute("aria-pressed", "false");
  root.append(lamp, state, chips, pause);
  return { root, lamp, state, chips, pause };
}

export function mount(root, { feed: url, onHello = () => {} }) {
  const top = bar();
  const spoken = element("p", "unseen");
  spoken.id = "console-summary";
  spoken.setAttribute("role", "status");
  const now = element("dl", "tiles");
  now.setAttribute("aria-label", "Now");
  const who = card("console-connections", "Connections");
  const [what, slow, last] = [list("counters-list"), list("latencies"), list("events")];
  const hint = element("p", "quiet", "Nothing out of the ordinary yet. What is simply handled is not listed.");
  const columns = element("p", "quiet key");
  columns.append(element("span", "", "of the last minute"), element("span", "", "p50"), element("span", "", "p99"));
  const verdicts = card("console-verdicts", "Outcomes", what);
  const times = card("console-latencies", "Latency", columns, slow);
  const lately = card("console-events", "Recent decisions", hint, last);
  const [wide, side] = [element("div", "wide"), element("div", "side")];
  wide.append(who, lately);
  side.append(verdicts, times);
  const body = element("div", "console-body");
  body.append(wide, side);
  root.append(top.root, spoken, now, body);

  const table = connections(who);
  const [numbers, outcomes, waits] = [tiles(now), counters(what), latencies(slow)];
  const panels = [table, numbers, outcomes, waits, events(last, hint), checks(top.chips)];
  let [state, ticks, spokenAt] = ["idle", 0, -Infinity];

  const feed = new Feed(url, {
    hello: onHello,
    look(look) {
      const at = performance.now();
      for (const panel of panels) panel.look(look, at);
      root.dataset.looks = String(Number(root.dataset.looks ?? 0) + 1);
      times.hidden = slow.querySelector("li:not([hidden])") === null;
      verdicts.hidden = what.querySelector("li:not([hidden])") === null;
      root.dataset.alone = String(!look.connections);
      if (at - spokenAt < SUMMARY_EVERY_MS) return;
      spokenAt = at;
      say(spoken, inWords(look));
    },
    state(next) {
      if (state === next) return;
      state = next;
      root.dataset.feed = next;
      top.lamp.dataset.state = { live: "open", lost: "failed" }[next] ?? "";
      say(top.state, STATES[next]);
    },
  });
  top.pause.addEventListener("click", () => {
    feed.pause(!feed.paused);
    top.pause.setAttribute("aria-pressed", String(feed.paused));
    say(top.pause, feed.paused ? "Go on" : "Pause");
  });
  setInterval(() => {
    if (state !== "live") return;
    const at = performance.now();
    table.tick(at);
    ticks += 1;
    if (ticks % CHARTS_EVERY === 1) for (const panel of [numbers, outcomes, waits]) panel.draw(at);
  }, TICK_MS);

  return { show: (shown) => feed.want(shown) };
}

// For those who do not see it.
function inWords({ connections: seen }) {
  if (!seen) return "";
  if (seen.states.length === 0) return "No clients are connected.";
  return `Connections: ${seen.states.map(([name, some]) => `${count(some)} ${name}`).join(", ")}.`;
}
