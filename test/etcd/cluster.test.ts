// Three real members in namespaces of their own, the test between them as the router: the leader is killed, a member is cut
// off from its peers while clients still reach it, another is cut off altogether, history is compacted under a watcher that
// is away. What the driver delivered is compared with the history that etcdctl tells afterwards.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { EtcdStore } from '#datastore/etcd/store.ts';
import { Informer } from '#datastore/informer.ts';
import type { StoreEvent } from '#datastore/store.ts';
import { isBrindleError } from '#base/errors.ts';
import type { Resource } from '#model/resource.ts';
import { check, libc } from '#sys/ffi.ts';
import { type EtcdMember, etcdMember, PATIENCE } from '../support/etcd.ts';
import { connectNetns, type TestNetns, testNetns, until } from '../support/netns.ts';

const CLONE_NEWNET = 0x4000_0000;
const COUNT = 3;
const TIMES = { attempt: 2000, patience: 40_000 };

function thing(name: string, n: number): Resource {
  return { apiVersion: 'projectcalico.org/v3', kind: 'IPReservation', metadata: { name }, spec: { n } };
}

/** What a client saw, and how its watches ended. */
function recorder(store: EtcdStore): { lines: string[]; ends: Error[] } {
  const lines: string[] = [];
  const ends: Error[] = [];
  const onEvents = (events: readonly StoreEvent[]): void => {
    for (const event of events) lines.push(`${event.revision} ${event.type} ${event.key.name}`);
  };
  store.watch({ fromRevision: 0, onEvents, onEnd: (error) => ends.push(error) });
  return { lines, ends };
}

describe('etcd: three members', { timeout: 6 * PATIENCE }, () => {
  let router: TestNetns;
  const spaces: TestNetns[] = [];
  const members: EtcdMember[] = [];
  const stores: EtcdStore[] = [];

  /** A client whose first endpoint is that of member `first`. */
  const client = (first: number): EtcdStore => {
    const endpoints = members.map((_, i) => members[(first + i) % COUNT]!.endpoint);
    const store = new EtcdStore({ endpoints, times: TIMES, random: () => 0 });
    stores.push(store);
    return store;
  };

  before(async () => {
    router = testNetns('hub');
    router.sysctl(['ipv4', 'ip_forward'], 1);
    const addresses = Array.from({ length: COUNT }, (_, i) => `10.99.${i}.2`);
    const initialCluster = addresses.map((address, i) => `m${i}=http://${address}:2380`).join(',');
    for (const [i, address] of addresses.entries()) {
      const space = testNetns(`m${i}`);
      spaces.push(space);
      connectNetns(router, space, {
        a: `m${i}`,
        b: 'eth0',
        aAddresses: [`10.99.${i}.1/24`],
        bAddresses: [`${address}/24`],
      });
      await space.run('ip', 'route', 'add', 'default', 'via', `10.99.${i}.1`);
      members.push(etcdMember({ name: `m${i}`, netns: space, address, initialCluster }));
    }
    for (const member of members) member.start();
    for (const member of members) await member.serving();
    // Sockets of this thread, which are the clients', come from here on.
    check('enter the router', libc().setns(router.fd, CLONE_NEWNET));
  });

  after(async () => {
    for (const store of stores) await store.close();
    for (const member of members) await member.close();
    for (const space of spaces) space.close();
    router?.close();
  });

  const leader = async (): Promise<number> => {
    for (const [i, member] of members.entries()) {
      const result = await member.tryCtl('endpoint', 'status', '--write-out', 'json');
      if (result.status !== 0) continue;
      const [{ Status: status }] = JSON.parse(result.stdout) as [
        { Status: { leader: number; header: { member_id: number } } },
      ];
      if (status.leader === status.header.member_id) return i;
    }
    return -1;
  };

  it('loses and doubles nothing while members come and go', async () => {
    const writer = client(0);
    const watchers = members.map((_, i) => recorder(client(i)));
    const acknowledged: string[] = [];
    const unknown: string[] = [];
    const run = { stop: false };
    const writing = (async () => {
      for (let n = 0; !run.stop; n++) {
        const name = `r${n % 5}`;
        try {
          const now = await writer.get({ kind: 'IPReservation', namespace: '', name });
          if (now && n % 4 === 0) await writer.delete({ kind: 'IPReservation', namespace: '', name });
          else {
            const written = await (now ? writer.update({ ...now, spec: { n } }) : writer.create(thing(name, n)));
            acknowledged.push(`${written.metadata.resourceVersion} put ${name}`);
          }
        } catch (error) {
          if (!isBrindleError(error, 'unavailable')) throw error;
          unknown.push(String(error));
        }
      }
    })();
    const progress = async (what: string): Promise<void> => {
      const from = acknowledged.length + 20;
      const seen = watchers.map(({ lines }) => lines.length + 20);
      await until(
        `${what}: writes and watches go on (${watchers.map(({ lines, ends }) => `${lines.length} ${String(ends)}`).join('; ')})`,
        () => acknowledged.length > from && watchers.every(({ lines }, i) => lines.length > seen[i]!),
        2 * PATIENCE,
      );
    };
    await progress('at rest');
    const first = await leader();
    assert.ok(first >= 0);
    await members[first]!.kill();
    await progress('leader killed');
    members[first]!.start();
    await members[first]!.serving();
    const second = ((await leader()) + 1) % COUNT;
    router.sysctl(['ipv4', 'conf', `m${second}`, 'forwarding'], 0);
    await progress('a member cut off from its peers');
    router.sysctl(['ipv4', 'conf', `m${second}`, 'forwarding'], 1);
    await members[second]!.serving();
    const third = (second + 1) % COUNT;
    members[third]!.freeze(true);
    await progress('a member frozen');
    members[third]!.freeze(false);
    await members[third]!.serving();
    await progress('all back');
    run.stop = true;
    await writing;

    const end = Number((await writer.create(thing('end', 0))).metadata.resourceVersion);
    await until(
      'every watch has the end',
      () => watchers.every(({ lines }) => lines.at(-1) === `${end} put end`),
      PATIENCE,
    );
    const history = await readHistory(members[0]!, spaces[0]!, end);
    for (const { lines, ends } of watchers) {
      assert.deepEqual(ends, []);
      assert.deepEqual(lines, history);
    }
    const there = new Set(history);
    for (const line of acknowledged) assert.ok(there.has(line), `${line} was acknowledged`);
    assert.equal(new Set(acknowledged).size, acknowledged.length);
  });

  it('lists again when history was compacted while it was away', async () => {
    const writer = client(0);
    const away = new EtcdStore({ endpoints: [members[2]!.endpoint], times: { attempt: 2000, patience: 3000 } });
    stores.push(away);
    const errors: string[] = [];
    const informer = new Informer(away, ['IPReservation'], {
      onSnapshot: () => undefined,
      onEvents: () => undefined,
      onTrouble: (error) => errors.push(error ? String((error as { code?: string }).code) : 'well'),
      maxDelay: 500,
    });
    informer.start();
    await until('the informer has its snapshot', () => informer.synced, PATIENCE);
    await router.run('ip', 'link', 'set', 'm2', 'down');
    for (let n = 0; n < 20; n++) await writer.create(thing(`c${n}`, n));
    for (let n = 0; n < 10; n++) await writer.delete({ kind: 'IPReservation', namespace: '', name: `c${n}` });
    await members[0]!.compact();
    await until('the informer has noticed', () => errors.includes('unavailable'), PATIENCE);
    await router.run('ip', 'link', 'set', 'm2', 'up');
    await router.tryRun('ip', 'addr', 'add', '10.99.2.1/24', 'dev', 'm2');
    await writer.create(thing('last', 0));
    const names = (resources: Iterable<Resource>) => [...resources].map((r) => r.metadata.name).sort();
    await until('the last one arrives', () => names(informer.resources()).includes('last'), 2 * PATIENCE);
    assert.deepEqual(names(informer.resources()), names((await writer.list('IPReservation')).resources));
    assert.equal(errors.at(-1), 'well');
    informer.stop();
  });
});

/** `REVISION TYPE NAME` of every change from the first to `end`, told by etcdctl. */
async function readHistory(member: EtcdMember, space: TestNetns, end: number): Promise<string[]> {
  const args = ['--endpoints', member.endpoint, 'watch', '--prefix', '/brindle/', '--rev', '1', '--write-out', 'json'];
  const child = space.start('env', 'ETCDCTL_API=3', 'etcdctl', ...args);
  const out: string[] = [];
  let rest = '';
  child.stdout?.on('data', (text: Buffer) => {
    const lines = (rest + text.toString()).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const { Events: events } = JSON.parse(line) as {
        Events: { type?: number; kv: { key: string; mod_revision: number } }[];
      };
      for (const { type, kv } of events) {
        const name = Buffer.from(kv.key, 'base64').toString().split('/').at(-1);
        out.push(`${kv.mod_revision} ${type === 1 ? 'delete' : 'put'} ${name}`);
      }
    }
  });
  await until('etcdctl has told the history', () => out.some((line) => line.startsWith(`${end} `)), PATIENCE);
  child.kill();
  return out;
}
