// What is meant by `KIND NAME...`, `KIND,KIND`, `KIND/NAME...`, `all`. In: words of the command line. Out: kinds and names.
import { BrindleError } from '#base/errors.ts';
import type { Kind } from '#model/kind.ts';
import { DEFAULT_NAMESPACE, KINDS, requireKind } from '#model/registry.ts';
import { kindKey, type ResourceKey } from '#model/resource.ts';

export interface Request {
  readonly kind: Kind;
  /** Empty: all of the kind. */
  readonly names: readonly string[];
}

export interface NamespaceOptions {
  readonly namespace?: string;
  readonly allNamespaces?: boolean;
}

export function parseRequests(words: readonly string[]): Request[] {
  const [first, ...rest] = words;
  if (first === undefined)
    throw new BrindleError('invalid-argument', 'no kind is given', { remedy: 'brindle api-resources lists the kinds' });
  if (words.some((word) => word.includes('/'))) {
    const byKind = new Map<Kind, string[]>();
    for (const word of words) {
      const [kindWord = '', name = '', ...more] = word.split('/');
      if (!kindWord || !name || more.length > 0) {
        throw new BrindleError('invalid-argument', `"${word}" is not KIND/NAME`, {
          remedy: 'write KIND/NAME everywhere, or KIND NAME...',
        });
      }
      const kind = requireKind(kindWord);
      byKind.set(kind, [...(byKind.get(kind) ?? []), name]);
    }
    return [...byKind].map(([kind, names]) => ({ kind, names }));
  }
  if (first === 'all') {
    if (rest.length > 0) throw new BrindleError('invalid-argument', 'names are not possible with "all"');
    return KINDS.map((kind) => ({ kind, names: [] }));
  }
  const kinds = [
    ...new Set(
      first
        .split(',')
        .filter(Boolean)
        .map((word) => requireKind(word)),
    ),
  ];
  if (kinds.length > 1 && rest.length > 0) {
    throw new BrindleError('invalid-argument', 'names are only possible with a single kind', {
      remedy: 'write KIND/NAME for each',
    });
  }
  return kinds.map((kind) => ({ kind, names: rest }));
}

/** The namespace a kind is looked up in: '' for cluster-scoped ones; undefined for all. */
export function namespaceOf(kind: Kind, options: NamespaceOptions): string | undefined {
  if (!kind.namespaced) return '';
  return options.allNamespaces ? undefined : (options.namespace ?? DEFAULT_NAMESPACE);
}

export function keyFor(kind: Kind, name: string, options: NamespaceOptions): ResourceKey {
  if (kind.namespaced && options.allNamespaces) {
    throw new BrindleError('invalid-argument', 'a name is not possible with --all-namespaces', {
      remedy: 'name the namespace with -n',
    });
  }
  return { kind: kindKey(kind.apiVersion, kind.kind), namespace: namespaceOf(kind, options) ?? '', name };
}

/** `ippool.projectcalico.org "x"`: for `not found` and the like. */
export function quoted(kind: Kind, name: string): string {
  return `${kind.singular} "${name}"`;
}
