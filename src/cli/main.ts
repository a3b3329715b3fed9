// The `brindle` command. Each verb lives in commands/ and is loaded only when it is asked for, so that the
// start of one does not pay for the others.
import { Command } from 'commander';
import { errorText } from '#base/errors.ts';

/** Adds one or more verbs to the program. */
export type Register = (program: Command) => void;

/** First word on the command line -> the module that knows it. Shown in `--help` in this order. */
const VERBS: Record<string, { summary: string; load: () => Promise<{ register: Register }> }> = {
  speaker: { summary: 'the BGP speaker alone, with no dataplane', load: () => import('./commands/speaker.ts') },
  lab: { summary: 'a whole fabric on this machine', load: () => import('./commands/lab.ts') },
};

async function main(argv: readonly string[]): Promise<void> {
  const program = new Command('brindle')
    .description(
      'A routed container network: one address per container, BGP to the routers, policy from the first packet.',
    )
    .showHelpAfterError('(brindle --help tells the verbs)')
    .enablePositionalOptions();
  const word = argv[2];
  const verb = word === undefined ? undefined : VERBS[word];
  if (verb) (await verb.load()).register(program);
  else for (const [name, { summary }] of Object.entries(VERBS)) program.command(name).description(summary);
  await program.parseAsync(argv);
}

try {
  await main(process.argv);
} catch (error) {
  process.stderr.write(`brindle: ${errorText(error)}\n`);
  process.exitCode = 1;
}
