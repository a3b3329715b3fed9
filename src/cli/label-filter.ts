// `-l`: which labels a resource must have. Kubernetes' syntax (`app=web,tier!=db,env in (a,b),!old`) or a Calico selector
// (`app == 'web' && has(tier)`); no text is valid as both. In: text. Out: a test on labels.
import { BrindleError, errorText } from '#base/errors.ts';
import { parseSelector } from '#policy/selector/selector.ts';

export type LabelFilter = (labels: Readonly<Record<string, string>>) => boolean;

const KEY = '([A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?)';
const VALUE = '([-A-Za-z0-9_.]*)';
const EQUALITY = new RegExp(`^${KEY}\\s*(=|==|!=)\\s*${VALUE}$`);
const SET = new RegExp(`^${KEY}\\s+(in|notin)\\s+\\(([^()]*)\\)$`);
const PRESENCE = new RegExp(`^(!?)\\s*${KEY}$`);

/** Throws `invalid-argument` when the text is neither. */
export function labelFilter(text: string): LabelFilter {
  const tests: LabelFilter[] = [];
  for (const part of splitOutsideParentheses(text)) {
    const test = requirement(part.trim());
    if (test) tests.push(test);
    else return calico(text);
  }
  return (labels) => tests.every((test) => test(labels));
}

function requirement(text: string): LabelFilter | null {
  const equality = EQUALITY.exec(text);
  if (equality) {
    const [, key = '', operator, value = ''] = equality;
    return operator === '!=' ? (labels) => own(labels, key) !== value : (labels) => own(labels, key) === value;
  }
  const set = SET.exec(text);
  if (set) {
    const [, key = '', operator, list = ''] = set;
    const values = list.split(',').map((value) => value.trim());
    return (labels) => {
      const value = own(labels, key);
      return (value !== undefined && values.includes(value)) === (operator === 'in');
    };
  }
  const presence = PRESENCE.exec(text);
  if (presence) {
    const [, not, key = ''] = presence;
    return (labels) => (own(labels, key) === undefined) === (not === '!');
  }
  return null;
}

function calico(text: string): LabelFilter {
  try {
    const selector = parseSelector(text);
    return (labels) => selector.matches(labels);
  } catch (error) {
    throw new BrindleError('invalid-argument', `-l "${text}" is not a label selector: ${errorText(error)}`, {
      remedy: "write app=web,tier!=db, or app == 'web' && has(tier)",
      cause: error,
    });
  }
}

function own(labels: Readonly<Record<string, string>>, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}

function splitOutsideParentheses(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '(') depth++;
    else if (text[i] === ')') depth--;
    else if (text[i] === ',' && depth === 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}
