// The states of a BGP connection and of a neighbour (RFC 4271 section 8.2.2), and the FSM's timers.

/** `delay-open` is a connection that waits for DelayOpenTimer; RFC 4271 counts it as Connect or Active. */
export type ConnectionState = 'delay-open' | 'open-sent' | 'open-confirm' | 'established';

/** What a neighbour shows: the state of its furthest connection, or what it does without one. */
export type NeighbourState = 'idle' | 'connect' | 'active' | 'open-sent' | 'open-confirm' | 'established';

/** Specified in RFC 4271 section 10, RFC 9687. Milliseconds. */
export const OPEN_SENT_HOLD = 60_000;

/** Ours. First retry, doubled up to the cap, each drawn evenly between the floor and its bound ("full jitter"). */
export const CONNECT_RETRY_FIRST = 1_000;
export const CONNECT_RETRY_CAP = 15_000;
export const CONNECT_RETRY_FLOOR = 100;
/** An attempt to connect is given up after this. */
export const CONNECT_TIMEOUT = 15_000;
/** Wait in Idle after an error, doubled up to the cap; forgotten when a session has stood this long. */
export const IDLE_HOLD_FIRST = 1_000;
export const IDLE_HOLD_CAP = 30_000;
export const STABLE_AFTER = 300_000;
/** A connection from a peer whose session is younger is a late collision, not a restart. */
export const SETTLED_AFTER = 10_000;
