// Writes docs/reference/resources.md and configuration.md from the schemas of the model: every kind, every field, with type,
// default and meaning. With `--check` it writes nothing and fails when a file is not what it would write.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { AgentConfigFile, DEFAULT_CONFIG_PATH } from '#model/agent-config.ts';
import type { Kind } from '#model/kind.ts';
import { KINDS } from '#model/registry.ts';
import { type JsonSchema, jsonSchema } from '#model/schema.ts';

const DIRECTORY = resolve(import.meta.dirname, '../docs/reference');
/** What a format is called, where its name does not say it. */
const FORMATS: Readonly<Record<string, string>> = {
  'strict-cidr': 'CIDR, no host bits set',
  cidr: 'CIDR',
  net: 'address or CIDR, no host bits set',
  ip: 'IP address',
  ipv4: 'IPv4 address',
  ipv6: 'IPv6 address',
  'ip-or-cidr': 'address or CIDR',
  'ipv4-or-cidr': 'IPv4 address, with or without prefix length',
  'ipv6-or-cidr': 'IPv6 address, with or without prefix length',
  'address-port': 'address, or address:port',
  'as-number': 'AS number',
  mac: 'MAC address',
  'interface-name': 'interface name',
  'label-name': 'name',
  'absolute-path': 'absolute path',
  'tcp-md5-key': 'text of 1 to 80 octets',
};

/** Kubernetes' own kinds are documented by Kubernetes. */
const OURS = ['projectcalico.org', 'brindle.dev'];

function reference(kinds: readonly Kind[]): string {
  const out = [
    '# Resources',
    '',
    'Written by `tools/resource-reference.ts` from the schemas in `src/model`; change those, not this file.',
    '',
    "Kinds of `projectcalico.org/v3` are Calico's, with its fields and defaults; those of `brindle.dev/v1` are what Calico lacks.",
    'A field that is not listed is an error. `null` means absent. What an API server adds to metadata is read and left behind.',
    '',
    ...kinds.map((kind) => `- [${kind.kind}](#${kind.kind.toLowerCase()}): ${kind.description}`),
  ];
  for (const kind of kinds) out.push('', ...section(kind));
  return `${out.join('\n')}\n`;
}

function configuration(): string {
  return `${[
    '# Configuration of a host',
    '',
    'Written by `tools/resource-reference.ts` from `src/model/agent-config.ts`; change that, not this file.',
    '',
    `\`${DEFAULT_CONFIG_PATH}\`, YAML, read by the agent at its start and by the command line to find the store. Every field may be left`,
    'out, and so may the file. Another file: `--config`, or `BRINDLE_CONFIG` in the environment. A field that is not listed is an error; all',
    'errors are told at once, with the remedy. A change takes effect when the agent is started again; forwarding goes on meanwhile.',
    '',
    '| Field | Type | Default | Meaning |',
    '|---|---|---|---|',
    ...fields(jsonSchema(AgentConfigFile), ''),
    '',
    'A default of fields within fields holds only while the outer one is absent: naming a store leaves no other.',
    '',
    '    nat: {exclusions: IPPoolsAndHostIPs}      # hosts see the addresses of containers, the rest of the world that of the host',
    '    ipam: {cooldownSeconds: 300, maxBlocks: 8}',
    '',
    '## NAT for the way out',
    '',
    'A pool with `natOutgoing: true` hides behind its hosts: what its containers send to a destination outside of every pool gets an address of',
    'the host. Destinations in any pool, also a disabled one or one without `natOutgoing`, see the address of the container, IPv4 and IPv6 alike.',
    '`IPPoolsAndHostIPs` adds the addresses of all Nodes to what is reached untranslated. `ipv4Address` and `ipv6Address` must be addresses that are',
    'routed to this host. Policy always sees the address of the container. A connection is translated, or not, as its first packet was; running',
    'ones are left alone by a change. Without a pool that asks for it there is no NAT chain in the kernel.',
    '',
    '## Blocks',
    '',
    'The host leases blocks as it needs them, and hands empty ones back within a minute or two, all but one a pool. `brindle ipam drain` hands back',
    'that one too. A block with an address that rests (`cooldownSeconds`) stays until it has rested.',
    '',
    'To remove a host: `brindle ipam drain` there, stop the agent, `brindle delete node NAME`. When the Node has been gone for three minutes and no peer',
    'announces a block of the host, the agents of the others delete its leases and WorkloadEndpoints. `brindle ipam release --host NAME` does',
    'so for the leases at once. An agent that runs on writes its Node anew. A host that was written off and comes back keeps the addresses of',
    'running containers, says in its log that the leases are gone, and takes new ones for new containers.',
  ].join('\n')}\n`;
}

function section(kind: Kind): string[] {
  const names = [kind.plural, ...kind.shortNames].map((name) => `\`${name}\``).join(', ');
  const lines = [
    `## ${kind.kind}`,
    '',
    kind.description,
    '',
    `\`apiVersion: ${kind.apiVersion}\`, ${kind.namespaced ? 'in a namespace' : 'in no namespace'}; on the command line ${names}.`,
    '',
    '| Field of `spec` | Type | Default | Meaning |',
    '|---|---|---|---|',
  ];
  const rows = fields(jsonSchema(kind.spec), '');
  return [...lines, ...(rows.length > 0 ? rows : ['| (any) | | | |'])];
}

function fields(schema: JsonSchema, prefix: string): string[] {
  const rows: string[] = [];
  for (const [key, inner] of Object.entries(schema.properties ?? {})) {
    const path = `${prefix}${key}`;
    const required = (schema.required ?? []).includes(key);
    const standard =
      inner.default === undefined ? (required ? '(required)' : '') : `\`${JSON.stringify(inner.default)}\``;
    rows.push(`| \`${path}\` | ${cell(typeText(inner))} | ${cell(standard)} | ${cell(inner.description ?? '')} |`);
    if (inner.properties) rows.push(...fields(inner, `${path}.`));
    else if (inner.items?.properties) rows.push(...fields(inner.items, `${path}[].`));
    else if (typeof inner.additionalProperties === 'object' && inner.additionalProperties.properties) {
      rows.push(...fields(inner.additionalProperties, `${path}.*.`));
    }
  }
  return rows;
}

function typeText(schema: JsonSchema): string {
  if (schema.enum) return schema.enum.map((word) => `\`${String(word)}\``).join(', ');
  if (schema['x-kubernetes-int-or-string']) return formatText(schema, 'number or text');
  switch (schema.type) {
    case 'array':
      return schema.items?.properties ? 'list' : `list of ${typeText(schema.items ?? {})}`;
    case 'object':
      return typeof schema.additionalProperties === 'object'
        ? `map of ${typeText(schema.additionalProperties)}`
        : 'fields';
    case 'integer':
    case 'number': {
      const { minimum, maximum } = schema;
      if (minimum === undefined && maximum === undefined) return 'number';
      return maximum === undefined ? `number from ${minimum}` : `${minimum ?? '...'} to ${maximum}`;
    }
    case 'boolean':
      return 'true or false';
    default:
      return formatText(schema, 'text');
  }
}

function formatText({ format }: JsonSchema, otherwise: string): string {
  return format === undefined ? otherwise : (FORMATS[format] ?? format);
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

const FILES: Readonly<Record<string, string>> = {
  'resources.md': reference(KINDS.filter((kind) => OURS.includes(kind.apiVersion.split('/')[0] ?? ''))),
  'configuration.md': configuration(),
};
mkdirSync(DIRECTORY, { recursive: true });
for (const [name, text] of Object.entries(FILES)) {
  const file = join(DIRECTORY, name);
  if (!process.argv.includes('--check')) writeFileSync(file, text);
  else if (!existsSync(file) || readFileSync(file, 'utf8') !== text) {
    console.error(`docs/reference/${name} is not up to date; run tools/resource-reference.ts`);
    process.exitCode = 1;
  }
}
