// `brindle apply`, `create`, `replace`: resources from files into the store. All is checked before anything is written.
import { type Command, Option } from 'commander';
import { applyResources } from '#datastore/apply.ts';
import { displayName } from '#model/registry.ts';
import { asDocument, toJson, toYaml } from '../format/yaml.ts';
import { readManifests } from '../manifests.ts';
import { addStoreOptions, type StoreOptions, withStore } from '../store-access.ts';

interface ApplyFlags extends StoreOptions {
  readonly filename: string[];
  readonly recursive?: boolean;
  readonly namespace?: string;
  readonly dryRun?: boolean;
  readonly output?: 'name' | 'yaml' | 'json';
}

const TEXT = {
  apply: 'Create the resources of files, or change them to what the files say.',
  create: 'Create the resources of files; each must be new.',
  replace: 'Change the resources of files; each must exist.',
} as const;

export function register(program: Command): void {
  for (const mode of ['apply', 'create', 'replace'] as const) {
    addStoreOptions(program.command(mode).description(TEXT[mode]))
      .requiredOption(
        '-f, --filename <path>',
        'file, folder, or - for standard input; may be given several times',
        collect,
      )
      .option('-R, --recursive', 'folders with all that is in them')
      .option('-n, --namespace <name>', 'namespace of resources that name none')
      .option('--dry-run', 'check everything, write nothing')
      .addOption(new Option('-o, --output <format>', 'what to print').choices(['name', 'yaml', 'json']))
      .addHelpText(
        'after',
        `\nAll resources are checked before the first is written: one that is invalid keeps all out.\nA resource becomes what the file says, labels and annotations too; its status and identity stay.\n\n  brindle ${mode} -f pools.yaml\n  cat pools.yaml | brindle ${mode} -f -`,
      )
      .action(async (flags: ApplyFlags) => run(mode, flags));
  }
}

function collect(value: string, earlier: string[] = []): string[] {
  return [...earlier, value];
}

async function run(mode: keyof typeof TEXT, flags: ApplyFlags): Promise<void> {
  const resources = readManifests(flags.filename, { ...flags, warn: true });
  const options = { mode, ...(flags.dryRun ? { dryRun: true } : {}) };
  const results = await withStore(flags, 'create', (store) => applyResources(store, resources, options));
  if (flags.output === 'yaml' || flags.output === 'json') {
    const document = asDocument(
      results.map((r) => r.resource),
      results.length === 1,
    );
    process.stdout.write(flags.output === 'yaml' ? toYaml(document) : toJson(document));
    return;
  }
  for (const { resource, outcome } of results) {
    const name = displayName(resource);
    const said = mode === 'replace' && outcome === 'configured' ? 'replaced' : outcome;
    process.stdout.write(
      flags.output === 'name' ? `${name}\n` : `${name} ${said}${flags.dryRun ? ' (dry run)' : ''}\n`,
    );
  }
}
