// `brindle get`: resources of the store as a table, YAML, JSON or names, once or for as long as they change.
import { type Command, Option } from 'commander';
import { BrindleError, isBrindleError } from '#base/errors.ts';
import { Informer } from '#datastore/informer.ts';
import type { Store, StoreEvent } from '#datastore/store.ts';
import type { Kind } from '#model/kind.ts';
import { displayName } from '#model/registry.ts';
import { kindKey, type Resource } from '#model/resource.ts';
import { asDocument, ordered, toJson, toYaml } from '../format/yaml.ts';
import { type LabelFilter, labelFilter } from '../label-filter.ts';
import {
  keyFor,
  type NamespaceOptions,
  namespaceOf,
  parseRequests,
  quoted,
  type Request,
} from '../resource-arguments.ts';
import { ResourceTable } from '../resource-table.ts';
import { addStoreOptions, type StoreOptions, withStore } from '../store-access.ts';

interface GetFlags extends StoreOptions, NamespaceOptions {
  readonly output: 'table' | 'wide' | 'yaml' | 'json' | 'name';
  readonly watch?: boolean;
  readonly selector?: string;
  readonly showLabels?: boolean;
  readonly headers: boolean;
}

export function register(program: Command): void {
  addStoreOptions(
    program.command('get').description('Show resources: get KIND [NAME...], get KIND,KIND, get KIND/NAME..., get all.'),
  )
    .argument('<kind...>', 'kind (also plural or short name), then names')
    .addOption(
      new Option('-o, --output <format>', 'how to print')
        .choices(['table', 'wide', 'yaml', 'json', 'name'])
        .default('table'),
    )
    .option('-w, --watch', 'go on and print every change')
    .option('-n, --namespace <name>', 'the namespace to look in (default: default)')
    .option('-A, --all-namespaces', 'look in all namespaces')
    .option('-l, --selector <labels>', "only resources with these labels: app=web,tier!=db or app == 'web'")
    .option('--show-labels', 'a column with the labels')
    .option('--no-headers', 'leave out the titles of a table')
    .addHelpText(
      'after',
      '\n  brindle get ippools\n  brindle get peers,nodes -o wide\n  brindle get wep -A -l app=web --watch\n  brindle get ippool default -o yaml',
    )
    .action(async (words: string[], flags: GetFlags) => {
      const requests = parseRequests(words);
      const filter = flags.selector === undefined ? () => true : labelFilter(flags.selector);
      await withStore(flags, 'existing', (store) =>
        flags.watch ? watch(store, requests, flags, filter) : print(store, requests, words, flags, filter),
      );
    });
}

interface Found extends Request {
  readonly resources: readonly Resource[];
}

async function print(
  store: Store,
  requests: readonly Request[],
  words: readonly string[],
  flags: GetFlags,
  filter: LabelFilter,
): Promise<void> {
  const found: Found[] = [];
  for (const request of requests) found.push({ ...request, resources: await read(store, request, flags, filter) });
  const all = found.flatMap((f) => f.resources);
  switch (flags.output) {
    case 'yaml':
    case 'json': {
      const single = found.length === 1 && found[0]!.names.length === 1;
      const document = asDocument(all, single);
      process.stdout.write(flags.output === 'yaml' ? toYaml(document) : toJson(document));
      return;
    }
    case 'name':
      for (const resource of all) process.stdout.write(`${displayName(resource)}\n`);
      return;
    case 'table':
    case 'wide':
      break;
  }
  const full = found.filter((f) => f.resources.length > 0);
  const texts = full.map(({ kind, resources }) =>
    new ResourceTable(kind, { ...tableOptions(flags), qualified: full.length > 1 }).text(resources),
  );
  if (texts.length > 0) process.stdout.write(`${texts.join('\n\n')}\n`);
  else process.stderr.write(`${await nothingFound(store, requests, words, flags, filter)}\n`);
}

function tableOptions(flags: GetFlags) {
  return {
    wide: flags.output === 'wide',
    namespaces: flags.allNamespaces ?? false,
    labels: flags.showLabels ?? false,
    headless: !flags.headers,
  };
}

/** Throws `not-found` with all names that are missing. */
async function read(store: Store, { kind, names }: Request, flags: GetFlags, filter: LabelFilter): Promise<Resource[]> {
  if (names.length === 0) {
    const namespace = namespaceOf(kind, flags);
    const { resources } = await store.list(
      kindKey(kind.apiVersion, kind.kind),
      namespace === undefined ? {} : { namespace },
    );
    return resources.filter((r) => filter(r.metadata.labels ?? {}));
  }
  const out: Resource[] = [];
  const missing: string[] = [];
  for (const name of names) {
    const resource = await store.get(keyFor(kind, name, flags));
    if (resource) out.push(resource);
    else missing.push(quoted(kind, name));
  }
  if (missing.length > 0)
    throw new BrindleError('not-found', `${missing.join(', ')} not found`, inNamespace(kind, flags));
  return out;
}

function inNamespace(kind: Kind, flags: NamespaceOptions): { remedy?: string } {
  return kind.namespaced ? { remedy: `looked in namespace ${namespaceOf(kind, flags)}; name another with -n` } : {};
}

async function nothingFound(
  store: Store,
  requests: readonly Request[],
  words: readonly string[],
  flags: GetFlags,
  filter: LabelFilter,
): Promise<string> {
  const what = words[0] === 'all' ? 'resources' : requests.map((r) => r.kind.plural).join(', ');
  if (flags.allNamespaces || !requests.some((r) => r.kind.namespaced)) return `No ${what} found.`;
  let elsewhere = 0;
  for (const request of requests)
    elsewhere += (await read(store, request, { ...flags, allNamespaces: true }, filter)).length;
  const hint =
    elsewhere > 0 ? ` There ${elsewhere === 1 ? 'is 1' : `are ${elsewhere}`} in other namespaces: add -A.` : '';
  return `No ${what} found in namespace ${flags.namespace ?? 'default'}.${hint}`;
}

/** Prints what there is, then every change, until interrupted. */
async function watch(store: Store, requests: readonly Request[], flags: GetFlags, filter: LabelFilter): Promise<void> {
  const kinds = new Map(requests.map((request) => [kindKey(request.kind.apiVersion, request.kind.kind), request]));
  const tables = new Map(
    [...kinds].map(([key, { kind }]) => [
      key,
      new ResourceTable(kind, { ...tableOptions(flags), events: true, qualified: kinds.size > 1 }),
    ]),
  );
  const wanted = (key: string, resource: Resource): boolean => {
    const request = kinds.get(key);
    if (!request) return false;
    const namespace = namespaceOf(request.kind, flags);
    return (
      (namespace === undefined || namespace === (resource.metadata.namespace ?? '')) &&
      (request.names.length === 0 || request.names.includes(resource.metadata.name)) &&
      filter(resource.metadata.labels ?? {})
    );
  };
  const shown = new Set<string>();
  const show = (type: 'ADDED' | 'MODIFIED' | 'DELETED', resource: Resource): void => {
    const table = tables.get(kindKey(resource.apiVersion, resource.kind));
    const name = displayName(resource);
    if (flags.output === 'yaml') process.stdout.write(`---\n# ${type}\n${toYaml(ordered(resource))}`);
    else if (flags.output === 'json') process.stdout.write(`${JSON.stringify({ type, object: ordered(resource) })}\n`);
    else if (flags.output === 'name') process.stdout.write(`${name} ${type.toLowerCase()}\n`);
    else if (table) process.stdout.write(`${table.next(resource, type)}\n`);
  };
  const take = (event: StoreEvent): void => {
    const resource = event.type === 'put' ? event.resource : event.last;
    if (!resource) return;
    const id = `${event.key.kind}/${event.key.namespace}/${event.key.name}`;
    const present = event.type === 'put' && wanted(event.key.kind, resource);
    // What no longer has the labels asked for is gone, as far as this watch is concerned.
    if (present) show(shown.has(id) ? 'MODIFIED' : 'ADDED', resource);
    else if (shown.has(id)) show('DELETED', resource);
    if (present) shown.add(id);
    else shown.delete(id);
  };
  await new Promise<void>((_resolve, reject) => {
    const informer = new Informer(store, [...kinds.keys()], {
      onSnapshot: (resources) => {
        for (const resource of resources) {
          const { name, namespace = '' } = resource.metadata;
          const kind = kindKey(resource.apiVersion, resource.kind);
          take({ type: 'put', key: { kind, namespace, name }, resource, revision: 0 });
        }
      },
      onEvents: (events) => {
        for (const event of events) take(event);
      },
      onTrouble: (error) => {
        if (isBrindleError(error) && error.code !== 'unavailable') reject(error);
        else if (error) process.stderr.write(`${error.message}; trying again\n`);
      },
    });
    informer.start();
  });
}
