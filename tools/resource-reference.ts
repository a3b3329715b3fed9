// Writes docs/reference/resources.md from the schemas of the model: every kind, every field, with type, default and
// meaning. With `--check` it writes nothing and fails when the file is not what it would write.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Kind } from '#model/kind.ts';
import { KINDS } from '#model/registry.ts';
import { type JsonSchema, jsonSchema } from '#model/schema.ts';

const FILE = resolve(import.meta.dirname, '../docs/reference/resources.md');
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

const text = reference(KINDS.filter((kind) => OURS.includes(kind.apiVersion.split('/')[0] ?? '')));
if (process.argv.includes('--check')) {
  if (readFileSync(FILE, 'utf8') !== text) {
    console.error('docs/reference/resources.md is not up to date; run tools/resource-reference.ts');
    process.exitCode = 1;
  }
} else {
  mkdirSync(dirname(FILE), { recursive: true });
  writeFileSync(FILE, text);
}
