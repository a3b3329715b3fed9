// Makes rules whose comment tells what they are for and ends in a digest of their statements, so that a table found in the kernel
// can be compared with the wanted one by comments alone.
import { hash } from 'node:crypto';
import { COMMENT_MAX, statements as format } from './format.ts';
import type { Rule, Statement } from './objects.ts';

const DIGEST_LENGTH = 12;

/**
 * A rule labelled `label` (cut to fit, characters that nft strings cannot hold become `?`). Throws `invalid-argument` when a
 * statement is not well formed.
 */
export function makeRule(label: string, statements: readonly Statement[]): Rule {
  const safe = label.replace(/[^\x20\x21\x23-\x5b\x5d-\x7e]/g, '?');
  const digest = hash('sha1', `${label}\n${format(statements)}`).slice(0, DIGEST_LENGTH);
  const room = COMMENT_MAX - DIGEST_LENGTH - 2;
  return { statements, comment: `${cut(safe, room)} #${digest}` };
}

/** Keeps the end, where the rule's index stands. */
function cut(text: string, room: number): string {
  return text.length <= room ? text : `..${text.slice(text.length - room + 2)}`;
}
