// What the process tells, as it tells it: looks, of which each has only those figures that changed.

const RETRY_MS = 1000;
const MOST_FIGURES = 5000;

// `on` is told of `hello`, of each `look` with all figures, and of each `state`: connecting, live, lost, paused.
export class Feed {
  #url;
  #on;
  #source = null;
  #figures = new Map();
  #wanted = false;
  #paused = false;
  #retry = 0;

  constructor(url, on) {
    this.#url = url;
    this.#on = on;
    document.addEventListener("visibilitychange", () => this.#settle());
  }

  // Whether its data is wanted.
  want(wanted) {
    this.#wanted = wanted;
    this.#settle();
  }

  pause(paused) {
    this.#paused = paused;
    this.#settle();
    if (paused) this.#on.state("paused");
  }

  get paused() {
    return this.#paused;
  }

  #settle() {
    const open = this.#wanted && !this.#paused && !document.hidden;
    if (open && !this.#source) this.#open();
    if (!open) this.#close();
  }

  #close() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }

  #open() {
    this.#on.state("connecting");
    const source = new EventSource(this.#url);
    this.#source = source;
    source.addEventListener("hello", ({ data }) => {
      this.#figures.clear();
      this.#on.hello(JSON.parse(data));
    });
    source.addEventListener("message", ({ data }) => this.#look(JSON.parse(data)));
    source.addEventListener("error", () => {
      this.#on.state("lost");
      // A browser tries again by itself unless it was refused; this way both look alike.
      this.#close();
      this.#retry = setTimeout(() => this.#settle(), RETRY_MS);
    });
  }

  #look({ figures, ...parts }) {
    for (const [name, value] of Object.entries(figures)) {
      if (this.#figures.size < MOST_FIGURES || this.#figures.has(name)) this.#figures.set(name, value);
    }
    this.#on.state("live");
    this.#on.look({ ...parts, figures: this.#figures });
  }
}
