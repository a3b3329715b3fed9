// The rules of graceful restart, as pure functions: what is kept when a session ends, what is still kept when the peer
// is back, and for whom a speaker that has restarted itself has to wait.
// RFC 4724 sections 3 and 4, 8538 (NOTIFICATION), 9494 (long-lived).
import type { DownCause } from '#bgp/fsm/neighbour.ts';
import type { Capabilities } from '#bgp/wire/capabilities.ts';
import { isHardReset, type Notification } from '#bgp/wire/notification.ts';
import type { AddressFamily } from '#bgp/wire/types.ts';

/** How long stale routes stay at most once the peer is back and has not sent its End-of-RIB, in ms. */
export const STALE_PATH_LIMIT = 360_000;
/** How long a restarted speaker waits for the peers that are there, in ms. */
export const DEFERRAL_LIMIT = 15_000;

/** True when routes of the family stay in use, stale, after the loss of a session. */
export function retains(
  local: Capabilities,
  peer: Capabilities,
  family: AddressFamily,
  cause: DownCause,
  notification: Notification | null,
): boolean {
  const mine = local.gracefulRestart;
  const theirs = peer.gracefulRestart;
  // Without families of our own graceful restart is switched off here; a peer is never held for what it did not offer.
  if (!mine || mine.families.length === 0 || !theirs) return false;
  if (!theirs.families.some((f) => f.family === family)) return false;
  switch (cause) {
    case 'connection-lost':
    case 'peer-restarted':
      return true;
    case 'hold-expired':
    case 'notification-received':
    case 'notification-sent':
      return mine.notification && theirs.notification && !(notification && isHardReset(notification));
    case 'stopped':
      return false;
  }
}

/** True when stale routes of the family stay until End-of-RIB, now that the peer is back with this OPEN. */
export function keepsAfterReturn(peer: Capabilities, family: AddressFamily): boolean {
  return peer.gracefulRestart?.families.some((f) => f.family === family && f.forwarding) ?? false;
}

/** Seconds for which stale routes of a family stay after the restart time (RFC 9494); 0 when not agreed. */
export function longLivedTime(local: Capabilities, peer: Capabilities, family: AddressFamily): number {
  const mine = local.longLived.find((f) => f.family === family);
  const theirs = peer.longLived.find((f) => f.family === family);
  return mine && theirs && peer.gracefulRestart ? theirs.staleTime : 0;
}

/** What a restarted speaker knows of one peer. */
export interface RestartPeer {
  /** Passive peers and members of ranges are not waited for: nobody knows whether they live. */
  readonly dialled: boolean;
  /** A first attempt to connect has ended, one way or the other. */
  readonly tried: boolean;
  /** A TCP connection is up. */
  readonly alive: boolean;
  readonly established: boolean;
  /** The peer's capabilities once established. */
  readonly capabilities: Capabilities | null;
  /** Families agreed on the session. */
  readonly families: readonly AddressFamily[];
  /** Families whose End-of-RIB has come. */
  readonly endOfRib: readonly AddressFamily[];
}

/**
 * True while a restarted speaker should wait for the peer before it says End-of-RIB itself. Not for peers that cannot
 * tell (no graceful restart), that are restarting themselves (they wait for us), or that are not there.
 */
export function awaits(peer: RestartPeer): boolean {
  if (peer.established) {
    const offered = peer.capabilities?.gracefulRestart;
    if (!offered || offered.restarting) return false;
    return peer.families.some((family) => !peer.endOfRib.includes(family));
  }
  return peer.alive || (peer.dialled && !peer.tried);
}
