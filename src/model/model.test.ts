import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseManifest } from './manifest.ts';
import { editDistance, nearest } from './nearest.ts';
import { InvalidResourceError } from './problems.ts';
import { displayName, findKind, KINDS, parseResource, requireKind, warningsOf } from './registry.ts';
import { keyOf, keyText, kindKey } from './resource.ts';
import { type JsonSchema, jsonSchema } from './schema.ts';

function pool(spec: object, metadata: object = {}): unknown {
  return { apiVersion: 'projectcalico.org/v3', kind: 'IPPool', metadata: { name: 'a', ...metadata }, spec };
}

function problems(value: unknown): string[] {
  try {
    parseResource(value);
  } catch (error) {
    assert.ok(error instanceof InvalidResourceError, String(error));
    assert.equal(error.code, 'invalid-resource');
    return error.parts.flatMap((part) => part.problems.map((p) => `${p.field}: ${p.reason}; ${p.remedy ?? ''}`));
  }
  return [];
}

describe('parseResource', () => {
  it('fills defaults and leaves server-side metadata behind', () => {
    const resource = parseResource(
      pool(
        { cidr: '10.0.0.0/16', natOutgoing: null },
        {
          uid: 'u',
          resourceVersion: '7',
          creationTimestamp: null,
          generation: 1,
          managedFields: [{}],
          ownerReferences: [],
          finalizers: ['x'],
        },
      ),
    );
    assert.deepEqual(resource.metadata, { name: 'a', uid: 'u', resourceVersion: '7' });
    assert.deepEqual(resource.spec, {
      cidr: '10.0.0.0/16',
      disabled: false,
      natOutgoing: false,
      disableBGPExport: false,
      nodeSelector: 'all()',
      allowedUses: ['Workload', 'Tunnel'],
      assignmentMode: 'Automatic',
      ipipMode: 'Never',
      vxlanMode: 'Never',
      blockSize: 26,
    });
    assert.deepEqual(parseResource(resource), resource, 'parsing again changes nothing');
  });
  it('names every problem with its field and remedy', () => {
    const found = problems(
      pool(
        { cird: '10.0.0.1/16', blockSize: '26', allowedUses: ['workload'], disabled: 'true', nodeSelector: 5 },
        { name: 'A_b', namespace: 'x', labels: { a: 1, b: 'c d' } },
      ),
    ).join('\n');
    assert.match(found, /metadata\.name: "A_b" is not a valid name.*write a-b/);
    assert.match(found, /metadata\.namespace: this kind belongs to no namespace/);
    assert.match(found, /metadata\.labels: value of "a" must be a text.*put it in quotes/);
    assert.match(found, /metadata\.labels: value "c d"/);
    assert.match(found, /spec\.cird: is an unknown field; did you mean cidr\?/);
    assert.match(found, /spec\.blockSize: must be a whole number.*leave out the quotes/);
    assert.match(found, /spec\.allowedUses\[0\]: "workload" is not one of.*did you mean Workload\?/);
    assert.match(found, /spec\.disabled: must be true or false/);
    assert.match(found, /spec\.nodeSelector: must be a text.*"5"/);
    assert.doesNotMatch(found, /cidr: is required/, 'the misspelt field is not reported twice');
  });
  it('names the nearest kind and version', () => {
    assert.match(problems({ apiVersion: 'projectcalico.org/v3', kind: 'IPPol' })[0]!, /did you mean IPPool/);
    assert.match(
      problems({ apiVersion: 'crd.projectcalico.org/v1', kind: 'IPPool' })[0]!,
      /write projectcalico.org\/v3/,
    );
    assert.match(problems({})[0]!, /kind: is required/);
    assert.match(problems([])[0]!, /must be a set of fields/);
    assert.match(problems(null)[0]!, /not nothing/);
  });
  it('never throws anything but its own error, and never changes its input', () => {
    fc.assert(
      fc.property(fc.object({ maxDepth: 3 }), fc.anything(), (spec, metadata) => {
        for (const kind of KINDS) {
          const value = { apiVersion: kind.apiVersion, kind: kind.kind, metadata, spec };
          const before = structuredClone(value);
          try {
            parseResource(value);
          } catch (error) {
            assert.ok(error instanceof InvalidResourceError, String(error));
          }
          assert.deepEqual(value, before);
        }
      }),
      { numRuns: 50 },
    );
  });
});

/** Kubernetes' rules for structural schemas, as far as our builders could break them. */
function checkStructural(schema: JsonSchema, path: string): void {
  const free = schema['x-kubernetes-int-or-string'] ?? schema['x-kubernetes-preserve-unknown-fields'];
  assert.ok(free || schema.type, `${path} has no type`);
  for (const keyword of ['anyOf', 'const', 'patternProperties', '$ref'])
    assert.ok(!(keyword in schema), `${path} uses ${keyword}`);
  assert.ok(
    !(schema.properties && typeof schema.additionalProperties === 'object'),
    `${path} has both kinds of properties`,
  );
  for (const [key, inner] of Object.entries(schema.properties ?? {})) checkStructural(inner, `${path}.${key}`);
  if (typeof schema.additionalProperties === 'object') checkStructural(schema.additionalProperties, `${path}.*`);
  if (schema.type === 'array') checkStructural(schema.items ?? {}, `${path}[]`);
}

describe('kinds', () => {
  it('have names that do not collide', () => {
    const seen = new Map<string, string>();
    for (const kind of KINDS) {
      const group = kind.apiVersion.includes('/') ? kind.apiVersion.split('/')[0]! : 'core';
      const names = new Set([kind.kind.toLowerCase(), kind.plural, kind.singular, ...kind.shortNames]);
      for (const name of names) {
        // Kubernetes' own NetworkPolicy shares its name with Calico's; the bare word means Calico's.
        if (findKind(name) !== kind) {
          assert.equal(findKind(`${name}.${group}`), kind, `${kind.kind} cannot be found as ${name}`);
          continue;
        }
        assert.ok(!seen.has(name), `${name} is ${seen.get(name)} and ${kind.kind}`);
        seen.set(name, kind.kind);
      }
    }
    const keys = KINDS.map((k) => kindKey(k.apiVersion, k.kind));
    assert.equal(new Set(keys).size, keys.length);
  });
  it('have schemas that a CRD can carry as they are', () => {
    for (const kind of KINDS) {
      assert.deepEqual(JSON.parse(JSON.stringify(kind.spec)), { ...kind.spec }, `${kind.kind}: plain JSON`);
      checkStructural(jsonSchema(kind.spec), `${kind.kind}.spec`);
      if (kind.status) checkStructural(jsonSchema(kind.status), `${kind.kind}.status`);
    }
  });
  it('are found by any of their names', () => {
    for (const word of ['IPPool', 'ippool', 'ippools', 'pool', 'ippools.projectcalico.org'])
      assert.equal(findKind(word)?.kind, 'IPPool');
    assert.equal(findKind('endpoints')?.kind, 'WorkloadEndpoint');
    assert.equal(findKind('endpoints.core')?.kind, 'Endpoints');
    assert.equal(findKind('node')?.apiVersion, 'projectcalico.org/v3');
    assert.throws(() => requireKind('ippols'), /did you mean|no kind/);
  });
});

describe('IPPool', () => {
  it('checks its cidr and block size', () => {
    assert.match(problems(pool({ cidr: '10.0.0.1/16' }))[0]!, /host bits.*write 10.0.0.0\/16/);
    assert.match(problems(pool({ cidr: '10.0.0.0' }))[0]!, /not a CIDR/);
    assert.match(problems(pool({ cidr: '169.254.1.0/24' }))[0]!, /link-local/);
    assert.match(problems(pool({ cidr: '10.0.0.0/27', blockSize: 26 }))[0]!, /larger than the pool.*27 or more/);
    assert.match(problems(pool({ cidr: 'fd00::/64', blockSize: 26 }))[0]!, /116 to 128/);
    assert.match(problems(pool({ cidr: '10.0.0.0/16', blockSize: 122 }))[0]!, /20 to 32/);
    assert.equal((parseResource(pool({ cidr: 'fd00::/64' })).spec as { blockSize: number }).blockSize, 122);
    assert.equal((parseResource(pool({ cidr: '10.0.0.0/28' })).spec as { blockSize: number }).blockSize, 28);
  });
  it('takes Calico pools with tunnels and warns', () => {
    const parsed = parseResource(pool({ cidr: '10.0.0.0/16', ipipMode: 'Always' }));
    assert.match(warningsOf(parsed)[0]!.reason, /no effect/);
  });
  it('refuses overlaps and changes of what leases hang on', () => {
    const kind = findKind('ippool')!;
    const a = parseResource(pool({ cidr: '10.0.0.0/16' }));
    const found: string[] = [];
    const collect = { add: (field: string, reason: string) => found.push(`${field} ${reason}`) } as never;
    kind.validateAgainst?.(parseResource(pool({ cidr: '10.0.128.0/17' }, { name: 'b' })), [a], collect);
    kind.validateUpdate?.(parseResource(pool({ cidr: '10.1.0.0/16', blockSize: 27 })), a, collect);
    assert.match(found[0]!, /overlaps 10.0.0.0\/16 of IPPool\/a/);
    assert.match(found[1]!, /spec.cidr cannot change/);
    assert.match(found[2]!, /spec.blockSize cannot change/);
  });
});

describe('parseManifest', () => {
  it('reads several documents, lists and typed lists', () => {
    const text = `---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: a, creationTimestamp: 2024-01-01T00:00:00Z}
spec: {cidr: 10.0.0.0/16}
---
# nothing here
---
apiVersion: v1
kind: List
items:
- apiVersion: projectcalico.org/v3
  kind: IPPool
  metadata: {name: b}
  spec: {cidr: 10.1.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: IPPoolList
metadata: {resourceVersion: "5"}
items:
- metadata: {name: c}
  spec: {cidr: 10.2.0.0/16}
`;
    const found = parseManifest(text, 'f.yaml');
    assert.deepEqual(
      found.map((f) => f.resource.metadata.name),
      ['a', 'b', 'c'],
    );
    assert.equal(found[0]!.source, 'f.yaml, line 2');
    assert.match(found[1]!.source, /item 1/);
  });
  it('tells the line of a YAML error and all invalid documents at once', () => {
    assert.throws(() => parseManifest('a: 1\nb: [\n', 'f.yaml'), /f\.yaml, line \d/);
    assert.throws(() => parseManifest('a: 1\na: 2\n', 'f.yaml'), /line 2.*unique/i);
    assert.throws(
      () => parseManifest('kind: X\napiVersion: y\n---\nkind: IPPool\napiVersion: projectcalico.org/v3\n', 'f.yaml'),
      (e: Error) => /line 1/.test(e.message) && /line 4/.test(e.message),
    );
  });
});

describe('keys', () => {
  it('keep kinds of other groups apart', () => {
    const metadata = { name: 'n', namespace: 's' };
    assert.equal(
      keyText(keyOf({ apiVersion: 'projectcalico.org/v3', kind: 'NetworkPolicy', metadata })),
      'NetworkPolicy/s/n',
    );
    assert.equal(
      keyText(keyOf({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata })),
      'NetworkPolicy.networking.k8s.io/s/n',
    );
    assert.equal(displayName(parseResource(pool({ cidr: '10.0.0.0/16' }))), 'ippool.projectcalico.org/a');
  });
});

describe('nearest', () => {
  it('finds slips and beginnings, and stays silent otherwise', () => {
    assert.equal(editDistance('cidr', 'cird'), 1);
    assert.equal(nearest('natoutgoin', ['natOutgoing', 'disabled']), 'natOutgoing');
    assert.equal(nearest('natO', ['natOutgoing']), 'natOutgoing');
    assert.equal(nearest('zzz', ['natOutgoing', 'cidr']), null);
  });
});
