// `brindle completion SHELL`: a script that lets a shell complete verbs, kinds and names. The script asks
// `brindle __complete WORDS`, which prints one candidate a line and never fails.
import { type Command, Option } from 'commander';
import { findKind, KINDS } from '#model/registry.ts';
import { kindKey } from '#model/resource.ts';
import { storeConfig } from '../store-access.ts';

const SCRIPTS = {
  bash: `_brindle() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(brindle __complete "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _brindle brindle
`,
  zsh: `#compdef brindle
_brindle() {
  local -a candidates
  candidates=("\${(@f)$(brindle __complete "\${words[@]:1:$((CURRENT-1))}" 2>/dev/null)}")
  compadd -- $candidates
}
compdef _brindle brindle
`,
  fish: `complete -c brindle -f -a '(brindle __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
`,
};

/** Verbs whose first word is a kind. */
const WITH_KIND = ['get', 'describe', 'delete', 'label'];

/** @param verbs the first words of the command line */
export function registerWith(program: Command, verbs: readonly string[]): void {
  program
    .command('completion')
    .description('Print a script for the completion of a shell: source <(brindle completion bash)')
    .addOption(new Option('--shell <name>').hideHelp())
    .argument('<shell>', `one of ${Object.keys(SCRIPTS).join(', ')}`)
    .action((shell: string, _flags, command: Command) => {
      if (!Object.hasOwn(SCRIPTS, shell))
        command.error(`error: there is no completion for ${shell}; known: ${Object.keys(SCRIPTS).join(', ')}`);
      process.stdout.write(SCRIPTS[shell as keyof typeof SCRIPTS]);
    });
  program
    .command('__complete', { hidden: true })
    .argument('[words...]')
    .allowUnknownOption()
    .action(async (words: string[]) => {
      const candidates = await complete(words, verbs);
      process.stdout.write(candidates.map((text) => `${text}\n`).join(''));
    });
}

/** Candidates for the last word, which may be empty. */
export async function complete(words: readonly string[], verbs: readonly string[]): Promise<string[]> {
  const last = words.at(-1) ?? '';
  const before = words.slice(0, -1).filter((word) => !word.startsWith('-'));
  const [verb, kindWord] = before;
  let candidates: string[] = [];
  if (verb === undefined) candidates = [...verbs];
  else if (WITH_KIND.includes(verb) && kindWord === undefined) candidates = KINDS.map((kind) => kind.plural);
  else if (WITH_KIND.includes(verb) && kindWord !== undefined) candidates = await namesOf(kindWord);
  return candidates.filter((text) => text.startsWith(last)).sort();
}

async function namesOf(word: string): Promise<string[]> {
  const kind = findKind(word);
  if (!kind) return [];
  try {
    const { openStore } = await import('#datastore/open.ts');
    const { existsSync } = await import('node:fs');
    const config = storeConfig({});
    if (config.embedded && !existsSync(config.embedded.path)) return [];
    const store = await openStore(config);
    try {
      return (await store.list(kindKey(kind.apiVersion, kind.kind))).resources.map((r) => r.metadata.name);
    } finally {
      await store.close();
    }
  } catch {
    return []; // no store, no names: a completion is never an error
  }
}
