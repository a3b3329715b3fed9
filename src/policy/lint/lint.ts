// What is legal but probably not meant: selectors that match nothing, ports that nobody serves, rules that are never reached, exceptions
// that except nothing. In: a World. Out: findings, in the order of the policies. Nothing here changes a decision.
// Conservative: a rule is called shadowed only when every condition of an earlier one is implied by its own.
import type { PortMatch } from '#model/port.ts';
import type { Prefix } from '#net/prefix.ts';
import type { Direction, EntityMatch, Policy, PolicyRule } from '../policy.ts';
import type { Selector } from '../selector/selector.ts';
import type { Endpoint, WorldPolicy } from '../world/endpoint.ts';
import type { Entity } from '../world/entity.ts';
import type { World } from '../world/world.ts';

export type FindingKind =
  | 'selects-nothing'
  | 'matches-nothing'
  | 'port-not-served'
  | 'shadowed'
  | 'except-outside'
  | 'empty-nets'
  | 'no-such-tier'
  | 'no-such-service'
  | 'no-such-profile'
  | 'no-effect';

export interface Finding {
  readonly kind: FindingKind;
  /** `Kind/namespace/name`. */
  readonly resource: string;
  /** Path such as `spec.ingress[0].source`. */
  readonly field: string;
  readonly message: string;
}

export function lint(world: World): Finding[] {
  const findings: Finding[] = [];
  const entities = [...world.addresses.sets, ...[...world.endpoints.values()].map(({ entity }) => entity)];
  const tiers = new Map(world.tiers.map((tier) => [tier.name, tier]));
  for (const policy of world.policies) {
    const { data } = policy;
    const add = (kind: FindingKind, field: string, message: string): void => {
      findings.push({ kind, resource: data.id, field, message });
    };
    const selected = [...world.endpoints.values()].filter(({ policies }) => policies.includes(policy));
    if (selected.length === 0) add('selects-nothing', 'spec', `selects no endpoint: ${data.selector}`);
    if (tiers.get(data.tier)?.missing) {
      add('no-such-tier', 'spec.tier', `there is no Tier ${data.tier}: the policy comes last and ends in Deny`);
    }
    lintRules(policy, { world, entities, selected, add });
  }
  lintAcrossPolicies(world, findings);
  lintProfiles(world, findings);
  return findings;
}

interface Context {
  readonly world: World;
  readonly entities: readonly Entity[];
  /** The endpoints that the policy selects: whose ports a rule's own side means. */
  readonly selected: readonly Endpoint[];
  readonly add: (kind: FindingKind, field: string, message: string) => void;
}

function lintRules({ data }: WorldPolicy, context: Context): void {
  for (const direction of ['ingress', 'egress'] as const) {
    const rules = data[direction] ?? [];
    for (const rule of rules) {
      const field = `spec.${direction}[${rule.index}]`;
      for (const side of ['source', 'destination'] as const) {
        const own = (direction === 'ingress') === (side === 'destination');
        lintEntity(rule, rule[side], `${field}.${side}`, own, context);
      }
    }
    lintShadowed(rules, direction, data, context);
  }
}

function lintEntity(rule: PolicyRule, entity: EntityMatch, field: string, own: boolean, context: Context): void {
  const { world, entities, selected, add } = context;
  const { selector, notSelector, nets, notNets, service } = entity;
  for (const asked of [selector, notSelector]) {
    if (asked && !entities.some((one) => asked.matchesLookup(one.lookup))) {
      add('matches-nothing', field, `${asked} matches no endpoint and no network set`);
    }
  }
  for (const port of [...entity.ports, ...entity.notPorts]) {
    if (typeof port !== 'string') continue;
    const asked = own ? selected : [...world.endpoints.values()];
    if (!asked.some((endpoint) => serves(endpoint, port, rule.protocol, selector))) {
      add('port-not-served', field, `no endpoint that the rule can mean serves a port called ${port}`);
    }
  }
  for (const not of nets.length > 0 ? notNets : []) {
    if (!nets.some((net) => net.overlaps(not))) add('except-outside', field, `${not} lies outside ${nets.join(', ')}`);
  }
  for (const net of nets) {
    if (notNets.some((not) => not.covers(net))) add('empty-nets', field, `of ${net} the exceptions leave nothing`);
  }
  if (service && !world.services.has(`${service.namespace}/${service.name}`)) {
    add('no-such-service', field, `there is no Service ${service.namespace}/${service.name}`);
  }
}

function serves({ data, entity }: Endpoint, name: string, protocol: number | null, selector: Selector | null): boolean {
  if (selector && !selector.matchesLookup(entity.lookup)) return false;
  return data.ports.some((port) => port.name === name && (protocol === null || port.protocol === protocol));
}

/** Rules that a rule before them always decides. One written rule may be several here: it is shadowed when all of them are. */
function lintShadowed(rules: readonly PolicyRule[], direction: Direction, data: Policy, { add }: Context): void {
  const written = Map.groupBy(rules, ({ index }) => index);
  const allowOnly = data.kind.includes('KubernetesNetworkPolicy');
  for (const [index, parts] of written) {
    // Kubernetes' rules have no order, but a rule inside another one is as useless there.
    const before = rules.filter((other) => other.action !== 'log' && other.index < index);
    const after = allowOnly ? rules.filter((other) => other.index > index) : [];
    const by = parts.map(
      (part) => before.find((other) => covers(other, part)) ?? after.find((other) => strictly(other, part)),
    );
    if (by.length === 0 || !by.every((other) => other !== undefined)) continue;
    const names = [...new Set(by.map((other) => other.index))].join(', ');
    add(
      'shadowed',
      `spec.${direction}[${index}]`,
      `is never reached: rule ${names} already decides all that it matches`,
    );
  }
}

function strictly(wide: PolicyRule, narrow: PolicyRule): boolean {
  return covers(wide, narrow) && !covers(narrow, wide);
}

/** A policy whose every endpoint meets, earlier in the same tier, a rule that decides everything. */
function lintAcrossPolicies(world: World, findings: Finding[]): void {
  for (const direction of ['ingress', 'egress'] as const) {
    const closed = new Map<string, { by: Policy; selector: string }[]>();
    for (const { data } of world.policies) {
      const rules = data[direction];
      if (!rules || data.staged || data.untracked || data.preDnat) continue;
      const list = closed.get(data.tier) ?? [];
      const earlier = list.find(({ selector }) => selector === 'all()' || selector === data.selector.canonical);
      const unordered = data.kind === 'KubernetesNetworkPolicy' && earlier?.by.kind === data.kind;
      if (earlier && rules.length > 0 && !unordered) {
        findings.push({
          kind: 'shadowed',
          resource: data.id,
          field: `spec.${direction}`,
          message: `is never reached: ${earlier.by.id} decides everything before it`,
        });
      }
      if (rules.some((rule) => rule.action !== 'log' && isCatchAll(rule))) {
        list.push({ by: data, selector: data.selector.canonical });
        closed.set(data.tier, list);
      }
    }
  }
}

function lintProfiles(world: World, findings: Finding[]): void {
  for (const { data } of world.endpoints.values()) {
    for (const name of data.profiles) {
      // A service account's profile hands labels down and allows nothing, so its absence denies only what nothing allowed before.
      if (world.profiles.has(name) || name.startsWith('ksa.')) continue;
      findings.push({
        kind: 'no-such-profile',
        resource: data.id,
        field: 'spec.profiles',
        message: `there is no Profile ${name}: it denies what no tier decided`,
      });
    }
  }
}

function isCatchAll(rule: PolicyRule): boolean {
  const { ipVersion, protocol, notProtocol, icmp, notIcmp } = rule;
  const plain = ipVersion === null && protocol === null && notProtocol === null && !icmp && !notIcmp;
  return plain && isAnything(rule.source) && isAnything(rule.destination);
}

function isAnything(entity: EntityMatch): boolean {
  return Object.values(entity).every((value) => value === null || (Array.isArray(value) && value.length === 0));
}

/** Whether whatever `narrow` matches, `wide` matches too. Says no when it cannot tell. */
function covers(wide: PolicyRule, narrow: PolicyRule): boolean {
  const same = (a: unknown, b: unknown): boolean => a === null || JSON.stringify(a) === JSON.stringify(b);
  return (
    same(wide.ipVersion, narrow.ipVersion) &&
    same(wide.protocol, narrow.protocol) &&
    same(wide.notProtocol, narrow.notProtocol) &&
    same(wide.icmp, narrow.icmp) &&
    same(wide.notIcmp, narrow.notIcmp) &&
    coversEntity(wide.source, narrow.source) &&
    coversEntity(wide.destination, narrow.destination)
  );
}

function coversEntity(wide: EntityMatch, narrow: EntityMatch): boolean {
  const sameSelector = (a: Selector | null, b: Selector | null): boolean =>
    a === null || a.canonical === b?.canonical || (a.isAll() && b !== null);
  return (
    coversNets(wide.nets, narrow.nets) &&
    wide.notNets.every((not) => narrow.notNets.some((other) => other.covers(not))) &&
    sameSelector(wide.selector, narrow.selector) &&
    (wide.notSelector === null || wide.notSelector.canonical === narrow.notSelector?.canonical) &&
    coversPorts(wide.ports, narrow.ports) &&
    wide.notPorts.every((not) => coversPorts(narrow.notPorts, [not]) && narrow.notPorts.length > 0) &&
    (wide.service === null || JSON.stringify(wide.service) === JSON.stringify(narrow.service)) &&
    (wide.nodes === null || wide.nodes.canonical === narrow.nodes?.canonical)
  );
}

function coversNets(wide: readonly Prefix[], narrow: readonly Prefix[]): boolean {
  if (wide.length === 0) return true;
  return narrow.length > 0 && narrow.every((net) => wide.some((other) => other.covers(net)));
}

function coversPorts(wide: readonly PortMatch[], narrow: readonly PortMatch[]): boolean {
  if (wide.length === 0) return true;
  return (
    narrow.length > 0 &&
    narrow.every((port) =>
      wide.some((other) => {
        if (typeof port === 'string' || typeof other === 'string') return port === other;
        return other.min <= port.min && port.max <= other.max;
      }),
    )
  );
}
