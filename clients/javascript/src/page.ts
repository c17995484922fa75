/**
 * A page that slept. Timers of a hidden tab stand still, and a laptop's network comes and goes: when either is back, the
 * token may be long past its time, and waiting on has no sense.
 */

/** Calls `awake` when the page is seen again, or the network is back. Returns how to end that. Elsewhere it does nothing. */
export function watchPage(awake: () => void): () => void {
  if (typeof document === "undefined" || typeof window === "undefined") return () => {};
  const onVisible = () => {
    if (document.visibilityState === "visible") awake();
  };
  document.addEventListener("visibilitychange", onVisible);
  window.addEventListener("online", awake);
  return () => {
    document.removeEventListener("visibilitychange", onVisible);
    window.removeEventListener("online", awake);
  };
}
