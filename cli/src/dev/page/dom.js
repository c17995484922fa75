// Small helpers of the playground, beside those of the console.

import { byId } from "./console/dom.js";

export { byId, clock, duration, element, say } from "./console/dom.js";

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

// What keeps a form from being sent is told beside it.
export const saying = (id) => (act) =>
  act().then(
    () => { byId(id).textContent = ""; },
    (error) => { byId(id).textContent = error.message; },
  );
