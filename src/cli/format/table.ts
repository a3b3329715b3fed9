// Tables for people: aligned columns, no wrapping, no lines. In: titles and rows of text. Out: text.

const GAP = 3;

export interface TableOptions {
  /** Leave the titles out. */
  readonly headless?: boolean;
  /** Columns whose numbers stand to the right. */
  readonly right?: readonly number[];
  /** Widths that the columns have at least, for rows that follow an earlier table. */
  readonly widths?: readonly number[];
}

/** Lines, without a newline at the end. Empty columns stay: a table always has all its titles. */
export function formatTable(
  titles: readonly string[],
  rows: readonly (readonly string[])[],
  options: TableOptions = {},
): string {
  const lines = options.headless ? rows : [titles, ...rows];
  const widths = columnWidths(titles, rows, options);
  return lines.map((row) => formatRow(row, widths, options.right)).join('\n');
}

/** The width of each column of a table, for `formatRow`. */
export function columnWidths(
  titles: readonly string[],
  rows: readonly (readonly string[])[],
  options: TableOptions = {},
): number[] {
  const lines = options.headless ? rows : [titles, ...rows];
  return titles.map((_, i) =>
    lines.reduce((most, row) => Math.max(most, displayWidth(row[i] ?? '')), options.widths?.[i] ?? 0),
  );
}

export function formatRow(row: readonly string[], widths: readonly number[], right: readonly number[] = []): string {
  const cells = widths.map((width, i) => {
    const text = oneLine(row[i] ?? '');
    const padding = ' '.repeat(Math.max(0, width - displayWidth(text)));
    return right.includes(i) ? padding + text : text + padding;
  });
  return cells.join(' '.repeat(GAP)).trimEnd();
}

/** What comes from a resource may hold anything; a table cell is one line without control characters. */
function oneLine(text: string): string {
  // Colours (SGR sequences) are ours and stay.
  // eslint-disable-next-line no-control-regex
  return text.replace(/\u001b(?!\[[\d;]*m)|[\u0000-\u001a\u001c-\u001f\u007f]/g, ' ');
}

/** Columns of a terminal that a text takes: wide East Asian letters and emoji two, combining marks and colours none. */
export function displayWidth(text: string): number {
  let width = 0;
  // eslint-disable-next-line no-control-regex
  for (const char of text.replace(/\u001b\[[\d;]*m/g, '')) {
    if (/\p{Mark}|\u200d|\ufe0f/u.test(char)) continue;
    width += isWide(char.codePointAt(0) ?? 0) ? 2 : 1;
  }
  return width;
}

function isWide(code: number): boolean {
  return (
    (code >= 0x1100 && code <= 0x115f) ||
    (code >= 0x2e80 && code <= 0xa4cf) ||
    (code >= 0xac00 && code <= 0xd7a3) ||
    (code >= 0xf900 && code <= 0xfaff) ||
    (code >= 0xfe30 && code <= 0xfe6f) ||
    (code >= 0xff00 && code <= 0xff60) ||
    (code >= 0xffe0 && code <= 0xffe6) ||
    (code >= 0x1f300 && code <= 0x1faff) ||
    (code >= 0x20000 && code <= 0x3fffd)
  );
}
