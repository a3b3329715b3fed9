// The few file operations that the journal needs, as an interface, so that tests can stop the world at each of them.
import { writeSync } from 'node:fs';
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

export interface JournalFile {
  /**
   * Writes all octets at `position` into the page cache; a failure may leave a part of them there. Synchronous: it takes
   * 2 microseconds where the way through a thread takes 100, and what is written first is first after a crash.
   */
  write(octets: Uint8Array, position: number): void;
  /** Data reach the disk (fdatasync). After a failure nothing is known about what did. */
  sync(): Promise<void>;
  truncate(size: number): Promise<void>;
  close(): Promise<void>;
}

export interface JournalFiles {
  /** null when there is no such file. */
  read(path: string): Promise<Uint8Array | null>;
  /** Opens for writing, with the file and its directory made when absent; `empty` drops what was in it. */
  open(path: string, empty: boolean): Promise<JournalFile>;
  /** Atomic, and durable once it has resolved: the directory is synchronised too. */
  replace(from: string, to: string): Promise<void>;
}

export const systemFiles: JournalFiles = {
  async read(path) {
    try {
      return await readFile(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
  },
  async open(path, empty) {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const handle = await open(path, empty ? 'w' : 'a+', 0o600).then(async (made) => {
      if (empty) return made;
      await made.close(); // 'a' would ignore positions; it only made the file
      return open(path, 'r+');
    });
    return {
      write(octets, position) {
        for (let done = 0; done < octets.length; ) {
          done += writeSync(handle.fd, octets, done, octets.length - done, position + done);
        }
      },
      sync: () => handle.datasync(),
      truncate: (size) => handle.truncate(size),
      close: () => handle.close(),
    };
  },
  async replace(from, to) {
    await rename(from, to);
    const directory = await open(dirname(to), 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  },
};
