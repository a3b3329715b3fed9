import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { keyOf, keyText, type Resource } from '#model/resource.ts';
import { Accumulator } from './accumulate.ts';
import { CalcGraph } from './graph.ts';

const HOST = 'h1';

function endpoint(
  name: string,
  labels: Record<string, string>,
  address: string,
  node = HOST,
  namespace = 'default',
): Resource {
  return {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: { name, namespace, labels },
    spec: {
      node,
      interfaceName: `cali${name}`,
      ipNetworks: [`${address}/32`],
      profiles: [`kns.${namespace}`],
      ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    },
  };
}

function policy(name: string, selector: string, from: string, extra: object = {}): Resource {
  return {
    apiVersion: 'projectcalico.org/v3',
    kind: 'NetworkPolicy',
    metadata: { name, namespace: 'default' },
    spec: {
      selector,
      tier: 'default',
      types: ['Ingress'],
      ingress: [{ action: 'Allow', protocol: 'TCP', source: { selector: from }, destination: { ports: ['http', 80] } }],
      ...extra,
    },
  };
}

function feed(graph: CalcGraph, resource: Resource): void {
  if (resource.kind === 'WorkloadEndpoint' && (resource.spec as { node: string }).node === HOST)
    graph.setLocalEndpoint(resource);
  else graph.update(resource);
}

function drop(graph: CalcGraph, resource: Resource): void {
  if (resource.kind === 'WorkloadEndpoint' && (resource.spec as { node: string }).node === HOST)
    graph.removeLocalEndpoint(keyOf(resource));
  else graph.remove(keyOf(resource));
}

function graphOf(): CalcGraph {
  return new CalcGraph({ hostName: HOST, implicitNamespaces: true });
}

/** The state after these resources alone, told in one batch. */
function fresh(resources: Iterable<Resource>): Accumulator {
  const graph = graphOf();
  for (const resource of resources) feed(graph, resource);
  const state = new Accumulator();
  state.apply(graph.flush());
  return state;
}

function plain(state: Accumulator): unknown {
  const sorted = <V>(map: ReadonlyMap<string, V>) => [...map.entries()].sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    sets: sorted(state.sets).map(([id, s]) => [id, s.type, [...s.members].toSorted()]),
    policies: sorted(state.policies),
    endpoints: sorted(state.endpoints),
    blocks: sorted(state.blocks),
  };
}

const web = endpoint('web', { app: 'web' }, '10.0.0.1');
const client = endpoint('client', { role: 'client' }, '10.0.1.1', 'h2');

describe('CalcGraph', () => {
  it('sends only policies that select a local endpoint, with the sets they need', () => {
    const state = fresh([
      web,
      client,
      policy('for-web', 'app == "web"', 'role == "client"'),
      policy('idle', 'app == "none"', 'all()'),
    ]);
    assert.deepEqual([...state.policies.keys()].toSorted(), ['NetworkPolicy/default/for-web', 'Profile/kns.default']);
    const rule = state.policies.get('NetworkPolicy/default/for-web')!.ingress[0]!;
    assert.deepEqual(state.sets.get(rule.source.sets![0]!)!.members, new Set(['10.0.1.1/32']));
    assert.deepEqual(rule.destination.ports, [{ min: 80, max: 80 }]);
    const ports = state.sets.get(rule.destination.portSets![0]!)!;
    assert.equal(ports.type, 'named-port');
    assert.deepEqual([...ports.members].toSorted(), ['10.0.0.1,tcp,8080', '10.0.1.1,tcp,8080']);
    assert.deepEqual(state.endpoints.get('default/web')!.tiers, [
      { name: 'default', defaultAction: 'deny', ingress: ['NetworkPolicy/default/for-web'], egress: [] },
    ]);
  });

  it('adding an endpoint to a set is one delta', () => {
    const graph = graphOf();
    const state = new Accumulator();
    for (const r of [web, policy('p', 'app == "web"', 'role == "client"')]) feed(graph, r);
    state.apply(graph.flush());
    feed(graph, client);
    const updates = graph.flush();
    assert.deepEqual(
      updates.map((u) => u.type),
      ['set-delta', 'set-delta'],
    );
    state.apply(updates);
    assert.deepEqual(graph.flush(), []);
  });

  it('orders policies by order, then name, and tiers by order; an unknown tier comes last and denies', () => {
    const state = fresh([
      web,
      {
        apiVersion: 'projectcalico.org/v3',
        kind: 'Tier',
        metadata: { name: 'first' },
        spec: { order: 10, defaultAction: 'Pass' },
      },
      policy('b', 'all()', 'all()', { order: 5 }),
      policy('a', 'all()', 'all()', { order: 5 }),
      policy('z', 'all()', 'all()', { order: 1 }),
      policy('none', 'all()', 'all()'),
      policy('t', 'all()', 'all()', { tier: 'first' }),
      policy('lost', 'all()', 'all()', { tier: 'gone' }),
    ]);
    const tiers = state.endpoints.get('default/web')!.tiers;
    assert.deepEqual(
      tiers.map((t) => [t.name, t.defaultAction, t.ingress.map((p) => p.split('/')[2])]),
      [
        ['first', 'pass', ['t']],
        ['default', 'deny', ['z', 'a', 'b', 'none']],
        ['gone', 'deny', ['lost']],
      ],
    );
  });

  it('a profile that is not there denies all; without Kubernetes a namespace is implied', () => {
    const closed = new CalcGraph({ hostName: HOST, implicitNamespaces: false });
    closed.setLocalEndpoint(web);
    const state = new Accumulator();
    state.apply(closed.flush());
    assert.equal(state.policies.get('Profile/kns.default')!.ingress[0]!.action, 'deny');
    assert.equal(fresh([web]).policies.get('Profile/kns.default')!.ingress[0]!.action, 'allow');
  });

  it('a stored policy that does not make sense denies to those it selects, and is reported', () => {
    const graph = graphOf();
    feed(graph, web);
    feed(graph, policy('odd', 'app == "web"', 'all()', { ingress: [{ action: 'Maybe' }], types: ['Ingress'] }));
    feed(graph, policy('odder', 'app = web', 'all()'));
    const state = new Accumulator();
    state.apply(graph.flush());
    const odd = state.policies.get('NetworkPolicy/default/odd')!;
    assert.deepEqual(
      [odd.ingress.map((r) => r.action), state.endpoints.get('default/web')!.tiers[0]!.egress],
      [['deny'], []],
    );
    assert.deepEqual(graph.problems.map((p) => p.key).toSorted(), [
      'NetworkPolicy/default/odd',
      'NetworkPolicy/default/odder',
    ]);
    assert.match(graph.problems[0]!.error, /action/);
    feed(graph, policy('odd', 'app == "web"', 'all()'));
    graph.remove({ kind: 'NetworkPolicy', namespace: 'default', name: 'odder' });
    assert.deepEqual(graph.problems, []);
  });

  it("Kubernetes' and Calico's policies of one name are two; cluster policies come first and last", () => {
    const k8s = (apiVersion: string, kind: string, spec: object, namespace?: string): Resource => ({
      apiVersion,
      kind,
      metadata: { name: 'p', ...(namespace !== undefined && { namespace }) },
      spec,
    });
    const pod = endpoint('pod', { app: 'web' }, '10.0.0.9');
    (pod.spec as { orchestrator?: string }).orchestrator = 'k8s';
    const subject = { namespaces: {} };
    const rule = { action: 'Accept', from: [{ namespaces: {} }] };
    const state = fresh([
      pod,
      policy('p', 'all()', 'all()'),
      k8s('networking.k8s.io/v1', 'NetworkPolicy', { podSelector: {}, ingress: [{}] }, 'default'),
      k8s('policy.networking.k8s.io/v1alpha2', 'ClusterNetworkPolicy', {
        tier: 'Admin',
        priority: 1,
        subject,
        ingress: [rule],
      }),
    ]);
    assert.deepEqual(
      state.endpoints.get('default/pod')!.tiers.map((t) => [t.name, t.defaultAction, t.ingress]),
      [
        ['kube-admin', 'pass', ['ClusterNetworkPolicy.policy.networking.k8s.io/p']],
        ['default', 'deny', ['NetworkPolicy.networking.k8s.io/default/p', 'NetworkPolicy/default/p']],
      ],
    );
  });

  it('follows services, nodes and staged policies', () => {
    const slice = (address: string): Resource => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'svc-1', namespace: 'default', labels: { 'kubernetes.io/service-name': 'svc' } },
      spec: { addressType: 'IPv4', endpoints: [{ addresses: [address] }], ports: [{ protocol: 'TCP', port: 53 }] },
    });
    const toService = policy('to-svc', 'all()', 'all()', {
      types: ['Egress'],
      ingress: [],
      egress: [{ action: 'Allow', destination: { services: { name: 'svc', namespace: 'default' } } }],
    });
    const staged = { ...policy('idle', 'all()', 'all()'), kind: 'StagedNetworkPolicy' };
    const graph = graphOf();
    const state = new Accumulator();
    for (const r of [web, toService, staged, slice('10.9.0.1')]) feed(graph, r);
    state.apply(graph.flush());
    assert.equal(state.policies.has('StagedNetworkPolicy/default/idle'), false);
    const set = state.policies.get('NetworkPolicy/default/to-svc')!.egress[0]!.destination.portSets![0]!;
    assert.deepEqual([...state.sets.get(set)!.members], ['10.9.0.1,tcp,53']);
    feed(graph, slice('10.9.0.2'));
    state.apply(graph.flush());
    assert.deepEqual([...state.sets.get(set)!.members], ['10.9.0.2,tcp,53']);
  });

  it('finds the interface of a host endpoint that is known by its addresses', () => {
    const graph = graphOf();
    const state = new Accumulator();
    graph.update({
      apiVersion: 'projectcalico.org/v3',
      kind: 'HostEndpoint',
      metadata: { name: 'uplink' },
      spec: { node: HOST, expectedIPs: ['192.0.2.1', '2001:db8::1'] },
    });
    state.apply(graph.flush());
    assert.equal(state.endpoints.size, 0);
    assert.match(graph.problems[0]!.error, /expectedIPs/);
    graph.setHostInterfaces(new Map([['2001:db8::1', 'eth7']]));
    state.apply(graph.flush());
    assert.equal(state.endpoints.get('HostEndpoint/uplink')!.interfaceName, 'eth7');
    assert.deepEqual(graph.problems, []);
    graph.setHostInterfaces(new Map());
    state.apply(graph.flush());
    assert.equal(state.endpoints.size, 0);
  });

  it('any order of events, with and without coalescing, gives the state of the present resources', () => {
    const labels = fc.dictionary(fc.constantFrom('app', 'role'), fc.constantFrom('web', 'db', 'client'), {
      maxKeys: 2,
    });
    const name = fc.constantFrom('a', 'b', 'c');
    const selector = fc.constantFrom('all()', 'app == "web"', 'has(role)', 'role != "client"', 'app in {"db", "web"}');
    const resource = fc.oneof(
      fc
        .record({ name, labels, host: fc.constantFrom(HOST, 'h2'), octet: fc.nat(5) })
        .map((x) => endpoint(x.name + x.host, x.labels, `10.0.0.${x.octet}`, x.host)),
      fc
        .record({ name, selector, from: selector, order: fc.nat(2), tier: fc.constantFrom('default', 'first', 'gone') })
        .map((x) => policy(x.name, x.selector, x.from, { order: x.order, tier: x.tier })),
      fc.constant<Resource>({
        apiVersion: 'projectcalico.org/v3',
        kind: 'Tier',
        metadata: { name: 'first' },
        spec: { order: 1 },
      }),
      labels.map(
        (l): Resource => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'default', labels: l }, spec: {} }),
      ),
      labels.map(
        (l): Resource => ({
          apiVersion: 'projectcalico.org/v3',
          kind: 'GlobalNetworkSet',
          metadata: { name: 'set', labels: l },
          spec: { nets: ['10.0.0.0/24', '192.0.2.0/24'] },
        }),
      ),
    );
    const event = fc.record({ resource, remove: fc.boolean(), flush: fc.boolean() });
    fc.assert(
      fc.property(fc.array(event, { maxLength: 40 }), (events) => {
        const graph = graphOf();
        const state = new Accumulator();
        const present = new Map<string, Resource>();
        for (const { resource, remove, flush } of events) {
          const key = keyText(keyOf(resource));
          if (!remove) {
            feed(graph, resource);
            present.set(key, resource);
          } else if (present.delete(key)) drop(graph, resource);
          if (flush) state.apply(graph.flush());
        }
        state.apply(graph.flush());
        assert.deepEqual(plain(state), plain(fresh(present.values())));
      }),
      { numRuns: 400 },
    );
  });
});
