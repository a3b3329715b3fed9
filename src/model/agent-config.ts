// The configuration file, /etc/brindle/brindle.yaml: what the agent and the command line read before there is a store.
// In: the parsed YAML (or nothing). Out: a complete AgentConfig, or an InvalidResourceError with every problem. Pure: the
// caller reads the file and knows the host's name.
import { nameFault } from './formats.ts';
import { InvalidResourceError, Problems } from './problems.ts';
import { check, Default, Int, OneOf, type Static, Text, Type } from './schema.ts';

export const DEFAULT_CONFIG_PATH = '/etc/brindle/brindle.yaml';
export const DEFAULT_STORE_PATH = '/var/lib/brindle/store.db';

const AbsolutePath = (description: string) => Type.String({ description, format: 'absolute-path' });

export const AgentConfigFile = Type.Object({
  hostName: Type.Optional(Text('name', 'Name of this host and of its Node; the name of the machine when absent')),
  store: Default(
    Type.Object(
      {
        embedded: Type.Optional(Type.Object({ path: AbsolutePath('The file of the store') })),
        etcd: Type.Optional(
          Type.Object({
            endpoints: Type.Array(Type.String({ minLength: 1 }), {
              minItems: 1,
              description: 'Members of one cluster: HOST:PORT, http://HOST:PORT or https://HOST:PORT',
            }),
            ca: Type.Optional(AbsolutePath('PEM file of who signs the members; the system decides when absent')),
            cert: Type.Optional(AbsolutePath('PEM file of the client certificate')),
            key: Type.Optional(AbsolutePath('PEM file of its key')),
            username: Type.Optional(Type.String({ minLength: 1, description: 'User of etcd' })),
            passwordFile: Type.Optional(AbsolutePath('File with the password of the user')),
            prefix: Type.Optional(Type.String({ pattern: '^(/[\\w.-]+)+$', description: 'What all keys begin with' })),
          }),
        ),
      },
      { description: 'Where resources are kept; exactly one driver' },
    ),
    { embedded: { path: DEFAULT_STORE_PATH } },
  ),
  runDirectory: Default(AbsolutePath('For sockets and what does not outlive the machine'), '/run/brindle'),
  stateDirectory: Default(AbsolutePath('For the journal and what outlives the machine'), '/var/lib/brindle'),
  logLevel: Default(OneOf(['debug', 'info', 'warn', 'error'], 'What the agent writes to standard error'), 'info'),
  nat: Default(
    Type.Object(
      {
        exclusions: Default(
          OneOf(
            ['IPPoolsOnly', 'IPPoolsAndHostIPs'],
            'What containers of pools with natOutgoing reach by their own address',
          ),
          'IPPoolsOnly',
        ),
        ipv4Address: Type.Optional(
          Text('ipv4', 'What IPv4 packets to the outside get; the address of the interface they leave by when absent'),
        ),
        ipv6Address: Type.Optional(Text('ipv6', 'The same for IPv6')),
      },
      { description: 'What containers of pools with natOutgoing look like from outside' },
    ),
    { exclusions: 'IPPoolsOnly' },
  ),
  ipam: Default(
    Type.Object(
      {
        cooldownSeconds: Default(Int(0, 1200, 'How long a freed address rests before a container gets it again'), 0),
        maxBlocks: Type.Optional(Int(1, 10_000, 'No more blocks than this are leased by the host')),
      },
      { description: 'How the host deals with addresses and blocks' },
    ),
    { cooldownSeconds: 0 },
  ),
  docker: Type.Optional(
    Type.Object({
      pluginSocket: Default(
        AbsolutePath('Where dockerd finds the network and IPAM driver; the name of the file is the name of the driver'),
        '/run/docker/plugins/brindle.sock',
      ),
      engineSocket: Default(AbsolutePath("Docker's API, asked for names and labels of containers"), '/run/docker.sock'),
      acceptForwarding: Default(
        Type.Boolean({ description: "Accept packets of our containers in Docker's chain DOCKER-USER" }),
        false,
      ),
    }),
  ),
  metrics: Type.Optional(
    Type.Object(
      {
        listen: Default(
          Text('ip', 'The address that metrics are served on, at /metrics, without a password'),
          '127.0.0.1',
        ),
        port: Default(Int(1, 65_535, 'TCP port'), 9095),
      },
      { description: 'When present, metrics are served over TCP too; the socket of the agent has them always' },
    ),
  ),
});
export type AgentConfigFile = Static<typeof AgentConfigFile>;

/** Complete: every field has a value. */
export interface AgentConfig extends AgentConfigFile {
  readonly hostName: string;
}

/**
 * @param value the parsed file; null or undefined for an empty or missing one, which is all defaults
 * @param source the path of the file, for messages
 * @param machineName the name of the machine, used when the file names no host; made lower case
 */
export function parseAgentConfig(value: unknown, source: string, machineName: string): AgentConfig {
  const problems = new Problems();
  const config = check(AgentConfigFile, value ?? {}, '', problems) as AgentConfigFile;
  if (!problems.any && Object.keys(config.store).length !== 1) {
    problems.add('store', 'must name exactly one driver', 'write embedded: {path: ...} or etcd: {endpoints: [...]}');
  }
  const hostName = config.hostName ?? machineName.toLowerCase();
  const fault = config.hostName === undefined ? nameFault(hostName) : null;
  if (fault) {
    problems.add(
      'hostName',
      `is required: the machine's name "${machineName}" cannot be the name of a Node`,
      fault.remedy,
    );
  }
  if (problems.any)
    throw new InvalidResourceError([{ subject: `the configuration ${source}`, problems: problems.list }]);
  return { ...config, hostName };
}
