/**
 * Which pushes came lately: the server delivers each at least once, an application wants each once.
 */
export class Recent {
  readonly #ids = new Set<string>();

  constructor(private readonly most: number) {}

  /** Whether this id is new; it no longer is from now on. The oldest is forgotten when there are too many. */
  isNew(id: string): boolean {
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (this.#ids.size > this.most) {
      for (const oldest of this.#ids) {
        this.#ids.delete(oldest);
        break;
      }
    }
    return true;
  }
}
