// BFD beside the sessions. In: peers started and stopped, what the monitor says. Out: a call when the way to a peer with
// an established session has failed. Its routes then go at once, also those that graceful restart would keep: a peer whose
// process has died has closed its connection long before BFD could tell. RFC 5882 section 4.3.
//
// Trap: BFD runs as long as the peer is configured, not as long as its session. BIRD takes no BGP connection while a BFD
// session that was up is down, so BFD has to come back first.
import type { BfdMonitor, Transport } from './api.ts';
import type { Entry } from './entry.ts';

export class LinkWatch {
  readonly #monitor: BfdMonitor | null;
  readonly #transport: Transport;
  readonly #failed: (entry: Entry) => void;

  constructor(monitor: BfdMonitor | null, transport: Transport, failed: (entry: Entry) => void) {
    this.#monitor = monitor;
    this.#transport = transport;
    this.#failed = failed;
  }

  /** Begins, or ends, as the configuration of the peer says. */
  start(entry: Entry): void {
    this.stop(entry);
    const { config } = entry;
    if (!config.bfd || !this.#monitor) return;
    const state = { stop: () => {}, up: false };
    entry.bfd = state;
    const target = {
      address: config.address,
      ...(config.localAddress !== undefined && { localAddress: config.localAddress }),
      multihop: config.multihop !== undefined && config.multihop > 1,
      ...(config.interface !== undefined && { interface: config.interface }),
      scope: config.interface === undefined ? 0 : this.#transport.interfaceIndex(config.interface),
    };
    const watch = this.#monitor.watch(target, (up, administrative) => {
      if (entry.bfd !== state) return;
      const failed = state.up && !up && !administrative;
      state.up = up;
      if (failed && entry.peer.session) this.#failed(entry);
    });
    state.stop = () => watch.stop();
  }

  stop(entry: Entry): void {
    entry.bfd?.stop();
    entry.bfd = null;
  }
}
