// Wakes the watchers of other processes when something was written: a small file beside the store that every writer
// touches after its commit and every watcher has an inotify watch on. In: `touch()`. Out: calls of `onWake`.
//
// Traps: the wake is only a hint, the revision in the store is the truth, so a lost or doubled wake does no harm; the file
// of the WAL itself would wake too early, before the commit can be seen; inotify instances may be used up (one a process),
// then the caller's poll has to be fast.
import { closeSync, constants, type FSWatcher, openSync, watch, writeSync } from 'node:fs';

/** How often a watcher looks by itself, in ms: with a working inotify watch, and without one. */
export const SAFETY_POLL = 1000;
export const FAST_POLL = 20;

const ONE_BYTE = Uint8Array.of(0x2e);

export class NotifyFile {
  readonly #path: string;
  readonly #fd: number;
  #watcher: FSWatcher | null = null;
  #timer: NodeJS.Timeout | null = null;

  constructor(storePath: string) {
    this.#path = `${storePath}-notify`;
    this.#fd = openSync(this.#path, constants.O_RDWR | constants.O_CREAT, 0o600);
  }

  /** Tells everybody, this process included, that there is something new. Never throws: watchers also poll. */
  touch(): void {
    try {
      // Always the same byte at the same place: it is the write that fires inotify, and the file must not grow.
      writeSync(this.#fd, ONE_BYTE, 0, 1, 0);
    } catch {
      // A full disk, most likely. The safety poll finds the change.
    }
  }

  /** Starts waking. `onWake` may be called when nothing has changed. */
  start(onWake: () => void): void {
    if (this.#timer) return;
    let poll = SAFETY_POLL;
    try {
      this.#watcher = watch(this.#path, () => onWake());
      this.#watcher.on('error', () => {
        this.stop();
        this.#timer = setInterval(onWake, FAST_POLL);
      });
    } catch {
      poll = FAST_POLL;
    }
    this.#timer = setInterval(onWake, poll);
  }

  stop(): void {
    this.#watcher?.close();
    this.#watcher = null;
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
  }

  close(): void {
    this.stop();
    closeSync(this.#fd);
  }
}
