// The CNI part of an agent alone, as a process of its own: socket, verbs, IPAM and real wiring, with a store in memory
// and no policy. For tests of the executable and of crashes, and to measure what the verbs themselves cost.
//   cni-agent.ts DIRECTORY [POOL ...]      socket DIRECTORY/sock, journal DIRECTORY/journal; prints "ready"
import { createServer } from 'node:net';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '#base/clock.ts';
import { silentLogger } from '#base/log.ts';
import { CniHandler } from '#cni/handler.ts';
import { systemNamespaces } from '#cni/namespaces.ts';
import { serveCni } from '#cni/protocol.ts';
import { replaySpool, spoolDirectory } from '#cni/spool.ts';
import { EndpointWiring } from '#dataplane/endpoint-wiring.ts';
import { openKernelAccess } from '#dataplane/kernel-access.ts';
import { GATEWAY_V4, HOST_LINK_LOCAL } from '#dataplane/ownership.ts';
import { Ipam } from '#ipam/allocator.ts';
import { MemoryStore } from '#ipam/fakes.ts';
import { systemFiles } from '#ipam/files.ts';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';

const [directory = '', ...pools] = process.argv.slice(2);
const log = { ...silentLogger, error: (fields: object, text: string) => console.error(text, JSON.stringify(fields)) };
const ipam = await Ipam.open({
  host: 'test',
  store: new MemoryStore(),
  clock: systemClock,
  log,
  files: systemFiles,
  journalPath: join(directory, 'journal'),
  matches: () => true,
});
ipam.setPools(
  pools.map((text, i) => {
    const cidr = Prefix.parse(text);
    const blockSize = Math.max(cidr.length, cidr.family === 4 ? 26 : 122);
    return {
      name: `pool${i}`,
      cidr,
      blockSize,
      disabled: false,
      manual: false,
      uses: ['Workload'],
      nodeSelector: 'all()',
      namespaceSelector: null,
    };
  }),
  {},
);
await ipam.verify();
const kernel = openKernelAccess();
const wiring = new EndpointWiring(kernel, log);
await wiring.cleanLeftovers();
const asked = (netns: string, ifname: string, hostInterface: string, addresses: readonly IpAddress[]) => ({
  netnsPath: netns,
  containerInterface: ifname,
  hostInterface,
  addresses,
  mtu: 1500,
});
const handler = new CniHandler({
  host: 'test',
  ipam,
  clock: systemClock,
  log,
  notReady: () => null,
  namespaces: systemNamespaces(),
  endpoints: { activate: () => Promise.resolve(), deactivate: () => undefined, namespaceLabels: () => ({}) },
  wiring: {
    wire: async ({ netns, ifname, hostInterface, addresses, mac, mtu }) => {
      const request = { ...asked(netns, ifname, hostInterface, addresses), containerMac: mac, mtu: mtu ?? 1500 };
      const { hostMac, containerMac } = wiring.wire(request);
      return { hostMac, mac: containerMac, mtu: request.mtu, gateways: { 4: GATEWAY_V4, 6: HOST_LINK_LOCAL } };
    },
    unwire: async ({ hostInterface }) => {
      wiring.unwire(hostInterface);
    },
    check: async ({ netns, ifname, hostInterface, addresses }) =>
      wiring.check(
        asked(
          netns,
          ifname,
          hostInterface,
          addresses.map((text) => IpAddress.parse(text)),
        ),
      ),
    hostInterfaces: async () => new Set(wiring.list().map((link) => link.name)),
  },
});
await handler.recover();
const path = join(directory, 'sock');
await replaySpool({
  directory: spoolDirectory(path),
  now: Date.now(),
  log,
  handler: (request, madeAt) => handler.handle(request, undefined, madeAt),
});
rmSync(path, { force: true });
createServer((socket) => {
  socket.on('error', () => undefined);
  socket.once('data', (first: Buffer) => {
    socket.pause();
    void serveCni(socket, first, (request, gone) => handler.handle(request, gone));
  });
}).listen({ path, backlog: 1024 }, () => console.log('ready'));
process.on('SIGUSR2', () => {
  void handler.repair(0).then(async () => {
    await handler.repair(0);
    await ipam.flush();
    console.log(
      JSON.stringify({
        attachments: [...ipam.attachments()].map((a) => [a.handle, ...a.addresses]),
        used: [...ipam.blocks()].reduce((sum, block) => sum + block.used, 0),
        interfaces: wiring.list().map((link) => link.name),
      }),
    );
  });
});
