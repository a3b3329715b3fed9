// Checks that every import under src/ follows the layering of docs/design/overview.md.
// In: the table below. Out: a line per forbidden import, exit status 1 when there is one.
// A folder not named in the table is an error, so that a new folder is a decision.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

const SRC = resolve(import.meta.dirname, '../src');

/** What each layer may import besides itself. `bgp/x` are layers of their own. */
const ALLOWED: Record<string, readonly string[]> = {
  base: [],
  net: ['base'],
  sys: ['base', 'net'],
  netlink: ['base', 'net', 'sys'],
  nft: ['base', 'net', 'sys', 'netlink'],
  // Selectors are a language of their own: resources are validated with it, policy and calculation evaluate it.
  'policy/selector': ['base'],
  model: ['base', 'net', 'policy/selector'],
  policy: ['base', 'net', 'model', 'policy/selector'],
  datastore: ['base', 'net', 'model'],
  ipam: ['base', 'net', 'model', 'datastore'],
  calc: ['base', 'net', 'model', 'policy', 'policy/selector'],
  'bgp/wire': ['base', 'net'],
  'bgp/bfd': ['base', 'net'],
  'bgp/mrt': ['base', 'net', 'bgp/wire'],
  'bgp/bmp': ['base', 'net', 'bgp/wire'],
  'bgp/fsm': ['base', 'net', 'bgp/wire'],
  'bgp/rib': ['base', 'net', 'bgp/wire', 'bgp/filter'],
  'bgp/filter': ['base', 'net', 'bgp/wire'],
  'bgp/speaker': ['base', 'net', 'bgp/wire', 'bgp/bfd', 'bgp/mrt', 'bgp/bmp', 'bgp/fsm', 'bgp/rib', 'bgp/filter'],
  dataplane: ['base', 'net', 'sys', 'netlink', 'nft', 'model'],
  cni: ['base', 'net', 'model', 'agent/api'],
  docker: ['base', 'net', 'model', 'agent/api'],
  'agent/api': ['base', 'net', 'model', 'bgp/speaker'],
  agent: ['*'],
  lab: ['*'],
  cli: ['*'],
};
/** Folders of which only the agent's composition root, the lab and the CLI may know. */
const PURE = [
  'policy',
  'policy/selector',
  'calc',
  'bgp/wire',
  'bgp/bfd',
  'bgp/mrt',
  'bgp/bmp',
  'bgp/fsm',
  'bgp/rib',
  'bgp/filter',
  'net',
  'model',
];
const SOFT_LINES = 400;
const HARD_LINES = 800;

function layerOf(path: string): string {
  const parts = relative(SRC, path).split('/');
  const two = parts.slice(0, 2).join('/');
  return two in ALLOWED ? two : (parts[0] ?? '');
}

function* files(dir: string): Generator<string> {
  for (const name of readdirSync(dir)) {
    const path = join(dir, name);
    if (statSync(path).isDirectory()) yield* files(path);
    else if (path.endsWith('.ts')) yield path;
  }
}

const problems: string[] = [];
const large: string[] = [];
for (const file of files(SRC)) {
  const layer = layerOf(file);
  const shown = `src/${relative(SRC, file)}`;
  const allowed = ALLOWED[layer];
  if (!allowed) {
    problems.push(
      `${shown}: folder "${layer}" is not in the layer table; add it to tools/check-layers.ts and the design`,
    );
    continue;
  }
  const text = readFileSync(file, 'utf8');
  const lines = text.split('\n').length;
  const isTable = text.includes('@wire-vocabulary');
  if (lines > HARD_LINES && !isTable && !file.endsWith('.test.ts'))
    problems.push(`${shown}: ${lines} lines, the limit is ${HARD_LINES}; split it`);
  else if (lines > SOFT_LINES && !file.endsWith('.test.ts')) large.push(`${shown}: ${lines}`);
  const isTest = file.endsWith('.test.ts');
  for (const match of text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)) {
    const spec = match[1] ?? '';
    if (spec === 'koffi' && layer !== 'sys') problems.push(`${shown}: only sys/ may use FFI`);
    if (spec.startsWith('node:') && PURE.includes(layer) && !isTest && spec !== 'node:util') {
      problems.push(`${shown}: ${layer} is pure and must not import ${spec}`);
    }
    let target: string | undefined;
    if (spec.startsWith('#')) target = join(SRC, spec.slice(1));
    else if (spec.startsWith('.')) target = resolve(dirname(file), spec);
    if (!target) continue;
    if (isTest && relative(SRC, target).startsWith('../test/')) continue; // shared test support and data
    const to = layerOf(target);
    if (to === layer || allowed.includes('*') || allowed.includes(to)) continue;
    if (layer.startsWith('agent') && to.startsWith('agent')) continue;
    if (isTest && ['base', 'net', 'model', 'sys'].includes(to)) continue;
    problems.push(`${shown}: ${layer} must not import ${to} (${spec})`);
  }
}
if (large.length > 0) console.log(`over the soft limit of ${SOFT_LINES} lines:\n  ${large.join('\n  ')}`);
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
console.log('layers: clean');
