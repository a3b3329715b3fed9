// Reads manifests: YAML or JSON text of one or many documents, `kind: List` unfolded. In: text. Out: resources with where
// each came from, or one InvalidResourceError with the problems of all of them.
import { BrindleError } from '#base/errors.ts';
import { isAlias, LineCounter, parseAllDocuments, visit } from 'yaml';
import { type InvalidPart, InvalidResourceError } from './problems.ts';
import { type ParseOptions, parseResource } from './registry.ts';
import type { Resource } from './resource.ts';

export interface SourcedResource {
  readonly resource: Resource;
  /** Such as `pools.yaml, line 12`. */
  readonly source: string;
}

export interface RawDocument {
  readonly value: unknown;
  readonly source: string;
}

/** More aliases than this in one document are an attempt to blow it up. */
const MAX_ALIASES = 100;

/**
 * The documents of a YAML or JSON text, lists unfolded, empty ones left out. `name` is what the text is called in
 * messages. Throws `invalid-argument` with line and column when it does not parse.
 */
export function readDocuments(text: string, name: string): RawDocument[] {
  const lines = new LineCounter();
  // `keepSourceTokens` is off and `uniqueKeys` on: a key given twice is an error, not a silent choice.
  const documents = parseAllDocuments(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false });
  const out: RawDocument[] = [];
  if (!Array.isArray(documents)) return out;
  for (const document of documents) {
    const error = document.errors[0];
    if (error) {
      const { line, col } = lines.linePos(error.pos[0]);
      throw new BrindleError('invalid-argument', `${name}, line ${line}, column ${col}: ${error.message}`, {
        remedy: 'the YAML must be mended there',
        cause: error,
      });
    }
    let aliases = 0;
    visit(document, (_key, node) => {
      if (isAlias(node)) aliases++;
    });
    if (aliases > MAX_ALIASES)
      throw new BrindleError(
        'invalid-argument',
        `${name} has ${aliases} YAML aliases, at most ${MAX_ALIASES} are allowed`,
      );
    const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
    if (value === null || value === undefined) continue;
    const start = document.contents?.range?.[0] ?? document.range[0];
    unfold(value, `${name}, line ${lines.linePos(start).line}`, out);
  }
  return out;
}

function unfold(value: unknown, source: string, out: RawDocument[]): void {
  const list = value as { kind?: unknown; items?: unknown };
  if (
    typeof value === 'object' &&
    typeof list.kind === 'string' &&
    list.kind.endsWith('List') &&
    Array.isArray(list.items)
  ) {
    const itemKind = list.kind.slice(0, -'List'.length);
    for (const [i, item] of list.items.entries()) {
      // In a typed list (`IPPoolList`) the items may leave out what the list says.
      const { apiVersion } = list as { apiVersion?: unknown };
      const whole =
        itemKind && typeof item === 'object' && item !== null ? { apiVersion, kind: itemKind, ...item } : item;
      unfold(whole, `${source}, item ${i + 1}`, out);
    }
  } else out.push({ value, source });
}

/** Reads all resources of a text. Throws InvalidResourceError with the problems of every document, or `invalid-argument`. */
export function parseManifest(text: string, name: string, options: ParseOptions = {}): SourcedResource[] {
  return parseDocuments(readDocuments(text, name), options);
}

export function parseDocuments(documents: readonly RawDocument[], options: ParseOptions = {}): SourcedResource[] {
  const out: SourcedResource[] = [];
  const invalid: InvalidPart[] = [];
  for (const { value, source } of documents) {
    try {
      out.push({ resource: parseResource(value, { ...options, source }), source });
    } catch (error) {
      if (!(error instanceof InvalidResourceError)) throw error;
      invalid.push(...error.parts);
    }
  }
  if (invalid.length > 0) throw new InvalidResourceError(invalid);
  return out;
}
