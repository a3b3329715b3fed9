import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { IpAddress } from '#net/address.ts';
import { Prefix } from '#net/prefix.ts';
import { Cover, coverOf, elementText } from './cover.ts';

const prefix = fc
  .tuple(fc.integer({ min: 0, max: 15 }), fc.integer({ min: 26, max: 32 }))
  .map(([last, length]) => Prefix.of(IpAddress.fromUint32(0x0a000000 + last * 4), length));

it('the cover kept up member by member is the cover made at once, and never overlaps', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), prefix), { maxLength: 40 }), (changes) => {
      const cover = new Cover();
      const members = new Set<string>();
      const kernel = new Set<string>();
      for (const [isAdded, member] of changes) {
        const { added, removed } = isAdded ? cover.add(member) : cover.remove(member);
        if (isAdded) members.add(member.toString());
        else members.delete(member.toString());
        for (const p of removed) assert.ok(kernel.delete(elementText(p)));
        for (const p of added) {
          for (const other of kernel) assert.equal(Prefix.parseOrHost(other).overlaps(p), false);
          kernel.add(elementText(p));
        }
        assert.deepEqual([...kernel].sort(), coverOf([...members], 4).sort());
      }
    }),
  );
});
