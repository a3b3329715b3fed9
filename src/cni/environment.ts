// The CNI environment of a call: parsed and checked, as the specification and libcni's skel package do (stricter than the
// text alone). Pure. Errors are CNI code 4 and name every variable at fault.
import { CniCode, CniError } from './errors.ts';

export const VERBS = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION'] as const;
export type Verb = (typeof VERBS)[number];

export interface CniEnvironment {
  readonly verb: Verb;
  /** '' for verbs without an attachment. */
  readonly containerId: string;
  /** '' when DEL comes without one. */
  readonly netns: string;
  readonly ifname: string;
  readonly args: CniArgs;
  readonly netnsOverride: boolean;
}

export interface CniArgs {
  readonly podNamespace: string | null;
  readonly podName: string | null;
  readonly podUid: string | null;
  readonly ip: string | null;
  readonly mac: string | null;
}

const REQUIRED: Readonly<Record<Verb, readonly string[]>> = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH'],
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME', 'CNI_PATH'],
  GC: ['CNI_PATH'],
  STATUS: ['CNI_PATH'],
  VERSION: [],
};
const ID = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;
/** Longest container id, in characters: it becomes part of names and of the journal. */
const MAX_ID = 256;
const IFNAMSIZ = 15;

/** Throws CniError with code 4. */
export function parseEnvironment(variables: ReadonlyMap<string, string>): CniEnvironment {
  const get = (name: string): string => variables.get(name) ?? '';
  const verb = VERBS.find((known) => known === get('CNI_COMMAND'));
  if (!verb) throw bad(`CNI_COMMAND "${get('CNI_COMMAND')}" is unknown`, `it is one of ${VERBS.join(', ')}`);
  const missing = REQUIRED[verb].filter((name) => get(name) === '');
  if (missing.length > 0) throw bad(`required environment variables are missing: ${missing.join(', ')}`);
  const hasAttachment = REQUIRED[verb].includes('CNI_CONTAINERID');
  const [containerId, netns, ifname] = hasAttachment
    ? [get('CNI_CONTAINERID'), get('CNI_NETNS'), get('CNI_IFNAME')]
    : ['', '', ''];
  if (hasAttachment) {
    if (!ID.test(containerId) || containerId.length > MAX_ID) {
      throw bad(
        `CNI_CONTAINERID "${containerId}" is invalid`,
        'letters, digits, "_", "." and "-", a letter or digit first',
      );
    }
    const fault = ifnameFault(ifname);
    if (fault) throw bad(`CNI_IFNAME "${ifname}" is invalid: ${fault}`);
    if (netns !== '' && !netns.startsWith('/')) throw bad(`CNI_NETNS "${netns}" is not an absolute path`);
  }
  return {
    verb,
    containerId,
    netns,
    ifname,
    args: parseArgs(hasAttachment ? get('CNI_ARGS') : ''),
    netnsOverride: ['TRUE', '1'].includes(get('CNI_NETNS_OVERRIDE').toUpperCase()),
  };
}

function ifnameFault(name: string): string | null {
  if (name.length > IFNAMSIZ) return `it has more than ${IFNAMSIZ} characters`;
  if (name === '.' || name === '..') return 'it is a directory';
  if (/[/:\s]/.test(name)) return 'it holds "/", ":" or a blank';
  // oxlint-disable-next-line no-control-regex
  if (/[^\x21-\x7e]/.test(name)) return 'it holds something other than ASCII';
  return null;
}

const KNOWN_ARGS = new Set([
  'K8S_POD_NAMESPACE',
  'K8S_POD_NAME',
  'K8S_POD_UID',
  'K8S_POD_INFRA_CONTAINER_ID',
  'IP',
  'MAC',
]);

function parseArgs(text: string): CniArgs {
  const values = new Map<string, string>();
  let ignoreUnknown = false;
  for (const pair of text.split(';')) {
    if (pair === '') continue;
    const at = pair.indexOf('=');
    if (at < 1) throw bad(`CNI_ARGS holds "${pair}"`, 'write K=V;K=V');
    const key = pair.slice(0, at);
    const value = pair.slice(at + 1);
    if (key === 'IgnoreUnknown') {
      if (!/^(1|0|true|false)$/i.test(value)) throw bad(`CNI_ARGS: IgnoreUnknown is "${value}"`, 'write 1 or 0');
      ignoreUnknown = /^(1|true)$/i.test(value);
    } else values.set(key, value);
  }
  const unknown = [...values.keys()].filter((key) => !KNOWN_ARGS.has(key));
  if (unknown.length > 0 && !ignoreUnknown) {
    throw bad(`CNI_ARGS holds unknown keys: ${unknown.join(', ')}`, 'leave them out, or add IgnoreUnknown=1');
  }
  const get = (key: string): string | null => values.get(key) || null;
  return {
    podNamespace: get('K8S_POD_NAMESPACE'),
    podName: get('K8S_POD_NAME'),
    podUid: get('K8S_POD_UID'),
    ip: get('IP'),
    mac: get('MAC'),
  };
}

function bad(message: string, details?: string): CniError {
  return new CniError(CniCode.badEnvironment, message, details);
}
