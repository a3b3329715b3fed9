// Which network namespace a path leads to, by device and inode of the nsfs file (namespaces(7)).
import { statfsSync, statSync } from 'node:fs';
import type { Namespaces } from './dependencies.ts';

const NSFS_MAGIC = 0x6e_73_66_73;

function identify(path: string): string | null {
  try {
    if (statfsSync(path).type !== NSFS_MAGIC) return null;
    const { dev, ino } = statSync(path);
    return `${dev}:${ino}`;
  } catch {
    return null;
  }
}

export function systemNamespaces(): Namespaces {
  return { identify, own: identify('/proc/self/ns/net') };
}
