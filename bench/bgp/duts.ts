// The speakers that are measured: how each is configured and started. All wait for their peers to connect, install no
// routes in the kernel, and import and export everything.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

export interface BenchPeer {
  readonly address: string;
  readonly asNumber: number;
  readonly client: boolean;
}

export interface Setup {
  readonly dir: string;
  readonly address: string;
  readonly asNumber: number;
  readonly family: 4 | 6;
  readonly peers: readonly BenchPeer[];
}

export interface Dut {
  readonly name: string;
  /** Writes the configuration and returns the command line to run inside the namespace. */
  readonly command: (setup: Setup) => readonly string[];
}

/** What is shipped: the bundle of `make build`. */
function entry(): string {
  const bundle = join(ROOT, 'dist/brindle.js');
  if (!existsSync(bundle)) throw new Error(`${bundle} is missing; run make build`);
  return bundle;
}

const ROOT = resolve(import.meta.dirname, '../..');

function write(setup: Setup, name: string, text: string): string {
  const path = join(setup.dir, name);
  writeFileSync(path, text);
  return path;
}

export const brindle: Dut = {
  name: 'brindle',
  command(setup) {
    const family = setup.family === 4 ? 'ipv4' : 'ipv6';
    const peers = setup.peers.map((p, i) => ({
      name: `p${i}`,
      address: p.address,
      asNumber: p.asNumber,
      passive: true,
      families: [family],
      import: 'all',
      export: 'all',
      ...(p.client && { routeReflectorClient: true }),
    }));
    const file = write(
      setup,
      'speaker.yaml',
      JSON.stringify({
        routerId: '10.66.255.1',
        asNumber: setup.asNumber,
        listen: [{ address: setup.address, port: 179 }],
        kernel: { install: false },
        peers,
      }),
    );
    const options = (process.env['BRINDLE_NODE_OPTIONS'] ?? '').split(' ').filter((o) => o !== '');
    return [process.execPath, '--disable-warning=ExperimentalWarning', ...options, entry(), 'speaker', '-f', file];
  },
};

export const bird: Dut = {
  name: 'bird',
  command(setup) {
    const channel = setup.family === 4 ? 'ipv4' : 'ipv6';
    const protocols = setup.peers.map(
      (p, i) =>
        `protocol bgp p${i} { passive; local ${setup.address} as ${setup.asNumber}; neighbor ${p.address} as ${p.asNumber}; multihop;` +
        `${p.client ? ' rr client;' : ''} ${channel} { import all; export all; ${setup.family === 6 ? 'next hop address fd00:66::255:1; ' : ''}}; }`,
    );
    const text = ['router id 10.66.255.1;', 'protocol device {}', ...protocols].join('\n');
    return ['/usr/sbin/bird', '-f', '-c', write(setup, 'bird.conf', text), '-s', join(setup.dir, 'bird.ctl')];
  },
};

export const frr: Dut = {
  name: 'frr',
  command(setup) {
    const neighbours = setup.peers.flatMap((p) => [
      ` neighbor ${p.address} remote-as ${p.asNumber}`,
      ` neighbor ${p.address} passive`,
      ` neighbor ${p.address} advertisement-interval 0`,
      ` neighbor ${p.address} disable-connected-check`,
      ` neighbor ${p.address} timers 60 180`,
    ]);
    const activated = setup.peers.flatMap((p) => [
      `  neighbor ${p.address} activate`,
      ...(p.client ? [`  neighbor ${p.address} route-reflector-client`] : []),
    ]);
    const text = [
      `router bgp ${setup.asNumber}`,
      ' bgp router-id 10.66.255.1',
      ' no bgp ebgp-requires-policy',
      ' no bgp default ipv4-unicast',
      ' no bgp network import-check',
      ' bgp disable-ebgp-connected-route-check',
      ' coalesce-time 0',
      ...neighbours,
      ` address-family ipv${setup.family} unicast`,
      ...activated,
      ' exit-address-family',
    ].join('\n');
    const vty = join(setup.dir, 'vty');
    mkdirSync(vty, { recursive: true });
    const file = write(setup, 'bgpd.conf', `${text}\n`);
    return [
      '/usr/lib/frr/bgpd',
      '-Z',
      '-S',
      '-n',
      '-f',
      file,
      '-i',
      join(setup.dir, 'bgpd.pid'),
      '-l',
      setup.address,
      '--vty_socket',
      vty,
      '-P',
      '0',
    ];
  },
};

export const gobgp: Dut = {
  name: 'gobgp',
  command(setup) {
    const afi = `ipv${setup.family}-unicast`;
    const neighbours = setup.peers.flatMap((p) => [
      '[[neighbors]]',
      '  [neighbors.config]',
      `    neighbor-address = "${p.address}"`,
      `    peer-as = ${p.asNumber}`,
      '  [neighbors.transport.config]',
      '    passive-mode = true',
      ...(p.client
        ? [
            '  [neighbors.route-reflector.config]',
            '    route-reflector-client = true',
            '    route-reflector-cluster-id = "10.66.255.1"',
          ]
        : []),
      '  [[neighbors.afi-safis]]',
      '    [neighbors.afi-safis.config]',
      `      afi-safi-name = "${afi}"`,
    ]);
    const text = [
      '[global.config]',
      `  as = ${setup.asNumber}`,
      '  router-id = "10.66.255.1"',
      `  local-address-list = ["${setup.address}"]`,
      ...neighbours,
    ].join('\n');
    return [
      '/usr/bin/gobgpd',
      '-f',
      write(setup, 'gobgpd.toml', text),
      '--api-hosts',
      '127.0.0.1:50051',
      '-l',
      'error',
    ];
  },
};

export const DUTS: readonly Dut[] = [brindle, bird, frr, gobgp];
