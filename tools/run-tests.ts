// Runs the tests by rung and prints what failed, what was skipped and why, and the closing line
// `N passed, N failed, N skipped`. Exit status 1 when anything failed or nothing ran.
//   tools/run-tests.ts [--pure] [--only RUNG[,RUNG]] [FILE ...]
import { globSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { run } from 'node:test';

interface Rung {
  readonly name: string;
  readonly files: string;
  /** Test files at once. The kernel and peer rungs share two cores and the RTNL lock. */
  readonly concurrency: number;
  /** Milliseconds one file may take. */
  readonly timeout: number;
}

const MINUTE = 60_000;
const RUNGS: readonly Rung[] = [
  { name: 'pure', files: 'src/**/*.test.ts', concurrency: 2, timeout: 4 * MINUTE },
  { name: 'kernel', files: 'test/kernel/**/*.test.ts', concurrency: 2, timeout: 4 * MINUTE },
  { name: 'interop', files: 'test/interop/**/*.test.ts', concurrency: 2, timeout: 6 * MINUTE },
  { name: 'etcd', files: 'test/etcd/**/*.test.ts', concurrency: 1, timeout: 8 * MINUTE },
  { name: 'engines', files: 'test/engines/**/*.test.ts', concurrency: 1, timeout: 8 * MINUTE },
  { name: 'kubernetes', files: 'test/kubernetes/**/*.test.ts', concurrency: 1, timeout: 15 * MINUTE },
  { name: 'e2e', files: 'test/e2e/**/*.test.ts', concurrency: 1, timeout: 8 * MINUTE },
];

const root = resolve(import.meta.dirname, '..');
process.chdir(root);

const { values, positionals } = parseArgs({
  options: { pure: { type: 'boolean' }, only: { type: 'string' } },
  allowPositionals: true,
});
const wanted = values.pure ? ['pure'] : values.only?.split(',');

const totals = { passed: 0, failed: 0 };
const failures: string[] = [];
const skips = new Map<string, string[]>();

async function runRung(rung: Rung): Promise<void> {
  let files = globSync(rung.files, { cwd: root }).toSorted();
  if (positionals.length > 0) files = files.filter((f) => positionals.some((p) => f.includes(p)));
  if (files.length === 0) return;
  const started = performance.now();
  const before = { ...totals };
  const stream = run({
    files: files.map((f) => resolve(root, f)),
    concurrency: rung.concurrency,
    timeout: rung.timeout,
    isolation: 'process',
    // The same options as `bin/brindle` gives its Node.
    execArgv: ['--disable-warning=ExperimentalWarning'],
  });
  stream.on('test:pass', (event) => {
    if (event.details.type === 'suite') return;
    if (event.skip !== undefined && event.skip !== false) {
      const reason = typeof event.skip === 'string' && event.skip !== '' ? event.skip : 'no reason given';
      const list = skips.get(reason) ?? [];
      list.push(event.name);
      skips.set(reason, list);
    } else if (event.todo === undefined || event.todo === false) totals.passed++;
  });
  stream.on('test:fail', (event) => {
    const error = event.details.error;
    // A suite fails because a test inside failed; that one is counted. A suite whose hook threw is not.
    const cause = error.cause instanceof Error ? error.cause : error;
    if (event.details.type === 'suite' && /subtests? failed/.test(error.message)) return;
    totals.failed++;
    const where = `${event.file ?? ''}:${event.line ?? 0}`.replace(`${root}/`, '');
    failures.push(`${rung.name}: ${event.name} (${where})\n${indent(cause.stack ?? cause.message)}`);
    process.stdout.write(`  FAILED ${event.name} (${where})\n${indent(indent(cause.stack ?? cause.message))}\n`);
  });
  stream.on('test:stderr', (event) => {
    if (process.env['BRINDLE_TEST_VERBOSE']) process.stderr.write(event.message);
  });
  stream.resume();
  await new Promise<void>((done, reject) => {
    stream.on('end', done);
    stream.on('error', reject);
  });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const failed = totals.failed - before.failed;
  console.log(
    `${rung.name}: ${totals.passed - before.passed} passed, ${failed} failed in ${files.length} files, ${seconds} s`,
  );
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, '    ');
}

for (const rung of RUNGS) if (!wanted || wanted.includes(rung.name)) await runRung(rung);

if (failures.length > 0) console.log(`\nfailed:\n${failures.join('\n')}`);
let skipped = 0;
for (const [reason, names] of skips) {
  skipped += names.length;
  console.log(`skipped, ${reason}: ${names.join(', ')}`);
}
console.log(`${totals.passed} passed, ${totals.failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exit(totals.failed > 0 || totals.passed === 0 ? 1 : 0);
