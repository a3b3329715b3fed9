// `brindle version`.
import { type Command, Option } from 'commander';
import { VERSION } from '../version.ts';

export function register(program: Command): void {
  program
    .command('version')
    .description('Show the version.')
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['json']))
    .action((flags: { output?: 'json' }) => {
      const facts = { version: VERSION, node: process.versions.node, platform: `${process.platform}/${process.arch}` };
      if (flags.output === 'json') process.stdout.write(`${JSON.stringify(facts, null, 2)}\n`);
      else process.stdout.write(`brindle ${facts.version} (Node ${facts.node}, ${facts.platform})\n`);
    });
}
