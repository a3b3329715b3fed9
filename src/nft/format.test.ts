import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isBrindleError } from '#base/errors.ts';
import { parseNftError } from '#sys/libnftables.ts';
import * as format from './format.ts';
import { parseListing } from './listing.ts';
import type { SetSpec } from './objects.ts';
import { makeRule } from './rule.ts';
import { Transaction } from './transaction.ts';

const HOSTS: SetSpec = { name: 'hosts', key: ['ipv4'] };
const refusal = (error: unknown) => isBrindleError(error, 'invalid-argument');

describe('nft text', () => {
  it('takes names that nft takes and no others', () => {
    assert.equal(format.identifier('ingress/NetworkPolicy/ns/a.b-c_d'), 'ingress/NetworkPolicy/ns/a.b-c_d');
    for (const bad of ['', '1a', 'a b', 'a;b', 'a{', 'a"', 'a\nb', 'a$b', 'x'.repeat(256), '-a', '@a', 'é']) {
      assert.throws(() => format.identifier(bad), refusal, bad);
    }
    assert.equal(format.interfaceName('cali*'), '"cali*"');
    for (const bad of ['', 'a b', 'a"b', 'a/b', 'x'.repeat(16), 'a;b', 'a*b']) {
      assert.throws(() => format.interfaceName(bad), refusal, bad);
    }
  });

  it('never lets a value end a command', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (name, value) => {
        const tx = new Transaction('t');
        tx.addTable()
          .addChain({ name })
          .addElements(HOSTS, [value])
          .addRule('c', makeRule(value, [{ type: 'counter' }]));
        tx.addRule('c', makeRule('x', [{ type: 'log', prefix: 'p' }]));
        for (const line of tx.toString().split('\n')) {
          assert.match(line, /^add (table inet t$|(chain|element|rule) inet t [\w./-]+($| [\x20-\x7e]*$))/);
          assert.equal((line.match(/"/g) ?? []).length % 2, 0);
        }
      }),
    );
  });

  it('keeps the first error of a transaction, with its owner, and writes nothing behind it', () => {
    const tx = new Transaction('t')
      .for('a')
      .addTable()
      .for('b')
      .addChain({ name: 'no good' })
      .for('c')
      .addChain({ name: '1' });
    assert.match(tx.error?.message ?? '', /no good/);
    assert.equal(tx.errorOwner, 'b');
    assert.equal(tx.toString(), 'add table inet t');
  });

  it('tells rules apart by their comment', () => {
    const a = makeRule('policy ingress 0', [{ type: 'counter' }, { type: 'accept' }]);
    const b = makeRule('policy ingress 0', [{ type: 'counter' }, { type: 'drop' }]);
    assert.notEqual(a.comment, b.comment);
    assert.match(a.comment, /^policy ingress 0 #[0-9a-f]{12}$/);
    const long = makeRule(`${'n'.repeat(400)} ingress 7`, [{ type: 'counter' }]).comment;
    assert.equal(long.length <= format.COMMENT_MAX, true);
    assert.match(long, /^\.\.n+ ingress 7 #/);
    assert.match(makeRule('a"b\\c', [{ type: 'counter' }]).comment, /^a\?b\?c #/);
  });

  it('refuses what does not fit its field', () => {
    const tries: (() => unknown)[] = [
      () => format.element(HOSTS, 'fd00::1'),
      () => format.element(HOSTS, '10.0.0.1 . 6'),
      () => format.element({ name: 'p', key: ['ipv4', 'protocol', 'port'] }, '10.0.0.1 . 6 . 65536'),
      () => format.statements([]),
      () => format.statements([{ type: 'port', side: 'source', ranges: [{ min: 5, max: 4 }] }]),
      () => format.statements([{ type: 'protocol', protocols: [256] }]),
      () => format.statements([{ type: 'address', family: 4, side: 'source', prefixes: [] }]),
      () => format.statements([{ type: 'set-mark', mask: 1, value: 2 }]),
      () => format.statements([{ type: 'log', prefix: '"; flush ruleset; "' }]),
    ];
    for (const attempt of tries) assert.throws(attempt, refusal);
  });

  it('reads errors of libnftables with and without a position', () => {
    const told = parseNftError('/tmp/x:2:5-9: Error: No such file\nadd rule x\n    ^^^^^\n', 'add a\nadd rule x');
    assert.deepEqual([told.position, told.command], [{ line: 2, column: 5 }, 'add rule x']);
    assert.equal(parseNftError('Error: odd\nadd x\n^^^\n', 'add x').position?.column, 1);
    assert.equal(parseNftError('', 'a').position, null);
  });

  it('marks sets that it cannot read', () => {
    const set = (elem: unknown) =>
      parseListing(JSON.stringify({ nftables: [{ set: { name: 's', type: 'ipv4_addr', elem } }] })).sets.get('s');
    assert.equal(set([{ range: ['10.0.0.1', '10.0.0.5'] }])?.foreign, true);
    assert.deepEqual(
      [...(set(['10.0.0.1', { prefix: { addr: '10.1.0.0', len: 16 } }])?.elements ?? [])],
      ['10.0.0.1', '10.1.0.0/16'],
    );
    assert.throws(
      () => parseListing('nonsense'),
      (error) => isBrindleError(error, 'kernel'),
    );
  });
});
