// What the lab asks of a router, whatever software it runs.
import { existsSync } from 'node:fs';
import type { PlannedRouter } from '../plan.ts';
import type { LabState } from '../state.ts';
import type { RouterKind } from '../topology.ts';

export interface RouterSession {
  readonly node: string;
  readonly family: 4 | 6;
  readonly established: boolean;
  /** The daemon's own words, e.g. `Established` or `Active        Socket: Connection refused`. */
  readonly info: string;
}

export interface RouterRoute {
  readonly prefix: string;
  /** Nodes the route was learned from; the best first. */
  readonly from: readonly string[];
  readonly nextHops: readonly string[];
}

export interface RouterDriver {
  readonly kind: RouterKind;
  /** Throws `unavailable` with the remedy when its software is not on this machine. */
  check(): void;
  /** For people: `BIRD 2.0.12`. */
  version(): string;
  start(state: LabState, router: PlannedRouter): void;
  /** Takes the router's present plan over without resetting the sessions that stay. */
  reconfigure(state: LabState, router: PlannedRouter): Promise<void>;
  /** Throws `unavailable` when the daemon does not answer. */
  sessions(state: LabState, router: PlannedRouter): Promise<RouterSession[]>;
  /** What it learned over BGP, of both families. */
  routes(state: LabState, router: PlannedRouter): Promise<RouterRoute[]>;
  /** The command with which a person asks the router itself for its table. */
  showCommand(state: LabState, router: PlannedRouter): readonly string[];
}

/** First place on the usual path where the program is; null when it is nowhere. */
export function findProgram(...names: readonly string[]): string | null {
  const dirs = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/usr/bin', '/sbin', '/bin', '/usr/lib/frr'];
  for (const name of names) {
    for (const dir of dirs) if (dir !== '' && existsSync(`${dir}/${name}`)) return `${dir}/${name}`;
  }
  return null;
}
