// Who may in: TLS with client certificates that are replaced, user and password, permission refused, a store that is away,
// a database that is full, moves between stores. Against one real member each.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { EmbeddedStore } from '#datastore/embedded/store.ts';
import { EtcdStore } from '#datastore/etcd/store.ts';
import { migrateStore } from '#datastore/migrate.ts';
import type { Resource } from '#model/resource.ts';
import { PATIENCE, startEtcd } from '../support/etcd.ts';
import { until } from '../support/netns.ts';

const folder = mkdtempSync(join(tmpdir(), `brindle-etcd-access-${process.pid}-`));
after(() => rmSync(folder, { recursive: true, force: true }));
const file = (name: string): string => join(folder, name);

const KEY = { kind: 'IPReservation', namespace: '', name: 'a' };
const thing = (name: string, kind = 'IPReservation'): Resource => ({
  apiVersion: 'projectcalico.org/v3',
  kind,
  metadata: { name },
  spec: {},
});

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: 'ignore', cwd: folder });
}

/** An authority, and a certificate for an address and as a client. */
function certificates(label: string, address = '127.0.0.1'): { ca: string; cert: string; key: string } {
  const [ca, caKey, cert, key] = ['ca', 'ca-key', 'cert', 'key'].map((part) => file(`${label}-${part}.pem`));
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  openssl('req', '-x509', ...curve, '-subj', `/CN=${label} authority`, '-keyout', caKey!, '-out', ca!);
  openssl('req', ...curve, '-subj', '/CN=agent', '-keyout', key!, '-out', file(`${label}.csr`));
  writeFileSync(file('san.cnf'), `subjectAltName=IP:${address}\nextendedKeyUsage=serverAuth,clientAuth\n`);
  const request = ['-in', file(`${label}.csr`), '-CA', ca!, '-CAkey', caKey!, '-CAcreateserial'];
  openssl('x509', '-req', ...request, '-days', '2', '-extfile', file('san.cnf'), '-out', cert!);
  return { ca: ca!, cert: cert!, key: key! };
}

describe('etcd: access', { timeout: 4 * PATIENCE }, () => {
  it('is encrypted and knows its clients; certificates that are replaced are read anew', async () => {
    const [old, young] = [certificates('old'), certificates('young')];
    const used = { ca: file('ca.pem'), cert: file('cert.pem'), key: file('key.pem') };
    const install = (set: typeof old): void => {
      for (const part of ['ca', 'cert', 'key'] as const) copyFileSync(set[part], used[part]);
    };
    install(old);
    await using etcd = await startEtcd({
      scheme: 'https',
      arguments: [
        ...['--cert-file', used.cert, '--key-file', used.key],
        ...['--trusted-ca-file', used.ca, '--client-cert-auth'],
      ],
      ctlArguments: ['--cacert', used.ca, '--cert', used.cert, '--key', used.key],
    });
    const endpoints = [etcd.endpoint];
    const store = new EtcdStore({ endpoints, ...used });
    const seen: string[] = [];
    await store.create(thing('a'));
    store.watch({
      fromRevision: 0,
      onEvents: (events) => seen.push(...events.map((e) => e.key.name)),
      onEnd: (error) => seen.push(String(error)),
    });
    await until('the watch tells', () => seen.includes('a'), PATIENCE);
    const stranger = new EtcdStore({ endpoints, ca: young.ca });
    await assert.rejects(stranger.get(KEY), { code: 'unavailable', message: /no secured connection/ });
    await stranger.close();

    await etcd.kill();
    install(young);
    etcd.start();
    await etcd.serving();
    await store.create(thing('b'));
    await until('the watch goes on', () => seen.includes('b'), PATIENCE);
    assert.deepEqual(seen, ['a', 'b']);
    await store.close();
    // The member reads its files anew too: a certificate for another address is not accepted.
    install(certificates('elsewhere', '127.0.0.9'));
    const deceived = new EtcdStore({ endpoints, ...used });
    await assert.rejects(deceived.get(KEY), { code: 'unavailable', message: /altnames/ });
    await deceived.close();
  });

  it('logs in, also again; says what to do when it is refused', async () => {
    await using etcd = await startEtcd({ ctlArguments: [] });
    const passwordFile = file('password');
    writeFileSync(passwordFile, 'secret\n');
    const endpoints = [etcd.endpoint];
    const before = new EtcdStore({ endpoints, username: 'brindle', passwordFile });
    assert.equal(await before.get(KEY), null, 'a password may come before authentication is switched on');
    await etcd.ctl('user', 'add', 'root:rootpass');
    await etcd.ctl('user', 'grant-role', 'root', 'root').catch(async () => {
      await etcd.ctl('role', 'add', 'root');
      await etcd.ctl('user', 'grant-role', 'root', 'root');
    });
    await etcd.ctl('user', 'add', 'brindle:secret');
    await etcd.ctl('role', 'add', 'brindle');
    await etcd.ctl('user', 'grant-role', 'brindle', 'brindle');
    await etcd.ctl('auth', 'enable');
    const root = ['--user', 'root:rootpass'];
    const refused = { code: 'permission', remedy: /grant-permission ROLE readwrite --prefix=true \/brindle\// };
    await assert.rejects(before.get(KEY), refused);
    const ends: unknown[] = [];
    before.watch({
      fromRevision: 0,
      onEvents: () => undefined,
      onEnd: (error) => ends.push((error as { code?: string }).code),
    });
    await until('the watch is refused', () => ends.length > 0, PATIENCE);
    assert.deepEqual(ends, ['permission']);
    await etcd.ctl(...root, 'role', 'grant-permission', 'brindle', 'readwrite', '--prefix=true', '/brindle/');
    await before.create(thing('a'));
    assert.ok(await before.get(KEY));
    const nobody = new EtcdStore({ endpoints });
    await assert.rejects(nobody.get(KEY), { code: 'permission', remedy: /store\.etcd\.username/ });
    writeFileSync(file('wrong'), 'guess');
    const wrong = new EtcdStore({ endpoints, username: 'brindle', passwordFile: file('wrong') });
    await assert.rejects(wrong.get(KEY), { code: 'permission', field: 'store.etcd.passwordFile' });
    const lost = new EtcdStore({ endpoints, username: 'brindle', passwordFile: file('nowhere') });
    await assert.rejects(lost.get(KEY), { code: 'not-found', field: 'store.etcd.passwordFile' });
    for (const store of [before, nobody, wrong, lost]) await store.close();
  });

  it('answers soon when nobody is there, and a full database says so', async () => {
    const away = new EtcdStore({ endpoints: ['127.0.0.1:1', '127.0.0.1:2'] });
    await assert.rejects(away.get(KEY), { code: 'unavailable', message: /does not answer/ });
    await away.close();
    await using etcd = await startEtcd({ arguments: ['--quota-backend-bytes', '2000000'] });
    const store = new EtcdStore({ endpoints: [etcd.endpoint] });
    await store.create(thing('a'));
    const large = (n: number): Resource => ({ ...thing(`large${n}`), spec: { text: 'x'.repeat(300_000) } });
    await assert.rejects(
      async () => {
        for (let n = 0; n < 20; n++) await store.create(large(n));
      },
      { code: 'unavailable', message: /full/, remedy: /alarm disarm/ },
    );
    assert.ok(await store.get(KEY), 'what is there can be read');
    await store.close();
  });

  it('gives and takes everything in a move between drivers', async () => {
    await using etcd = await startEtcd();
    const here = await EmbeddedStore.open({ path: file('from.db') });
    for (let n = 0; n < 700; n++) await here.create(thing(`r${n}`));
    await here.create(thing('x', 'KindOfTheFuture'));
    const there = new EtcdStore({ endpoints: [etcd.endpoint] });
    assert.deepEqual(await migrateStore(here, there), [
      { kind: 'IPReservation', copied: 700, present: 0 },
      { kind: 'KindOfTheFuture', copied: 1, present: 0 },
    ]);
    const back = await EmbeddedStore.open({ path: file('back.db') });
    await migrateStore(there, back);
    const bare = (list: { resources: readonly Resource[] }): unknown =>
      JSON.parse(JSON.stringify(list.resources, (key, value) => (key === 'resourceVersion' ? undefined : value)));
    assert.deepEqual(bare(await back.list('IPReservation')), bare(await here.list('IPReservation')));
    await there.create(thing('foreign'));
    await assert.rejects(migrateStore(here, there), { code: 'conflict', message: /IPReservation\/foreign/ });
    // What another writer has broken is an error, not a smaller move.
    await etcd.ctl('put', '/brindle/IPReservation//broken', 'no JSON');
    const fresh = await EmbeddedStore.open({ path: file('fresh.db') });
    await assert.rejects(migrateStore(there, fresh), { code: 'corrupt', message: /broken/ });
    for (const store of [here, there, back, fresh]) await store.close();
  });
});
