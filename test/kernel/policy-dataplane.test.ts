// The policy dataplane on the real kernel: namespaces, veths named cali*, real packets.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Dataplane } from '#dataplane/dataplane.ts';
import type { AbstractRule, DesiredEndpoint, DesiredPolicy, DesiredUpdate } from '#model/desired.ts';
import type { RuleLabel } from '#dataplane/render/chain.ts';
import { HOST_IPV4, OUTSIDE_IPV4, PolicyWorld, type Workload } from './policy-world.ts';

/** Milliseconds to wait for what should answer; what should not is given less. */
const PATIENT = 5000;

const ANY: Pick<AbstractRule, 'source' | 'destination'> = { source: {}, destination: {} };
const ALLOW_ALL: AbstractRule = { action: 'allow', index: 0, ...ANY };

function profile(id = 'Profile/kns.default'): DesiredUpdate {
  return { type: 'policy', policy: { id, tier: '', ingress: [ALLOW_ALL], egress: [ALLOW_ALL] } };
}

function endpoint(workload: Workload, parts: Partial<DesiredEndpoint> = {}): DesiredUpdate {
  return {
    type: 'endpoint',
    endpoint: {
      id: `default/${workload.name}`,
      kind: 'workload',
      interfaceName: workload.interfaceName,
      addresses: [workload.ipv4, workload.ipv6],
      tiers: [],
      profiles: ['Profile/kns.default'],
      ...parts,
    },
  };
}

function policy(id: string, parts: Partial<DesiredPolicy>): DesiredUpdate {
  return { type: 'policy', policy: { id, tier: 'default', ingress: [], egress: [], ...parts } };
}

describe('policy dataplane on the kernel', () => {
  let world: PolicyWorld;
  let dataplane: Dataplane;
  let a: Workload;
  let b: Workload;

  before(async () => {
    world = await PolicyWorld.create();
    a = await world.addWorkload();
    b = await world.addWorkload();
    for (const workload of [a, b]) {
      await workload.agent.listen('tcp', 80);
      await workload.agent.listen('udp', 53);
    }
    await world.hostAgent.listen('tcp', 8080);
    await world.outsideAgent.listen('tcp', 80);
    dataplane = new Dataplane({ driver: world.driver() });
    await dataplane.start();
  });

  after(async () => {
    await dataplane?.stop();
    await world?.destroy();
  });

  const reach = async (from: Workload, to: Workload, expected: readonly string[]) => {
    const probe = (address: string, i: number) =>
      from.agent.probe('tcp', address, 80, expected[i] === 'open' ? PATIENT : undefined);
    assert.deepEqual(await Promise.all([to.ipv4, to.ipv6].map(probe)), expected);
  };

  it('drops interfaces that it does not know, in every direction', async () => {
    await reach(a, b, ['silent', 'silent']);
    assert.equal(await a.agent.ping(b.ipv4), 'silent');
    await dataplane.apply([profile(), endpoint(b), { type: 'in-sync' }]);
    await reach(a, b, ['silent', 'silent']);
    await reach(b, a, ['silent', 'silent']);
    assert.equal(await b.agent.ping('10.65.0.77'), 'silent');
  });

  it('lets a profile allow', async () => {
    await dataplane.apply([endpoint(a)]);
    await reach(a, b, ['open', 'open']);
    assert.equal(await a.agent.ping(b.ipv6), 'open');
    assert.equal(await a.agent.probe('udp', b.ipv4, 53, PATIENT), 'open');
    assert.deepEqual(dataplane.status('endpoint', `default/${a.name}`), { state: 'applied' });
  });

  it('allows by set and port, and denies at the end of the tier', async () => {
    const tiers = [
      { name: 'default', defaultAction: 'deny', ingress: ['NetworkPolicy/default/web'], egress: [] },
    ] as const;
    await dataplane.apply([
      endpoint(b, { tiers }),
      policy('NetworkPolicy/default/web', {
        ingress: [
          {
            action: 'allow',
            index: 0,
            protocol: 'tcp',
            source: { sets: ['s:one'] },
            destination: { ports: [{ min: 80, max: 80 }] },
          },
        ],
      }),
      { type: 'set', set: { id: 's:one', type: 'net', members: new Set([a.ipv4, `${a.ipv6}/128`]) } },
    ]);
    await reach(a, b, ['open', 'open']);
    assert.equal(await a.agent.probe('udp', b.ipv4, 53), 'silent');
    await dataplane.apply([{ type: 'set-delta', delta: { id: 's:one', added: [], removed: [a.ipv4] } }]);
    await reach(a, b, ['silent', 'open']);
    await dataplane.apply([{ type: 'set-delta', delta: { id: 's:one', added: ['10.64.0.0/10'], removed: [] } }]);
    await reach(a, b, ['open', 'open']);
  });

  it('does deny before allow, Pass, tier defaults and the profile behind them', async () => {
    const gnp = (name: string) => `GlobalNetworkPolicy/${name}`;
    const tiers: DesiredEndpoint['tiers'] = [
      { name: 'security', defaultAction: 'pass', ingress: [gnp('first')], egress: [] },
      { name: 'default', defaultAction: 'deny', ingress: [gnp('second')], egress: [] },
    ];
    const first = (action: AbstractRule['action']) =>
      policy(gnp('first'), { tier: 'security', ingress: [{ action, index: 0, protocol: 'tcp', ...ANY }] });
    await dataplane.apply([endpoint(b, { tiers }), first('deny'), policy(gnp('second'), { ingress: [ALLOW_ALL] })]);
    await reach(a, b, ['silent', 'silent']);
    assert.equal(await a.agent.probe('udp', b.ipv4, 53, PATIENT), 'open');
    await dataplane.apply([first('pass')]);
    await reach(a, b, ['open', 'open']);
    await dataplane.apply([
      policy(gnp('second'), { ingress: [{ action: 'deny', index: 0, protocol: 'tcp', ...ANY }] }),
    ]);
    await reach(a, b, ['silent', 'silent']);
    await dataplane.apply([
      policy(gnp('second'), { ingress: [{ action: 'pass', index: 0, protocol: 'tcp', ...ANY }] }),
    ]);
    await reach(a, b, ['open', 'open']);
    assert.equal(await a.agent.probe('udp', b.ipv4, 53), 'silent');
    await dataplane.apply([endpoint(b, { tiers, profiles: [] })]);
    await reach(a, b, ['silent', 'silent']);
  });

  it('does named ports, CIDRs with exceptions, families, ICMP and egress', async () => {
    const id = 'NetworkPolicy/default/many';
    const tiers: DesiredEndpoint['tiers'] = [{ name: 'default', defaultAction: 'deny', ingress: [id], egress: [] }];
    const rules = async (...ingress: Omit<AbstractRule, 'index' | 'action'>[]) =>
      dataplane.apply([
        endpoint(b, { tiers }),
        {
          type: 'set',
          set: { id: 'n:web', type: 'named-port', members: new Set([`${b.ipv4},tcp,80`, `${b.ipv6},tcp,81`]) },
        },
        policy(id, { ingress: ingress.map((r, index) => ({ action: 'allow', index, ...r })) }),
      ]);
    await rules({ protocol: 'tcp', source: {}, destination: { portSets: ['n:web'] } });
    await reach(a, b, ['open', 'silent']);
    await rules({ protocol: 'tcp', source: {}, destination: { portSets: ['n:web'], ports: [{ min: 79, max: 80 }] } });
    await reach(a, b, ['open', 'open']);
    await rules({ source: { nets: ['10.0.0.0/8'], notNets: [`${a.ipv4}/32`] }, destination: {} });
    await reach(a, b, ['silent', 'silent']);
    await rules({ source: { notNets: ['10.0.0.0/9'] }, destination: {} });
    await reach(a, b, ['silent', 'silent']);
    await rules({ source: { notNets: ['192.168.0.0/16'] }, destination: {} });
    await reach(a, b, ['open', 'silent']);
    await rules({ ipVersion: 6, source: {}, destination: {} });
    await reach(a, b, ['silent', 'open']);
    await rules({ protocol: 'icmp', icmp: { type: 8 }, ...ANY });
    assert.equal(await a.agent.ping(b.ipv4), 'open');
    assert.equal(await a.agent.ping(b.ipv6), 'silent');
    await reach(a, b, ['silent', 'silent']);
    await rules({ protocol: 'icmp', notIcmp: { type: 8, code: 0 }, ...ANY });
    assert.equal(await a.agent.ping(b.ipv4), 'silent');

    const egress = 'NetworkPolicy/default/egress';
    await dataplane.apply([
      endpoint(b),
      endpoint(a, { tiers: [{ name: 'default', defaultAction: 'deny', ingress: [], egress: [egress] }] }),
      policy(egress, {
        egress: [{ action: 'allow', index: 0, protocol: 'tcp', source: {}, destination: { nets: [b.ipv4] } }],
      }),
    ]);
    await reach(a, b, ['open', 'silent']);
    await reach(b, a, ['open', 'open']);
    assert.equal(await a.agent.probe('tcp', OUTSIDE_IPV4, 80), 'silent');
    assert.equal(await a.agent.probe('tcp', HOST_IPV4, 8080), 'silent');
    assert.equal(await b.agent.probe('tcp', HOST_IPV4, 8080, PATIENT), 'open');
    assert.equal(await world.hostAgent.probe('tcp', a.ipv4, 80, PATIENT), 'open');
    await dataplane.apply([endpoint(a)]);
    assert.equal(await a.agent.probe('tcp', OUTSIDE_IPV4, 80, PATIENT), 'open');
  });

  it("drops sources that are not the container's own", async () => {
    await dataplane.apply([endpoint(a), endpoint(b)]);
    world.exec(a.name, 'ip', ['addr', 'add', '10.65.0.99/32', 'dev', 'lo']);
    world.exec(a.name, 'ip', ['addr', 'add', 'fd65::99/128', 'dev', 'lo']);
    assert.equal(await a.agent.ask(`probe tcp ${b.ipv6} 80 400 fd65::99`), 'silent');
    assert.equal(await a.agent.ask(`probe tcp ${b.ipv4} 80 400 10.65.0.99`), 'silent');
    const spoofed = (await dataplane.counters()).filter((c) => c.label.type === 'base' && c.label.name === 'spoofed');
    assert.ok(spoofed.some((c) => c.chain === 'prerouting-spoof' && c.packets > 0));
  });

  it('counts each rule, under the index that the user gave it', async () => {
    const id = 'NetworkPolicy/default/counted';
    await dataplane.apply([
      endpoint(b, { tiers: [{ name: 'default', defaultAction: 'deny', ingress: [id], egress: [] }] }),
      policy(id, {
        ingress: [
          { action: 'log', index: 0, ...ANY },
          { action: 'allow', index: 1, protocol: 'tcp', source: {}, destination: { ports: [{ min: 80, max: 80 }] } },
        ],
      }),
    ]);
    await reach(a, b, ['open', 'open']);
    await a.agent.probe('udp', b.ipv4, 53);
    const counters = await dataplane.counters();
    const packets = (match: (label: RuleLabel) => boolean) =>
      counters.filter((c) => match(c.label)).reduce((sum, c) => sum + c.packets, 0);
    assert.equal(
      packets((l) => l.type === 'policy' && l.policy === id && l.index === 1),
      2,
    );
    assert.ok(packets((l) => l.type === 'policy' && l.policy === id && l.index === 0) >= 3);
    assert.ok(packets((l) => l.type === 'tier-default' && l.endpoint === `default/${b.name}`) >= 1);
    assert.match(
      world.run('nft', ['list', 'chain', 'inet', 'brindle', `ingress/${id}`]),
      /comment "NetworkPolicy\/default\/counted ingress 1 #/,
    );
  });

  it('lets a rule go on counting when another rule of its policy changes', async () => {
    const id = 'NetworkPolicy/default/counted';
    const allow = (index: number, port: number): AbstractRule => ({
      ...{ action: 'allow', index, protocol: 'tcp', source: {} },
      destination: { ports: [{ min: port, max: port }] },
    });
    const packets = async (index: number) =>
      (await dataplane.counters()).find(
        (c) => c.label.type === 'policy' && c.label.policy === id && c.label.index === index,
      )?.packets;
    await dataplane.apply([policy(id, { ingress: [allow(0, 80), allow(1, 81)] })]);
    await reach(a, b, ['open', 'open']);
    assert.equal(await packets(0), 2);
    await dataplane.apply([policy(id, { ingress: [allow(0, 80), allow(1, 82), allow(2, 83)] })]);
    assert.equal(await packets(0), 2);
    assert.equal(await packets(2), 0);
    await reach(a, b, ['open', 'open']);
    assert.equal(await packets(0), 4);
  });

  it('mends what somebody else breaks, also when the table is gone', async () => {
    await dataplane.apply([endpoint(a), endpoint(b)]);
    const text = () => world.run('nft', ['-s', 'list', 'table', 'inet', 'brindle']);
    const before = text().split('\n').sort().join('\n');
    for (const command of [
      'flush ruleset',
      'flush chain inet brindle to/cali2',
      'add table inet brindle; delete table inet brindle',
    ]) {
      world.run('nft', [command]);
      await eventually(() => safely(text)?.split('\n').sort().join('\n') === before);
      await reach(a, b, ['open', 'open']);
    }
  });

  it('takes 200 endpoints in one batch', async () => {
    const many = Array.from({ length: 200 }, (_, i) =>
      endpoint({ ...a, name: `many${i}`, interfaceName: `calimany${i}` }),
    );
    await dataplane.apply(many);
    for (const [i] of many.entries()) {
      assert.equal(dataplane.status('endpoint', `default/many${i}`)?.state, 'applied');
    }
    await dataplane.apply(many.map((_, i): DesiredUpdate => ({ type: 'endpoint-removed', id: `default/many${i}` })));
    assert.equal(world.run('nft', ['list', 'table', 'inet', 'brindle']).includes('calimany'), false);
  });

  it('is taken over by the next process with no packet lost and nothing rewritten', async () => {
    const id = 'NetworkPolicy/default/kept';
    const state = () => [
      profile(),
      endpoint(a),
      endpoint(b, { tiers: [{ name: 'default', defaultAction: 'deny', ingress: [id], egress: [] }] }),
      { type: 'set', set: { id: 's:kept', type: 'net', members: new Set([a.ipv4]) } } as const,
      policy(id, { ingress: [{ action: 'allow', index: 0, source: { sets: ['s:kept'] }, destination: {} }] }),
    ];
    await dataplane.apply(state());
    const steady = a.agent.ask(`stream ${b.ipv4} 53 100`);
    for (let i = 0; i < 3; i++) {
      await dataplane.stop();
      dataplane = new Dataplane({ driver: world.driver() });
      await dataplane.start();
      for (const update of state().reverse()) await dataplane.apply([update]);
      await dataplane.apply([{ type: 'in-sync' }]);
    }
    assert.equal(await steady, 'lost 0');
    const counted = (await dataplane.counters()).find((c) => c.label.type === 'policy' && c.label.policy === id);
    assert.ok(counted && counted.packets > 0);
  });

  it('guards the host itself by host endpoints, and lets failsafe ports through', async () => {
    const [raw, pre, normal] = ['raw', 'pre', 'normal'].map((name) => `GlobalNetworkPolicy/${name}`) as [
      string,
      string,
      string,
    ];
    const tier = (id: string) => [{ name: 'default', defaultAction: 'deny', ingress: [id], egress: [id] }] as const;
    const ports = (...list: number[]) => ({ ports: list.map((port) => ({ min: port, max: port })) });
    const tcp = (parts: Partial<AbstractRule>): AbstractRule => ({
      ...{ action: 'allow', index: 0, protocol: 'tcp', source: {}, destination: {} },
      ...parts,
    });
    for (const port of [22, 9000, 9001, 9002]) await world.hostAgent.listen('tcp', port);
    const outside = async (expected: Record<number, string>) => {
      const probe = async ([port, answer]: [string, string]) =>
        [
          port,
          await world.outsideAgent.probe('tcp', HOST_IPV4, Number(port), answer === 'open' ? PATIENT : undefined),
        ] as const;
      assert.deepEqual(Object.fromEntries(await Promise.all(Object.entries(expected).map(probe))), expected);
    };
    await dataplane.apply([
      endpoint(a),
      endpoint(b),
      {
        type: 'endpoint',
        endpoint: {
          id: 'host/uplink',
          kind: 'host',
          interfaceName: 'uplink',
          addresses: [],
          tiers: tier(normal),
          profiles: [],
          host: { untracked: tier(raw), preDnat: tier(pre), forward: [] },
        },
      },
      policy(normal, { ingress: [tcp({ destination: ports(8080) })] }),
      policy(raw, {
        untracked: true,
        ingress: [tcp({ destination: ports(9000) }), tcp({ action: 'deny', destination: ports(9002) })],
        egress: [tcp({ source: ports(9000) })],
      }),
      policy(pre, { preDnat: true, ingress: [tcp({ destination: ports(9001, 9002) })] }),
    ]);
    await outside({ 22: 'open', 8080: 'open', 9000: 'open', 9001: 'open', 9002: 'silent' });
    assert.equal(await world.hostAgent.probe('tcp', OUTSIDE_IPV4, 80), 'silent');
    assert.equal(await world.hostAgent.probe('tcp', a.ipv4, 80, PATIENT), 'open');
    assert.equal(await a.agent.probe('tcp', HOST_IPV4, 8080, PATIENT), 'open');
    assert.equal(await a.agent.probe('tcp', OUTSIDE_IPV4, 80, PATIENT), 'open');
    assert.equal(await world.outsideAgent.probe('tcp', a.ipv6, 80, PATIENT), 'open');
    await dataplane.apply([
      policy(normal, { ingress: [] }),
      policy(pre, { preDnat: true }),
      policy(raw, { untracked: true }),
    ]);
    await outside({ 22: 'open', 8080: 'silent', 9000: 'silent' });
    await dataplane.apply([{ type: 'endpoint-removed', id: 'host/uplink' }]);
    await outside({ 8080: 'open', 9002: 'open' });
  });

  it('is removed by cleanup, and nothing else is', async () => {
    world.run('nft', ['add table inet other; add chain inet other c']);
    await dataplane.stop();
    const driver = world.driver();
    await Dataplane.cleanup(driver);
    await Dataplane.cleanup(driver);
    driver.close();
    assert.equal(world.run('nft', ['list', 'tables']), 'table inet other\n');
    await reach(a, b, ['open', 'open']);
  });
});

async function eventually(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 300; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail('did not come true');
}

function safely<T>(fn: () => T): T | null {
  try {
    return fn();
  } catch {
    return null;
  }
}
