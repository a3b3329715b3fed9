// What wiring and unwiring an endpoint cost, and what deletions do to additions that run at the same time.
// Run as root: node bench/endpoint-wiring.ts [endpoints, default 60]. Prints medians, and ratios taken in this one run.
import { silentLogger } from '#base/log.ts';
import { EndpointWiring } from '#dataplane/endpoint-wiring.ts';
import { prepareHost } from '#dataplane/host-settings.ts';
import { openKernelAccess } from '#dataplane/kernel-access.ts';
import { IpAddress } from '#net/address.ts';
import { type TestNetns, testNetns } from '../test/support/netns.ts';

const count = Number(process.argv[2] ?? 60);
using host = testNetns('host');
const containers: TestNetns[] = Array.from({ length: count }, () => testNetns('c'));
const spares: TestNetns[] = Array.from({ length: count }, () => testNetns('s'));
const kernel = openKernelAccess(host.path);
prepareHost(kernel.host, [4, 6]);
const wiring = new EndpointWiring(kernel, silentLogger);

const milliseconds = (run: () => void): number => {
  const start = performance.now();
  run();
  return performance.now() - start;
};
const quantile = (values: readonly number[], q: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))] ?? Number.NaN;
const show = (values: readonly number[]): string =>
  `p50 ${quantile(values, 0.5).toFixed(2)} ms, p95 ${quantile(values, 0.95).toFixed(2)} ms (${values.length})`;

function wire(namespace: TestNetns, name: string, octet: number, versions: readonly (4 | 6)[]): number {
  const texts = { 4: `10.65.${octet >> 8}.${octet & 255}`, 6: `fd65::${octet.toString(16)}` };
  const addresses = versions.map((version) => IpAddress.parse(texts[version]));
  const request = { netnsPath: namespace.path, containerInterface: 'eth0', hostInterface: name, addresses, mtu: 1500 };
  return milliseconds(() => wiring.wire(request));
}

const wireAll = (versions: readonly (4 | 6)[]): number[] =>
  containers.map((namespace, i) => wire(namespace, `cali${i}`, i + 1, versions));

/** Adds endpoints in the spare namespaces, a turn of the event loop apart, until the deletions are done. */
async function addMeanwhile(deletions: Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  const state = { busy: true };
  const done = deletions.then(() => {
    state.busy = false;
  });
  for (let i = 0; state.busy && i < spares.length; i++) {
    times.push(wire(spares[i]!, `calis${i}`, 1000 + i, [4, 6]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await done;
  for (let i = 0; i < times.length; i++) wiring.unwire(`calis${i}`);
  await wiring.idle();
  return times;
}

try {
  wireAll([4]);
  for (let i = 0; i < count; i++) wiring.unwire(`cali${i}`);
  await wiring.idle();

  const v4 = wireAll([4]);
  const unwire = containers.map((_, i) => milliseconds(() => wiring.unwire(`cali${i}`)));
  let start = performance.now();
  await wiring.idle();
  const group = performance.now() - start;
  const dual = wireAll([4, 6]);
  console.log(`wire, IPv4:            ${show(v4)}`);
  console.log(`wire, IPv4 and IPv6:   ${show(dual)}`);
  console.log(`unwire, caller's part: ${show(unwire)}`);
  console.log(`unwire, background:    ${group.toFixed(0)} ms for ${count} interfaces together`);

  const single = containers
    .slice(0, 10)
    .map((_, i) => milliseconds(() => kernel.host.netlink.execute([{ op: 'link-delete', link: `cali${i}` }])));
  console.log(`delete one by one:     ${show(single)}`);
  const ratio = quantile(unwire, 0.5) / quantile(single, 0.5);
  console.log(`ratio, what the caller waits for, unwire to delete: ${ratio.toFixed(4)}`);
  for (let i = 10; i < count; i++) wiring.unwire(`cali${i}`);
  await wiring.idle();

  const alone = wireAll([4, 6]);
  console.log(`wire, undisturbed:             ${show(alone)}`);
  const names = containers.map((_, i) => `cali${i}`);
  start = performance.now();
  const oneByOne = names.slice(0, 10).map((link) => kernel.host.netlink.executeAsync([{ op: 'link-delete', link }]));
  const besideSingle = await addMeanwhile(Promise.all(oneByOne));
  console.log(
    `wire, beside 10 single deletes: ${show(besideSingle)}, deletes took ${(performance.now() - start).toFixed(0)} ms`,
  );
  start = performance.now();
  for (const name of names.slice(10)) wiring.unwire(name);
  const besideGroup = await addMeanwhile(wiring.idle());
  console.log(
    `wire, beside a group delete:    ${show(besideGroup)}, ${count - 10} deletes took ${(performance.now() - start).toFixed(0)} ms`,
  );
} finally {
  await wiring.idle();
  kernel.close();
  for (const namespace of [...containers, ...spares]) namespace.close();
}
