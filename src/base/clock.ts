// Time as an argument: the real clock, and a manual one for tests and pure cores.

export interface TimerHandle {
  cancel(): void;
}

/** Times are milliseconds. `monotonic` never goes back; `wall` is since the Unix epoch. */
export interface Clock {
  monotonic(): number;
  wall(): number;
  /** Runs `callback` once after `delay` ms (0 or more). Timers do not keep the process alive. */
  after(delay: number, callback: () => void): TimerHandle;
}

export const systemClock: Clock = {
  monotonic: () => performance.now(),
  wall: () => Date.now(),
  after(delay, callback) {
    const timer = setTimeout(callback, delay);
    if (typeof timer === 'object') timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
};

/** A clock that moves only when told to; callbacks run in order of their due time. */
export class ManualClock implements Clock {
  #now: number;
  #sequence = 0;
  #timers: { due: number; sequence: number; callback: () => void }[] = [];

  constructor(start = 0) {
    this.#now = start;
  }

  monotonic(): number {
    return this.#now;
  }

  wall(): number {
    return this.#now;
  }

  after(delay: number, callback: () => void): TimerHandle {
    const timer = { due: this.#now + Math.max(0, delay), sequence: this.#sequence++, callback };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((t) => t !== timer);
      },
    };
  }

  /** Milliseconds until the next timer; null when there is none. */
  nextDue(): number | null {
    let due: number | null = null;
    for (const t of this.#timers) if (due === null || t.due < due) due = t.due;
    return due === null ? null : due - this.#now;
  }

  /** Moves time on by `ms`, running what falls due on the way. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const next = this.#timers.filter((t) => t.due <= end).sort((a, b) => a.due - b.due || a.sequence - b.sequence)[0];
      if (!next) break;
      this.#timers = this.#timers.filter((t) => t !== next);
      this.#now = Math.max(this.#now, next.due);
      next.callback();
    }
    this.#now = end;
  }
}
