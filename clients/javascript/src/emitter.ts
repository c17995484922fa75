/**
 * Who wants to know of what.
 */
export class Emitter<Events extends { [name: string]: unknown }> {
  /** Who listens, and whether that is for one event only. */
  readonly #listeners = new Map<keyof Events, Map<(event: never) => void, boolean>>();

  /** Calls `listener` at each event of that name. Returns how to end that. */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    return this.#add(name, listener, false);
  }

  /** Calls `listener` at the next event of that name, and no more. Returns how to end that before. */
  once<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    return this.#add(name, listener, true);
  }

  /** Calls `listener` no more at events of that name. */
  off<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): void {
    const listeners = this.#listeners.get(name);
    listeners?.delete(listener);
    // Names may be as many as an application thinks of.
    if (listeners?.size === 0) this.#listeners.delete(name);
  }

  /** A listener that throws keeps no other from hearing; its error is reported as an uncaught one would be. */
  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    for (const [listener, isOnce] of [...(this.#listeners.get(name) ?? [])]) {
      if (isOnce) this.off(name, listener as (event: Events[Name]) => void);
      try {
        (listener as (event: Events[Name]) => void)(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  #add<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void, isOnce: boolean): () => void {
    const listeners = this.#listeners.get(name) ?? new Map();
    this.#listeners.set(name, listeners);
    listeners.set(listener, isOnce);
    return () => this.off(name, listener);
  }
}
