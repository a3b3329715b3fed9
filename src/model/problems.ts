// Everything that is wrong with a resource, collected so that a person sees it all at once.
import { BrindleError } from '#base/errors.ts';

export interface Problem {
  /** Path such as `spec.rules[2].destination.ports[0]`; '' for the resource as a whole. */
  readonly field: string;
  /** What is wrong, as a clause that follows the field: `must be ...`, `is unknown`. */
  readonly reason: string;
  /** What to do, a clause: `write 10.1.0.0/16`. */
  readonly remedy?: string | undefined;
}

/** Collects problems. A plain array would do; this keeps call sites short. */
export class Problems {
  readonly list: Problem[] = [];

  add(field: string, reason: string, remedy?: string): void {
    this.list.push(remedy === undefined ? { field, reason } : { field, reason, remedy });
  }

  /** An empty collector, to try something with. */
  fresh(): Problems {
    return new Problems();
  }

  get any(): boolean {
    return this.list.length > 0;
  }
}

export function problemText(problem: Problem): string {
  const head = problem.field ? `${problem.field}: ${problem.reason}` : problem.reason;
  return problem.remedy ? `${head}; ${problem.remedy}` : head;
}

/** What is wrong with one resource of a set. */
export interface InvalidPart {
  /** What people call it: `IPPool/default (pools.yaml, document 2)`. */
  readonly subject: string;
  readonly problems: readonly Problem[];
}

/** `invalid-resource` with all of its reasons. `message` has one line a problem. */
export class InvalidResourceError extends BrindleError {
  readonly parts: readonly InvalidPart[];

  constructor(parts: readonly InvalidPart[]) {
    super('invalid-resource', parts.map(partText).join('\n'), { field: parts[0]?.problems[0]?.field || undefined });
    this.name = 'InvalidResourceError';
    this.parts = parts;
  }
}

function partText(part: InvalidPart): string {
  const [only, ...rest] = part.problems;
  if (only && rest.length === 0) return `${part.subject} is invalid: ${problemText(only)}`;
  return `${part.subject} is invalid:${part.problems.map((p) => `\n  ${problemText(p)}`).join('')}`;
}
