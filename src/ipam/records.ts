// The records of the IPAM journal and their form on disk: one line each, `<CRC-32 of the JSON, 8 hex digits> <JSON>\n`,
// so that the file can be read with less(1) and a torn or changed line is noticed.
//
// Replay folds the records into the state at the end; every record may be there twice (see journal.ts).
import { crc32 } from 'node:zlib';
import { BrindleError } from '#base/errors.ts';
import type { Attachment } from '#model/attachment.ts';

/** Of the records below. A newer one is refused, an older one is read. */
export const JOURNAL_VERSION = 1;

export type JournalRecord =
  /** The first record of every file. */
  | { readonly op: 'journal'; readonly version: number; readonly host: string }
  /** This host holds the lease of a block. */
  | { readonly op: 'block'; readonly cidr: string; readonly pool: string }
  | { readonly op: 'unblock'; readonly cidr: string }
  | { readonly op: 'assign'; readonly attachment: Attachment }
  /** The call that asked was answered: from now on the attachment is the runtime's to remove. */
  | { readonly op: 'commit'; readonly handle: string }
  | { readonly op: 'release'; readonly handle: string; readonly at: number }
  /** An address that was freed and is not to be used yet. `at` in milliseconds since the Unix epoch. */
  | { readonly op: 'freed'; readonly address: string; readonly at: number };

export function encodeRecord(record: JournalRecord): string {
  const json = JSON.stringify(record);
  return `${crc32(json).toString(16).padStart(8, '0')} ${json}\n`;
}

/** null when the line (without its newline) is not a whole record. */
function decodeLine(line: string): JournalRecord | null {
  if (line[8] !== ' ') return null;
  const json = line.slice(9);
  if (crc32(json).toString(16).padStart(8, '0') !== line.slice(0, 8)) return null;
  try {
    const record: unknown = JSON.parse(json);
    return typeof record === 'object' && record !== null && 'op' in record ? (record as JournalRecord) : null;
  } catch {
    return null;
  }
}

export interface JournalContent {
  readonly records: readonly JournalRecord[];
  /** Where the next record belongs. */
  readonly goodLength: number;
  /** Octets of a half-written last record, which nobody was promised. */
  readonly tornLength: number;
  /** Octet offset of a damaged record that good ones follow; null when there is none. */
  readonly damagedAt: number | null;
}

/** Reads a whole journal. Never throws: what is wrong with it is in the answer. */
export function decodeJournal(octets: Uint8Array): JournalContent {
  const buffer = Buffer.from(octets.buffer, octets.byteOffset, octets.length);
  const records: JournalRecord[] = [];
  let goodLength = 0;
  let firstBad: number | null = null;
  let damagedAt: number | null = null;
  for (let at = 0; at < buffer.length; ) {
    const newline = buffer.indexOf(10, at);
    const end = newline < 0 ? buffer.length : newline;
    const record = newline < 0 ? null : decodeLine(buffer.toString('utf8', at, end));
    if (record) {
      if (firstBad !== null) damagedAt ??= firstBad;
      records.push(record);
      goodLength = end + 1;
    } else firstBad ??= at;
    at = end + 1;
  }
  return { records, goodLength, tornLength: octets.length - goodLength, damagedAt };
}

/** What the records add up to. */
export interface JournalState {
  readonly blocks: Map<string, { readonly cidr: string; readonly pool: string }>;
  readonly attachments: Map<string, { readonly attachment: Attachment; committed: boolean }>;
  /** Address -> when it was freed, milliseconds since the Unix epoch. */
  readonly freed: Map<string, number>;
}

/**
 * The state, and what is wrong with it: `unsupported` for a newer journal, `corrupt` for one of another host or with an
 * address held twice; null when all is well.
 */
export function replay(
  records: readonly JournalRecord[],
  host: string,
  path: string,
): { state: JournalState; problem: BrindleError | null } {
  const state: JournalState = { blocks: new Map(), attachments: new Map(), freed: new Map() };
  let problem: BrindleError | null = null;
  for (const record of records) {
    const wrong = apply(record, state, host, path);
    problem ??= wrong;
  }
  const holders = new Map<string, string>();
  for (const { attachment } of state.attachments.values()) {
    for (const address of attachment.addresses) {
      const other = holders.get(address);
      if (other !== undefined)
        problem ??= corrupt(path, `it gives ${address} to both ${other} and ${attachment.handle}`);
      holders.set(address, attachment.handle);
    }
  }
  return { state, problem };
}

function apply(record: JournalRecord, state: JournalState, host: string, path: string): BrindleError | null {
  switch (record.op) {
    case 'journal':
      if (record.version > JOURNAL_VERSION) {
        return new BrindleError('unsupported', `${path} was written by a newer Brindle (format ${record.version})`, {
          remedy: 'run the newer agent again',
        });
      }
      if (record.host !== host) return corrupt(path, `it belongs to host ${record.host}, this is ${host}`);
      break;
    case 'block':
      state.blocks.set(record.cidr, record);
      break;
    case 'unblock':
      state.blocks.delete(record.cidr);
      break;
    case 'assign':
      state.attachments.set(record.attachment.handle, {
        attachment: record.attachment,
        committed: state.attachments.get(record.attachment.handle)?.committed ?? false,
      });
      for (const address of record.attachment.addresses) state.freed.delete(address);
      break;
    case 'commit': {
      const entry = state.attachments.get(record.handle);
      if (entry) entry.committed = true;
      break;
    }
    case 'release': {
      const entry = state.attachments.get(record.handle);
      for (const address of entry?.attachment.addresses ?? []) state.freed.set(address, record.at);
      state.attachments.delete(record.handle);
      break;
    }
    case 'freed':
      state.freed.set(record.address, record.at);
      break;
    default:
      return corrupt(path, `it holds a record of unknown kind ${JSON.stringify((record as { op: unknown }).op)}`);
  }
  return null;
}

export function corrupt(path: string, reason: string): BrindleError {
  return new BrindleError('corrupt', `the IPAM journal ${path} cannot be trusted: ${reason}`, {
    remedy: 'brindle ipam rebuild writes it anew from what can be read of it and what the store knows',
  });
}
