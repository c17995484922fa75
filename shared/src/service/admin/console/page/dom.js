// Small helpers: elements, and numbers for people. All text is set as text, never as markup.

export const byId = (id) => document.getElementById(id);

// Control and format characters, which would do something to the text around them, as JSON escapes them.
const ACTIVE = /[\p{Cc}\p{Cf}\u2028\u2029\u034f\u180b-\u180d\u{e0100}-\u{e01ef}]/gu;
const escape = (c) => c.split("").map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`).join("");
export const inert = (text) => String(text).replace(ACTIVE, (c) => (c === "\n" || c === "\t" ? c : escape(c)));

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = inert(text);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function drawing(name, attributes = {}) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Sets what is different only, so that nothing is announced or laid out for nothing.
export function say(node, text) {
  const told = inert(text);
  if (node.textContent !== told) node.textContent = told;
}

// Milliseconds up to a second, seconds from there on: what is held waits as long as a person does.
export const duration = (us) => (us < 1_000_000 ? `${(us / 1000).toFixed(2)} ms` : `${(us / 1_000_000).toFixed(2)} s`);

export function clock(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole >= 3600) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// Seconds that have passed, in one unit.
export function ago(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  return `${Math.floor(whole / 3600)} h`;
}

const COUNT = new Intl.NumberFormat("en");
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (number) => (number < 1_000_000 ? COUNT.format(Math.round(number)) : SHORT.format(number));

// A rate: with a decimal as long as that says something.
export const rate = (number) => (number > 0 && number < 10 ? number.toFixed(1) : count(number));
