import assert from 'node:assert/strict';
import { it } from 'node:test';
import { FakeKernelAccess } from './fake-kernel-access.ts';
import { prepareHost, raiseNeighbourLimits } from './host-settings.ts';

const all = (kernel: FakeKernelAccess, names: readonly string[]) =>
  names.map((name) => kernel.host.readSysctl(name.split('.')));
const set = (kernel: FakeKernelAccess, values: Record<string, string>) =>
  kernel.host.setSysctls(Object.entries(values).map(([name, value]) => [name.split('.'), value] as const));

it('raises neighbour limits where they are lower, hardest first, and nowhere else', () => {
  const kernel = new FakeKernelAccess();
  assert.deepEqual(raiseNeighbourLimits(kernel.host), [], 'a namespace that has no such limits');
  set(kernel, {
    'ipv4.neigh.default.gc_thresh1': '128',
    'ipv4.neigh.default.gc_thresh2': '512',
    'ipv4.neigh.default.gc_thresh3': '1024',
    'ipv6.neigh.default.gc_thresh3': '65536',
  });
  assert.deepEqual(raiseNeighbourLimits(kernel.host), [
    'ipv4.neigh.default.gc_thresh3 = 16384',
    'ipv4.neigh.default.gc_thresh2 = 8192',
    'ipv4.neigh.default.gc_thresh1 = 4096',
  ]);
  assert.deepEqual(all(kernel, ['ipv4.neigh.default.gc_thresh3', 'ipv6.neigh.default.gc_thresh3']), ['16384', '65536']);
  assert.deepEqual(raiseNeighbourLimits(kernel.host), []);
});

it('keeps router advertisements working on uplinks when it switches IPv6 forwarding on', () => {
  const kernel = new FakeKernelAccess();
  kernel.host.netlink.execute([{ op: 'bridge-add', bridge: { name: 'uplink' } }]);
  set(kernel, { 'ipv6.conf.all.forwarding': '0', 'ipv6.conf.uplink.accept_ra': '1', 'ipv6.conf.lo.accept_ra': '0' });
  assert.deepEqual(prepareHost(kernel.host, [6]), ['ipv6.conf.uplink.accept_ra = 2', 'ipv6.conf.all.forwarding = 1']);
  assert.deepEqual(prepareHost(kernel.host, [6]), []);
});

it('touches only the IP versions in use', () => {
  const kernel = new FakeKernelAccess();
  set(kernel, { 'ipv4.ip_forward': '0', 'ipv6.conf.all.forwarding': '0' });
  assert.deepEqual(prepareHost(kernel.host, [4]), ['ipv4.ip_forward = 1']);
});
