// Small helpers: elements, requests, and numbers for people. All text is set as text, never as markup.

export const byId = (id) => document.getElementById(id);

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error((await response.text()) || `status ${response.status}`);
  return response.json();
}

export const pretty = (value) => JSON.stringify(value, null, 2);

// Milliseconds until ten seconds, seconds from there on: what is held waits as long as a person does.
export const duration = (us) => (us < 10_000_000 ? `${(us / 1000).toFixed(2)} ms` : `${(us / 1_000_000).toFixed(1)} s`);

export function clock(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole >= 3600) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// What keeps a form from being sent is told beside it.
export const saying = (id) => (act) =>
  act().then(
    () => { byId(id).textContent = ""; },
    (error) => { byId(id).textContent = error.message; },
  );
