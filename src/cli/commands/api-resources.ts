// `brindle api-resources`: the kinds that there are.
import { type Command, Option } from 'commander';
import { KINDS } from '#model/registry.ts';
import { formatTable } from '../format/table.ts';

export function register(program: Command): void {
  program
    .command('api-resources')
    .description('List the kinds of resources.')
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['wide', 'name']))
    .action((flags: { output?: 'wide' | 'name' }) => {
      if (flags.output === 'name') {
        process.stdout.write(KINDS.map((kind) => `${kind.plural}\n`).join(''));
        return;
      }
      const titles = [
        'NAME',
        'SHORTNAMES',
        'APIVERSION',
        'NAMESPACED',
        'KIND',
        ...(flags.output === 'wide' ? ['DESCRIPTION'] : []),
      ];
      const rows = KINDS.map((kind) => [
        kind.plural,
        kind.shortNames.join(','),
        kind.apiVersion,
        String(kind.namespaced),
        kind.kind,
        ...(flags.output === 'wide' ? [kind.description] : []),
      ]);
      process.stdout.write(`${formatTable(titles, rows)}\n`);
    });
}
