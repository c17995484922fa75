/**
 * A page that slept. Timers of a hidden tab stand still, and a laptop's network comes and goes: when either is back, the
 * token may be long past its time, the connection long dead, and waiting on has no sense.
 */

/** What happens to a page. */
export interface Awake {
  /** It is seen again. */
  visible(): void;
  /** The network is back. */
  online(): void;
}

/** Tells `awake`, until the function that is returned is called. Where there is no page, nothing ever happens. */
export function watchPage(awake: Awake): () => void {
  const page = typeof document === "undefined" ? undefined : document;
  // A worker has no document, but hears of the network.
  const scope = typeof globalThis.addEventListener === "function" ? globalThis : undefined;
  const onVisible = () => {
    if (page?.visibilityState === "visible") awake.visible();
  };
  const onOnline = () => awake.online();
  page?.addEventListener("visibilitychange", onVisible);
  scope?.addEventListener("online", onOnline);
  return () => {
    page?.removeEventListener("visibilitychange", onVisible);
    scope?.removeEventListener("online", onOnline);
  };
}
