// The states of a BGP connection and of a neighbour (RFC 4271 section 8.2.2).

export type ConnectionState = 'idle' | 'connect' | 'active' | 'open-sent' | 'open-confirm' | 'established';

/** A neighbour's state is that of its furthest connection. */
export type NeighbourState = ConnectionState;
