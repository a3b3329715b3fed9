// The protocol without a kernel: calls over HTTP to a driver with fakes, in order, repeated, out of order and malformed.
import assert from 'node:assert/strict';
import { createServer, request } from 'node:http';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { BrindleError } from '#base/errors.ts';
import { silentLogger } from '#base/log.ts';
import type { Attachment } from '#model/attachment.ts';
import type { Resource } from '#model/resource.ts';
import { IpAddress } from '#net/address.ts';
import type { DockerDependencies, EngineContainer } from './dependencies.ts';
import { DockerDriver } from './driver.ts';
import { parseContainers } from './engine.ts';
import { endpointResource, hostInterfaceOf, temporaryInterfaceOf } from './identity.ts';
import { NetworkFile } from './networks.ts';
import { pluginListener } from './server.ts';

const NET = 'n'.repeat(64);
const GATEWAY = { 'com.docker.network.gateway': '0.0.0.0/0' };

interface World extends AsyncDisposable {
  readonly attachments: Map<string, Attachment>;
  readonly interfaces: Map<string, 'here' | 'moved'>;
  readonly active: Map<string, Resource>;
  readonly held: Set<string>;
  readonly questions: string[][];
  containers: EngineContainer[];
  call(method: string, body: unknown): Promise<{ status: number; body: Record<string, unknown> }>;
  /** As `call`, and the answer must be good. */
  good(method: string, body: unknown): Promise<Record<string, unknown>>;
  bad(method: string, body: unknown, pattern: RegExp, status?: number): Promise<void>;
}

async function world(): Promise<World> {
  const directory = mkdtempSync(join(tmpdir(), 'brindle-docker-pure-'));
  const attachments = new Map<string, Attachment>();
  const interfaces = new Map<string, 'here' | 'moved'>();
  const active = new Map<string, Resource>();
  const held = new Set<string>();
  const questions: string[][] = [];
  let next = 1;
  const dependencies: DockerDependencies = {
    host: 'h1',
    addresses: {
      assign: async ({ handle, families, requested, attach }) => {
        const address = requested?.[0] ?? IpAddress.parse(families?.[0] === 6 ? `fd00::${next++}` : `10.0.0.${next++}`);
        if ([...attachments.values()].some((a) => a.addresses.includes(`${address}`))) {
          throw new BrindleError('already-exists', `address ${address} is held`);
        }
        attachments.set(handle, attach([address]));
        return { addresses: [address], durable: Promise.resolve() };
      },
      commit: () => Promise.resolve(),
      amend: async (attachment) => {
        if (!attachments.has(attachment.handle)) throw new BrindleError('not-found', 'no such handle');
        attachments.set(attachment.handle, attachment);
      },
      release: async (handle) => attachments.delete(handle),
      attachments: () => attachments.values(),
    },
    wiring: {
      wire: ({ hostInterface }) => void interfaces.set(hostInterface, 'here'),
      unwire: async (hostInterface) => void interfaces.delete(hostInterface),
      half: (hostInterface) => interfaces.get(hostInterface) ?? 'absent',
    },
    routes: { hold: (id) => void held.add(id), drop: (id) => void held.delete(id) },
    endpoints: {
      activate: async (endpoint) => void active.set(endpoint.metadata.name, endpoint),
      deactivate: (key) => void active.delete(key.name),
      namespaceLabels: () => ({}),
    },
    pools: () => [{ family: 4, cidr: '10.0.0.0/16', disabled: false }],
    networks: new NetworkFile(join(directory, 'networks.json')),
    engine: {
      containers: async (ids) => {
        questions.push([...ids]);
        return it.containers;
      },
    },
    clock: systemClock,
    log: silentLogger,
  };
  const driver = new DockerDriver(dependencies);
  const path = join(directory, 'sock');
  const untilReady = (): Promise<void> => Promise.resolve();
  const server = createServer(pluginListener({ driver, log: silentLogger, untilReady, onActivate: () => undefined }));
  await new Promise<void>((done) => server.listen(path, done));
  const it: World = {
    attachments,
    interfaces,
    active,
    held,
    questions,
    containers: [],
    call: (method, body) =>
      new Promise((done, fail) => {
        const call = request({ socketPath: path, path: `/${method}`, method: 'POST' }, (response) => {
          let text = '';
          response.on('data', (chunk: Buffer) => {
            text += chunk.toString();
          });
          response.on('end', () =>
            done({ status: response.statusCode ?? 0, body: JSON.parse(text) as Record<string, unknown> }),
          );
        });
        call.on('error', fail);
        call.end(typeof body === 'string' ? body : JSON.stringify(body));
      }),
    good: async (method, body) => {
      const answer = await it.call(method, body);
      assert.equal(answer.status, 200, `${method}: ${JSON.stringify(answer.body)}`);
      return answer.body;
    },
    bad: async (method, body, pattern, status) => {
      const answer = await it.call(method, body);
      assert.notEqual(answer.status, 200, `${method} was served`);
      if (status !== undefined) assert.equal(answer.status, status);
      assert.match(String(answer.body['Err']), pattern);
    },
    async [Symbol.asyncDispose]() {
      driver.stop();
      await new Promise((done) => server.close(done));
      rmSync(directory, { recursive: true, force: true });
    },
  };
  return it;
}

const network = (more: object = {}): object => ({
  NetworkID: NET,
  Options: { 'com.docker.network.generic': {} },
  IPv4Data: [{ AddressSpace: 'BrindleLocal', Pool: '0.0.0.0/0', Gateway: '0.0.0.0/0' }],
  IPv6Data: [],
  ...more,
});

const endpoint = (id: string, more: object = {}): object => ({ NetworkID: NET, EndpointID: id, ...more });

/** The calls that dockerd makes for a container, up to Join. */
async function attach(w: World, id: string): Promise<string> {
  const { Address } = await w.good('IpamDriver.RequestAddress', { PoolID: 'brindle/4', Address: '', Options: null });
  await w.good(
    'NetworkDriver.CreateEndpoint',
    endpoint(id, { Interface: { Address, MacAddress: '02:00:00:00:00:01' } }),
  );
  return String(Address);
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 2000 && !condition(); i++) await new Promise((done) => setTimeout(done, 5));
  assert.ok(condition());
}

const containerOf = (endpointId: string, labels: Record<string, string> = {}): EngineContainer => ({
  id: 'c0ffee',
  name: 'web_1',
  labels,
  endpoints: [{ endpointId, network: 'fabric' }],
});

describe("Docker's plugin protocol", () => {
  it('says what it is, and 404 to what it does not know', async () => {
    await using w = await world();
    assert.deepEqual(await w.good('Plugin.Activate', ''), { Implements: ['NetworkDriver', 'IpamDriver'] });
    assert.equal((await w.good('NetworkDriver.GetCapabilities', 'null'))['Scope'], 'local');
    assert.equal((await w.good('IpamDriver.GetCapabilities', {}))['RequiresRequestReplay'], false);
    await w.bad('NetworkDriver.AllocateNetwork', {}, /not implemented/, 404);
    await w.bad('toString', {}, /not implemented/, 404);
  });

  it('serves a container from the first call to the last', async () => {
    await using w = await world();
    const pool = await w.good('IpamDriver.RequestPool', { AddressSpace: 'BrindleLocal', Pool: '', V6: false });
    assert.deepEqual(pool, { PoolID: 'brindle/4', Pool: '0.0.0.0/0', Data: GATEWAY });
    await w.good('NetworkDriver.CreateNetwork', network());
    const address = await attach(w, 'e1');
    assert.equal(address, '10.0.0.1/32');
    const joined = await w.good('NetworkDriver.Join', endpoint('e1', { SandboxKey: '/var/run/docker/netns/x' }));
    assert.deepEqual(joined, {
      InterfaceName: { SrcName: temporaryInterfaceOf('e1'), DstPrefix: 'eth' },
      Gateway: '169.254.1.1',
      StaticRoutes: [{ Destination: '169.254.1.1/32', RouteType: 1 }],
      DisableGatewayService: true,
    });
    assert.deepEqual([w.active.size, w.held.size], [0, 1], 'closed until the container is known');
    await until(() => w.questions.length >= 2);
    assert.deepEqual(w.questions[0], [NET]);
    w.containers = [containerOf('another'), containerOf('e1', { app: 'web', 'not a label': 'x' })];
    await until(() => w.active.size === 1);
    const [resource] = w.active.values();
    assert.equal(resource!.metadata.labels!['app'], 'web');
    assert.equal((resource!.spec as { workload: string }).workload, 'web_1');
    assert.equal(w.held.size, 0, 'the routes are the endpoint own now');
    await w.good('NetworkDriver.Leave', endpoint('e1'));
    assert.deepEqual([w.active.size, w.interfaces.size], [0, 0]);
    await w.good('NetworkDriver.DeleteEndpoint', endpoint('e1'));
    await w.good('IpamDriver.ReleaseAddress', { PoolID: 'brindle/4', Address: '10.0.0.1' });
    assert.equal(w.attachments.size, 0);
    await w.good('NetworkDriver.DeleteNetwork', { NetworkID: NET });
    await w.good('IpamDriver.ReleasePool', { PoolID: 'brindle/4' });
  });

  it('answers a repeated call as it answered the first', async () => {
    await using w = await world();
    await w.good('NetworkDriver.CreateNetwork', network());
    await w.good('NetworkDriver.CreateNetwork', network());
    const Address = await attach(w, 'e1');
    await w.good('NetworkDriver.CreateEndpoint', endpoint('e1', { Interface: { Address } }));
    const join = endpoint('e1', { SandboxKey: 'k' });
    const [first, second] = await Promise.all([w.good('NetworkDriver.Join', join), w.good('NetworkDriver.Join', join)]);
    assert.deepEqual(first, second);
    w.interfaces.set(hostInterfaceOf('e1'), 'moved');
    await w.bad('NetworkDriver.Join', join, /has joined a container already/);
    for (const method of ['Leave', 'Leave', 'DeleteEndpoint', 'DeleteEndpoint']) {
      await w.good(`NetworkDriver.${method}`, endpoint('e1'));
    }
    for (let i = 0; i < 2; i++) await w.good('IpamDriver.ReleaseAddress', { PoolID: 'brindle/4', Address });
    for (let i = 0; i < 2; i++) await w.good('NetworkDriver.DeleteNetwork', { NetworkID: NET });
    assert.equal(w.attachments.size, 0);
  });

  it('says what is missing when calls come out of order', async () => {
    await using w = await world();
    await w.bad(
      'NetworkDriver.CreateEndpoint',
      endpoint('e1', { Interface: { Address: '10.0.0.1/32' } }),
      /network .* not known/,
    );
    await w.good('NetworkDriver.CreateNetwork', network());
    await w.bad('NetworkDriver.Join', endpoint('e1', { SandboxKey: 'k' }), /CreateEndpoint comes before Join/);
    await w.bad(
      'NetworkDriver.CreateEndpoint',
      endpoint('e1', { Interface: { Address: '10.0.0.9/32' } }),
      /not given out/,
    );
    await w.bad('NetworkDriver.CreateEndpoint', endpoint('e1'), /has no address/);
    const Address = await attach(w, 'e1');
    await w.bad('NetworkDriver.CreateEndpoint', endpoint('e2', { Interface: { Address } }), /belongs to endpoint e1/);
    await w.bad(
      'NetworkDriver.CreateNetwork',
      network({ Options: { 'com.docker.network.generic': { mtu: '1400' } } }),
      /other options/,
    );
    // Late, and without the name of an endpoint: it must not take the address from a running container.
    await w.good('IpamDriver.ReleaseAddress', { PoolID: 'brindle/4', Address });
    assert.equal(w.attachments.size, 1);
    // The network goes with what it still holds.
    await w.good('NetworkDriver.DeleteNetwork', { NetworkID: NET });
    await w.good('IpamDriver.ReleaseAddress', { PoolID: 'brindle/4', Address });
    assert.equal(w.attachments.size, 0);
  });

  it('does not open an endpoint that left while it was looked up', async () => {
    await using w = await world();
    await w.good('NetworkDriver.CreateNetwork', network());
    await attach(w, 'e1');
    await w.good('NetworkDriver.Join', endpoint('e1', { SandboxKey: 'k' }));
    w.containers = [containerOf('e1')];
    await w.good('NetworkDriver.Leave', endpoint('e1'));
    const asked = w.questions.length;
    await new Promise((done) => setTimeout(done, 30));
    assert.ok(w.questions.length <= asked + 1, 'nothing waits, so nothing is asked');
    assert.equal(w.active.size, 0);
  });

  it('names the field of a malformed call', async () => {
    await using w = await world();
    await w.good('NetworkDriver.CreateNetwork', network());
    for (const [method, body, pattern] of [
      ['NetworkDriver.CreateNetwork', 'not json', /not JSON/],
      ['NetworkDriver.CreateNetwork', '[]', /not a JSON object/],
      ['NetworkDriver.CreateNetwork', {}, /NetworkID: is required/],
      ['NetworkDriver.CreateNetwork', network({ IPv4Data: {} }), /IPv4Data: is not a list/],
      ['NetworkDriver.CreateNetwork', network({ IPv4Data: [] }), /no addresses/],
      ['NetworkDriver.CreateEndpoint', { NetworkID: 7, EndpointID: 'x' }, /NetworkID: 7 is not a text/],
      ['NetworkDriver.CreateEndpoint', { NetworkID: NET, EndpointID: '../x' }, /EndpointID.*not an id/],
      [
        'NetworkDriver.CreateEndpoint',
        endpoint('x', { Interface: { Address: 'ten/32' } }),
        /Interface\.Address.*"ten\/32"/,
      ],
      ['NetworkDriver.CreateEndpoint', endpoint('x', { Interface: { MacAddress: 'zz' } }), /zz/],
      ['NetworkDriver.Join', endpoint('x'), /SandboxKey: is required/],
      ['IpamDriver.RequestPool', { Pool: '10.0.0.0/99' }, /Pool.*not a CIDR/],
      ['IpamDriver.RequestPool', { Pool: 'fd00::/64', V6: false }, /not an IPv4 subnet/],
      ['IpamDriver.RequestPool', { V6: 'yes' }, /V6/],
      ['IpamDriver.RequestAddress', { PoolID: 'other' }, /not a pool of Brindle/],
      ['IpamDriver.RequestAddress', { PoolID: 'brindle/4', Address: 'fd00::1' }, /not an IPv4 address/],
      ['IpamDriver.ReleaseAddress', { PoolID: 'brindle/4', Address: '' }, /Address: is required/],
    ] as const) {
      await w.bad(method, body, pattern);
    }
    await w.bad('NetworkDriver.CreateNetwork', `"${'x'.repeat(1 << 20)}"`, /longer than/);
  });

  it('refuses what it does not support by the name that people know', async () => {
    await using w = await world();
    const data = (more: object): object => ({ IPv4Data: [{ Pool: '10.0.0.0/16', Gateway: '0.0.0.0/0', ...more }] });
    const options = (more: object): object => network({ Options: more });
    for (const [method, body, pattern] of [
      ['NetworkDriver.CreateNetwork', options({ 'com.docker.network.internal': true }), /--internal/],
      ['NetworkDriver.CreateNetwork', options({ 'com.docker.network.generic': { parent: 'eth0' } }), /-o parent/],
      ['NetworkDriver.CreateNetwork', options({ 'com.docker.network.generic': { mtu: 'big' } }), /not an MTU/],
      ['NetworkDriver.CreateNetwork', network(data({ AuxAddresses: { r: '10.0.0.9/16' } })), /--aux-address r/],
      ['NetworkDriver.CreateNetwork', network(data({ Gateway: '172.18.0.1/16' })), /--ipam-driver brindle/],
      [
        'NetworkDriver.CreateEndpoint',
        endpoint('x', { Options: { 'com.docker.network.portmap': [{ Port: 80 }] } }),
        /-p/,
      ],
      ['IpamDriver.RequestPool', { Pool: '10.0.0.0/16', SubPool: '10.0.1.0/24' }, /--ip-range/],
      ['IpamDriver.RequestPool', { Options: { colour: 'red' } }, /--ipam-opt colour/],
      ['IpamDriver.RequestPool', { Pool: '10.9.0.0/16' }, /not an IPPool.*10\.0\.0\.0\/16/],
      ['IpamDriver.RequestPool', { V6: true }, /no IPv6 IPPool/],
      [
        'IpamDriver.RequestAddress',
        {
          PoolID: 'brindle/4',
          Address: '10.0.0.1',
          Options: { RequestAddressType: 'com.docker.network.gateway' },
        },
        /--gateway 10\.0\.0\.1/,
      ],
      [
        'IpamDriver.RequestAddress',
        { PoolID: 'brindle/4/10.0.0.0/16', Address: '10.1.0.1' },
        /not in the network's subnet/,
      ],
    ] as const) {
      await w.bad(method, body, pattern);
    }
  });
});

describe("what Docker's API says", () => {
  it('is read as far as it is as expected', () => {
    const good = {
      Id: 'c1',
      Names: ['/web'],
      Labels: { a: 'b', c: 4 },
      NetworkSettings: { Networks: { n: { EndpointID: 'e' } } },
    };
    assert.deepEqual(parseContainers([good, null, 7, { Id: 'x' }, { ...good, NetworkSettings: null, Labels: null }]), [
      { id: 'c1', name: 'web', labels: { a: 'b' }, endpoints: [{ endpointId: 'e', network: 'n' }] },
      { id: 'c1', name: 'web', labels: {}, endpoints: [] },
    ]);
    assert.deepEqual(parseContainers({ message: 'no' }), []);
  });

  it('becomes an endpoint with a name that the store takes', () => {
    const facts = {
      host: 'h1',
      network: 'My_Net',
      endpointId: 'abcdef0123456',
      addresses: ['10.0.0.1'],
      hostInterface: 'cali0',
    };
    const labels = { 'projectcalico.org/namespace': 'kube-system', app: 'x' };
    const { metadata } = endpointResource({ id: 'c', name: 'Web_1', labels, endpoints: [] }, facts);
    assert.match(metadata.name, /^h1-docker-web-1-my-net-abcdef0123$/);
    assert.equal(metadata.labels!['projectcalico.org/namespace'], 'default');
    assert.equal(metadata.labels!['brindle.dev/docker-network'], 'My_Net');
  });
});

describe('the file of networks', () => {
  it('outlives the process, and a damaged one is not taken for an empty one', () => {
    const directory = mkdtempSync(join(tmpdir(), 'brindle-docker-pure-'));
    try {
      const path = join(directory, 'networks.json');
      new NetworkFile(path).put({ id: 'a', mtu: 1400 });
      new NetworkFile(path).put({ id: 'b', mtu: null });
      new NetworkFile(path).delete('b');
      assert.deepEqual(new NetworkFile(path).get('a'), { id: 'a', mtu: 1400 });
      assert.equal(new NetworkFile(path).get('b'), null);
      writeFileSync(path, '{"version": 1, "networks": [{}]}');
      assert.throws(() => new NetworkFile(path), /does not hold a list of Docker networks/);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
