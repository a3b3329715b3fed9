import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { IpAddress } from '#net/address.ts';
import { type CniConfig, parseConfig } from './config.ts';
import { type CniEnvironment, parseEnvironment, VERBS } from './environment.ts';
import { CniCode, CniError } from './errors.ts';
import { endpointResource, identify } from './identity.ts';
import { addressesIn, buildResult } from './result.ts';

function variables(change: Record<string, string | undefined> = {}): Map<string, string> {
  const all = {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: 'c1',
    CNI_NETNS: '/run/netns/c1',
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/opt/cni/bin',
    ...change,
  };
  return new Map(Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

const environment = (change: Record<string, string | undefined> = {}): CniEnvironment =>
  parseEnvironment(variables(change));

function config(change: object = {}, env: Record<string, string | undefined> = {}): CniConfig {
  const text = JSON.stringify({ cniVersion: '1.0.0', name: 'net', type: 'brindle-cni', ...change });
  return parseConfig(Buffer.from(text), environment(env));
}

function refused(body: () => unknown, code: number, ...patterns: RegExp[]): void {
  assert.throws(body, (error: unknown) => {
    assert.ok(error instanceof CniError, String(error));
    assert.equal(error.code, code, error.message);
    for (const pattern of patterns) assert.match(`${error.message} ${error.details ?? ''}`, pattern);
    return true;
  });
}

describe('the CNI environment', () => {
  it('names all that is missing in one error', () => {
    refused(
      () => environment({ CNI_NETNS: undefined, CNI_IFNAME: '', CNI_PATH: undefined }),
      CniCode.badEnvironment,
      /CNI_NETNS, CNI_IFNAME, CNI_PATH/,
    );
    refused(() => environment({ CNI_COMMAND: 'CHECK', CNI_NETNS: '' }), 4, /CNI_NETNS/);
    refused(() => environment({ CNI_COMMAND: 'DEL', CNI_CONTAINERID: '' }), 4, /CNI_CONTAINERID/);
    refused(() => environment({ CNI_COMMAND: 'STATUS', CNI_PATH: '' }), 4, /CNI_PATH/);
    assert.equal(environment({ CNI_COMMAND: 'DEL', CNI_NETNS: '' }).netns, '');
    for (const verb of ['GC', 'STATUS']) {
      const bare = new Map([
        ['CNI_COMMAND', verb],
        ['CNI_PATH', '/x'],
      ]);
      assert.equal(parseEnvironment(bare).verb, verb);
    }
    assert.equal(parseEnvironment(new Map([['CNI_COMMAND', 'VERSION']])).verb, 'VERSION');
  });

  it('refuses wrong values by name', () => {
    refused(() => environment({ CNI_COMMAND: 'FROB' }), 4, /CNI_COMMAND "FROB"/, /ADD, DEL/);
    for (const id of ['-a', 'a/b', 'a b', 'ü', '.a', 'x'.repeat(300)]) {
      refused(() => environment({ CNI_CONTAINERID: id }), 4, /CNI_CONTAINERID/);
    }
    for (const ifname of ['.', '..', 'a/b', 'a:b', 'a b', 'a\tb', 'sixteen-letters-']) {
      refused(() => environment({ CNI_IFNAME: ifname }), 4, /CNI_IFNAME/);
    }
    refused(() => environment({ CNI_NETNS: 'relative/path' }), 4, /CNI_NETNS/);
  });

  it('reads CNI_ARGS, and refuses unknown keys unless told to ignore them', () => {
    const { args } = environment({ CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=p;X=y;IP=10.0.0.1;MAC=02:00:00:00:00:01;' });
    assert.deepEqual(args, {
      podNamespace: null,
      podName: 'p',
      podUid: null,
      ip: '10.0.0.1',
      mac: '02:00:00:00:00:01',
    });
    refused(() => environment({ CNI_ARGS: 'X=y;Z=1' }), 4, /X, Z/, /IgnoreUnknown/);
    refused(() => environment({ CNI_ARGS: 'X=y;IgnoreUnknown=0' }), 4);
    refused(() => environment({ CNI_ARGS: 'IgnoreUnknown=maybe' }), 4);
    refused(() => environment({ CNI_ARGS: 'nonsense' }), 4, /nonsense/);
    assert.equal(environment({ TRACEPARENT: 'z' }).verb, 'ADD');
  });

  it('answers anything with a value or a CniError of code 4', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 20 });
    const env = fc.record({
      CNI_COMMAND: fc.oneof(fc.constantFrom(...VERBS), text),
      CNI_CONTAINERID: text,
      CNI_NETNS: text,
      CNI_IFNAME: text,
      CNI_ARGS: text,
      CNI_PATH: text,
    });
    fc.assert(
      fc.property(env, (values) => {
        try {
          parseEnvironment(new Map(Object.entries(values)));
        } catch (error) {
          assert.ok(error instanceof CniError && error.code === CniCode.badEnvironment);
        }
      }),
    );
  });
});

describe('the CNI configuration', () => {
  it('takes each supported version, and refuses others by code 1', () => {
    for (const cniVersion of ['0.3.1', '0.4.0', '1.0.0', '1.1.0']) {
      assert.equal(config({ cniVersion }).cniVersion, cniVersion);
    }
    for (const cniVersion of ['0.2.0', '0.3.0', '1.2.0', '', 'x', 1, null, undefined]) {
      refused(() => config({ cniVersion }), CniCode.incompatibleVersion, /cniVersion/);
    }
    refused(() => config({ cniVersion: '0.3.1' }, { CNI_COMMAND: 'CHECK' }), 1, /CHECK needs .* 0\.4\.0/);
    refused(() => config({ cniVersion: '1.0.0' }, { CNI_COMMAND: 'GC' }), 1, /GC/);
    refused(() => config({ cniVersion: '1.0.0' }, { CNI_COMMAND: 'STATUS' }), 1, /STATUS/);
  });

  it('answers undecodable input with 6, a bad name with 7', () => {
    for (const text of ['', '{', '[]', 'null', '"x"', '\0\xff']) {
      refused(() => parseConfig(Buffer.from(text), environment()), CniCode.decode);
    }
    for (const name of [undefined, '', '-x', 'a/b', 7, 'x'.repeat(200)]) {
      refused(() => config({ name }), CniCode.badConfig, /name/);
    }
  });

  it('refuses unknown keys and capabilities by key and value', () => {
    refused(() => config({ bridge: 'cni0' }), CniCode.unsupportedField, /bridge/, /cni0/);
    refused(() => config({ ipam: { type: 'host-local' } }), 2, /ipam\.type/, /host-local/);
    refused(() => config({ ipam: { subnet: '10.0.0.0/8' } }), 2, /ipam\.subnet/);
    refused(() => config({ ipMasq: true }), 2, /natOutgoing/);
    refused(() => config({ runtimeConfig: { portMappings: [{ hostPort: 80 }] } }), 2, /portMappings/, /chain/);
    refused(() => config({ runtimeConfig: { bandwidth: { ingressRate: 1 } } }), 2, /bandwidth/);
    refused(() => config({ runtimeConfig: { infinibandGUID: 'x' } }), 2, /infinibandGUID/);
    const accepted = config({
      ...{ ipMasq: false, capabilities: { ips: true }, socket: '/x', 'cni.dev/anything': 1, args: { other: 1 } },
      runtimeConfig: { portMappings: [], bandwidth: {}, aliases: { net: ['a'] }, cgroupPath: '/x' },
    });
    assert.equal(accepted.name, 'net');
  });

  it('reads addresses and MACs in order of precedence', () => {
    const annotations = {
      'io.kubernetes.cri.pod-annotations': {
        'cni.projectcalico.org/ipAddrs': '["10.0.0.4"]',
        'cni.projectcalico.org/hwAddr': '02:00:00:00:00:04',
        'cni.projectcalico.org/ipv6pools': '["v6"]',
      },
    };
    const requested = (runtimeConfig: object, args: object, CNI_ARGS?: string): string[] =>
      config({ runtimeConfig, args: { cni: args } }, { CNI_ARGS }).requested.map(String);
    const three = 'IP=10.0.0.3/24;MAC=02:00:00:00:00:03';
    assert.deepEqual(requested({ ips: ['10.0.0.1/16', 'fd00::1'], ...annotations }, { ips: ['10.0.0.2'] }, three), [
      '10.0.0.1',
      'fd00::1',
    ]);
    assert.deepEqual(requested(annotations, { ips: ['10.0.0.2'] }, three), ['10.0.0.2']);
    assert.deepEqual(requested(annotations, {}, three), ['10.0.0.3']);
    assert.deepEqual(requested(annotations, {}), ['10.0.0.4']);
    assert.equal(config({ runtimeConfig: annotations }).mac, '02:00:00:00:00:04');
    assert.equal(config({ runtimeConfig: { ...annotations, mac: '02:00:00:00:00:AA' } }).mac, '02:00:00:00:00:aa');
    assert.deepEqual(config({ runtimeConfig: annotations, ipam: { ipv6_pools: ['x'], ipv4_pools: ['y'] } }).pools, {
      4: ['y'],
      6: ['v6'],
    });
  });

  it('refuses wrong values with 7 and the field', () => {
    refused(() => config({ runtimeConfig: { ips: ['10.0.0.300'] } }), 7, /runtimeConfig\.ips/);
    refused(() => config({ runtimeConfig: { ips: ['10.0.0.1', '10.0.0.2'] } }), 7, /one IPv4/);
    refused(() => config({ runtimeConfig: { ips: '10.0.0.1' } }), 7, /list/);
    refused(() => config({ runtimeConfig: { mac: '01:00:00:00:00:00' } }), 7, /unicast/);
    refused(() => config({ runtimeConfig: { mac: '00:00:00:00:00:00' } }), 7, /unicast/);
    refused(() => config({}, { CNI_ARGS: 'IP=x' }), 7, /CNI_ARGS IP/);
    refused(() => config({ mtu: 100 }), 7, /mtu is 100/);
    refused(() => config({ runtimeConfig: { labels: { 'bad key!': 'x' } } }), 7, /labels/);
    refused(() => config({ runtimeConfig: { labels: { a: 1 } } }), 7, /labels/);
    refused(() => config({ args: { cni: { labels: { a: 'b' } } } }), 7, /key, value/);
    refused(() => config({ ipam: { assign_ipv4: 'false' } }), 7, /at least one/);
    refused(() => config({ prevResult: 'x' }), 7, /prevResult/);
    const cri = { 'io.kubernetes.cri.pod-annotations': { 'cni.projectcalico.org/ipAddrs': '10.0.0.1' } };
    refused(() => config({ runtimeConfig: cri }), 7, /JSON list/);
  });

  it('reads labels of both kinds, and families', () => {
    const { labels } = config({
      args: {
        cni: {
          labels: [
            { key: 'a', value: '1' },
            { key: 'b', value: '2' },
          ],
        },
      },
      runtimeConfig: { labels: { b: '3' } },
    });
    assert.deepEqual(labels, { a: '1', b: '3' });
    assert.equal(config().families, null);
    assert.deepEqual(config({ ipam: { assign_ipv6: 'true' } }).families, [4, 6]);
    assert.deepEqual(config({ ipam: { assign_ipv4: false, assign_ipv6: true } }).families, [6]);
  });

  it('tells an absent list of attachments from an empty one', () => {
    const gc = { CNI_COMMAND: 'GC' };
    const of = (change: object) => config({ cniVersion: '1.1.0', ...change }, gc).validAttachments;
    assert.equal(of({}), null);
    assert.deepEqual(of({ 'cni.dev/valid-attachments': [] }), []);
    const list = [{ containerID: 'a', ifname: 'eth0' }];
    assert.deepEqual(of({ 'cni.dev/attachments': list }), [{ containerId: 'a', ifname: 'eth0' }]);
    refused(() => of({ 'cni.dev/valid-attachments': [{ containerID: 'a' }] }), 7, /ifname/);
    refused(() => of({ 'cni.dev/valid-attachments': 'x' }), 7);
  });

  it('answers any JSON with a value or a CniError', () => {
    const keys = ['ipam', 'args', 'runtimeConfig', 'prevResult', 'dns', 'mtu', 'cni.dev/valid-attachments', 'x'];
    const values = fc.oneof(
      fc.jsonValue(),
      fc.dictionary(fc.constantFrom('ips', 'mac', 'labels', 'cni', 'dns', 'assign_ipv4', 'ipv4_pools'), fc.jsonValue()),
    );
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...keys), values), fc.constantFrom('ADD', 'GC'), (change, verb) => {
        try {
          config({ cniVersion: '1.1.0', ...change }, { CNI_COMMAND: verb });
        } catch (error) {
          assert.ok(error instanceof CniError && error.code > 0 && error.code < 999, String(error));
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('identity', () => {
  const of = (change: Record<string, string>, host = 'node-1') => identify(environment(change), 'net', host);

  it('is Kubernetes only with namespace and pod name', () => {
    const pod = of({ CNI_ARGS: 'K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-0' });
    assert.deepEqual(
      [pod.orchestrator, pod.namespace, pod.endpointName, pod.hostInterface],
      ['k8s', 'ns', 'node--1-k8s-web--0-eth0', 'cali91fb42d0bf1'],
    );
    const podman = of({ CNI_ARGS: 'K8S_POD_NAME=web-0' });
    assert.deepEqual(
      [podman.orchestrator, podman.namespace, podman.endpointName],
      ['cni', 'default', 'node--1-cni-c1-eth0'],
    );
  });

  it('names the host side as Calico does', () => {
    const nginx = { CNI_ARGS: 'K8S_POD_NAMESPACE=default;K8S_POD_NAME=nginx' };
    assert.equal(of(nginx).hostInterface, 'calic440f455693'); // printf default.nginx | sha1sum
    assert.notEqual(of({ ...nginx, CNI_IFNAME: 'net1' }).hostInterface, 'calic440f455693');
    assert.equal(of({}).hostInterface, 'cali046ed43e92e'); // printf c1.eth0 | sha1sum
  });

  it('is always a valid, distinct name, a unicast MAC and an interface name of 15 characters', () => {
    const id = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,200}$/);
    fc.assert(
      fc.property(id, id, (a, b) => {
        const [one, two] = [of({ CNI_CONTAINERID: a }), of({ CNI_CONTAINERID: b })];
        for (const { endpointName, hostInterface, mac } of [one, two]) {
          assert.match(endpointName, /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/);
          assert.ok(endpointName.length <= 253);
          assert.match(hostInterface, /^cali[0-9a-f]{11}$/);
          assert.equal(Number.parseInt(mac.slice(0, 2), 16) & 3, 2);
        }
        assert.equal(one.endpointName === two.endpointName, a === b);
        assert.equal(one.hostInterface === two.hostInterface, a === b);
      }),
    );
  });

  it('makes the endpoint', () => {
    const environmentOf = environment({ CNI_ARGS: 'K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web' });
    const addresses = ['10.0.0.1', 'fd00::1'].map((text) => IpAddress.parse(text));
    const made = endpointResource(environmentOf, config(), identify(environmentOf, 'net', 'n1'), 'n1', addresses);
    assert.deepEqual(made.metadata, {
      name: 'n1-k8s-web-eth0',
      namespace: 'ns',
      labels: { 'projectcalico.org/namespace': 'ns', 'projectcalico.org/orchestrator': 'k8s' },
    });
    const spec = made.spec as Record<string, unknown>;
    assert.deepEqual(spec['ipNetworks'], ['10.0.0.1/32', 'fd00::1/128']);
    assert.deepEqual(spec['profiles'], ['kns.ns']);
  });
});

describe('the result', () => {
  const attached = {
    ifname: 'eth0',
    netns: '/run/netns/c1',
    mac: '02:00:00:00:00:01',
    mtu: 1500,
    hostInterface: 'cali0',
    hostMac: 'ee:ee:ee:ee:ee:ee',
    addresses: ['10.0.0.1', 'fd00::1'].map((text) => IpAddress.parse(text)),
    gateways: { 4: '169.254.1.1', 6: 'fe80::1' },
  };

  it('has the shape of each version', () => {
    const of = (cniVersion: string) => JSON.parse(JSON.stringify(buildResult(config({ cniVersion }), attached)));
    assert.deepEqual(of('1.0.0'), {
      cniVersion: '1.0.0',
      interfaces: [
        { name: 'cali0', mac: 'ee:ee:ee:ee:ee:ee', sandbox: '' },
        { name: 'eth0', mac: '02:00:00:00:00:01', sandbox: '/run/netns/c1' },
      ],
      ips: [
        { address: '10.0.0.1/32', gateway: '169.254.1.1', interface: 1 },
        { address: 'fd00::1/128', gateway: 'fe80::1', interface: 1 },
      ],
      routes: [
        { dst: '0.0.0.0/0', gw: '169.254.1.1' },
        { dst: '::/0', gw: 'fe80::1' },
      ],
      dns: {},
    });
    for (const old of ['0.3.1', '0.4.0']) {
      assert.deepEqual(
        of(old).ips.map((ip: { version: string }) => ip.version),
        ['4', '6'],
      );
    }
    assert.equal(of('1.1.0').interfaces[1].mtu, 1500);
  });

  it('passes a prevResult through, also what it does not know', () => {
    const prevResult = {
      cniVersion: '1.0.0',
      interfaces: [{ name: 'lo', sandbox: '/run/netns/c1', extra: 1 }],
      ips: [{ address: '127.0.0.1/8', interface: 0 }],
      dns: { nameservers: ['9.9.9.9'] },
      future: { a: 1 },
    };
    const result = buildResult(config({ prevResult }), attached) as {
      [key: string]: unknown;
      interfaces: unknown[];
      ips: unknown[];
    };
    assert.deepEqual(result['future'], { a: 1 });
    assert.deepEqual(result.interfaces[0], prevResult.interfaces[0]);
    assert.deepEqual(result.ips[1], { address: '10.0.0.1/32', gateway: '169.254.1.1', interface: 2 });
    assert.deepEqual(result['dns'], { nameservers: ['9.9.9.9'] });
    assert.deepEqual(addressesIn(result, 'eth0', '/run/netns/c1'), ['10.0.0.1', 'fd00::1']);
    assert.equal(addressesIn(result, 'eth1', '/run/netns/c1'), null);
    assert.throws(() => buildResult(config({ prevResult: { ips: 3 } }), attached), CniError);
  });
});
