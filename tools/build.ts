// Bundles the command into dist/: one file for the main thread, one for each worker thread. koffi stays outside
// because it loads its native part relative to itself. dist/brindle-cni is the C executable where there is a C
// compiler, else its Node twin (or when BRINDLE_CNI_TWIN=1).
import { spawnSync } from 'node:child_process';
import { chmodSync, renameSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { build } from 'esbuild';

const root = resolve(import.meta.dirname, '..');
rmSync(`${root}/dist`, { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: { brindle: 'src/cli/main.ts', 'speaker-worker': 'src/agent/speaker-worker.ts' },
  outdir: 'dist',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node26',
  external: ['koffi'],
  sourcemap: 'linked',
  logLevel: 'warning',
  chunkNames: 'chunk-[hash]',
  // Bundled CommonJS dependencies call require() for Node's own modules.
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
});

/** musl starts faster than glibc (0.8 against 1.5 ms); a static executable runs in any container of an engine. */
const COMPILERS = [['musl-gcc', '-static'], ['cc', '-static'], ['gcc', '-static'], ['cc']];

/** Compiles to a temporary name first: a runtime that starts a file which is being written gets ETXTBSY. */
function compileExecutable(target: string): boolean {
  if (process.env['BRINDLE_CNI_TWIN'] === '1') return false;
  for (const [compiler = '', ...flags] of COMPILERS) {
    const source = `${root}/src/cni/brindle-cni.c`;
    const run = spawnSync(compiler, ['-O2', ...flags, '-s', '-o', `${target}.new`, source], { stdio: 'ignore' });
    if (run.status !== 0) continue;
    renameSync(`${target}.new`, target);
    return true;
  }
  return false;
}

async function bundleTwin(target: string): Promise<void> {
  await build({
    absWorkingDir: root,
    entryPoints: ['src/cni/executable.ts'],
    outfile: `${target}.new`,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node26',
    minify: true,
    logLevel: 'warning',
    banner: { js: `#!${process.execPath}` },
  });
  chmodSync(`${target}.new`, 0o755);
  renameSync(`${target}.new`, target);
}

if (!compileExecutable(`${root}/dist/brindle-cni`)) {
  console.log('no C compiler: dist/brindle-cni runs on Node, which costs about 40 ms a call');
  await bundleTwin(`${root}/dist/brindle-cni`);
}
