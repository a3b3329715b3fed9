// The demo as a newcomer runs it: what it shows, and that it ends without a trace, also when it is interrupted.
// Needs root, bird2, iproute2, nftables, busybox, and what `make build` makes.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { down } from '#lab/lab.ts';
import { differenceAfter, machineState, uniqueLab } from './support.ts';

const DEMO = resolve(import.meta.dirname, '../../tools/demo.ts');

interface Run {
  readonly status: number | null;
  readonly output: string;
}

/** Runs the demo; calls `onOutput` with all it has printed so far, whenever that grows. */
async function runDemo(test: TestContext, lab: string, onOutput: (text: string, pid: number) => void): Promise<Run> {
  test.after(() => down(lab));
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', DEMO], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, BRINDLE_LAB_NAME: lab },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      output += chunk;
      onOutput(output, child.pid!);
    });
  }
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, output };
}

describe('make demo', () => {
  it('shows sessions, routes and who reaches whom before and after a policy, and leaves nothing', async (test) => {
    const lab = uniqueLab();
    const before = machineState(lab);
    const { status, output } = await runDemo(test, lab, () => {});
    assert.equal(status, 0, output);
    assert.match(output, /6 of 6 established/);
    assert.equal(output.match(/unicast \[h\d_ipv4/g)?.length, 3, output);
    assert.equal(output.match(/unicast \[h\d_ipv6/g)?.length, 3, output);
    assert.match(output, /GlobalNetworkPolicy web-serves-customers, ingress rule 2 \(Deny\)/);
    assert.doesNotMatch(output, /LOST|OPEN/);
    assert.ok(!output.includes('\u001b'), 'colour although this is no terminal');
    assert.equal(await differenceAfter(before, lab), null);
  });

  it('cleans up when it is interrupted, while the fabric is being built or later', async (test) => {
    for (const moment of ['brindle lab up', 'brindle lab status']) {
      const lab = uniqueLab();
      const before = machineState(lab);
      let sent = false;
      const { status, output } = await runDemo(test, lab, (text, pid) => {
        if (sent || !text.includes(moment)) return;
        sent = true;
        process.kill(pid, 'SIGINT');
      });
      assert.equal(status, 130, output);
      assert.equal(await differenceAfter(before, lab), null);
    }
  });
});
