// From what was counted so far to how fast it goes and how long it takes. The time is an argument, in milliseconds.

export const WINDOW_MS = 60_000;
const RATE_MS = 3_000;

// A counter that fell began anew.
const increase = (before, after) => (after >= before ? after - before : after);

// What has been counted, over the last minute.
export class Series {
  #samples = [];

  add(at, value) {
    const samples = this.#samples;
    samples.push({ at, value });
    while (samples.length > 2 && samples[1].at < at - WINDOW_MS) samples.shift();
  }

  get total() {
    return this.#samples.at(-1)?.value ?? 0;
  }

  // How many a second, at present.
  rate(now) {
    const recent = this.#samples.filter(({ at }) => at >= now - RATE_MS);
    if (recent.length < 2) return 0;
    // Of less than a second nothing can be said by the second.
    return this.#increase(recent) / Math.max(1, (recent.at(-1).at - recent[0].at) / 1000);
  }

  // How many in each of so many parts of the last minute, the oldest first.
  bins(now, parts) {
    const bins = new Array(parts).fill(0);
    const width = WINDOW_MS / parts;
    // Whole parts of the clock, so that a bar keeps its height while it moves.
    const end = Math.ceil(now / width) * width;
    this.#samples.forEach(({ at, value }, index) => {
      if (index === 0) return;
      const bin = parts - 1 - Math.floor((end - at) / width);
      if (bin >= 0 && bin < parts) bins[bin] += increase(this.#samples[index - 1].value, value);
    });
    return bins;
  }

  #increase(samples) {
    return samples.slice(1).reduce((sum, { value }, index) => sum + increase(samples[index].value, value), 0);
  }
}

// What has been measured: how many up to each bound, over the last minute.
export class Histogram {
  #samples = [];

  // `buckets` are pairs of an upper bound and how many there were up to it, from the least bound to infinity.
  add(at, buckets) {
    const last = this.#samples.at(-1);
    if (last && at - last.at < 1000) return;
    this.#samples.push({ at, buckets });
    while (this.#samples.length > 2 && this.#samples[1].at < at - WINDOW_MS) this.#samples.shift();
  }

  // The seconds within which such a part of them was, if there were any.
  quantile(part) {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (!first || !last) return null;
    const grown = last.buckets.map(([bound, upTo], index) => [bound, upTo - (first.buckets[index]?.[1] ?? 0)]);
    // Nothing new in the last minute: all that there ever was, rather than nothing.
    const counted = (grown.at(-1)?.[1] ?? 0) > 0 ? grown : last.buckets;
    const total = counted.at(-1)?.[1] ?? 0;
    if (total <= 0) return null;
    const wanted = part * total;
    let [from, below] = [0, 0];
    for (const [bound, upTo] of counted) {
      if (upTo >= wanted) {
        if (bound === Infinity) return from;
        return upTo === below ? bound : from + ((bound - from) * (wanted - below)) / (upTo - below);
      }
      [from, below] = [bound, upTo];
    }
    return from;
  }
}

const LABEL = /([a-z_]+)="((?:[^"\\]|\\.)*)"/g;

// `a_total{kind="b"}` is the metric `a_total` with the label kind=b.
export function parsed(name) {
  const brace = name.indexOf("{");
  if (brace < 0) return { metric: name, labels: {} };
  const labels = Object.fromEntries([...name.slice(brace).matchAll(LABEL)].map(([, key, value]) => [key, value]));
  return { metric: name.slice(0, brace), labels };
}

// The sum of all figures that `wanted` accepts, if there are any. What a name means is
// found out once.
export function sum(figures, wanted, cache) {
  let [total, some] = [0, false];
  for (const [name, value] of figures) {
    let meant = cache.get(name);
    if (meant === undefined) {
      const { metric, labels } = parsed(name);
      meant = wanted(metric, labels);
      cache.set(name, meant);
    }
    if (meant) [total, some] = [total + value, true];
  }
  return some ? total : null;
}

// The buckets of one histogram, from the least bound to infinity.
export function buckets(figures, metric) {
  const found = [];
  for (const [name, value] of figures) {
    if (!name.startsWith(`${metric}_bucket{`)) continue;
    const { le } = parsed(name).labels;
    found.push([le === "+Inf" ? Infinity : Number(le), value]);
  }
  return found.sort(([a], [b]) => a - b);
}
