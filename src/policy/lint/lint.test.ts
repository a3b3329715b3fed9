import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseResource } from '#model/registry.ts';
import { buildWorld } from '../world/world.ts';
import { lint } from './lint.ts';

const V3 = 'projectcalico.org/v3';
const WORLD = [
  { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'x', labels: { env: 'dev' } } },
  {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'a', namespace: 'x', labels: { app: 'a' } },
    spec: { containers: [{ ports: [{ name: 'web', containerPort: 80 }] }] },
    status: { podIP: '10.0.0.1' },
  },
  {
    apiVersion: V3,
    kind: 'GlobalNetworkSet',
    metadata: { name: 's', labels: { set: 's' } },
    spec: { nets: ['192.0.2.0/24'] },
  },
];

function findings(...specs: readonly object[]): string[] {
  const policies = specs.map((spec, i) => ({
    apiVersion: V3,
    kind: 'NetworkPolicy',
    metadata: { name: `p${i}`, namespace: 'x' },
    spec,
  }));
  const world = buildWorld([...WORLD, ...policies].map((resource) => parseResource(resource)));
  return lint(world).map(({ kind, resource, field }) => `${kind} ${resource.slice(-2)} ${field}`);
}

const allow = (rule: object): object => ({ ingress: [{ action: 'Allow', ...rule }] });

const cases: Record<string, readonly [readonly object[], readonly string[]]> = {
  'nothing to say': [
    [allow({ protocol: 'TCP', source: { selector: "app == 'a'" }, destination: { ports: ['web'] } })],
    [],
  ],
  'a set is matched too': [[allow({ source: { namespaceSelector: 'global()', selector: "set == 's'" } })], []],
  'selects nothing': [[{ selector: "app == 'b'" }], ['selects-nothing p0 spec']],
  'matches nothing': [[allow({ source: { selector: "app == 'b'" } })], ['matches-nothing p0 spec.ingress[0].source']],
  'excludes nothing': [
    [allow({ source: { namespaceSelector: "env == 'prod'" } })],
    ['matches-nothing p0 spec.ingress[0].source'],
  ],
  'a port that nobody serves': [
    [allow({ protocol: 'TCP', destination: { ports: ['wbe', 80] } })],
    ['port-not-served p0 spec.ingress[0].destination'],
  ],
  'a port of another protocol': [
    [allow({ protocol: 'UDP', destination: { ports: ['web'] } })],
    ['port-not-served p0 spec.ingress[0].destination'],
  ],
  'a rule inside an earlier one': [
    [
      {
        ingress: [
          { action: 'Log' },
          { action: 'Allow', protocol: 'TCP', source: { nets: ['10.0.0.0/8'] }, destination: { ports: ['1:100'] } },
          { action: 'Deny', protocol: 'TCP', source: { nets: ['10.1.0.0/16'] }, destination: { ports: [80] } },
          { action: 'Deny', protocol: 'TCP', source: { nets: ['10.1.0.0/16'] }, destination: { ports: [80, 101] } },
        ],
      },
    ],
    ['shadowed p0 spec.ingress[2]'],
  ],
  'a policy behind one that decides everything': [
    [
      { order: 1, ingress: [{ action: 'Deny' }] },
      { order: 2, ...allow({}) },
    ],
    ['shadowed p1 spec.ingress'],
  ],
  'an exception that lies outside': [
    [allow({ source: { nets: ['10.0.0.0/24'], notNets: ['10.0.1.0/25'] } })],
    ['except-outside p0 spec.ingress[0].source'],
  ],
  'exceptions that leave nothing': [
    [allow({ source: { nets: ['10.0.0.0/24'], notNets: ['10.0.0.0/16'] } })],
    ['empty-nets p0 spec.ingress[0].source'],
  ],
  'a tier that is not there': [[{ tier: 'nowhere' }], ['no-such-tier p0 spec.tier']],
  'a service that is not there': [
    [{ egress: [{ action: 'Allow', destination: { services: { name: 'db' } } }] }],
    ['no-such-service p0 spec.egress[0].destination'],
  ],
};

for (const [name, [specs, expected]] of Object.entries(cases)) {
  test(name, () => assert.deepEqual(findings(...specs), expected));
}
