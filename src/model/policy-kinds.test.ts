import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { InvalidResourceError, problemText } from './problems.ts';
import { parseResource } from './registry.ts';

type Spec = Record<string, unknown>;
const V3 = 'projectcalico.org/v3';

function problems(apiVersion: string, kind: string, spec: Spec, metadata: Spec = {}): string[] {
  try {
    parseResource({ apiVersion, kind, metadata: { name: 'a', ...metadata }, spec });
    return [];
  } catch (error) {
    assert.ok(error instanceof InvalidResourceError, String(error));
    return error.parts.flatMap((part) => part.problems.map(problemText));
  }
}

const many = <T>(count: number, of: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => of(i));
const ingress = (rule: Spec): Spec => ({ ingress: [{ action: 'Allow', ...rule }] });
const egress = (rule: Spec): Spec => ({ egress: [{ action: 'Allow', ...rule }] });
const tcp = (entity: Spec): Spec => ingress({ protocol: 'TCP', destination: entity });

describe('policies of projectcalico.org/v3 that are legal', () => {
  const legal: Record<string, Spec> = {
    'nothing at all': {},
    'protocols of any case and as numbers': {
      ingress: ['tcp', 'UDPLite', 'icmpv6', 1, 255, '47'].map((protocol) => ({ action: 'Log', protocol })),
    },
    'ports as numbers, texts, ranges and names': tcp({ ports: [1, '80', '1:65535', 'web', 'Web_1.x', 65_535] }),
    'named ports without a protocol': ingress({ destination: { ports: ['web'] }, source: { notPorts: ['web'] } }),
    '256 nets, 50 ports, a selector of 1024 characters': tcp({
      nets: many(256, (i) => `10.0.${i}.0/24`),
      ports: many(50, (i) => i + 1),
      selector: `has(${'a'.repeat(500)}) && has(${'b'.repeat(510)})`,
    }),
    '1024 rules in each direction': {
      ingress: many(1024, () => ({ action: 'Allow' })),
      egress: many(1024, () => ({ action: 'Deny' })),
    },
    'global() alone': ingress({ source: { namespaceSelector: ' global( ) ' } }),
    'icmp with a number for its protocol': ingress({ protocol: 1, icmp: { type: 254, code: 255 } }),
    'nulls where nothing is meant': { order: null, selector: null, ingress: null, types: null },
    'services of the own namespace': egress({ destination: { services: { name: 'db' } } }),
    'ports of a source beside its services': ingress({
      protocol: 'TCP',
      source: { services: { name: 'db' }, ports: [1] },
    }),
    'catch-all nets': ingress({ source: { nets: ['0.0.0.0/0'] } }),
    'metadata of rules': ingress({ metadata: { annotations: { 'a.b/c': 'd' } } }),
    'rules that its types leave out': { types: ['Ingress'], egress: [{ action: 'Deny' }] },
  };
  for (const [name, spec] of Object.entries(legal)) {
    it(name, () => assert.deepEqual(problems(V3, 'NetworkPolicy', spec), []));
  }
});

describe('policies of projectcalico.org/v3 that are refused', () => {
  const refused: Record<string, readonly [Spec, RegExp, string?]> = {
    'an unknown field, with the nearest': [
      { selectr: 'all()' },
      /spec\.selectr: is an unknown field; did you mean selector\?/,
    ],
    'an unknown field of a rule': [
      ingress({ destination: { port: [80] } }),
      /ingress\[0\]\.destination\.port: is an unknown field; did you mean ports\?/,
    ],
    'a bad selector, with its position': [{ selector: 'a = "b"' }, /spec\.selector: .*position 3/],
    'a selector of 1025 characters': [
      { selector: `has(${'a'.repeat(500)}) && has(${'b'.repeat(511)})` },
      /spec\.selector: is 1025 characters long/,
    ],
    'a bad selector in a rule': [ingress({ source: { notSelector: 'has (a)' } }), /ingress\[0\]\.source\.notSelector/],
    'an action that is none': [
      { ingress: [{ action: 'allow' }] },
      /ingress\[0\]\.action: "allow".*did you mean Allow\?/,
    ],
    'no action': [{ ingress: [{}] }, /ingress\[0\]\.action: is required/],
    'port 0': [tcp({ ports: [0] }), /destination\.ports\[0\]: "0" is not a port/],
    'port 65536': [tcp({ ports: ['65536'] }), /ports\[0\]/],
    'a range upside down': [tcp({ ports: ['90:80'] }), /ports\[0\]/],
    'a range from 0': [tcp({ ports: ['0:80'] }), /ports\[0\]/],
    'numbers without a protocol': [
      ingress({ destination: { ports: ['web', 80] } }),
      /destination\.ports: port numbers need a protocol/,
    ],
    'ports of a protocol that has none': [
      ingress({ protocol: 'ICMP', source: { ports: ['web'] } }),
      /source\.ports: needs a protocol that has ports/,
    ],
    'ports of UDPLite': [ingress({ protocol: 'UDPLite', destination: { notPorts: [1] } }), /destination\.notPorts/],
    'protocol 0': [ingress({ protocol: 0 }), /protocol: "0" is not a protocol/],
    'protocol 256': [ingress({ protocol: 256 }), /protocol/],
    'a protocol that is none': [ingress({ notProtocol: 'HTTP' }), /notProtocol/],
    'icmp without its protocol': [ingress({ icmp: { type: 8 } }), /icmp: needs protocol ICMP or ICMPv6/],
    'icmp with another protocol': [ingress({ protocol: 'TCP', icmp: { type: 8 } }), /icmp: needs protocol/],
    'an icmp code without a type': [ingress({ protocol: 'ICMP', notICMP: { code: 1 } }), /notICMP\.code: needs a type/],
    'icmp type 255': [ingress({ protocol: 'ICMP', icmp: { type: 255 } }), /icmp\.type: 255 is out of range/],
    'ipVersion 5': [ingress({ ipVersion: 5 }), /ipVersion/],
    'ipVersion against the CIDRs': [
      ingress({ ipVersion: 6, source: { nets: ['10.0.0.0/8'] } }),
      /ipVersion: 6 contradicts/,
    ],
    'ipVersion against the protocol': [ingress({ ipVersion: 4, protocol: 'ICMPv6' }), /ipVersion: 4 contradicts/],
    'both families in one rule': [
      ingress({ source: { nets: ['10.0.0.0/8'] }, destination: { notNets: ['fd00::/8'] } }),
      /ingress\[0\]: mixes IPv4 and IPv6/,
    ],
    'both families in one list': [ingress({ source: { nets: ['10.0.0.0/8', 'fd00::/8'] } }), /mixes IPv4 and IPv6/],
    'a CIDR with host bits': [
      ingress({ source: { nets: ['10.0.0.1/8'] } }),
      /source\.nets\[0\]: .*host bits.*write 10\.0\.0\.0\/8/,
    ],
    'what is no CIDR': [ingress({ source: { nets: ['10.0.0.0/33'] } }), /source\.nets\[0\]/],
    'a catch-all in notNets': [ingress({ source: { notNets: ['0.0.0.0/0'] } }), /source\.notNets\[0\]/],
    'a catch-all of IPv6 in notNets': [ingress({ destination: { notNets: ['::/0'] } }), /destination\.notNets\[0\]/],
    '257 nets': [
      ingress({ source: { nets: many(257, (i) => `10.${i >> 8}.${i & 255}.0/24`) } }),
      /nets: has 257 entries, at most 256/,
    ],
    '51 ports': [tcp({ ports: many(51, (i) => i + 1) }), /ports: has 51 entries, at most 50/],
    '1025 rules': [{ egress: many(1025, () => ({ action: 'Allow' })) }, /spec\.egress: has 1025 entries, at most 1024/],
    'global() with more': [
      ingress({ source: { namespaceSelector: 'global() || a == "b"' } }),
      /namespaceSelector: global\(\) cannot be combined/,
    ],
    'global() negated': [ingress({ source: { namespaceSelector: '!global()' } }), /namespaceSelector/],
    'global() in a selector of a rule': [ingress({ source: { selector: 'global()' } }), /source\.selector: global\(\)/],
    'global() in the selector of a policy': [{ selector: 'global()' }, /spec\.selector: global\(\)/],
    'a type twice': [{ types: ['Ingress', 'Ingress'] }, /spec\.types/],
    'a type that is none': [{ types: ['ingress'] }, /spec\.types\[0\]: .*did you mean Ingress/],
    'services with a selector': [
      egress({ destination: { services: { name: 'db' }, selector: 'all()' } }),
      /destination\.selector: cannot be combined with services/,
    ],
    'services with ports at the destination': [
      egress({ protocol: 'TCP', destination: { services: { name: 'db' }, ports: [1] } }),
      /destination\.ports: cannot be combined/,
    ],
    'services without a name': [
      egress({ destination: { services: { namespace: 'x' } } }),
      /services\.name: is required/,
    ],
    'services at the source of an egress rule': [
      egress({ source: { services: { name: 'db' } } }),
      /source\.services: is not allowed here/,
    ],
    'services at the destination of an ingress rule': [
      ingress({ destination: { services: { name: 'db' } } }),
      /destination\.services/,
    ],
    http: [ingress({ http: { methods: ['GET'] } }), /http: is not supported/],
    'a field of global policies': [{ applyOnForward: true }, /spec\.applyOnForward: is an unknown field/],
    'preDNAT with egress rules': [
      { preDNAT: true, applyOnForward: true, egress: [], ...egress({}) },
      /spec\.egress/,
      'GlobalNetworkPolicy',
    ],
    'preDNAT with type Egress': [
      { preDNAT: true, applyOnForward: true, types: ['Egress'] },
      /spec\.types/,
      'GlobalNetworkPolicy',
    ],
    'preDNAT with doNotTrack': [
      { preDNAT: true, doNotTrack: true, applyOnForward: true },
      /spec\.preDNAT/,
      'GlobalNetworkPolicy',
    ],
    'doNotTrack without applyOnForward': [{ doNotTrack: true }, /spec\.applyOnForward/, 'GlobalNetworkPolicy'],
    'a service without its namespace in a global policy': [
      egress({ destination: { services: { name: 'db' } } }),
      /services\.namespace: is required/,
      'GlobalNetworkPolicy',
    ],
    'global() in the namespaceSelector of a policy': [
      { namespaceSelector: 'global()' },
      /spec\.namespaceSelector/,
      'GlobalNetworkPolicy',
    ],
    'a staged deletion with rules': [
      { stagedAction: 'Delete', ...ingress({}) },
      /spec\.ingress: has no place/,
      'StagedNetworkPolicy',
    ],
  };
  for (const [name, [spec, expected, kind = 'NetworkPolicy']] of Object.entries(refused)) {
    it(name, () => {
      const found = problems(V3, kind, spec);
      assert.ok(
        found.some((text) => expected.test(text)),
        `${expected} is not in:\n${found.join('\n')}`,
      );
      assert.equal(found.length, 1, found.join('\n'));
    });
  }
  it('every problem of a resource at once', () => {
    const spec = { tier: 'A', ...ingress({ protocol: 'HTTP', source: { nets: ['10.0.0.1/8'], selector: 'a' } }) };
    assert.equal(problems(V3, 'NetworkPolicy', spec).length, 4);
  });
});

describe('tiers, sets and host endpoints', () => {
  const cases: Record<string, readonly [string, Spec, RegExp | null, Spec?]> = {
    'a tier of ours': ['Tier', { order: -1.5, defaultAction: 'Pass' }, null],
    'the default tier as it is': ['Tier', { order: 1_000_000 }, null, { name: 'default' }],
    'the default tier elsewhere': [
      'Tier',
      { order: 5 },
      /spec\.order: of tier default is always 1000000/,
      { name: 'default' },
    ],
    'the default tier with Pass': ['Tier', { defaultAction: 'Pass' }, /spec\.defaultAction/, { name: 'default' }],
    'kube-admin with Deny': ['Tier', { defaultAction: 'Deny' }, /spec\.defaultAction/, { name: 'kube-admin' }],
    'a tier with a dot in its name': ['Tier', {}, /metadata\.name/, { name: 'a.b' }],
    'a set of networks and addresses': ['GlobalNetworkSet', { nets: ['10.0.0.0/8', '192.0.2.1', 'fd00::/8'] }, null],
    'a set with host bits': ['NetworkSet', { nets: ['10.0.0.1/8'] }, /spec\.nets\[0\]/],
    'a set that poses as one of a namespace': [
      'GlobalNetworkSet',
      {},
      /metadata\.labels/,
      { labels: { 'projectcalico.org/namespace': 'x' } },
    ],
    'a host endpoint': ['HostEndpoint', { node: 'n', interfaceName: '*' }, null],
    'a host endpoint of nothing': ['HostEndpoint', { node: 'n' }, /spec: names neither/],
    'a host endpoint of no node': ['HostEndpoint', { interfaceName: 'eth0' }, /spec\.node: is required/],
    'a named port without ports': [
      'HostEndpoint',
      { node: 'n', interfaceName: 'e', ports: [{ name: 'p', protocol: 'ICMP', port: 1 }] },
      /ports\[0\]\.protocol/,
    ],
  };
  for (const [name, [kind, spec, expected, metadata]] of Object.entries(cases)) {
    it(name, () => {
      const found = problems(V3, kind, spec, metadata);
      if (expected) assert.match(found.join('\n'), expected);
      else assert.deepEqual(found, []);
    });
  }
});

describe('NetworkPolicy of Kubernetes', () => {
  const one = (peer: Spec): Spec => ({ podSelector: {}, ingress: [{ from: [peer] }] });
  const port = (value: Spec): Spec => ({ podSelector: {}, ingress: [{ ports: [value] }] });
  const cases: Record<string, readonly [Spec, RegExp | null]> = {
    'host bits': [one({ ipBlock: { cidr: '10.0.0.77/24', except: ['10.0.0.1/25'] } }), null],
    'more than 1024 rules': [{ podSelector: {}, ingress: many(1500, () => ({})) }, null],
    'no podSelector': [{}, null],
    'a port name of 15 characters': [port({ port: 'abcdefghijklmno' }), null],
    'endPort equal to port': [port({ port: 5, endPort: 5 }), null],
    'the same type twice': [{ podSelector: {}, policyTypes: ['Ingress', 'Ingress'] }, null],
    'an empty peer': [one({}), /from\[0\]: names no peer/],
    'ipBlock with a selector': [
      one({ ipBlock: { cidr: '10.0.0.0/8' }, podSelector: {} }),
      /ipBlock: cannot be combined/,
    ],
    'except outside': [one({ ipBlock: { cidr: '10.0.0.0/24', except: ['10.0.1.0/25'] } }), /except\[0\]/],
    'except as large as the block': [one({ ipBlock: { cidr: '10.0.0.0/24', except: ['10.0.0.0/24'] } }), /except\[0\]/],
    'port 0': [port({ port: 0 }), /port: 0 is out of range/],
    'a port name of 16 characters': [port({ port: 'abcdefghijklmnop' }), /port/],
    'a port number in quotes': [port({ port: '80' }), /leave out the quotes/],
    'endPort below port': [port({ port: 5, endPort: 4 }), /endPort/],
    'endPort without port': [port({ endPort: 4 }), /endPort/],
    'endPort with a name': [port({ port: 'web', endPort: 4 }), /endPort/],
    'protocol ICMP': [port({ protocol: 'ICMP' }), /protocol/],
    'In without values': [one({ podSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] } }), /values/],
    'Exists with values': [
      one({ podSelector: { matchExpressions: [{ key: 'a', operator: 'Exists', values: ['b'] }] } }),
      /values/,
    ],
    'an operator that is none': [
      one({ podSelector: { matchExpressions: [{ key: 'a', operator: 'in', values: ['b'] }] } }),
      /operator: .*did you mean In/,
    ],
    'three types': [{ podSelector: {}, policyTypes: ['Ingress', 'Egress', 'Ingress'] }, /policyTypes/],
    'an unknown field': [{ podSelector: {}, ingres: [] }, /spec\.ingres: is an unknown field; did you mean ingress\?/],
  };
  for (const [name, [spec, expected]] of Object.entries(cases)) {
    it(name, () => {
      const found = problems('networking.k8s.io/v1', 'NetworkPolicy', spec);
      if (expected) assert.match(found.join('\n'), expected);
      else assert.deepEqual(found, []);
    });
  }
});

describe('ClusterNetworkPolicy', () => {
  const base = { tier: 'Admin', priority: 1, subject: { namespaces: {} } };
  const rule = (part: Spec): Spec => ({ ...base, egress: [{ action: 'Accept', to: [{ namespaces: {} }], ...part }] });
  const port = (destinationPort: unknown): Spec => rule({ protocols: [{ tcp: { destinationPort } }] });
  const cases: Record<string, readonly [Spec, RegExp | null]> = {
    'the least': [base, null],
    'a peer from the future': [rule({ to: [{ domainNames: ['a.b'] }] }), null],
    'no field in a peer': [rule({ to: [{}] }), null],
    'a name of 100 characters': [rule({ name: 'a'.repeat(100) }), null],
    'a range': [port({ range: { start: 1, end: 2 } }), null],
    'networks with host bits': [rule({ to: [{ networks: ['10.0.0.1/8'] }] }), null],
    'a name of 101 characters': [rule({ name: 'a'.repeat(101) }), /name: is 101/],
    'a range of one': [port({ range: { start: 2, end: 2 } }), /range: start 2 must be below end 2/],
    'a number and a range': [port({ number: 1, range: { start: 1, end: 2 } }), /exactly one/],
    'an empty port': [port({}), /exactly one/],
    'tcp: {}': [rule({ protocols: [{ tcp: {} }] }), /tcp: must not be empty/],
    'an empty protocol': [rule({ protocols: [{}] }), /exactly one/],
    'no protocols in the list': [rule({ protocols: [] }), /protocols: must not be empty/],
    'no peers in the list': [rule({ to: [] }), /to: must not be empty/],
    'two fields in a peer': [
      rule({ to: [{ namespaces: {}, networks: ['10.0.0.0/8'] }] }),
      /to\[0\]: must have exactly one/,
    ],
    'priority 1001': [{ ...base, priority: 1001 }, /priority/],
    'a tier that is none': [{ ...base, tier: 'Default' }, /tier/],
    'an empty subject': [{ ...base, subject: {} }, /subject/],
    'a subject of two kinds': [{ ...base, subject: { namespaces: {}, pods: { podSelector: {} } } }, /subject/],
    'action Allow': [rule({ action: 'Allow' }), /action/],
    '26 rules': [
      { ...base, ingress: many(26, () => ({ action: 'Pass', from: [{ namespaces: {} }] })) },
      /ingress: has 26/,
    ],
    'no networks in the list': [rule({ to: [{ networks: [] }] }), /networks: must not be empty/],
  };
  for (const [name, [spec, expected]] of Object.entries(cases)) {
    it(name, () => {
      const found = problems('policy.networking.k8s.io/v1alpha2', 'ClusterNetworkPolicy', spec);
      if (expected) assert.match(found.join('\n'), expected);
      else assert.deepEqual(found, []);
    });
  }
});

describe('whatever is in a policy', () => {
  const full: Record<string, readonly [string, Spec]> = {
    NetworkPolicy: [
      V3,
      {
        tier: 'default',
        order: 1,
        selector: 'all()',
        types: ['Ingress'],
        ingress: [
          {
            action: 'Allow',
            protocol: 'TCP',
            notProtocol: 1,
            ipVersion: 4,
            icmp: { type: 1, code: 1 },
            source: {
              nets: ['10.0.0.0/8'],
              notNets: ['10.0.0.0/16'],
              selector: 'a == "b"',
              namespaceSelector: 'global()',
              ports: [80, '1:2', 'x'],
              serviceAccounts: { names: ['a'], selector: 'all()' },
              services: { name: 'a', namespace: 'b' },
            },
          },
        ],
      },
    ],
    HostEndpoint: [
      V3,
      { node: 'n', interfaceName: '*', expectedIPs: ['10.0.0.1'], ports: [{ name: 'p', protocol: 'TCP', port: 1 }] },
    ],
    GlobalNetworkSet: [V3, { nets: ['10.0.0.0/8'] }],
    Tier: [V3, { order: 1, defaultAction: 'Pass' }],
    StagedKubernetesNetworkPolicy: [
      V3,
      {
        stagedAction: 'Set',
        podSelector: { matchLabels: { a: 'b' }, matchExpressions: [{ key: 'a', operator: 'In', values: ['b'] }] },
        ingress: [
          {
            from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] } }],
            ports: [{ port: 80, endPort: 90, protocol: 'TCP' }],
          },
        ],
        policyTypes: ['Ingress'],
      },
    ],
    ClusterNetworkPolicy: [
      'policy.networking.k8s.io/v1alpha2',
      {
        tier: 'Admin',
        priority: 1,
        subject: { pods: { podSelector: {}, namespaceSelector: {} } },
        egress: [
          {
            name: 'a',
            action: 'Deny',
            to: [{ networks: ['10.0.0.0/8'] }, { nodes: {} }],
            protocols: [{ tcp: { destinationPort: { range: { start: 1, end: 2 } } } }, { destinationNamedPort: 'a' }],
          },
        ],
      },
    ],
  };
  /** The value with the node that `pick` counts to replaced. */
  const replace = (value: unknown, counter: { left: number }, by: unknown): unknown => {
    if (counter.left-- === 0) return by;
    if (Array.isArray(value)) return value.map((inner) => replace(inner, counter, by));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, replace(inner, counter, by)]));
  };
  for (const [kind, [apiVersion, spec]] of Object.entries(full)) {
    it(`${kind}: a resource or an InvalidResourceError`, () => {
      const strange = fc.oneof(
        fc.jsonValue(),
        fc.constantFrom(undefined, Number.NaN, -1, 2 ** 40, '', 'a'.repeat(2000), '0.0.0.0/0', [[]], { a: {} }),
      );
      fc.assert(
        fc.property(fc.nat(60), strange, (at, by) => {
          problems(apiVersion, kind, replace(spec, { left: at + 1 }, by) as Spec);
        }),
        { numRuns: 200 },
      );
    });
  }
});
