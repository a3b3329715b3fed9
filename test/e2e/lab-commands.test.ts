// The lab from the command line: containers, commands inside, the CNI executable called by hand, a crash of everything.
// Needs root, bird2, iproute2, nftables, busybox, and what `make build` makes.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { agentOf } from '#lab/hosts.ts';
import { namespacePath } from '#lab/kernel.ts';
import { down, Lab } from '#lab/lab.ts';
import { namespaceOf } from '#lab/plan.ts';
import { processesOf, stop } from '#lab/processes.ts';
import { createNamedNetns, deleteNamedNetns } from '#sys/netns.ts';
import { brindle, differenceAfter, machineState, uniqueLab } from './support.ts';

describe('lab: commands', () => {
  it('up, run, exec, env, matrix, status, rm, down', async (test) => {
    const name = uniqueLab();
    const before = machineState(name);
    test.after(() => down(name));
    const lab = async (...args: string[]): Promise<string> => {
      const [verb = '', ...rest] = args;
      const { status, stdout, stderr } = await brindle('lab', verb, '--name', name, ...rest);
      assert.equal(status, 0, `${args.join(' ')}: ${stderr}`);
      return stdout;
    };
    assert.match(await lab('up', '--hosts', '2'), /is up: 2 hosts below tor1 \(BIRD/);
    assert.match(
      await lab('run', 'h1', 'web', '--label', 'app=web', '--serve', '8080'),
      /h1\/web has 10\.244\.[\d.]+ and fd00:/,
    );
    assert.match(await lab('run', 'h2', 'client'), /CNI ADD: [\d.]+ ms/);
    const web = Lab.open(name).container('h1/web').addresses[0]!;
    assert.equal(await lab('exec', 'h2/client', 'busybox', 'wget', '-qO-', `http://${web}:8080/`), 'h1/web\n');
    assert.match(await lab('exec', 'tor1', '--', 'ip', 'route'), /10\.244\.\S+\/26 via 172\.30\.1\.1/);
    assert.match(
      await lab('exec', 'h1', '--', 'sh', '-c', 'brindle version; echo $BRINDLE_SOCKET'),
      /h1\/run\/brindle\.sock/,
    );
    const failed = await brindle('lab', 'exec', '--name', name, 'h1', 'sh', '-c', 'exit 7');
    assert.equal(failed.status, 7);

    const matrix = JSON.parse(await lab('matrix', '--port', '8080', '-o', 'json')) as {
      cells: { from: string; to: string; ipv4: { word: string } }[];
    };
    const words = Object.fromEntries(matrix.cells.map(({ from, to, ipv4 }) => [`${from} ${to}`, ipv4.word]));
    assert.equal(words['h2/client h1/web'], 'ok');
    assert.equal(words['h1/web h2/client'], 'closed');
    const status = JSON.parse(await lab('status', '-o', 'json')) as { containers: { labels: object }[] };
    assert.deepEqual(status.containers[0]?.labels, { app: 'web' });

    for (const [args, message] of [
      [['run', 'h9', 'x'], /no host "h9".*h1, h2/],
      [['run', 'h1', 'web'], /there is a container h1\/web already/],
      [['run', 'h1', 'X'], /cannot be the name of a container/],
      [['rm', 'h1/none'], /no container "h1\/none"/],
      [['add-host', 'h1'], /already/],
      [['up'], /is up already/],
    ] as const) {
      const result = await brindle('lab', args[0], '--name', name, ...args.slice(1));
      assert.equal(result.status, 1, args.join(' '));
      assert.match(result.stderr, message);
    }

    assert.match(await lab('rm', 'h1/web', 'h2/client'), /h1\/web is gone/);
    assert.match(await lab('down'), /is down/);
    assert.equal(await differenceAfter(before, name), null);
  });

  it('the variables of `lab env` are enough to call the CNI executable by hand', async (test) => {
    const name = uniqueLab();
    test.after(() => down(name));
    assert.equal((await brindle('lab', 'up', '--name', name, '--hosts', '1')).status, 0);
    const { stdout } = await brindle('lab', 'env', '--name', name, 'h1');
    const env = Object.fromEntries(
      stdout
        .trim()
        .split('\n')
        .map((line) => /^export (\w+)='(.*)'$/.exec(line)!.slice(1, 3) as [string, string]),
    );
    const list = JSON.parse(readFileSync(env['BRINDLE_CNI_CONF']!, 'utf8')) as {
      name: string;
      cniVersion: string;
      plugins: { type: string }[];
    };
    const pod = `${name}-byhand`;
    createNamedNetns(pod);
    test.after(() => deleteNamedNetns(pod));
    const call = (verb: string): { status: number | null; stdout: string } =>
      spawnSync(
        'nsenter',
        [`--net=${namespacePath(namespaceOf(name, 'h1'))}`, `${env['CNI_PATH']}/${list.plugins[0]!.type}`],
        {
          encoding: 'utf8',
          input: JSON.stringify({ ...list.plugins[0], name: list.name, cniVersion: list.cniVersion }),
          env: {
            ...env,
            CNI_COMMAND: verb,
            CNI_CONTAINERID: 'byhand',
            CNI_NETNS: namespacePath(pod),
            CNI_IFNAME: 'eth0',
          },
        },
      );
    const added = call('ADD');
    assert.equal(added.status, 0, added.stdout);
    const { ips } = JSON.parse(added.stdout) as { ips: { address: string }[] };
    const shown = execFileSync('ip', ['-n', pod, '-brief', 'address', 'show', 'eth0'], { encoding: 'utf8' });
    for (const { address } of ips) assert.ok(shown.includes(address), shown);
    assert.equal(call('DEL').status, 0);
  });

  it('down after everything was killed, and after an agent was restarted', async (test) => {
    const name = uniqueLab();
    const before = machineState(name);
    test.after(() => down(name));
    assert.equal((await brindle('lab', 'up', '--name', name, '--hosts', '2')).status, 0);
    assert.equal((await brindle('lab', 'run', '--name', name, 'h1', 'web', '--serve', '80')).status, 0);
    const first = agentOf(Lab.open(name).state, 'h1')!;
    assert.equal((await brindle('lab', 'restart', '--name', name, 'h1')).status, 0);
    assert.notEqual(agentOf(Lab.open(name).state, 'h1')!.pid, first.pid);
    await stop(processesOf(name), 'SIGKILL', 5000);
    const status = await brindle('lab', 'status', '--name', name);
    assert.equal(status.status, 0, status.stderr);
    assert.match(status.stdout, /h1 .* dead/);
    assert.match(status.stdout, /not running/);
    assert.equal((await brindle('lab', 'down', '--name', name)).status, 0);
    assert.equal(await differenceAfter(before, name), null);
    assert.match((await brindle('lab', 'down', '--name', name)).stdout, /no lab here/);
  });
});
