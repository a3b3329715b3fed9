import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { silentLogger } from '#base/log.ts';
import { MetricsServer } from './metrics-server.ts';

const HERE = { listen: '127.0.0.1', port: 0, log: silentLogger };

describe('MetricsServer', () => {
  it('serves metrics and nothing else', async () => {
    let metrics = () => Promise.resolve('brindle_ready 1\n');
    const server = new MetricsServer({ ...HERE, metrics: () => metrics() });
    try {
      const base = `http://127.0.0.1:${await server.start()}`;
      const answer = await fetch(`${base}/metrics`);
      assert.equal(await answer.text(), 'brindle_ready 1\n');
      assert.match(answer.headers.get('content-type')!, /^text\/plain/);
      assert.equal((await fetch(`${base}/v1/ipam/drain`, { method: 'POST' })).status, 404);
      assert.equal((await fetch(`${base}/metrics`, { method: 'POST' })).status, 404);
      metrics = () => Promise.reject(new Error('away'));
      assert.equal((await fetch(`${base}/metrics`)).status, 500);
    } finally {
      server.stop();
    }
  });
  it('goes without when the port is taken', async () => {
    const metrics = () => Promise.resolve('');
    const first = new MetricsServer({ ...HERE, metrics });
    const port = await first.start();
    const second = new MetricsServer({ ...HERE, port: port!, metrics });
    assert.equal(await second.start(), null);
    second.stop();
    first.stop();
  });
});
