// The speaker's listening sockets. In: where to listen, the TCP-MD5 keys. Out: accepted connections.
// An address that cannot be bound (not there yet, port still held by an old process) is tried again every second.
import type { Clock, TimerHandle } from '#base/clock.ts';
import { errorText } from '#base/errors.ts';
import type { Connection, ListenConfig, Listener, PasswordRule, Transport } from './api.ts';

const RETRY_MS = 1000;

export class ListenerSet {
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #accept: (connection: Connection) => void;
  readonly #complain: (message: string) => void;
  readonly #listeners = new Map<string, Listener>();
  readonly #retry = new Map<string, TimerHandle>();
  /** The last complaint of each address, so that a retry does not repeat it. */
  readonly #complaints = new Map<string, string>();
  #passwords: readonly PasswordRule[] = [];

  constructor(
    transport: Transport,
    clock: Clock,
    accept: (connection: Connection) => void,
    complain: (message: string) => void,
  ) {
    this.#transport = transport;
    this.#clock = clock;
    this.#accept = accept;
    this.#complain = complain;
  }

  /** The addresses on which we listen now. */
  get listening(): readonly ListenConfig[] {
    return [...this.#listeners.values()].map((l) => ({ address: l.address, port: l.port }));
  }

  /** The whole set of addresses and keys. Keys are in place before a listener's first connection is accepted. */
  set(wanted: readonly ListenConfig[], passwords: readonly PasswordRule[]): void {
    this.#passwords = passwords;
    const keys = new Set(wanted.map(keyOf));
    for (const [key, listener] of this.#listeners) {
      if (keys.has(key)) continue;
      listener.close();
      this.#listeners.delete(key);
    }
    this.#cancelRetries();
    for (const listen of wanted) this.#listenOn(listen);
    for (const [key, listener] of this.#listeners) this.#applyPasswords(key, listener);
  }

  close(): void {
    this.#cancelRetries();
    for (const listener of this.#listeners.values()) listener.close();
    this.#listeners.clear();
  }

  #listenOn(listen: ListenConfig): void {
    const key = keyOf(listen);
    if (this.#listeners.has(key)) return;
    try {
      const listener = this.#transport.listen(listen, this.#accept);
      this.#listeners.set(key, listener);
      this.#complaints.delete(key);
      this.#applyPasswords(key, listener);
    } catch (error) {
      this.#complainOnce(key, `listen on ${key}: ${errorText(error)}`);
      this.#retry.set(
        key,
        this.#clock.after(RETRY_MS, () => {
          this.#retry.delete(key);
          this.#listenOn(listen);
        }),
      );
    }
  }

  #applyPasswords(key: string, listener: Listener): void {
    try {
      listener.setPasswords(this.#passwords);
    } catch (error) {
      this.#complainOnce(key, `TCP-MD5 keys on ${key}: ${errorText(error)}`);
    }
  }

  #complainOnce(key: string, message: string): void {
    if (this.#complaints.get(key) === message) return;
    this.#complaints.set(key, message);
    this.#complain(message);
  }

  #cancelRetries(): void {
    for (const timer of this.#retry.values()) timer.cancel();
    this.#retry.clear();
  }
}

function keyOf(listen: ListenConfig): string {
  return listen.address.includes(':') ? `[${listen.address}]:${listen.port}` : `${listen.address}:${listen.port}`;
}
