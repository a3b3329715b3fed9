// Lets routed packets of containers pass Docker's own firewall, for who asks for it: dockerd sets FORWARD to drop, and an
// accept in our table cannot undo another table's drop. In: a way to run iptables. Out: two accepts in DOCKER-USER, the chain
// that Docker leaves to its users. Nothing is done where the chain is not there; no other chain is read or written.
import { execFile } from 'node:child_process';
import type { Logger } from '#base/log.ts';

const PROGRAMS = ['iptables', 'ip6tables'] as const;
const CHAIN = 'DOCKER-USER';
const INTERFACES = 'cali+';
const TIMEOUT_MS = 10_000;

/** Runs a program; its exit status, -1 when it could not be run. */
export type RunProgram = (program: string, args: readonly string[]) => Promise<number>;

export const runProgram: RunProgram = (program, args) =>
  new Promise((done) => {
    execFile(program, [...args], { timeout: TIMEOUT_MS }, (error) => {
      done(error === null ? 0 : typeof error.code === 'number' ? error.code : -1);
    });
  });

/** Adds what is missing. Returns the rules that were added; never throws. */
export async function acceptForwarding(log: Logger, run: RunProgram = runProgram): Promise<string[]> {
  const added: string[] = [];
  for (const program of PROGRAMS) {
    // -w: wait for whoever else is changing the rules, as dockerd does while it starts.
    if ((await run(program, ['-w', '-S', CHAIN])) !== 0) continue;
    for (const direction of ['-i', '-o']) {
      const rule = [CHAIN, direction, INTERFACES, '-j', 'ACCEPT'];
      if ((await run(program, ['-w', '-C', ...rule])) === 0) continue;
      const text = `${program} -I ${rule.join(' ')}`;
      if ((await run(program, ['-w', '-I', ...rule])) === 0) {
        added.push(text);
        log.info({ rule: text }, "let containers' packets pass Docker's firewall");
      } else log.warn({ rule: text }, "Docker's firewall could not be told of our containers; tried again");
    }
  }
  return added;
}
