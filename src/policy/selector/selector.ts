// A parsed selector: the value the rest of the project passes around.
// In: text, or a tree built by a conversion. Out: `matches`, the canonical text and the identity.
import { ALL_NODE, evaluateNode, formatNode, type LabelLookup, type SelectorNode } from './ast.ts';
import { parseNode } from './parser.ts';
import { sha224 } from './sha224.ts';

export type Labels = Readonly<Record<string, string>>;

export class Selector {
  readonly node: SelectorNode;
  #canonical: string | undefined;
  #uid: string | undefined;

  constructor(node: SelectorNode) {
    this.node = node;
  }

  static readonly ALL = new Selector(ALL_NODE);

  /** Whether the labels satisfy the selector. Own properties only, so that a label named `constructor` is no trap. */
  matches(labels: Labels): boolean {
    return evaluateNode(this.node, (name) => (Object.hasOwn(labels, name) ? labels[name] : undefined));
  }

  /** As `matches`, for labels that are worked out on the fly, such as inherited ones. */
  matchesLookup(lookup: LabelLookup): boolean {
    return evaluateNode(this.node, lookup);
  }

  /** Same canonical text, same meaning. Reads back as itself. */
  get canonical(): string {
    this.#canonical ??= formatNode(this.node);
    return this.#canonical;
  }

  /** `s:` and 38 characters of base64url: Calico's identity of the same selector. */
  get uid(): string {
    this.#uid ??= selectorUid(this.canonical);
    return this.#uid;
  }

  isAll(): boolean {
    return this.node.op === 'all';
  }

  toString(): string {
    return this.canonical;
  }
}

/** Parses a selector; empty text is `all()`. Throws SelectorError with the position of what is wrong. */
export function parseSelector(text: string): Selector {
  return new Selector(parseNode(text));
}

/** `s:` + base64url without padding of SHA-224("s:" + canonical). */
function selectorUid(canonical: string): string {
  return `s:${base64Url(sha224(new TextEncoder().encode(`s:${canonical}`)))}`;
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

function base64Url(bytes: Uint8Array): string {
  let out = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const group = (bytes[i]! << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    const characters = Math.min(4, Math.ceil(((bytes.length - i) * 8) / 6));
    for (let n = 0; n < characters; n++) out += ALPHABET[(group >> (18 - n * 6)) & 63];
  }
  return out;
}
