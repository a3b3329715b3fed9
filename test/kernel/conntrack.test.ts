// Tracked connections on the real kernel. Needs root, nftables, bash.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { IpAddress } from '#net/address.ts';
import { type ConntrackApi, type Flow, involves, KernelConntrack } from '#netlink/conntrack.ts';
import { connectNetns, type TestNetns, testNetns } from '../support/netns.ts';

const UDP = 17;
const ip = (text: string) => IpAddress.parse(text);
const show = (flow: Flow) =>
  `${flow.original.protocol} ${flow.original.source} > ${flow.original.destination} ${flow.original.destinationPort}`;

/** A namespace that tracks connections, with flows to two neighbours. */
async function withFlows(
  run: (conntrack: ConntrackApi, send: (to: string, port: number) => Promise<unknown>) => Promise<void>,
) {
  const [a, b]: TestNetns[] = [testNetns('a'), testNetns('b')];
  let conntrack: ConntrackApi | null = null;
  try {
    connectNetns(a!, b!, {
      a: 'eth0',
      b: 'eth0',
      aAddresses: ['10.0.0.1/24', 'fd00::1/64'],
      bAddresses: ['10.0.0.2/24', 'fd00::2/64'],
    });
    await a!.run(
      'nft',
      'add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c ct state new counter',
    );
    conntrack = new KernelConntrack(a!.path);
    await run(conntrack, (to, port) => a!.tryRun('bash', '-c', `echo x > /dev/udp/${to}/${port}`));
  } finally {
    conntrack?.close();
    a!.close();
    b!.close();
  }
}

describe('KernelConntrack', () => {
  it('lists flows of both IP versions with their tuples', async () => {
    await withFlows(async (conntrack, send) => {
      await send('10.0.0.2', 4000);
      await send('fd00::2', 4001);
      const flows = await conntrack.list((flow) => flow.original.protocol === UDP);
      assert.deepEqual(
        flows.map(show).sort((x, y) => (x < y ? -1 : 1)),
        ['17 10.0.0.1 > 10.0.0.2 4000', '17 fd00::1 > fd00::2 4001'],
      );
      const [v4] = await conntrack.list((flow) => flow.original.protocol === UDP, 4);
      assert.equal(v4?.family, 4);
      assert.equal(`${v4?.reply.source} ${v4?.reply.sourcePort}`, '10.0.0.2 4000');
      assert.equal(v4?.reply.destinationPort, v4?.original.sourcePort);
    });
  });

  it('deletes exactly the flows it is given, once', async () => {
    await withFlows(async (conntrack, send) => {
      for (const [to, port] of [
        ['10.0.0.2', 4000],
        ['10.0.0.3', 4001],
        ['fd00::2', 4002],
      ] as const)
        await send(to, port);
      const udp = (flow: Flow) => flow.original.protocol === UDP;
      const all = await conntrack.list(udp);
      assert.equal(all.length, 3);
      const wanted = involves([ip('10.0.0.3'), ip('fd00::2')]);
      const chosen = await conntrack.list((flow) => udp(flow) && wanted(flow));
      assert.equal(chosen.length, 2);
      assert.equal(await conntrack.delete(chosen), 2);
      assert.equal(await conntrack.delete(chosen), 0);
      assert.deepEqual((await conntrack.list(udp)).map(show), ['17 10.0.0.1 > 10.0.0.2 4000']);
      // The same addresses and ports again are another flow: the old handle does not touch it.
      const [old] = await conntrack.list(udp);
      const impostor = { ...old!, id: (old!.id ^ 1) >>> 0 };
      assert.equal(await conntrack.delete([impostor]), 0);
      assert.equal((await conntrack.list(udp)).length, 1);
    });
  });
});
