// Completes package-lock.json with the packages for other platforms that the registry at hand does not serve.
// `npm ci` refuses a lock file that lacks an optional package, though it would never install it here; a registry mirror that
// holds only some platforms makes npm write such a lock file. Run after changing dependencies:
//   npm install --package-lock-only && node tools/complete-lock.ts && npm ci
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';

interface Entry {
  version?: string;
  dev?: boolean;
  optional?: boolean;
  os?: string[];
  cpu?: string[];
  optionalDependencies?: Record<string, string>;
}

const SYSTEMS = ['android', 'darwin', 'freebsd', 'linux', 'netbsd', 'openbsd', 'openharmony', 'sunos', 'win32', 'aix'];
const PROCESSORS: Record<string, string> = {
  arm: 'arm',
  arm64: 'arm64',
  ia32: 'ia32',
  x64: 'x64',
  ppc64: 'ppc64',
  riscv64: 'riscv64',
  s390x: 's390x',
  loong64: 'loong64',
  mips64el: 'mips64el',
};

const path = resolve(process.argv[2] ?? `${import.meta.dirname}/../package-lock.json`);
const lock = JSON.parse(readFileSync(path, 'utf8')) as { packages: Record<string, Entry> };
let added = 0;
for (const [, entry] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const key = `node_modules/${name}`;
    if (lock.packages[key] || !/^\d/.test(version)) continue;
    const words = name.split('/').at(-1)!.split('-');
    const os = words.find((word) => SYSTEMS.includes(word));
    const cpu = words.find((word) => word in PROCESSORS);
    if (os === undefined) throw new Error(`${name}: no platform in its name`);
    lock.packages[key] = {
      version,
      ...(cpu !== undefined && { cpu: [PROCESSORS[cpu]!] }),
      ...(entry.dev && { dev: true }),
      optional: true,
      os: [os],
    };
    added++;
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`${added} entries added`);
