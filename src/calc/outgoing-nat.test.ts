import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Resource } from '#model/resource.ts';
import { CalcGraph } from './graph.ts';
import type { NatExclusions } from './outgoing-nat.ts';

const API = 'projectcalico.org/v3';

function pool(name: string, cidr: string, natOutgoing: boolean, disabled = false): Resource {
  return { apiVersion: API, kind: 'IPPool', metadata: { name }, spec: { cidr, natOutgoing, disabled } };
}

function node(name: string, ipv4Address: string): Resource {
  return { apiVersion: API, kind: 'Node', metadata: { name }, spec: { bgp: { ipv4Address } } };
}

function graph(natExclusions?: NatExclusions) {
  const calc = new CalcGraph({
    hostName: 'h1',
    implicitNamespaces: true,
    ...(natExclusions !== undefined && { natExclusions }),
  });
  const pools = () => calc.flush().flatMap((update) => (update.type === 'pools' ? [update.pools] : []));
  return { calc, pools };
}

describe('outgoing NAT', () => {
  it('says nothing while no pool is translated', () => {
    const { calc, pools } = graph('IPPoolsAndHostIPs');
    calc.update(pool('a', '10.1.0.0/16', false));
    calc.update(node('h1', '192.0.2.1/24'));
    assert.deepEqual(pools(), []);
  });
  it('counts every pool as inside, disabled ones too', () => {
    const { calc, pools } = graph();
    calc.update(pool('b', 'fd00::/48', true));
    calc.update(pool('a', '10.1.0.0/16', true));
    calc.update(pool('c', '10.2.0.0/16', false, true));
    calc.update(node('h1', '192.0.2.1/24'));
    assert.deepEqual(pools(), [
      { masqueraded: ['10.1.0.0/16', 'fd00::/48'], direct: ['10.1.0.0/16', '10.2.0.0/16', 'fd00::/48'] },
    ]);
    calc.update(pool('a', '10.1.0.0/16', true));
    assert.deepEqual(pools(), []);
    calc.update(pool('a', '10.1.0.0/16', false));
    calc.remove({ kind: 'IPPool', namespace: '', name: 'b' });
    assert.deepEqual(pools(), [{ masqueraded: [], direct: [] }]);
  });
  it('leaves hosts out when told so', () => {
    const { calc, pools } = graph('IPPoolsAndHostIPs');
    calc.update(pool('a', '10.1.0.0/16', true));
    calc.update(node('h1', '192.0.2.1/24'));
    calc.update(node('h2', '192.0.2.2/24'));
    assert.deepEqual(pools(), [
      { masqueraded: ['10.1.0.0/16'], direct: ['10.1.0.0/16', '192.0.2.1/32', '192.0.2.2/32'] },
    ]);
    calc.remove({ kind: 'Node', namespace: '', name: 'h2' });
    assert.deepEqual(pools(), [{ masqueraded: ['10.1.0.0/16'], direct: ['10.1.0.0/16', '192.0.2.1/32'] }]);
  });
  it('reports a pool that cannot be read, and goes on with the others', () => {
    const { calc, pools } = graph();
    calc.update(pool('a', '10.1.0.0/16', true));
    calc.update(pool('bad', 'nonsense', true));
    assert.deepEqual(pools(), [{ masqueraded: ['10.1.0.0/16'], direct: ['10.1.0.0/16'] }]);
    assert.equal(calc.problems.length, 1);
  });
});
