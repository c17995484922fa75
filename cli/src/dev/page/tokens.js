// Tokens: good ones, and those that are not.

import { byId, clock, post, pretty, say } from "./dom.js";

const EXPIRED_AGO_S = 3600;

let token = null;

const subject = () => byId("subject").value;
const lifetime = () => Number(byId("lifetime").value);
const mint = (expires_in_s) => post("token", { subject: subject(), expires_in_s });

export async function mintWanted() {
  const life = lifetime();
  const asked = performance.now();
  token = { ...(await mint(life)), until: asked + life * 1000 };
  byId("token-text").textContent = token.token;
  say(byId("token-claims"), pretty(claims(token.token)));
  byId("token-details").hidden = false;
  byId("token-life").hidden = false;
  drawToken();
  return token.token;
}

// That this token counts no more, if it is the one that is shown; in so many seconds, if that is put off.
export function noteRevoked(jwt, in_s = 0) {
  if (!token || token.token !== jwt) return;
  token.revokedAt = Math.min(token.revokedAt ?? Infinity, performance.now() + in_s * 1000);
  drawToken();
}

// The same of its subject.
export const noteRevokedSubject = (whom, in_s) => token?.subject === whom && noteRevoked(token.token, in_s);

const isRevoked = () => performance.now() >= (token?.revokedAt ?? Infinity);
const secondsLeft = () => (token ? Math.max(0, (token.until - performance.now()) / 1000) : 0);
const goodToken = async () => (secondsLeft() > 0 ? token.token : mintWanted());

// A valid token but for its signature, of which one character is another. Not the last: not all of its bits count.
async function brokenToken() {
  const good = await goodToken();
  const at = good.lastIndexOf(".") + 10;
  return good.slice(0, at) + (good[at] === "A" ? "B" : "A") + good.slice(at + 1);
}

// How a message may be sent, and what is then said of it.
export const TOKENS = {
  good: { how: () => `token of ${token.subject}`, make: goodToken },
  fresh: { how: () => `fresh token of ${token.subject}`, make: mintWanted },
  none: { how: () => "no token", make: async () => undefined },
  expired: { how: () => "expired token", make: async () => (await mint(-EXPIRED_AGO_S)).token },
  broken: { how: () => "broken token", make: brokenToken },
};

function claims(jwt) {
  const bytes = Uint8Array.from(atob(jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

export function drawToken() {
  if (!token) return;
  const left = isRevoked() ? 0 : secondsLeft();
  byId("token-state").textContent = tokenState(left);
  byId("token-life").value = left / token.expires_in_s;
}

// A revoked one is sent all the same, so that a person sees what comes of it.
function tokenState(left) {
  if (isRevoked()) return `${token.subject}, revoked; mint another one`;
  if (left > 0) return `${token.subject}, for another ${clock(left)}`;
  return `${token.subject}, expired; a message that needs one mints a new one`;
}

export const hasToken = () => token !== null;

// What is shown of a message never holds its token.
export const shown = ({ token: jwt, ...rest }) => (jwt === undefined ? rest : { ...rest, token: "…" });
