import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseAgentConfig } from '#model/agent-config.ts';
import { storeAt } from '../config.ts';
import { parseEndpoints } from './config.ts';
import { decodeValue, encodeValue, endOf, Keys } from './keys.ts';

describe('etcd configuration', () => {
  it('reads endpoints', () => {
    assert.deepEqual(parseEndpoints({ endpoints: ['10.0.0.1', 'http://etcd.example:23', '[fd00::1]:2379'] }), [
      { address: '10.0.0.1:2379', tls: false },
      { address: 'etcd.example:23', tls: false },
      { address: '[fd00::1]:2379', tls: false },
    ]);
    assert.equal(parseEndpoints({ endpoints: ['a:1'], ca: '/ca' })[0]?.tls, true);
    assert.equal(parseEndpoints({ endpoints: ['https://a:1'] })[0]?.tls, true);
  });

  it('names what is wrong', () => {
    const refuse = (config: object, field: string): void => {
      assert.throws(() => parseEndpoints(config as never), { code: 'invalid-argument', field: `store.etcd.${field}` });
    };
    refuse({ endpoints: [] }, 'endpoints');
    refuse({ endpoints: ['a:1', 'ftp://b'] }, 'endpoints[1]');
    refuse({ endpoints: ['a:99999'] }, 'endpoints[0]');
    refuse({ endpoints: ['http://a:1'], ca: '/ca' }, 'endpoints[0]');
    refuse({ endpoints: ['a:1'], cert: '/cert' }, 'cert');
    refuse({ endpoints: ['a:1'], username: 'u' }, 'username');
    assert.throws(() => parseAgentConfig({ store: { etcd: { endpoints: [] } } }, 'x', 'host'), /endpoints/);
    assert.throws(() =>
      parseAgentConfig({ store: { etcd: { endpoints: ['a'] }, embedded: { path: '/x' } } }, 'x', 'h'),
    );
  });

  it('is also one word', () => {
    assert.deepEqual(storeAt('etcd://a:1,b/other?ca=/ca.pem&username=u&passwordFile=/p'), {
      etcd: { endpoints: ['a:1', 'b'], prefix: '/other', ca: '/ca.pem', username: 'u', passwordFile: '/p' },
    });
    assert.deepEqual(storeAt('/x/store.db'), { embedded: { path: '/x/store.db' } });
    assert.throws(() => storeAt('etcd://a?password=x'), { code: 'invalid-argument', message: /password/ });
    assert.throws(() => storeAt('etcd://'), { field: 'store.etcd.endpoints' });
  });
});

describe('etcd keys and values', () => {
  it('keeps keys apart and reads them back', () => {
    const keys = new Keys('/brindle');
    const key = { kind: 'NetworkPolicy', namespace: 'a', name: 'b/c%2F' };
    assert.deepEqual(keys.parse(keys.key(key)), key);
    assert.equal(keys.key({ kind: 'IPPool', namespace: '', name: 'p' }).toString(), '/brindle/IPPool//p');
    assert.equal(keys.parse(Buffer.from('/brindle/IPPool')), null);
    assert.equal(keys.parse(Buffer.from('/brindle/IPPool//%')), null);
    assert.equal(keys.parse(Buffer.from('/other/IPPool//p')), null);
    assert.equal(endOf(Buffer.from('/a/')).toString(), '/a0');
    assert.deepEqual(endOf(Buffer.from([1, 255])), Buffer.from([2]));
  });

  it('refuses what it cannot read, and says so of what is newer', () => {
    const resource = { apiVersion: 'v1', kind: 'X', metadata: { name: 'n', resourceVersion: '1' }, spec: {} };
    const kv = (text: string) => ({ key: Buffer.from('/k'), value: Buffer.from(text), modRevision: 7 });
    const read = decodeValue(kv(encodeValue(resource, 'mark').toString()));
    assert.equal(read.write, 'mark');
    assert.equal(read.resource.metadata.resourceVersion, '7');
    for (const text of ['', 'null', '{}', '{"schema":1}', '{"schema":1,"resource":{"kind":"X"}}'])
      assert.throws(() => decodeValue(kv(text)), { code: 'corrupt', message: /\/k/ });
    assert.throws(() => decodeValue(kv('{"schema":2}')), { code: 'unsupported' });
  });
});
