// What `-f` names: files, folders, standard input. In: paths. Out: the resources in them, parsed, warnings told.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { extname, join, resolve } from 'node:path';
import { BrindleError, isBrindleError } from '#base/errors.ts';
import { parseDocuments, type RawDocument, readDocuments, type SourcedResource } from '#model/manifest.ts';
import { type InvalidPart, InvalidResourceError, problemText } from '#model/problems.ts';
import { resourceSubject, warningsOf } from '#model/registry.ts';
import { styled } from './format/style.ts';

export interface ManifestOptions {
  readonly recursive?: boolean;
  /** Namespace of resources that name none. */
  readonly namespace?: string;
  /** Tell on standard error what is legal but has no effect. */
  readonly warn?: boolean;
  /** Files that are left out where a folder is named. */
  readonly except?: readonly string[];
  /** Documents to leave out before they are parsed. */
  readonly skip?: (document: RawDocument) => boolean;
}

const EXTENSIONS = ['.yaml', '.yml', '.json'];
const MAX_FILE = 64 * 1024 * 1024;

/**
 * Errors: `not-found` for a path that is not there, `invalid-argument` for what does not parse or holds nothing,
 * InvalidResourceError with the problems of all files at once.
 */
export function readManifests(paths: readonly string[], options: ManifestOptions = {}): SourcedResource[] {
  const documents: RawDocument[] = [];
  const unreadable: InvalidPart[] = [];
  const except = new Set((options.except ?? []).map((file) => resolve(file)));
  for (const path of paths) {
    for (const file of filesOf(path, options.recursive ?? false)) {
      if (file !== path && except.has(resolve(file))) continue;
      const name = file === '-' ? 'standard input' : file;
      try {
        documents.push(...readDocuments(readText(file), name));
      } catch (error) {
        // What does not parse is told together with what does not hold in the other files.
        if (!isBrindleError(error, 'invalid-argument')) throw error;
        unreadable.push({ subject: name, problems: [{ field: '', reason: error.message, remedy: error.remedy }] });
      }
    }
  }
  const wanted = documents.filter((document) => !options.skip?.(document));
  const out = parseAll(wanted, unreadable, options);
  if (documents.length === 0)
    throw new BrindleError('invalid-argument', `there are no resources in ${paths.join(', ')}`);
  if (options.warn)
    for (const { resource, source } of out) {
      for (const warning of warningsOf(resource)) {
        process.stderr.write(
          `${styled('yellow', 'warning:', process.stderr)} ${resourceSubject(resource, source)}: ${problemText(warning)}\n`,
        );
      }
    }
  return out;
}

function parseAll(
  documents: readonly RawDocument[],
  unreadable: readonly InvalidPart[],
  { namespace }: ManifestOptions,
): SourcedResource[] {
  try {
    const out = parseDocuments(documents, namespace === undefined ? {} : { namespace });
    if (unreadable.length > 0) throw new InvalidResourceError(unreadable);
    return out;
  } catch (error) {
    if (unreadable.length === 0 || !(error instanceof InvalidResourceError) || error.parts === unreadable) throw error;
    throw new InvalidResourceError([...unreadable, ...error.parts]);
  }
}

function filesOf(path: string, recursive: boolean): string[] {
  if (path === '-') return ['-'];
  let isFolder: boolean;
  try {
    isFolder = statSync(path).isDirectory();
  } catch (error) {
    throw unreadable(path, error);
  }
  if (!isFolder) return [path];
  const out: string[] = [];
  for (const entry of readdirSync(path, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const inner = join(path, entry.name);
    if (entry.isDirectory()) {
      if (recursive) out.push(...filesOf(inner, recursive));
    } else if (EXTENSIONS.includes(extname(entry.name))) out.push(inner);
  }
  return out;
}

function readText(file: string): string {
  try {
    if (file !== '-' && statSync(file).size > MAX_FILE)
      throw new BrindleError('invalid-argument', `${file} is larger than 64 MiB`);
    return readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    throw error instanceof BrindleError ? error : unreadable(file, error);
  }
}

function unreadable(path: string, error: unknown): BrindleError {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return new BrindleError('not-found', `there is no file ${path}`, { cause: error });
  return new BrindleError(code === 'EACCES' ? 'permission' : 'unavailable', `${path} cannot be read: ${String(code)}`, {
    cause: error,
  });
}
