// The `brindle` command. Each verb lives in commands/ and is loaded only when it is asked for, so that the
// start of one does not pay for the others.
import { Command } from 'commander';
import { errorText, isBrindleError } from '#base/errors.ts';
import { styled } from './format/style.ts';

/** Adds one or more verbs to the program. */
export type Register = (program: Command) => void;

/** First word on the command line -> the module that knows it. Shown in `--help` in this order. */
const VERBS: Record<string, { summary: string; load: () => Promise<{ register: Register }> }> = {
  get: { summary: 'show resources', load: () => import('./commands/get.ts') },
  describe: { summary: 'show resources in full', load: () => import('./commands/describe.ts') },
  apply: { summary: 'create or change resources from files', load: () => import('./commands/apply.ts') },
  create: { summary: 'create resources from files', load: () => import('./commands/apply.ts') },
  replace: { summary: 'change resources from files', load: () => import('./commands/apply.ts') },
  diff: { summary: 'show what apply would change', load: () => import('./commands/diff.ts') },
  delete: { summary: 'delete resources', load: () => import('./commands/delete.ts') },
  label: { summary: 'set and remove labels', load: () => import('./commands/label.ts') },
  store: { summary: 'look after the store itself', load: () => import('./commands/store.ts') },
  'api-resources': { summary: 'list the kinds of resources', load: () => import('./commands/api-resources.ts') },
  simulate: { summary: 'what policies would do to flows', load: () => import('./commands/simulate.ts') },
  lint: { summary: 'what policies probably do not mean', load: () => import('./commands/simulate.ts') },
  explain: { summary: 'which rule decides a flow, with live counters', load: () => import('./commands/explain.ts') },
  status: { summary: 'the state of this host, on one screen', load: () => import('./commands/status.ts') },
  agent: { summary: 'run the daemon of this host', load: () => import('./commands/agent.ts') },
  ipam: { summary: 'addresses: who has which, and what does not fit', load: () => import('./commands/ipam.ts') },
  bgp: { summary: 'BGP sessions and routes, and why they are so', load: () => import('./commands/bgp.ts') },
  speaker: { summary: 'the BGP speaker alone, with no dataplane', load: () => import('./commands/speaker.ts') },
  lab: { summary: 'a whole fabric on this machine', load: () => import('./commands/lab.ts') },
  completion: { summary: 'completion for bash, zsh and fish', load: loadCompletion },
  version: { summary: 'show the version', load: () => import('./commands/version.ts') },
};

/** Words that a shell or habit uses, and are not shown. */
const HIDDEN: typeof VERBS = { __complete: { summary: '', load: loadCompletion } };

async function loadCompletion(): Promise<{ register: Register }> {
  const { registerWith } = await import('./commands/completion.ts');
  return { register: (program) => registerWith(program, Object.keys(VERBS)) };
}

async function main(argv: readonly string[]): Promise<void> {
  const program = new Command('brindle')
    .description(
      'A routed container network: one address per container, BGP to the routers, policy from the first packet.',
    )
    .showHelpAfterError('(brindle --help tells the verbs)')
    .enablePositionalOptions();
  const [, , first, second] = argv;
  if (first === '--version' || first === '-V') return main([...argv.slice(0, 2), 'version']);
  const word = first === 'help' ? second : first;
  const verb = word === undefined ? undefined : (VERBS[word] ?? HIDDEN[word]);
  if (verb) (await verb.load()).register(program);
  else for (const [name, { summary }] of Object.entries(VERBS)) program.command(name).description(summary);
  await program.parseAsync(argv);
}

// The reader has gone (`brindle get ... | head`): nobody is left to tell.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

try {
  await main(process.argv);
} catch (error) {
  const unexpected = !isBrindleError(error) && error instanceof Error && process.env['BRINDLE_DEBUG'] !== undefined;
  process.stderr.write(`${styled('red', 'error:', process.stderr)} ${unexpected ? error.stack : errorText(error)}\n`);
  process.exitCode = 1;
}
