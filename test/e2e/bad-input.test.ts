// What people and programs get wrong, against a running host: each gets a clear error, and nothing has changed.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync, existsSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createNamedNetns, deleteNamedNetns, namedNetnsPath } from '#sys/netns.ts';
import { brindle, uniqueLab } from './support.ts';

interface Answer {
  readonly status: number;
  readonly output: { readonly code?: number; readonly msg?: string; readonly details?: string } & Record<
    string,
    unknown
  >;
}

describe('bad input', { timeout: 240_000 }, () => {
  const lab = uniqueLab();
  const folder = mkdtempSync(join(tmpdir(), 'brindle-bad-'));
  const namespaces: string[] = [];
  let environment: Record<string, string> = {};
  let store = '';
  let hostNamespace = '';

  before(async () => {
    const up = await brindle('lab', 'up', '--name', lab, '--hosts', '1', '--router', 'bird');
    assert.equal(up.status, 0, up.stderr);
    const shown = await brindle('lab', 'env', 'h1', '--name', lab);
    environment = Object.fromEntries(
      [...shown.stdout.matchAll(/^(?:export )?(\w+)=(\S+?);?$/gm)].map(([, key, value]) => [
        key!,
        value!.replaceAll(/^'|'$/g, ''),
      ]),
    );
    assert.ok(environment['BRINDLE_SOCKET'] && environment['CNI_PATH'], shown.stdout);
    store = join('/run/brindle/lab', lab, 'store.db');
    hostNamespace = readdirSync('/run/netns').find(
      (name) => name.startsWith(`brindle-${lab}-`) && name.endsWith('h1'),
    )!;
    assert.ok(hostNamespace);
  });

  after(async () => {
    await brindle('lab', 'down', '--name', lab);
    for (const name of namespaces) deleteNamedNetns(name);
    rmSync(folder, { recursive: true, force: true });
  });

  function container(): string {
    const name = `${lab}-x${namespaces.length}`;
    createNamedNetns(name);
    namespaces.push(name);
    return name;
  }

  function cni(
    verb: string,
    id: string,
    options: { netns?: string; config?: object; socket?: string } = {},
  ): Promise<Answer> {
    const config = { cniVersion: '1.0.0', name: 'bad', type: 'brindle-cni', ...options.config };
    const env = {
      CNI_COMMAND: verb,
      CNI_CONTAINERID: id,
      CNI_NETNS: options.netns ?? namedNetnsPath(id),
      CNI_IFNAME: 'eth0',
      CNI_PATH: environment['CNI_PATH']!,
      BRINDLE_SOCKET: options.socket ?? environment['BRINDLE_SOCKET']!,
    };
    return new Promise<Answer>((done) => {
      const program = join(environment['CNI_PATH']!, 'brindle-cni');
      const child = execFile(
        'ip',
        ['netns', 'exec', hostNamespace, program],
        { env: { ...process.env, ...env } },
        (error, stdout) => {
          const code = error?.code;
          done({
            status: error ? (typeof code === 'number' ? code : 1) : 0,
            output: stdout === '' ? {} : (JSON.parse(stdout) as Answer['output']),
          });
        },
      );
      child.stdin?.end(JSON.stringify(config));
    });
  }

  /** Everything that a refused call might have touched, as text. */
  async function state(): Promise<string> {
    // What DEL leaves to the background is over when no interface waits to be deleted.
    const run = (...args: string[]): string =>
      execFileSync('ip', ['netns', 'exec', hostNamespace, ...args], { encoding: 'utf8' });
    const resources = await brindle('get', 'ippools,ipblocks,workloadendpoints', '-A', '-o', 'name', '--store', store);
    return [
      run('ip', '-brief', 'link').replaceAll(/@\S+/g, ''),
      run('ip', 'route'),
      run('ip', '-6', 'route', 'show', 'proto', '155'),
      run('nft', '-t', 'list', 'table', 'inet', 'brindle').replaceAll(/packets \d+ bytes \d+/g, ''),
      resources.stdout,
    ].join('\n');
  }

  async function unchanged(what: () => Promise<void>): Promise<void> {
    const before_ = await state();
    await what();
    for (let tries = 0; ; tries++) {
      const now = await state();
      if (now === before_) return;
      if (tries === 50) assert.equal(now, before_);
      await sleep(100);
    }
  }

  async function apply(text: string): Promise<{ status: number; stderr: string }> {
    const file = join(folder, `${namespaces.length}-${Math.random()}.yaml`);
    writeFileSync(file, text);
    return brindle('apply', '-f', file, '--store', store);
  }

  const pool = (name: string, cidr: string, more = ''): string =>
    `apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: ${name}}\nspec: {cidr: ${cidr}${more}}\n`;

  it('an invalid pool: the field, the reason and the remedy', () =>
    unchanged(async () => {
      const { status, stderr } = await apply(pool('bad', '10.99.0.1/16', ', blokSize: 26'));
      assert.notEqual(status, 0);
      assert.match(stderr, /spec\.cidr.*host bits.*10\.99\.0\.0\/16/s);
      assert.match(stderr, /blokSize.*blockSize/s);
    }));

  it('an overlapping pool, beside a good one: neither is stored', () =>
    unchanged(async () => {
      const { status, stderr } = await apply(`${pool('good', '10.98.0.0/24')}---\n${pool('bad', '10.244.7.0/24')}`);
      assert.notEqual(status, 0);
      assert.match(stderr, /overlap/);
    }));

  it('a full pool: ADD says which', async () => {
    const { status, stderr } = await apply(pool('tiny', '10.97.0.0/32', ', blockSize: 32'));
    assert.equal(status, 0, stderr);
    const config = { ipam: { ipv4_pools: ['tiny'] } };
    const [first, second] = [container(), container()];
    const added = await cni('ADD', first, { config });
    assert.equal(added.status, 0, JSON.stringify(added.output));
    await unchanged(async () => {
      const refused = await cni('ADD', second, { config });
      assert.notEqual(refused.status, 0);
      assert.match(JSON.stringify(refused.output), /no free IPv4 address.*tiny/);
    });
    assert.equal((await cni('DEL', first, { config })).status, 0);
  });

  it('an unknown CNI version, with those that are known', () =>
    unchanged(async () => {
      const { status, output } = await cni('ADD', container(), { config: { cniVersion: '9.9.9' } });
      assert.deepEqual([status, output.code], [1, 1]);
      assert.match(JSON.stringify(output), /1\.1\.0/);
    }));

  it('a network namespace that is gone', () =>
    unchanged(async () => {
      const { status, output } = await cni('ADD', 'ghost', { netns: '/run/netns/there-is-no-such-namespace' });
      assert.deepEqual([status, output.code], [1, 8]);
      assert.match(output.msg ?? '', /there-is-no-such-namespace/);
    }));

  it('an interface name that exists in the container', () =>
    unchanged(async () => {
      const name = container();
      execFileSync('ip', ['-n', name, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'other']);
      const { status, output } = await cni('ADD', name);
      assert.equal(status, 1);
      assert.match(output.msg ?? '', /eth0 exists/);
    }));

  it('a second ADD of an attached container, and a DEL of one never seen', async () => {
    const name = container();
    assert.equal((await cni('ADD', name)).status, 0);
    await unchanged(async () => {
      const { status, output } = await cni('ADD', name);
      assert.equal(status, 1);
      assert.match(JSON.stringify(output), /already/);
      assert.equal((await cni('DEL', 'never-seen', { netns: '' })).status, 0);
    });
    assert.equal((await cni('DEL', name)).status, 0);
    assert.equal((await cni('DEL', name)).status, 0);
  });

  it('no agent: ADD says try again (11), DEL is journalled and succeeds', async () => {
    const socket = join(folder, 'nobody.sock');
    const add = await cni('ADD', container(), { socket });
    assert.deepEqual([add.status, add.output.code], [1, 11]);
    assert.match(JSON.stringify(add.output), /nobody\.sock/);
    assert.equal((await cni('DEL', 'some', { socket, netns: '' })).status, 0);
    assert.equal(readdirSync(`${socket}.spool`).filter((file) => file.endsWith('.del')).length, 1);
    assert.ok(!existsSync(socket));
  });

  it('garbage on the BGP port: the sessions stay', async () => {
    const peers = async (): Promise<string> => {
      const { stdout } = await brindle('bgp', 'summary', '-o', 'json', '--socket', environment['BRINDLE_SOCKET']!);
      const summary = JSON.parse(stdout) as { peers: { name: string; state: string; flaps: number }[] };
      return JSON.stringify(summary.peers.map(({ name, state, flaps }) => [name, state, flaps]));
    };
    const sessions = await peers();
    assert.match(sessions, /established/);
    const node = await brindle('get', 'node', 'h1', '-o', 'json', '--store', store);
    const address = /"ipv4Address": "([\d.]+)/.exec(node.stdout)![1]!;
    const routerNamespace = readdirSync('/run/netns').find(
      (name) => name.startsWith(`brindle-${lab}-`) && name.includes('tor'),
    )!;
    // From the router's own address, so that it is taken for a configured peer.
    for (const octets of ['GET / HTTP/1.1\\r\\n\\r\\n', '\\xff'.repeat(200), '\\0'.repeat(19)]) {
      const script = `exec 3<>/dev/tcp/${address}/179; printf '${octets}' >&3; exec 3>&-`;
      execFileSync('ip', ['netns', 'exec', routerNamespace, 'timeout', '5', 'bash', '-c', script], { stdio: 'ignore' });
    }
    assert.equal(await peers(), sessions);
  });
});
