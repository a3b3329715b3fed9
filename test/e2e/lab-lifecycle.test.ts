// The frame of a lab, without agents: what it builds, that it ends without a trace, also after a crash at any moment,
// and that it leaves alone what is not its own. Needs root, iproute2, nftables, bird2.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { down, Lab } from '#lab/lab.ts';
import { namespacePath } from '#lab/kernel.ts';
import { namespaceOf } from '#lab/plan.ts';
import { probePing } from '#lab/probe.ts';
import { until } from '#lab/processes.ts';
import { defaultTopology, parseTopology } from '#lab/topology.ts';
import { createNamedNetns, deleteNamedNetns, listNamedNetns } from '#sys/netns.ts';
import { BRINDLE, brindle, differenceAfter, machineState, uniqueLab } from './support.ts';

/** Runs the test with a name of its own, and checks afterwards that nothing is left of it. */
async function withLab(test: TestContext, body: (lab: string) => Promise<void>): Promise<void> {
  const lab = uniqueLab();
  const before = machineState(lab);
  test.after(() => down(lab));
  await body(lab);
  await down(lab);
  assert.equal(await differenceAfter(before, lab), null);
}

const TWO_RACKS = `
routers:
  - { name: spine1, asNumber: 65000 }
  - { name: tor1, asNumber: 65001, links: [spine1] }
  - { name: tor2, asNumber: 65002, links: [spine1] }
racks:
  - { name: left, asNumber: 64601, routers: [tor1, tor2], hosts: 2 }
  - { name: right, asNumber: 64602, routers: [tor2], hosts: [db1] }
`;

describe('lab: life cycle', { concurrency: 2 }, () => {
  it('wires hosts to a router by both IP versions, and ends without a trace', (test) =>
    withLab(test, async (name) => {
      const lab = await Lab.up({ name, topology: defaultTopology({ hosts: 3, router: 'bird' }), agents: false });
      const from = namespacePath(namespaceOf(name, 'h1'));
      for (const address of ['172.30.3.1', 'fd00:172:30:3::1', '172.30.0.1', 'fd00:172:30::1']) {
        assert.equal(await probePing(from, address, 2000), 'ok', address);
      }
      assert.equal(await probePing(from, '172.30.9.9', 2000), 'unreachable');
      assert.ok(lab.processOf('tor1'));
      const removed = await down(name);
      assert.deepEqual(removed, { processes: 1, namespaces: 4 });
    }));

  it('puts hosts on one Ethernet when there is no router', (test) =>
    withLab(test, async (name) => {
      await Lab.up({ name, topology: defaultTopology({ hosts: 2, router: 'none' }), agents: false });
      const from = namespacePath(namespaceOf(name, 'h1'));
      assert.equal(await probePing(from, '172.30.0.2', 2000), 'ok');
      assert.equal(await probePing(from, 'fd00:172:30::2', 2000), 'ok');
    }));

  it('builds two racks, a spine and hosts with two uplinks, and lets a host join', (test) =>
    withLab(test, async (name) => {
      const lab = await Lab.up({ name, topology: parseTopology(TWO_RACKS, 'two.yaml'), agents: false });
      const from = namespacePath(namespaceOf(name, 'h1'));
      const far = lab.host('db1').interfaces[0]!;
      for (const address of [far.ipv4.address, far.ipv6.address]) {
        // The routers first have to tell each other of their wires.
        const reached = await until(20_000, async () => ((await probePing(from, address, 500)) === 'ok' ? true : null));
        assert.ok(reached, address);
      }
      const tor1 = lab.processOf('tor1');
      const grown = await lab.addHost({ rack: 'left' });
      const added = grown.plan.hosts.at(-1)!;
      assert.deepEqual(added.spec.uplinks, ['tor1', 'tor2']);
      const upper = namespacePath(namespaceOf(name, 'tor1'));
      assert.equal(await probePing(upper, added.interfaces[0]!.ipv4.address, 2000), 'ok');
      assert.deepEqual(grown.processOf('tor1'), tor1);
      const sessions = await grown.routerSessions(grown.plan.routers[1]!);
      assert.ok(sessions.some((session) => session.node === added.spec.name && session.info !== 'not configured'));
    }));

  it('is taken down from any point at which its making was killed', (test) =>
    withLab(test, async (name) => {
      const [program = '', ...first] = BRINDLE;
      for (let files = 1; ; files += 3) {
        const child = spawn(program, [...first, 'lab', 'up', '--no-agents', '--name', name, '--hosts', '6'], {
          stdio: 'ignore',
        });
        const ended = once(child, 'exit');
        // Killed when that many of its namespaces are there, or it is through.
        const enough = (): boolean => machineState(name).namespaces.length >= files || child.exitCode !== null;
        while (!enough()) await sleep(1);
        const through = child.exitCode !== null;
        child.kill('SIGKILL');
        await ended;
        const result = await brindle('lab', 'down', '--name', name);
        assert.equal(result.status, 0, result.stderr);
        const { namespaces, processes, files: left } = machineState(name);
        assert.deepEqual({ namespaces, processes, left }, { namespaces: [], processes: [], left: [] });
        if (through || files > 6) return;
      }
    }));

  it('finds its own again when its files are gone', (test) =>
    withLab(test, async (name) => {
      await Lab.up({ name, topology: defaultTopology({ hosts: 2, router: 'bird' }), agents: false });
      rmSync(`/run/brindle/lab/${name}`, { recursive: true });
      assert.deepEqual(await down(name), { processes: 1, namespaces: 3 });
    }));

  it('leaves alone what it did not make', (test) =>
    withLab(test, async (name) => {
      const foreign = `brindle-${name}-h2`;
      const path = createNamedNetns(foreign);
      test.after(() => deleteNamedNetns(foreign));
      const refused = await brindle('lab', 'up', '--no-agents', '--name', name);
      assert.equal(refused.status, 1);
      assert.match(refused.stderr, new RegExp(`${foreign} exists already`));
      assert.deepEqual(await down(name), { processes: 0, namespaces: 0 });
      assert.ok(listNamedNetns().includes(foreign));
      assert.equal(execFileSync('ip', ['-n', foreign, '-brief', 'link'], { encoding: 'utf8' }).split('\n').length, 2);
      deleteNamedNetns(foreign);
      assert.ok(path);

      await Lab.up({ name, topology: defaultTopology({ hosts: 1, router: 'none' }), agents: false });
      const stranger = spawn('ip', ['netns', 'exec', namespaceOf(name, 'h1'), 'sleep', '60'], { stdio: 'ignore' });
      test.after(() => stranger.kill('SIGKILL'));
      await down(name);
      assert.equal(stranger.exitCode, null);
      stranger.kill('SIGKILL');
      await once(stranger, 'exit');
    }));

  it('refuses bad input and changes nothing', (test) =>
    withLab(test, async (name) => {
      const directory = mkdtempSync(join(tmpdir(), 'brindle-lab-'));
      test.after(() => rmSync(directory, { recursive: true }));
      const file = join(directory, 'lab.yaml');
      writeFileSync(file, 'racks: [{hosts: 2, colour: red}]');
      const cases: readonly (readonly [readonly string[], RegExp])[] = [
        [['up', '-f', file], /lab\.yaml: racks\[0\]\.colour: is not known here/],
        [['up', '-f', `${file}.missing`], /cannot be read/],
        [['up', '--hosts', '0'], /--hosts must be a whole number from 1/],
        [['up', '--hosts', 'three'], /a whole number is wanted/],
        [['up', '--router', 'cisco'], /Allowed choices are bird/],
        [['status'], /is not up/],
        [['run', 'h1', 'web'], /is not up/],
      ];
      for (const [args, message] of cases) {
        const result = await brindle('lab', ...args, '--name', name);
        assert.equal(result.status, 1, args.join(' '));
        assert.match(result.stderr, message, args.join(' '));
      }
      assert.deepEqual(machineState(name).files, []);
    }));
});
