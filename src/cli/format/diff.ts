// The difference of two texts line by line, as `diff -u` shows it. In: two texts. Out: lines, none when they are equal.

const CONTEXT = 3;

interface Line {
  readonly sign: ' ' | '-' | '+';
  readonly text: string;
}

/** Longest common subsequence over lines; meant for resources, a few hundred lines at most. */
export function diffLines(before: string, after: string): Line[] {
  const a = before === '' ? [] : before.replace(/\n$/, '').split('\n');
  const b = after === '' ? [] : after.replace(/\n$/, '').split('\n');
  // common[i][j]: how many lines a[i..] and b[j..] have in common.
  const common = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      common[i]![j] = a[i] === b[j] ? common[i + 1]![j + 1]! + 1 : Math.max(common[i + 1]![j]!, common[i]![j + 1]!);
    }
  }
  const out: Line[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      out.push({ sign: ' ', text: a[i++]! });
      j++;
    } else if (j >= b.length || (i < a.length && common[i + 1]![j]! >= common[i]![j + 1]!))
      out.push({ sign: '-', text: a[i++]! });
    else out.push({ sign: '+', text: b[j++]! });
  }
  return out;
}

/** A unified diff with three lines of context; '' when the texts are equal. `style` may colour a line by its sign. */
export function unifiedDiff(
  before: string,
  after: string,
  titles: readonly [string, string],
  style: (line: string, sign: Line['sign']) => string = (line) => line,
): string {
  const lines = diffLines(before, after);
  const changed = lines.flatMap((line, at) => (line.sign === ' ' ? [] : [at]));
  if (changed.length === 0) return '';
  const out = [style(`--- ${titles[0]}`, '-'), style(`+++ ${titles[1]}`, '+')];
  let end = -1;
  for (const at of changed) {
    if (at < end) continue;
    const start = Math.max(at - CONTEXT, Math.max(end, 0));
    // The hunk goes on while the next change is near.
    let last = at;
    for (const next of changed) if (next > last && next - last <= 2 * CONTEXT) last = next;
    end = Math.min(last + CONTEXT + 1, lines.length);
    const hunk = lines.slice(start, end);
    const head = lines.slice(0, start);
    const count = (list: readonly Line[], not: '+' | '-') => list.filter((line) => line.sign !== not).length;
    const range = (not: '+' | '-') => {
      const length = count(hunk, not);
      return `${count(head, not) + (length > 0 ? 1 : 0)},${length}`;
    };
    out.push(`@@ -${range('+')} +${range('-')} @@`);
    for (const line of hunk) out.push(style(line.sign + line.text, line.sign));
  }
  return `${out.join('\n')}\n`;
}
