// The connections, the most remarkable first, as the process has sorted them.

import { ago, clock, count, drawing, element, say } from "./dom.js";
import { short } from "./panels.js";

const STATES = {
  live: { name: "live", kind: "good" },
  expiring: { name: "expiring", kind: "wait" },
  expired: { name: "expired", kind: "wait" },
  revoked: { name: "revoked", kind: "bad" },
  closing: { name: "closing", kind: "bad" },
  anonymous: { name: "anonymous", kind: "" },
};
const ORDER = ["live", "anonymous", "expiring", "expired", "revoked", "closing"];
const COLUMNS = ["State", "Identity", "Time left", "In flight", "Held in", "Held out", "Connection"];
const TAG_SHOWN = 8;

// What is left of a life, as a ring that empties.
function ring() {
  const chart = drawing("svg", { class: "ring", viewBox: "0 0 20 20", "aria-hidden": "true" });
  const left = drawing("circle", { class: "rest", cx: 10, cy: 10, r: 7.5, pathLength: 100 });
  chart.append(drawing("circle", { class: "ground", cx: 10, cy: 10, r: 7.5 }), left);
  return { chart, draw: (part) => left.setAttribute("stroke-dasharray", `${(100 * part).toFixed(1)} 100`) };
}

function makeRow(id) {
  const row = element("tr");
  row.setAttribute("role", "row");
  row.dataset.connection = id;
  const cell = (className, label) => {
    const made = element("td", className);
    made.setAttribute("role", "cell");
    made.dataset.label = label;
    row.append(made);
    return made;
  };
  const tag = element("span", "tag");
  cell("at").append(tag);
  const who = element("span", "name");
  cell("whose").append(who);
  const [life, left] = [ring(), element("span", "remains")];
  cell("time").append(life.chart, left);
  const numbers = ["in_flight", "held_in", "held_out"].map((name, index) => {
    const number = element("span", "number", "0");
    cell(`count ${name.replace("_", "-")}`, COLUMNS[3 + index].toLowerCase()).append(number);
    return [name, number];
  });
  const where = element("span", "where mono", short(id));
  where.title = id;
  cell("id").append(where);
  return { row, tag, who, life, left, numbers, longest: 0, data: null, seen: 0 };
}

function fill(made, data, now) {
  Object.assign(made, { data, seen: now });
  const { name, kind } = STATES[data.state] ?? { name: data.state, kind: "" };
  made.row.dataset.state = data.state;
  say(made.tag, name);
  made.tag.dataset.kind = kind;
  // The one who knows a name tells it; a terminator knows a tag.
  say(made.who, data.subject ?? data.identity?.slice(0, TAG_SHOWN) ?? "–");
  made.who.title = data.subject ?? (data.identity ? `identity ${data.identity}` : "");
  made.who.classList.toggle("mono", !data.subject && Boolean(data.identity));
  for (const [field, number] of made.numbers) {
    say(number, count(data[field]));
    number.dataset.some = String(data[field] > 0);
    // The one who knows the store tells answers, which wait for this connection, from pushes, which wait for its identity.
    if (field === "held_out" && data.held_answers !== undefined) number.title = `${data.held_answers} answers for this connection, ${data.held_pushes} pushes for its identity`;
  }
  made.longest = Math.max(made.longest, data.life_ms ?? data.left_ms ?? 0);
  if (data.life_ms) made.longest = data.life_ms;
  tick(made, now);
}

// Between two looks, time goes on.
function tick({ data, seen, left, life, longest }, now) {
  if (data.left_ms === null || data.left_ms === undefined) {
    say(left, "–");
    life.draw(0);
    life.chart.classList.add("none");
    return;
  }
  life.chart.classList.remove("none");
  const ms = data.left_ms - (now - seen);
  const over = data.state === "expired" || data.state === "revoked" || ms <= 0;
  say(left, over ? `${ago(-ms / 1000)} ago` : clock(ms / 1000));
  life.draw(over || longest <= 0 ? 0 : Math.min(1, ms / longest));
}

function summary(root) {
  const bar = element("div", "states");
  bar.setAttribute("aria-hidden", "true");
  const legend = element("ul", "legend");
  root.append(bar, legend);
  return (states) => {
    const counted = new Map(states);
    const all = ORDER.filter((state) => counted.get(state) > 0);
    const told = JSON.stringify(states);
    if (root.dataset.told === told) return;
    root.dataset.told = told;
    bar.replaceChildren(...all.map((state) => {
      const part = element("span");
      part.dataset.state = state;
      part.style.flexGrow = String(counted.get(state));
      return part;
    }));
    legend.replaceChildren(...all.map((state) => {
      const item = element("li");
      item.dataset.state = state;
      item.append(element("span", "swatch"), element("strong", "", count(counted.get(state))), element("span", "", STATES[state].name));
      return item;
    }));
  };
}

export function connections(root) {
  const sums = element("div", "sums");
  const summed = summary(sums);
  const table = element("table");
  table.setAttribute("role", "table");
  table.setAttribute("aria-labelledby", "console-connections-title");
  const head = element("thead");
  head.setAttribute("role", "rowgroup");
  const titles = element("tr");
  titles.setAttribute("role", "row");
  for (const title of COLUMNS) {
    const column = element("th", "", title);
    column.setAttribute("role", "columnheader");
    column.setAttribute("scope", "col");
    titles.append(column);
  }
  head.append(titles);
  const body = element("tbody");
  body.setAttribute("role", "rowgroup");
  table.append(head, body);
  const scroll = element("div", "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-labelledby", "console-connections-title");
  scroll.append(table);
  const empty = element("p", "quiet", "No clients are connected.");
  const more = element("p", "quiet more");
  root.append(sums, scroll, empty, more);
  const rows = new Map();

  return {
    look({ connections: seen }, now) {
      root.hidden = !seen;
      if (!seen) return;
      summed(seen.states);
      seen.rows.forEach((data, index) => {
        const made = rows.get(data.id) ?? makeRow(data.id);
        rows.set(data.id, made);
        fill(made, data, now);
        if (body.children[index] !== made.row) body.insertBefore(made.row, body.children[index] ?? null);
      });
      const present = new Set(seen.rows.map(({ id }) => id));
      for (const [id, { row }] of rows) {
        if (present.has(id)) continue;
        row.remove();
        rows.delete(id);
      }
      const total = seen.states.reduce((all, [, some]) => all + some, 0);
      scroll.hidden = total === 0;
      empty.hidden = total > 0;
      more.hidden = total <= seen.rows.length;
      say(more, `The ${seen.rows.length} most remarkable of ${count(total)}.`);
    },
    tick(now) {
      for (const row of rows.values()) tick(row, now);
    },
  };
}
