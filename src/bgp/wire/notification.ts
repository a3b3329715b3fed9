// NOTIFICATION (RFC 4271 4.5, 4486, 6608, 7313, 8538, 9003, 9384) and the names of its codes. @wire-vocabulary
import { frame, HEADER_LENGTH, MSG_NOTIFICATION } from './message.ts';
import { EMPTY_BYTES } from './types.ts';

export const ERR_HEADER = 1;
export const ERR_OPEN = 2;
export const ERR_UPDATE = 3;
export const ERR_HOLD = 4;
export const ERR_FSM = 5;
export const ERR_CEASE = 6;
export const ERR_REFRESH = 7;
export const ERR_SEND_HOLD = 8;

export const CEASE_MAX_PREFIXES = 1;
export const CEASE_SHUTDOWN = 2;
export const CEASE_DECONFIGURED = 3;
export const CEASE_RESET = 4;
export const CEASE_REJECTED = 5;
export const CEASE_CONFIG_CHANGE = 6;
export const CEASE_COLLISION = 7;
export const CEASE_RESOURCES = 8;
export const CEASE_HARD_RESET = 9;
export const CEASE_BFD_DOWN = 10;

/** FSM error subcodes (RFC 6608): the state in which a message was not expected. */
export const FSM_OPEN_SENT = 1;
export const FSM_OPEN_CONFIRM = 2;
export const FSM_ESTABLISHED = 3;

const NAMES: Readonly<Record<number, { name: string; subcodes: readonly (string | undefined)[] }>> = {
  [ERR_HEADER]: {
    name: 'message header error',
    subcodes: ['unspecific', 'connection not synchronized', 'bad message length', 'bad message type'],
  },
  [ERR_OPEN]: {
    name: 'OPEN error',
    subcodes: [
      'unspecific',
      'unsupported version',
      'bad peer AS',
      'bad BGP identifier',
      'unsupported optional parameter',
      undefined,
      'unacceptable hold time',
      'unsupported capability',
      undefined,
      undefined,
      undefined,
      'role mismatch',
    ],
  },
  [ERR_UPDATE]: {
    name: 'UPDATE error',
    subcodes: [
      'unspecific',
      'malformed attribute list',
      'unrecognized well-known attribute',
      'missing well-known attribute',
      'attribute flags error',
      'attribute length error',
      'invalid ORIGIN',
      undefined,
      'invalid NEXT_HOP',
      'optional attribute error',
      'invalid network field',
      'malformed AS_PATH',
    ],
  },
  [ERR_HOLD]: { name: 'hold timer expired', subcodes: [] },
  [ERR_FSM]: {
    name: 'FSM error',
    subcodes: [
      'unspecific',
      'unexpected message in OpenSent',
      'unexpected message in OpenConfirm',
      'unexpected message in Established',
    ],
  },
  [ERR_CEASE]: {
    name: 'cease',
    subcodes: [
      'unspecific',
      'maximum number of prefixes reached',
      'administrative shutdown',
      'peer de-configured',
      'administrative reset',
      'connection rejected',
      'other configuration change',
      'connection collision resolution',
      'out of resources',
      'hard reset',
      'BFD down',
    ],
  },
  [ERR_REFRESH]: { name: 'ROUTE-REFRESH error', subcodes: ['unspecific', 'invalid message length'] },
  [ERR_SEND_HOLD]: { name: 'send hold timer expired', subcodes: [] },
};

export interface Notification {
  readonly code: number;
  readonly subcode: number;
  readonly data: Uint8Array;
}

export function encodeNotification(n: Notification): Uint8Array {
  const body = new Uint8Array(2 + Math.min(n.data.length, 4096 - HEADER_LENGTH - 2));
  body[0] = n.code;
  body[1] = n.subcode;
  body.set(n.data.subarray(0, body.length - 2), 2);
  return frame(MSG_NOTIFICATION, body);
}

/** Reads a framed NOTIFICATION (at least 21 octets, which the framing has checked). */
export function decodeNotification(buf: Uint8Array, off: number, len: number): Notification {
  return {
    code: buf[off + HEADER_LENGTH]!,
    subcode: buf[off + HEADER_LENGTH + 1]!,
    data: buf.slice(off + HEADER_LENGTH + 2, off + len),
  };
}

/** `cease: administrative shutdown`, with the peer's own words where it sent some (RFC 9003). */
export function notificationText(n: Notification): string {
  const entry = NAMES[n.code];
  if (!entry) return `error ${n.code}/${n.subcode}`;
  const sub = entry.subcodes[n.subcode] ?? (n.subcode === 0 ? undefined : `subcode ${n.subcode}`);
  const base = sub === undefined ? entry.name : `${entry.name}: ${sub}`;
  if (isHardReset(n)) {
    const inner = hardResetCause(n);
    return inner ? `${base} (${notificationText(inner)})` : base;
  }
  const words = shutdownText(n);
  return words ? `${base}: "${words}"` : base;
}

/** The data of a shutdown or reset with a message: a length octet and at most 255 octets of UTF-8 (RFC 9003). */
export function shutdownData(words: string): Uint8Array {
  if (words === '') return EMPTY_BYTES;
  let text = new TextEncoder().encode(words);
  if (text.length > 255) {
    let end = 255;
    while (end > 0 && (text[end]! & 0xc0) === 0x80) end--; // not through the middle of a character
    text = text.slice(0, end);
  }
  const data = new Uint8Array(text.length + 1);
  data[0] = text.length;
  data.set(text, 1);
  return data;
}

/** The words of a shutdown or reset, made safe for a terminal; null when there are none or they are malformed. */
export function shutdownText(n: Notification): string | null {
  if (n.code !== ERR_CEASE || (n.subcode !== CEASE_SHUTDOWN && n.subcode !== CEASE_RESET)) return null;
  const length = n.data[0];
  if (length === undefined || length === 0 || length > n.data.length - 1) return null;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(n.data.subarray(1, 1 + length));
    // oxlint-disable-next-line no-control-regex
    return text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, ' ');
  } catch {
    return null;
  }
}

/** RFC 8538: a Hard Reset ends graceful restart; its data is the NOTIFICATION it stands for. */
export function isHardReset(n: Notification): boolean {
  return n.code === ERR_CEASE && n.subcode === CEASE_HARD_RESET;
}

export function hardReset(inner: Notification): Notification {
  const data = new Uint8Array(2 + inner.data.length);
  data[0] = inner.code;
  data[1] = inner.subcode;
  data.set(inner.data, 2);
  return { code: ERR_CEASE, subcode: CEASE_HARD_RESET, data };
}

function hardResetCause(n: Notification): Notification | null {
  if (n.data.length < 2) return null;
  const inner = { code: n.data[0]!, subcode: n.data[1]!, data: n.data.slice(2) };
  return isHardReset(inner) ? null : inner; // a nested one is nonsense, and would recurse
}
