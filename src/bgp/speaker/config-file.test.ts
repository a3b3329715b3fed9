import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isBrindleError } from '#base/errors.ts';
import { parseSpeakerFile } from './config-file.ts';

const HEAD = 'routerId: 10.9.0.1\nasNumber: 65000\n';

describe('speaker file', () => {
  it('reads the documented form, with its defaults', () => {
    const file = parseSpeakerFile(`
routerId: 10.9.0.1
asNumber: 65000
listen: [{address: 10.9.0.1, port: 1179}, {address: fd00::1}]
networks: [10.1.0.0/16, {prefix: fd01::/48, communities: [no-export]}]
peers:
  - {name: tor, address: 10.9.0.254, asNumber: 65100}
  - {address: 10.9.0.2, asNumber: 65000, families: [ipv4, ipv6], routeReflectorClient: true, addPaths: true,
     ttlSecurity: true, bfd: true, maxPrefixes: 1000, password: secret, holdTime: 9, passive: true,
     localAddress: 10.9.0.1, import: none, export: mine}
peerRanges: [{prefix: 10.10.0.0/16, asNumber: 65000}]
filters: {mine: {exportV4: [{action: Accept, cidr: 10.1.0.0/16, matchOperator: In}, {action: Reject}]}}
kernel: {install: false}
api: /run/speaker.sock`);
    assert.deepEqual(file.config.listen, [
      { address: '10.9.0.1', port: 1179 },
      { address: 'fd00::1', port: 179 },
    ]);
    const [external, internal] = file.config.peers;
    assert.deepEqual(external, {
      name: 'tor',
      address: '10.9.0.254',
      asNumber: 65100,
      families: ['ipv4'],
      import: 'none', // RFC 8212
      export: 'none',
    });
    assert.deepEqual(internal, {
      name: '10.9.0.2',
      address: '10.9.0.2',
      asNumber: 65000,
      localAddress: '10.9.0.1',
      passive: true,
      password: 'secret',
      holdTime: 9,
      families: ['ipv4', 'ipv6'],
      import: 'none',
      export: { filters: ['mine'], otherwise: 'all' },
      routeReflectorClient: true,
      addPaths: 'both',
      ttlSecurity: 1,
      bfd: true,
      maxPrefixes: { limit: 1000, action: 'reset', restartSeconds: 60 },
    });
    assert.deepEqual(file.config.peerRanges, [
      {
        name: '10.10.0.0/16',
        prefix: '10.10.0.0/16',
        asNumber: 65000,
        families: ['ipv4'],
        import: 'all',
        export: 'all',
      },
    ]);
    assert.equal(file.networks.length, 2);
    assert.equal(file.kernelInstall, false);
    assert.equal(file.api, '/run/speaker.sock');
  });

  it('says where the error is and what to write instead', () => {
    const cases: [text: string, field: string, words: RegExp][] = [
      [`${HEAD}peer: []`, 'peer', /unknown key "peer".*|peers/],
      [`${HEAD}peers: [{adress: 10.0.0.1, asNumber: 1}]`, 'peers[0].adress', /unknown key/],
      [`${HEAD}peers: [{address: 10.0.0.1}]`, 'peers[0].asNumber', /is missing/],
      [`${HEAD}peers: [{address: 10.0.0.300, asNumber: 1}]`, 'peers[0].address', /not an IP address/],
      [`${HEAD}peers: [{address: 10.0.0.1, asNumber: 0}]`, 'peers[0].asNumber', /not in 1/],
      [`${HEAD}peers: [{address: 10.0.0.1, asNumber: 1, holdTime: 2}]`, 'peers[0].holdTime', /not a hold time/],
      [`${HEAD}peers: [{address: 10.0.0.1, asNumber: 1, families: [ipv5]}]`, 'peers[0].families[0]', /not known/],
      [`${HEAD}peers: [{address: 10.0.0.1, asNumber: 1, ttlSecurity: 1, multihop: 3}]`, 'peers[0].multihop', /both/],
      [
        `${HEAD}peers: [{name: a, address: 10.0.0.1, asNumber: 1}, {name: a, address: 10.0.0.2, asNumber: 1}]`,
        'peers[1].name',
        /two peers/,
      ],
      [`${HEAD}networks: [10.1.2.3/16]`, 'networks[0]', /host bits/],
      [
        `${HEAD}networks: [{prefix: 10.1.0.0/16, communities: ["70000:1"]}]`,
        'networks[0].communities',
        /not a community/,
      ],
      ['asNumber: 1', 'routerId', /is missing/],
      ['routerId: 0.0.0.0\nasNumber: 1', 'routerId', /not a router id/],
      ['- 1', 'the file', /not a mapping/],
    ];
    for (const [text, field, words] of cases) {
      assert.throws(
        () => parseSpeakerFile(text),
        (error) => isBrindleError(error, 'invalid-argument') && error.field === field && words.test(error.message),
        text,
      );
    }
    assert.throws(
      () => parseSpeakerFile(`${HEAD}peers: [{adress: 10.0.0.1, asNumber: 1}]`),
      (error) => isBrindleError(error) && error.remedy === 'did you mean "address"?',
    );
    assert.throws(() => parseSpeakerFile('a: ['), /not YAML/);
  });
});
