// `brindle agent`: runs the daemon; `brindle agent cleanup` removes what it left in the kernel.
import type { Command } from 'commander';
import { errorText } from '#base/errors.ts';
import type { Logger } from '#base/log.ts';
import { VERSION } from '../version.ts';
import { readConfig } from '#datastore/config.ts';
import type { AgentConfig } from '#model/agent-config.ts';

export function register(program: Command): void {
  const agent = program
    .command('agent')
    .description('run the daemon of this host: addresses, routes, policy and BGP for its containers')
    .option('-c, --config <file>', 'configuration file (BRINDLE_CONFIG, else /etc/brindle/brindle.yaml)')
    .action((options: { config?: string }) => runAgent(readConfig(options.config)));
  agent
    .command('cleanup')
    .description("remove Brindle's routes, nftables table and container interfaces from this host, also after a crash")
    .option('-c, --config <file>', 'configuration file (BRINDLE_CONFIG, else /etc/brindle/brindle.yaml)')
    .option('--dry-run', 'say what would be removed')
    .action(async (options: { config?: string; dryRun?: boolean }) => {
      const { cleanup } = await import('#agent/cleanup.ts');
      const removed = await cleanup({ dryRun: options.dryRun === true });
      for (const line of removed) console.log(options.dryRun ? `would remove ${line}` : `removed ${line}`);
      if (removed.length === 0) console.log('nothing of Brindle is in this kernel');
    });
}

async function runAgent(config: AgentConfig): Promise<void> {
  const [{ Agent, assertRoot }, log] = await Promise.all([import('#agent/agent.ts'), makeLogger(config)]);
  assertRoot();
  const agent = await Agent.start({
    config,
    log,
    version: VERSION,
    onFatal: (reason) => {
      log.error({ reason }, 'the agent ends; forwarding goes on in the kernel');
      process.exit(70);
    },
  });
  await new Promise<void>((done) => {
    // Peers keep our routes over a stop, because the containers keep running: forwarding goes on in the kernel.
    const stop = (signal: string): void => {
      log.info({ signal }, 'stopping; containers keep running');
      agent
        .stop('restart')
        .catch((error: unknown) => log.error({ error: errorText(error) }, 'stop failed'))
        .finally(done);
    };
    process.once('SIGTERM', () => stop('SIGTERM'));
    process.once('SIGINT', () => stop('SIGINT'));
  });
  process.exit(0);
}

async function makeLogger(config: AgentConfig): Promise<Logger> {
  const { default: pino } = await import('pino');
  const log: Logger = pino(
    { level: config.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  );
  return log;
}
