/**
 * A page that slept. Timers of a hidden tab stand still, and a laptop's network comes and goes: when either is back, the
 * token may be long past its time, the connection long dead, and waiting on has no sense.
 *
 * A page that is frozen, or that is left and kept in case its user comes back, runs nothing, while the browser goes on taking
 * what its socket brings; so it says so before, and the server holds what comes meanwhile.
 */

/** What happens to a page. */
export interface PageHooks {
  /** It is seen again. */
  visible(): void;
  /** The network is back. */
  online(): void;
  /** Nothing in it will run until it wakes. */
  frozen(): void;
  /** It runs again. */
  thawed(): void;
}

/** Tells `hooks`, until the function that is returned is called. Where there is no page, nothing ever happens. */
export function watchPage(hooks: PageHooks): () => void {
  const page = typeof document === "undefined" ? undefined : document;
  // A worker has no document, but hears of the network.
  const scope = typeof globalThis.addEventListener === "function" ? globalThis : undefined;
  const watched = [
    [page, "visibilitychange", () => page?.visibilityState === "visible" && hooks.visible()],
    [page, "freeze", () => hooks.frozen()],
    [page, "resume", () => hooks.thawed()],
    [scope, "online", () => hooks.online()],
    // It is left, and may be kept (https://web.dev/articles/bfcache): an open socket would keep it from that.
    [scope, "pagehide", () => hooks.frozen()],
    [scope, "pageshow", () => hooks.thawed()],
  ] as const;
  for (const [target, name, listener] of watched) target?.addEventListener(name, listener);
  return () => {
    for (const [target, name, listener] of watched) target?.removeEventListener(name, listener);
  };
}
